//! The builder and the rewriting against kafka-protocol's records as oracle,
//! and against what must never change.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

use bytes::{Bytes, BytesMut};
use kafka_protocol::records as oracle;
use millrace_model::builder::Section;
use millrace_model::control::Marker;
use millrace_model::record::Records;
use millrace_model::record::encode::HeaderSource;
use millrace_model::{Batch, BatchBuilder, BatchHeader, Compression, ProducerEpoch, ProducerId, Timestamp, rewrite};
use proptest::collection::vec;
use proptest::prelude::*;
use std::io::{Read, Write};

const LIMIT: usize = 1 << 24;

#[derive(Clone, Debug)]
struct Record {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// No key twice: the oracle keeps them in a map.
    headers: Vec<(String, Option<Vec<u8>>)>,
}

#[derive(Clone, Debug)]
struct Input {
    records: Vec<Record>,
    codec: Compression,
    producer: Option<(i64, i16, i32)>,
    transactional: bool,
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop_oneof![vec(any::<u8>(), 0..40), (any::<u8>(), 0usize..900).prop_map(|(b, n)| vec![b; n])])
}

prop_compose! {
    fn record()(
        timestamp in 0i64..1 << 45,
        key in bytes(),
        value in bytes(),
        headers in prop::collection::btree_map("[a-zé]{0,3}", bytes(), 0..4),
    ) -> Record {
        Record { timestamp, key, value, headers: headers.into_iter().collect() }
    }
}

prop_compose! {
    fn input()(
        records in vec(record(), 1..12),
        codec in prop::sample::select(&Compression::ALL[..]),
        producer in prop::option::of((0i64..i64::MAX, 0i16..i16::MAX, 0i32..i32::MAX - 20)),
        transactional: bool,
    ) -> Input {
        Input { records, codec, producer, transactional }
    }
}

fn build(input: &Input) -> Batch {
    let mut builder = BatchBuilder::new().compression(input.codec, None);
    if let Some((id, epoch, sequence)) = input.producer {
        builder = builder.producer(ProducerId::new(id), ProducerEpoch::new(epoch), sequence);
    }
    if input.transactional {
        builder = builder.transactional();
    }
    for record in &input.records {
        let pairs: Vec<_> = record.headers.iter().map(|(key, value)| (key.as_bytes(), value.as_deref())).collect();
        let headers = HeaderSource::Pairs(&pairs);
        let at = Timestamp::new(record.timestamp);
        builder.append(at, record.key.as_deref(), record.value.as_deref(), headers).unwrap();
    }
    builder.build().unwrap()
}

fn oracle_records(input: &Input) -> Vec<oracle::Record> {
    let (id, epoch, sequence) = input.producer.unwrap_or((-1, -1, -1));
    let record = |(record, offset): (&Record, i64)| oracle::Record {
        transactional: input.transactional,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: id,
        producer_epoch: epoch,
        timestamp_type: oracle::TimestampType::Creation,
        offset,
        sequence: sequence.wrapping_add(offset as i32),
        timestamp: record.timestamp,
        key: record.key.clone().map(Bytes::from),
        value: record.value.clone().map(Bytes::from),
        headers: record
            .headers
            .iter()
            .map(|(key, value)| (key.clone().into(), value.clone().map(Bytes::from)))
            .collect(),
    };
    input.records.iter().zip(0..).map(record).collect()
}

/// Other implementations of the codecs than the ones under test, where there
/// are any in reach.
fn other_unfold(from: &Bytes, codec: oracle::Compression) -> std::io::Result<Bytes> {
    let mut out = Vec::new();
    match codec {
        oracle::Compression::None => out.extend_from_slice(from),
        oracle::Compression::Gzip => drop(flate2::read::GzDecoder::new(&from[..]).read_to_end(&mut out)?),
        oracle::Compression::Lz4 => drop(lz4_flex::frame::FrameDecoder::new(&from[..]).read_to_end(&mut out)?),
        oracle::Compression::Zstd => drop(zstd::stream::Decoder::new(&from[..])?.read_to_end(&mut out)?),
        oracle::Compression::Snappy => {
            assert_eq!(from[..8], *b"\x82SNAPPY\0");
            let mut left = &from[16..];
            while let Some((length, rest)) = left.split_first_chunk() {
                let (block, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
                out.extend(snap::raw::Decoder::new().decompress_vec(block)?);
                left = rest;
            }
        }
    }
    Ok(Bytes::from(out))
}

fn other_fold(from: &BytesMut, codec: oracle::Compression) -> std::io::Result<Vec<u8>> {
    Ok(match codec {
        oracle::Compression::None => from.to_vec(),
        oracle::Compression::Gzip => {
            let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            to.write_all(from)?;
            to.finish()?
        }
        oracle::Compression::Lz4 => {
            let mut to = lz4_flex::frame::FrameEncoder::new(Vec::new());
            to.write_all(from)?;
            to.finish()?
        }
        oracle::Compression::Zstd => zstd::stream::encode_all(&from[..], 1)?,
        oracle::Compression::Snappy => snap::raw::Encoder::new().compress_vec(from)?,
    })
}

fn oracle_codec(codec: Compression) -> oracle::Compression {
    match codec {
        Compression::None => oracle::Compression::None,
        Compression::Gzip => oracle::Compression::Gzip,
        Compression::Snappy => oracle::Compression::Snappy,
        Compression::Lz4 => oracle::Compression::Lz4,
        Compression::Zstd => oracle::Compression::Zstd,
    }
}

fn range_of(header: &BatchHeader) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        (header.base_offset, header.last_offset_delta, header.leader_epoch),
        (header.producer_id, header.producer_epoch, header.base_sequence, header.last_sequence()),
        (header.attributes.is_transactional(), header.attributes.is_control()),
    )
}

proptest! {
    #[test]
    fn the_oracle_reads_what_the_builder_writes(input in input()) {
        let batch = build(&input);
        batch.check_crc().unwrap();
        prop_assert_eq!(&Batch::split_from(&mut batch.bytes().clone()).unwrap(), &batch);
        let read = oracle::RecordBatchDecoder::decode_with_custom_compression(
            &mut batch.bytes().clone(), Some(|from: &mut Bytes, codec| Ok(other_unfold(from, codec)?))).unwrap();
        prop_assert_eq!(read.compression, oracle_codec(input.codec));
        // Without a producer id the oracle counts sequences on from −1: nobody reads them.
        let mut expected = oracle_records(&input);
        let mut found = read.records;
        if input.producer.is_none() {
            expected.iter_mut().chain(&mut found).for_each(|record| record.sequence = -1);
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn what_the_oracle_writes_is_read_here(input in input()) {
        let records = oracle_records(&input);
        let mut bytes = BytesMut::new();
        let options = oracle::RecordEncodeOptions { version: 2, compression: oracle_codec(input.codec) };
        let fold = |from: &mut BytesMut, to: &mut BytesMut, codec| {
            to.extend_from_slice(&other_fold(from, codec)?);
            Ok(())
        };
        oracle::RecordBatchEncoder::encode_with_custom_compression(&mut bytes, &records, &options, Some(fold)).unwrap();
        let mut left = bytes.freeze();
        let mut at = 0;
        while !left.is_empty() {
            let batch = Batch::split_from(&mut left).unwrap();
            batch.check_crc().unwrap();
            let header = *batch.header();
            prop_assert_eq!(header.attributes.is_transactional(), input.transactional);
            let plain = rewrite::plain_records(&batch, LIMIT).unwrap();
            for view in Records::new(&plain, header.records_count) {
                let view = view.unwrap();
                let expected = &input.records[at];
                prop_assert_eq!(header.base_offset.plus(view.offset_delta().into()).get(), at as i64);
                prop_assert_eq!(header.base_timestamp.plus_ms(view.timestamp_delta()).get(), expected.timestamp);
                prop_assert_eq!(view.key(), expected.key.as_deref());
                prop_assert_eq!(view.value(), expected.value.as_deref());
                let headers: Vec<_> = view.headers().iter().map(|h| (h.key, h.value)).collect();
                let pairs: Vec<_> = expected.headers.iter().map(|(k, v)| (k.as_bytes(), v.as_deref())).collect();
                prop_assert_eq!(headers, pairs);
                at += 1;
            }
        }
        prop_assert_eq!(at, input.records.len());
    }

    #[test]
    fn a_batch_from_which_records_were_dropped_keeps_its_ranges(input in input(), keep in vec(any::<bool>(), 12), to in prop::sample::select(&Compression::ALL[..])) {
        let batch = build(&input);
        let plain = rewrite::plain_records(&batch, LIMIT).unwrap();
        let mut section = Section::default();
        let mut kept = Vec::new();
        for (record, keep) in Records::new(&plain, batch.header().records_count).zip(&keep) {
            let record = record.unwrap();
            if *keep {
                section.copy(&record).unwrap();
                kept.push(record);
            }
        }
        let after = rewrite::replace_records(batch.header(), section, to, None).unwrap();
        after.check_crc().unwrap();
        prop_assert_eq!(&Batch::split_from(&mut after.bytes().clone()).unwrap(), &after);
        prop_assert_eq!(range_of(after.header()), range_of(batch.header()));
        prop_assert_eq!(after.header().records_count, kept.len() as i32);
        let plain = rewrite::plain_records(&after, LIMIT).unwrap();
        let views: Vec<_> = Records::new(&plain, after.header().records_count).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(&views, &kept);
        match kept.iter().map(|record| record.timestamp_delta()).max() {
            Some(latest) => {
                prop_assert_eq!(after.header().base_timestamp, batch.header().base_timestamp);
                prop_assert_eq!(after.header().max_timestamp, batch.header().base_timestamp.plus_ms(latest));
            }
            None => {
                // As compaction leaves it: a bare header.
                prop_assert_eq!(after.bytes().len(), 61);
                prop_assert_eq!(after.header().attributes.codec(), 0);
                prop_assert_eq!(after.header().base_timestamp, Timestamp::NONE);
                prop_assert_eq!(after.header().max_timestamp, batch.header().max_timestamp);
            }
        }
    }

    #[test]
    fn stamping_changes_nothing_but_type_timestamp_and_checksum(input in input(), now in 0i64..1 << 45, shared: bool) {
        let batch = build(&input);
        let records = batch.records_section();
        let before = *batch.header();
        let held = shared.then(|| batch.clone());
        let stamped = rewrite::stamp_log_append_time(batch, Timestamp::new(now));
        stamped.check_crc().unwrap();
        prop_assert_eq!(&Batch::split_from(&mut stamped.bytes().clone()).unwrap(), &stamped);
        let attributes = before.attributes.with_log_append_time(true);
        let expected = BatchHeader { attributes, max_timestamp: Timestamp::new(now), crc: stamped.header().crc, ..before };
        prop_assert_eq!(stamped.header(), &expected);
        prop_assert_eq!(stamped.records_section(), records);
        if let Some(held) = held {
            prop_assert_eq!(held.header(), &before);
            held.check_crc().unwrap();
        }
        let back = rewrite::stamp_create_time(stamped, before.max_timestamp);
        prop_assert_eq!(back.header(), &before);
    }

    #[test]
    fn damage_anywhere_past_the_assigned_bytes_is_found(input in input(), at: prop::sample::Index, bit in 0u8..8) {
        let batch = build(&input);
        let mut bytes = batch.bytes().to_vec();
        let at = 16 + at.index(bytes.len() - 16);
        bytes[at] ^= 1 << bit;
        let read = Batch::split_from(&mut Bytes::from(bytes));
        prop_assert!(read.is_err() || read.unwrap().check_crc().is_err(), "byte {}", at);
    }
}

#[test]
fn an_empty_batch_can_be_stamped_and_recompressed() {
    let mut builder = BatchBuilder::new().compression(Compression::Zstd, None);
    builder.append(Timestamp::new(5), None, None, HeaderSource::None).unwrap();
    let batch = builder.build().unwrap();
    let empty = rewrite::replace_records(batch.header(), Section::default(), Compression::Zstd, None).unwrap();
    let stamped = rewrite::stamp_log_append_time(empty, Timestamp::new(9));
    stamped.check_crc().unwrap();
    let same = rewrite::recompress(&stamped, Compression::Gzip, None, LIMIT).unwrap();
    assert_eq!(same, stamped);
}

#[test]
fn the_oracle_reads_markers_and_writes_them_to_the_byte() {
    for committed in [false, true] {
        let (producer_id, producer_epoch) = (ProducerId::new(4), ProducerEpoch::new(2));
        let marker = Marker { producer_id, producer_epoch, committed, coordinator_epoch: 7 };
        let batch = marker.batch(Timestamp::new(1_000)).unwrap();
        let read = oracle::RecordBatchDecoder::decode(&mut batch.bytes().clone()).unwrap();
        let [record] = &read.records[..] else { panic!("{} records", read.records.len()) };
        assert!(record.control && record.transactional);
        assert_eq!((record.producer_id, record.producer_epoch, record.timestamp), (4, 2, 1_000));
        assert_eq!(record.key.as_deref(), Some(&[0, 0, 0, u8::from(committed)][..]));
        assert_eq!(record.value.as_deref(), Some(&[0, 0, 0, 0, 0, 7][..]));
        let mut bytes = BytesMut::new();
        let options = oracle::RecordEncodeOptions { version: 2, compression: oracle::Compression::None };
        // A marker has no sequence; the oracle counts on from what it is given.
        let record = oracle::Record { sequence: -1, ..record.clone() };
        oracle::RecordBatchEncoder::encode(&mut bytes, [&record], &options).unwrap();
        assert_eq!(bytes, batch.bytes());
        let written = Batch::split_from(&mut bytes.freeze()).unwrap();
        assert_eq!(Marker::read(written.header(), &written.records_section()), Some(marker));
    }
}

#[test]
fn a_control_batch_is_never_compressed() {
    let mut builder = BatchBuilder::new().control().transactional();
    builder.append(Timestamp::new(5), Some(&[0, 0, 0, 1]), Some(&[0; 6]), HeaderSource::None).unwrap();
    let batch = builder.build().unwrap();
    assert_eq!(rewrite::recompress(&batch, Compression::Lz4, None, LIMIT).unwrap(), batch);
}

#[test]
fn a_batch_without_timestamps_keeps_having_none() {
    let mut builder = BatchBuilder::new();
    builder.append(Timestamp::NONE, None, Some(b"a"), HeaderSource::None).unwrap();
    let batch = builder.build().unwrap();
    assert_eq!((batch.header().base_timestamp, batch.header().max_timestamp), (Timestamp::NONE, Timestamp::NONE));
    let mut section = Section::default();
    let plain = batch.records_section();
    section.copy(&Records::new(&plain, 1).next().unwrap().unwrap()).unwrap();
    let same = rewrite::replace_records(batch.header(), section, Compression::None, None).unwrap();
    assert_eq!(same, batch);
}
