//! What a produced batch must be, rule by rule.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

use millrace_model::batch::{Attributes, BatchError};
use millrace_model::builder::Section;
use millrace_model::codec::CodecError;
use millrace_model::record::encode::{HeaderSource, RecordParts};
use millrace_model::validate::{self, Checked, Fault, Invalid, MOST_FAULTS, RecordFault, Rules, TimestampType};
use millrace_model::{
    Batch, BatchBuilder, BatchHeader, Compression, Offset, ProducerEpoch, ProducerId, Timestamp, rewrite,
};

const NOW: Timestamp = Timestamp::new(1_700_000_000_000);
const HOUR: i64 = 3_600_000;

fn batch_of(codec: Compression, records: &[(i64, Option<&[u8]>)]) -> Batch {
    let mut builder = BatchBuilder::new().compression(codec, None);
    for (timestamp, key) in records {
        builder.append(Timestamp::new(*timestamp), *key, Some(b"value"), HeaderSource::None).unwrap();
    }
    builder.build().unwrap()
}

/// A batch with another header, its checksum right.
fn with_header(batch: &Batch, change: impl FnOnce(&mut BatchHeader)) -> Batch {
    let mut header = *batch.header();
    change(&mut header);
    let mut bytes = batch.bytes().to_vec();
    bytes[..61].copy_from_slice(&header.encode());
    let crc = millrace_model::batch::crc(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Batch::split_from(&mut bytes.into()).unwrap()
}

fn check(batch: &Batch, rules: &Rules) -> Result<Checked, Invalid> {
    validate::batch(batch, rules, NOW)
}

fn faults(result: Result<Checked, Invalid>) -> Vec<RecordFault> {
    match result {
        Err(Invalid::Faults { faults, total }) => {
            assert_eq!(faults.len(), total);
            faults
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn good_batches_pass_with_every_codec() {
    for codec in Compression::ALL {
        let batch = batch_of(codec, &[(NOW.get(), None), (NOW.get() - 5, Some(b"k"))]);
        for rules in [Rules::default(), Rules { open_compressed: true, ..Rules::default() }] {
            assert_eq!(check(&batch, &rules), Ok(Checked { restamp: None }));
        }
    }
}

#[test]
fn a_wrong_checksum_is_damage() {
    let batch = batch_of(Compression::None, &[(NOW.get(), None)]);
    let mut bytes = batch.bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let damaged = Batch::split_from(&mut bytes.into()).unwrap();
    assert!(matches!(check(&damaged, &Rules::default()), Err(Invalid::Corrupt(BatchError::Crc { .. }))));
}

#[test]
fn headers_that_a_producer_may_not_write_are_refused() {
    let good = batch_of(Compression::None, &[(NOW.get(), None), (NOW.get(), None)]);
    let refused = |change: fn(&mut BatchHeader)| match check(&with_header(&good, change), &Rules::default()) {
        Err(Invalid::Header { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(|h| h.base_offset = Offset::new(7)), "base offset");
    assert_eq!(refused(|h| h.records_count = 0), "records count");
    assert_eq!(refused(|h| h.records_count = 3), "last offset delta, against the records count,");
    assert_eq!(refused(|h| h.last_offset_delta = i32::MAX), "last offset delta, against the records count,");
    assert_eq!(refused(|h| h.attributes = h.attributes.with_control(true)), "attributes (control batch)");
    assert_eq!(refused(|h| h.producer_id = ProducerId::new(1)), "base sequence, with a producer id,");
    let unknown = with_header(&good, |h| h.attributes = Attributes::new(6));
    assert_eq!(check(&unknown, &Rules::default()), Err(Invalid::Codec(CodecError::Unknown(6))));
    let idempotent = with_header(&good, |h| {
        h.producer_id = ProducerId::new(1);
        h.producer_epoch = ProducerEpoch::new(0);
        h.base_sequence = 0;
    });
    assert!(check(&idempotent, &Rules::default()).is_ok());
}

#[test]
fn records_that_contradict_the_header_are_refused() {
    let good = batch_of(Compression::None, &[(NOW.get(), None), (NOW.get(), None)]);
    let more = with_header(&good, |h| (h.records_count, h.last_offset_delta) = (3, 2));
    assert!(matches!(check(&more, &Rules::default()), Err(Invalid::Records(_))));
    let fewer = with_header(&good, |h| (h.records_count, h.last_offset_delta) = (1, 0));
    assert!(matches!(check(&fewer, &Rules::default()), Err(Invalid::Records(_))));
}

#[test]
fn offset_deltas_must_count_from_zero() {
    for codec in Compression::ALL {
        let good = batch_of(codec, &[(NOW.get(), None), (NOW.get(), None)]);
        let mut section = Section::default();
        for offset_delta in [0, 5] {
            let (key, value, headers) = (None, None, HeaderSource::None);
            section.push(&RecordParts { offset_delta, timestamp_delta: 0, key, value, headers }).unwrap();
        }
        let gap = rewrite::replace_records(good.header(), section, codec, None).unwrap();
        let rules = Rules { open_compressed: true, ..Rules::default() };
        let expected = [RecordFault { index: 1, why: Fault::OffsetDelta { found: 5 } }];
        assert_eq!(faults(check(&gap, &rules)), expected);
    }
}

#[test]
fn a_compacted_topic_wants_keys_and_names_who_has_none() {
    for codec in Compression::ALL {
        let batch = batch_of(codec, &[(NOW.get(), None), (NOW.get(), Some(b"")), (NOW.get(), None)]);
        let rules = Rules { keys_required: true, ..Rules::default() };
        let refused = check(&batch, &rules);
        assert!(!refused.as_ref().unwrap_err().is_timestamp());
        let expected = [0, 2].map(|index| RecordFault { index, why: Fault::NoKey });
        assert_eq!(faults(refused), expected);
    }
}

#[test]
fn timestamps_out_of_bounds_are_named_and_the_bounds_themselves_are_within() {
    let rules = Rules { before_max_ms: HOUR, after_max_ms: 2 * HOUR, ..Rules::default() };
    let (earliest, latest) = (NOW.plus_ms(-HOUR), NOW.plus_ms(2 * HOUR));
    for codec in Compression::ALL {
        let within = batch_of(codec, &[(earliest.get(), None), (latest.get(), None), (-1, None)]);
        assert!(check(&within, &rules).is_ok());
        let early = earliest.plus_ms(-1);
        let late = latest.plus_ms(1);
        let out = batch_of(codec, &[(NOW.get(), None), (early.get(), None), (late.get(), None)]);
        let refused = check(&out, &rules);
        assert!(refused.as_ref().unwrap_err().is_timestamp());
        let why = |timestamp| Fault::Timestamp { timestamp, earliest, latest };
        let expected = [RecordFault { index: 1, why: why(early) }, RecordFault { index: 2, why: why(late) }];
        assert_eq!(faults(refused), expected);
        // Where the broker stamps, they do not matter.
        let stamped = Rules { timestamp_type: TimestampType::LogAppendTime, ..rules.clone() };
        assert_eq!(check(&out, &stamped), Ok(Checked { restamp: None }));
    }
}

#[test]
fn without_a_bound_in_the_past_any_old_timestamp_passes() {
    let batch = batch_of(Compression::Zstd, &[(0, None), (i64::MIN / 2, None)]);
    assert!(check(&batch, &Rules::default()).is_ok());
    let open = Rules { open_compressed: true, after_max_ms: i64::MAX, ..Rules::default() };
    assert!(check(&batch, &open).is_ok());
}

#[test]
fn a_largest_timestamp_that_is_not_the_records_is_corrected() {
    let batch = batch_of(Compression::None, &[(NOW.get(), None), (NOW.get() + 7, None)]);
    let lying = with_header(&batch, |h| h.max_timestamp = NOW.plus_ms(1_000_000_000));
    let checked = check(&lying, &Rules::default()).unwrap();
    assert_eq!(checked.restamp, Some(NOW.plus_ms(7)));
    assert_eq!(rewrite::stamp_create_time(lying, NOW.plus_ms(7)), batch);
}

#[test]
fn the_brokers_timestamp_type_is_not_the_producers_to_set() {
    let batch = batch_of(Compression::None, &[(NOW.get() - 9, None), (NOW.get(), None)]);
    let claimed = with_header(&batch, |h| h.attributes = h.attributes.with_log_append_time(true));
    // As Kafka has it: on a topic of producers' timestamps the flag is taken back…
    let checked = check(&claimed, &Rules::default()).unwrap();
    assert_eq!(checked.restamp, Some(NOW));
    assert_eq!(rewrite::stamp_create_time(claimed.clone(), NOW), batch);
    // …and on one where the broker stamps, it is refused.
    let rules = Rules { timestamp_type: TimestampType::LogAppendTime, ..Rules::default() };
    let refused = check(&claimed, &rules);
    assert!(refused.as_ref().unwrap_err().is_timestamp());
    assert_eq!(faults(refused), [0, 1].map(|index| RecordFault { index, why: Fault::TimestampType }));
}

#[test]
fn a_flood_of_faults_is_counted_but_not_kept() {
    let records = vec![(NOW.get(), None); MOST_FAULTS + 500];
    let rules = Rules { keys_required: true, ..Rules::default() };
    match check(&batch_of(Compression::Lz4, &records), &rules) {
        Err(Invalid::Faults { faults, total }) => {
            assert_eq!((faults.len(), total), (MOST_FAULTS, MOST_FAULTS + 500));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_that_unfolds_too_far_is_refused() {
    let batch = batch_of(Compression::Gzip, &vec![(NOW.get(), Some(&b"key"[..])); 5000]);
    let rules = Rules { open_compressed: true, unfolded_limit: 1000, ..Rules::default() };
    let expected = CodecError::TooLarge { codec: Compression::Gzip, limit: 1000 };
    assert_eq!(check(&batch, &rules), Err(Invalid::Codec(expected)));
}
