//! Records on their way to a guest, and whatever a guest answers for them.

use crate::cut::{Cut, put_part};
use bytes::Bytes;
use millrace_model::record::Records as Views;
use millrace_model::record::encode::HeaderSource;
use millrace_model::{BatchBuilder, Timestamp};
use millrace_plugin_host::{Answer, Applied, OnRejection, Records, Rejection};

const BASE: i64 = 1_700_000_000_000;

/// The records that are there when the input's own are none.
fn good() -> (Bytes, i32) {
    let mut builder = BatchBuilder::new();
    for i in 0..5_i64 {
        let headers = [(&b"h"[..], Some(&b"1"[..])), (b"n", None)];
        let value = (i != 3).then_some(&b"value"[..]);
        builder.append(Timestamp::new(BASE + i), Some(b"key"), value, HeaderSource::Pairs(&headers)).unwrap();
    }
    let batch = builder.build().unwrap();
    (batch.records_section(), 5)
}

fn rejections(cut: &mut Cut<'_>) -> Vec<Rejection> {
    (0..cut.byte() % 8).map(|_| Rejection { index: cut.byte().into(), reason: "no".to_owned() }).collect()
}

/// A filter's lists, or a transform's.
fn answer(cut: &mut Cut<'_>) -> Answer {
    if cut.byte().is_multiple_of(2) {
        let keep = cut.part().to_vec();
        return Answer::selection(keep, rejections(cut));
    }
    let (verdicts, data) = (cut.part().to_vec(), cut.part().to_vec());
    let spans = (0..cut.byte() % 64).map(|_| word(cut)).collect();
    Answer::changes(verdicts, data, spans, rejections(cut))
}

/// One byte for the words that mean something or are small; four more for any other.
fn word(cut: &mut Cut<'_>) -> u32 {
    match cut.byte() {
        0xff => u32::MAX,
        0xfe => u32::MAX - 1,
        0xfd => cut.u32(),
        small => small.into(),
    }
}

/// A count and a records section, the first record and one past the last of a range, and a guest's answer for these.
pub(crate) fn answers(data: &[u8]) {
    let mut cut = Cut(data);
    let (count, section) = (i32::from(cut.byte()), Bytes::copy_from_slice(cut.part()));
    let mut records = Records::default();
    let theirs: Result<Vec<_>, _> = Views::new(&section, count).collect();
    let parsed = records.parse(section.clone(), count, BASE);
    if let (Ok(()), Ok(theirs)) = (&parsed, &theirs) {
        assert_eq!(records.len(), theirs.len());
        for (at, view) in theirs.iter().enumerate() {
            assert_eq!(records.offset_delta(at), Some(view.offset_delta()));
        }
    }
    assert!(parsed.is_ok() || Views::new(&section, count).check().is_err(), "the model reads these records");
    if parsed.is_err() || records.is_empty() {
        let (section, count) = good();
        records.parse(section, count, BASE).expect("these are good records");
    }
    chunks_are_all(&records);
    let (first, last) = (usize::from(cut.byte()) % records.len(), usize::from(cut.byte()) % records.len());
    let range = first.min(last)..first.max(last) + 1;
    let on_rejection = if cut.byte().is_multiple_of(2) { OnRejection::Drop } else { OnRejection::Pass };
    let answer = answer(&mut cut);
    let mut out = Applied::with_capacity(64);
    records.keep(0..range.start, &mut out);
    let before = (out.section().to_vec(), out.count);
    match records.apply(range.clone(), &answer, on_rejection, &mut out) {
        Err(_) => assert_eq!((out.section().to_vec(), out.count), before, "a bad answer leaves nothing"),
        Ok(()) => {
            assert!(usize::try_from(out.count).unwrap() <= range.end && out.replaced <= out.count);
            let stored = Bytes::copy_from_slice(out.section());
            Records::default().parse(stored.clone(), out.count, BASE).expect("what is stored is well formed");
            Views::new(&stored, out.count).check().expect("what is stored is well formed");
            if !out.changed {
                assert_eq!(out.count as usize, range.end);
            }
        }
    }
}

/// Every record is in exactly one call.
fn chunks_are_all(records: &Records) {
    for bytes in [1, 100, 1 << 20] {
        let mut next = 0;
        for chunk in records.chunks(bytes) {
            assert!(chunk.start == next && chunk.end > next);
            next = chunk.end;
        }
        assert_eq!(next, records.len());
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let (section, count) = good();
    let front = |range: [u8; 2], pass: u8| {
        let mut input = vec![count as u8];
        put_part(&mut input, &section);
        input.extend(range);
        input.push(pass);
        input
    };
    let mut all = Vec::new();
    for (pass, bits) in [(0, 0b10101), (1, 0b00000), (0, 0b11111)] {
        let mut input = front([0, 4], pass);
        input.push(0);
        put_part(&mut input, &[bits]);
        input.extend([2, 1, 3]);
        all.push(input);
    }
    for verdicts in [[0, 1, 3, 4, 0], [3, 3, 3, 3, 3], [4, 0, 4, 0, 1], [2, 0, 0, 0, 3]] {
        let mut input = front([0, 4], 1);
        input.push(1);
        put_part(&mut input, &verdicts);
        put_part(&mut input, b"new data\x02h\x021");
        let spans: Vec<u8> = verdicts
            .iter()
            .flat_map(|verdict| match verdict {
                3 => vec![0, 3],
                4 => vec![0, 0xfe, 0, 0xff, 8, 4, 0, 0xfd, 0x80, 0, 0, 0],
                _ => Vec::new(),
            })
            .collect();
        let words = verdicts
            .iter()
            .map(|verdict| match verdict {
                3 => 2,
                4 => 8,
                _ => 0,
            })
            .sum();
        input.push(words);
        input.extend(spans);
        let rejected = verdicts.contains(&2);
        input.extend(if rejected { vec![1, 0] } else { vec![0] });
        all.push(input);
    }
    all
}
