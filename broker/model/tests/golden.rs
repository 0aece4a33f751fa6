//! Batches that Kafka's own client and librdkafka wrote, read here; and the
//! builder against the very bytes that the Java client gives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

use bytes::Bytes;
use millrace_model::record::encode::HeaderSource;
use millrace_model::record::{RecordView, Records};
use millrace_model::{Batch, BatchBuilder, Compression, ProducerEpoch, ProducerId, Timestamp, rewrite};

const FIRST: i64 = 1_700_000_000_000;

fn fixture(writer: &str, codec: Compression) -> Batch {
    let path = format!("{}/tests/fixtures/{writer}-{codec}.batch", env!("CARGO_MANIFEST_DIR"));
    let mut bytes = Bytes::from(std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}")));
    let batch = Batch::split_from(&mut bytes).unwrap();
    assert!(bytes.is_empty(), "{path} holds one batch");
    batch
}

fn headers<'a>(record: &RecordView<'a>) -> Vec<(&'a [u8], Option<&'a [u8]>)> {
    record.headers().iter().map(|header| (header.key, header.value)).collect()
}

fn java_headers() -> [(&'static [u8], Option<&'static [u8]>); 4] {
    [(b"h", Some(b"1")), (b"h", Some(b"2")), (b"n", None), ("é".as_bytes(), Some(b""))]
}

#[test]
fn batches_of_the_java_client_are_read_with_every_codec() {
    let long = b"0123456789".repeat(7000);
    for codec in Compression::ALL {
        let batch = fixture("java", codec);
        batch.check_crc().unwrap();
        let header = batch.header();
        assert_eq!(Compression::of(header.attributes), Ok(codec));
        assert!(header.attributes.is_transactional());
        assert_eq!((header.producer_id.get(), header.producer_epoch.get(), header.base_sequence), (4242, 7, 99));
        assert_eq!((header.records_count, header.last_offset_delta), (3, 2));
        assert_eq!((header.base_timestamp.get(), header.max_timestamp.get()), (FIRST, FIRST + 5));
        let plain = rewrite::plain_records(&batch, 1 << 20).unwrap();
        let records: Vec<_> = Records::new(&plain, 3).collect::<Result<_, _>>().unwrap();
        assert_eq!((records[0].key(), records[0].value()), (Some(&b"k0"[..]), Some(&b"v0"[..])));
        assert_eq!(headers(&records[0]), java_headers());
        assert_eq!((records[1].key(), records[1].value(), records[1].headers().len()), (None, None, 0));
        assert_eq!((records[2].key(), records[2].value()), (Some(&b""[..]), Some(&long[..])));
        let deltas: Vec<_> = records.iter().map(|record| (record.offset_delta(), record.timestamp_delta())).collect();
        assert_eq!(deltas, [(0, 0), (1, 5), (2, -3)]);
    }
}

#[test]
fn the_builder_gives_the_bytes_that_the_java_client_gives() {
    let expected = fixture("java", Compression::None);
    let mut builder = BatchBuilder::new().producer(ProducerId::new(4242), ProducerEpoch::new(7), 99).transactional();
    let at = |delta| Timestamp::new(FIRST + delta);
    builder.append(at(0), Some(b"k0"), Some(b"v0"), HeaderSource::Pairs(&java_headers())).unwrap();
    builder.append(at(5), None, None, HeaderSource::None).unwrap();
    builder.append(at(-3), Some(b""), Some(&b"0123456789".repeat(7000)), HeaderSource::None).unwrap();
    assert_eq!(builder.build().unwrap(), expected);
}

#[test]
fn batches_of_librdkafka_are_read_with_every_codec() {
    for codec in Compression::ALL.into_iter().filter(|codec| *codec != Compression::None) {
        let batch = fixture("librdkafka", codec);
        batch.check_crc().unwrap();
        assert_eq!(Compression::of(batch.header().attributes), Ok(codec));
        assert_eq!(batch.header().records_count, 300);
        let plain = rewrite::plain_records(&batch, 1 << 20).unwrap();
        for (record, i) in Records::new(&plain, 300).zip(0i32..) {
            let record = record.unwrap();
            assert_eq!(record.offset_delta(), i);
            assert_eq!(record.key(), Some(format!("k{}", i % 7).as_bytes()));
            assert_eq!(record.value(), Some(format!("row {i} {}", "abcdefgh".repeat(30)).as_bytes()));
            assert_eq!(headers(&record), [(&b"h"[..], Some(&b"1"[..])), (b"h", Some(b"2"))]);
        }
    }
}

#[test]
fn every_fixture_goes_over_to_every_codec_and_back() {
    let plain = rewrite::plain_records(&fixture("java", Compression::None), 1 << 20).unwrap();
    for from in Compression::ALL {
        for to in Compression::ALL {
            let batch = fixture("java", from);
            let other = rewrite::recompress(&batch, to, None, 1 << 20).unwrap();
            other.check_crc().unwrap();
            assert_eq!(Compression::of(other.header().attributes), Ok(to));
            assert_eq!(rewrite::plain_records(&other, 1 << 20).unwrap(), plain);
            assert_eq!(other.header().base_sequence, 99);
            assert_eq!(Batch::split_from(&mut other.bytes().clone()).unwrap(), other);
        }
    }
}
