//! What is done with hostile bytes: one function for each decoder. `main.rs`
//! runs them bounded, as a test; `broker/fuzz` runs them for as long as one
//! likes under libFuzzer.
//!
//! A target panics where the decoders break a promise: whatever they accept
//! must read the same after it was written again, and nothing may grow past
//! its limit.

use bytes::Bytes;
use millrace_model::batch::{CRC_AT, CRC_FROM, HEADER_LEN, crc};
use millrace_model::builder::Section;
use millrace_model::codec::{compress, decompress};
use millrace_model::record::encode::{self, RecordParts};
use millrace_model::record::{Headers, RecordView, Records};
use millrace_model::validate::{self, Rules};
use millrace_model::{Batch, BatchHeader, Compression, Timestamp, rewrite};

/// What anything may unfold to.
const LIMIT: usize = 1 << 20;

/// A target with its name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const ALL: [Target; 3] = [("batches", batches), ("records", records), ("codecs", codecs)];

/// Batches one after the other, as in a produce request or a segment file.
pub fn batches(data: &[u8]) {
    for batch in Batch::all(Bytes::copy_from_slice(data)).map_while(Result::ok) {
        let _ = validate::batch(&batch, &Rules::default(), Timestamp::new(0));
        one_batch(&with_right_crc(&batch));
    }
}

/// Mutated bytes nearly never have the right checksum; what lies behind it
/// matters all the same.
fn with_right_crc(batch: &Batch) -> Batch {
    let mut bytes = batch.bytes().to_vec();
    let sum = crc(&bytes[CRC_FROM..]);
    bytes[CRC_AT..CRC_FROM].copy_from_slice(&sum.to_be_bytes());
    Batch::split_from(&mut bytes.into()).expect("only the checksum changed")
}

fn one_batch(batch: &Batch) {
    let header = batch.header();
    assert_eq!(header.encode()[..], batch.bytes()[..HEADER_LEN], "a header reads as it was written");
    let rules = Rules { open_compressed: true, keys_required: true, unfolded_limit: LIMIT, ..Rules::default() };
    let valid = validate::batch(batch, &rules, Timestamp::new(0)).is_ok();
    let stamped = rewrite::stamp_log_append_time(batch.clone(), Timestamp::new(7));
    stamped.check_crc().expect("a stamped batch has the right checksum");
    assert_eq!(stamped.records_section(), batch.records_section());

    let Ok(plain) = rewrite::plain_records(batch, LIMIT) else {
        assert!(!valid, "what was found valid unfolds");
        return;
    };
    assert!(plain.len() <= LIMIT.max(batch.bytes().len()));
    let mut section = Section::default();
    let mut well_formed = true;
    for record in Records::new(&plain, header.records_count) {
        match record {
            Ok(record) => section.copy(&record).expect("there is room"),
            Err(_) => well_formed = false,
        }
    }
    assert!(well_formed || !valid, "what was found valid is well formed");
    if well_formed {
        same_records(header, &plain, section);
    }
}

fn same_records(header: &BatchHeader, plain: &[u8], section: Section) {
    assert_eq!(section.records(), plain);
    let again = rewrite::replace_records(header, section, Compression::Lz4, None).expect("it is small");
    assert_eq!(again.header().records_count, header.records_count);
    assert_eq!(again.header().last_offset_delta, header.last_offset_delta);
    assert_eq!(rewrite::plain_records(&again, LIMIT.max(plain.len())).expect("it was just compressed"), plain);
}

/// A records section: the first four bytes are the count that a header says.
pub fn records(data: &[u8]) {
    let Some((count, section)) = data.split_first_chunk() else { return };
    let _ = Headers::parse(section);
    // Without the cap nearly every count would be too large for the bytes.
    for count in [i32::from_be_bytes(*count), i32::from(count[3])] {
        let mut read = 0;
        for record in Records::new(section, count).map_while(Result::ok) {
            one_record(&record);
            read += 1;
        }
        assert!(read <= count.max(0));
    }
}

fn one_record(record: &RecordView<'_>) {
    let pairs: Vec<_> = record.headers().iter().map(|header| (header.key, header.value)).collect();
    assert_eq!(pairs.len(), record.headers().len());
    let parts = RecordParts {
        offset_delta: record.offset_delta(),
        timestamp_delta: record.timestamp_delta(),
        key: record.key(),
        value: record.value(),
        headers: encode::HeaderSource::Pairs(&pairs),
    };
    let mut out = Vec::new();
    encode::record(&mut out, &parts).expect("it was one record's length");
    assert_eq!(out.len(), encode::encoded_len(&parts));
    let again = Records::new(&out, 1).next().expect("one was written").expect("it is well formed");
    assert_eq!((again.offset_delta(), again.timestamp_delta()), (record.offset_delta(), record.timestamp_delta()));
    assert_eq!((again.key(), again.value()), (record.key(), record.value()));
    assert!(again.headers().iter().map(|header| (header.key, header.value)).eq(pairs));
}

/// Compressed bytes: the first byte chooses the codec.
pub fn codecs(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let codec = Compression::ALL[usize::from(*choice) % Compression::ALL.len()];
    let mut out = b"before".to_vec();
    if decompress(codec, data, LIMIT, &mut out).is_err() {
        assert_eq!(out, b"before");
        return;
    }
    let unfolded = out.strip_prefix(b"before").expect("it was appended");
    assert!(unfolded.len() <= LIMIT);
    let mut folded = Vec::new();
    compress(codec, None, unfolded, &mut folded).expect("it compresses");
    let mut again = Vec::new();
    decompress(codec, &folded, unfolded.len(), &mut again).expect("it was just compressed");
    assert_eq!(again, unfolded);
}
