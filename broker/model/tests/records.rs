//! Record views against the encoder, and against bytes that nobody wrote.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

use millrace_model::record::encode::{self, HeaderSource, RecordParts};
use millrace_model::record::{Headers, RecordError, Records, position_in};
use proptest::collection::vec;
use proptest::prelude::*;

type Bytes = Option<Vec<u8>>;

#[derive(Clone, Debug)]
struct Record {
    offset_delta: i32,
    timestamp_delta: i64,
    key: Bytes,
    value: Bytes,
    headers: Vec<(Vec<u8>, Bytes)>,
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::option::of(vec(any::<u8>(), 0..200))
}

prop_compose! {
    fn record()(
        offset_delta: i32,
        timestamp_delta: i64,
        key in bytes(),
        value in bytes(),
        // A narrow choice of keys, so that they repeat.
        headers in vec(("[ab]{0,2}", bytes()), 0..5),
    ) -> Record {
        let headers = headers.into_iter().map(|(key, value)| (key.into_bytes(), value)).collect();
        Record { offset_delta, timestamp_delta, key, value, headers }
    }
}

fn append(out: &mut Vec<u8>, record: &Record) {
    let pairs: Vec<_> = record.headers.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
    let parts = RecordParts {
        offset_delta: record.offset_delta,
        timestamp_delta: record.timestamp_delta,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: if pairs.is_empty() { HeaderSource::None } else { HeaderSource::Pairs(&pairs) },
    };
    let before = out.len();
    encode::record(out, &parts).unwrap();
    assert_eq!(out.len() - before, encode::encoded_len(&parts));
}

proptest! {
    #[test]
    fn every_record_comes_back_with_its_headers_in_order(records in vec(record(), 0..10)) {
        let mut section = Vec::new();
        for record in &records {
            append(&mut section, record);
        }
        let views: Vec<_> = Records::new(&section, records.len() as i32).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(views.len(), records.len());
        let mut copied = Vec::new();
        for (view, record) in views.iter().zip(&records) {
            prop_assert_eq!(view.offset_delta(), record.offset_delta);
            prop_assert_eq!(view.timestamp_delta(), record.timestamp_delta);
            prop_assert_eq!(view.key(), record.key.as_deref());
            prop_assert_eq!(view.value(), record.value.as_deref());
            let headers: Vec<_> =
                view.headers().iter().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect();
            prop_assert_eq!(&headers, &record.headers);
            prop_assert_eq!(Headers::parse(view.headers().raw()), Ok(view.headers()));
            if let Some(key) = view.key() {
                let at = position_in(&section, key).unwrap();
                prop_assert_eq!(&section[at..at + key.len()], key);
            }
            // Copied with its headers as they stand, it is the same record.
            let parts = RecordParts {
                offset_delta: view.offset_delta(),
                timestamp_delta: view.timestamp_delta(),
                key: view.key(),
                value: view.value(),
                headers: view.headers().into(),
            };
            let before = copied.len();
            encode::record(&mut copied, &parts).unwrap();
            prop_assert_eq!(&copied[before..], view.bytes());
        }
        prop_assert_eq!(copied, section);
    }

    #[test]
    fn a_wrong_count_a_cut_and_an_added_byte_are_errors(records in vec(record(), 1..5), cut in any::<prop::sample::Index>()) {
        let mut section = Vec::new();
        for record in &records {
            append(&mut section, record);
        }
        let count = records.len() as i32;
        prop_assert_eq!(
            Records::new(&section, count + 1).check(),
            Err(RecordError::Short { index: count, count: count + 1 })
        );
        let too_few = matches!(Records::new(&section, count - 1).check(), Err(RecordError::Trailing { .. }));
        prop_assert!(too_few);
        prop_assert!(Records::new(&section[..cut.index(section.len())], count).check().is_err());
        section.push(0);
        prop_assert_eq!(Records::new(&section, count).check(), Err(RecordError::Trailing { bytes: 1, count }));
    }

    #[test]
    fn damaged_records_are_an_error_or_other_records_but_never_a_panic(
        records in vec(record(), 1..5),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut section = Vec::new();
        for record in &records {
            append(&mut section, record);
        }
        for (at, byte) in damage {
            let at = at.index(section.len());
            section[at] = byte;
        }
        for count in [0, 1, records.len() as i32, i32::MAX, -1, i32::MIN] {
            let views = Records::new(&section, count);
            let (_, most) = views.size_hint();
            let mut read = 0;
            for view in views {
                read += 1;
                if let Ok(view) = view {
                    prop_assert_eq!(view.headers().iter().count(), view.headers().len());
                }
            }
            prop_assert!(read <= most.unwrap());
        }
    }

    #[test]
    fn bytes_that_nobody_wrote_never_panic(section in vec(any::<u8>(), 0..200), count: i32) {
        let _ = Records::new(&section, count).check();
        let _ = Headers::parse(&section);
    }
}

#[test]
fn a_header_count_beyond_the_bytes_is_refused_at_once() {
    // length 11, attributes, timestamp, offset, null key, null value, then 2^31−1 headers.
    let section = [22, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0];
    let refused = Records::new(&section, 1).check();
    assert!(
        matches!(refused, Err(RecordError::Length { field: "headers count", value: 0x7fff_ffff, .. })),
        "{refused:?}"
    );
}

#[test]
fn a_record_longer_than_its_parts_is_refused() {
    let section = [14, 0, 0, 0, 1, 1, 0, 9];
    assert_eq!(Records::new(&section, 1).check(), Err(RecordError::Slack { index: 0, bytes: 1 }));
}

#[test]
fn any_negative_length_of_a_key_or_a_value_is_null() {
    let section = [12, 0, 0, 0, 9, 3, 0];
    let record = Records::new(&section, 1).next().unwrap().unwrap();
    assert_eq!((record.key(), record.value()), (None, None));
}

#[test]
fn repeated_headers_can_be_asked_for_first_and_last() {
    let pairs = [(&b"k"[..], Some(&b"1"[..])), (b"x", None), (b"k", Some(b"2"))];
    let mut section = Vec::new();
    let parts = RecordParts {
        offset_delta: 0,
        timestamp_delta: 0,
        key: None,
        value: None,
        headers: HeaderSource::Pairs(&pairs),
    };
    encode::record(&mut section, &parts).unwrap();
    let headers = Records::new(&section, 1).next().unwrap().unwrap().headers();
    assert_eq!(headers.first(b"k").unwrap().value, Some(&b"1"[..]));
    assert_eq!(headers.last(b"k").unwrap().value, Some(&b"2"[..]));
    assert_eq!(headers.first(b"x").unwrap().value, None);
    assert_eq!(headers.first(b"y"), None);
}
