//! Checks an answer and encodes what is stored. Every number that a guest wrote is checked here before it is used.

use crate::answer::{Answer, Changes, Fault, Inner, Selection};
use crate::records::{NULL, Place, Records, WORDS, skip_headers};
use crate::varint::{Cursor, long_len, put_long};
use millrace_model::batch::HEADER_LEN;
use std::ops::Range;

/// The length word of a key, value or headers that stay as they are.
const AS_IT_WAS: u32 = u32::MAX - 1;

const KEEP: u8 = 0;
const DROP: u8 = 1;
const REJECT: u8 = 2;
const VALUE: u8 = 3;
const RECORD: u8 = 4;

/// What becomes of a record that the plugin refuses. (Where its batch must fail, the answer is not applied.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRejection {
    /// It is not stored.
    Drop,
    /// It is stored as it came.
    Pass,
}

/// A records section being made out of answers.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Room for a batch's header, then the records so far, encoded.
    bytes: Vec<u8>,
    /// How many they are.
    pub count: i32,
    /// The largest timestamp among them.
    pub max_timestamp: i64,
    /// How many of them a plugin has changed.
    pub replaced: i32,
    /// Whether anything differs from the records as they were.
    pub changed: bool,
}

impl Applied {
    /// No records, and room for this many bytes of them.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut room = Vec::with_capacity(HEADER_LEN.saturating_add(bytes));
        room.resize(HEADER_LEN, 0);
        Self { bytes: room, count: 0, max_timestamp: i64::MIN, replaced: 0, changed: false }
    }

    /// The records, encoded.
    pub fn section(&self) -> &[u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or_default()
    }

    /// Room for a batch's header, and the records.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn count_in(&mut self, timestamp: i64) {
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    fn count_changed(&mut self, timestamp: i64) {
        self.count_in(timestamp);
        self.replaced += 1;
        self.changed = true;
    }
}

impl Records {
    /// Checks that an answer for this range refuses only records that exist, ascending, and fits it otherwise; appends
    /// to `out` what it leaves of the records. On an error `out` is as it was.
    ///
    /// # Errors
    /// [`Fault::Answer`] where the answer does not fit the range.
    pub fn apply(
        &self,
        range: Range<usize>,
        answer: &Answer,
        on_rejection: OnRejection,
        out: &mut Applied,
    ) -> Result<(), Fault> {
        check_rejections(&range, answer)?;
        let before = (out.bytes.len(), out.count, out.max_timestamp, out.replaced, out.changed);
        let done = match &answer.0 {
            Inner::Unchanged => {
                self.keep(range, out);
                Ok(())
            }
            Inner::Selection(selection) => self.select(range, selection, on_rejection, out),
            Inner::Changes(changes) => self.change(range, changes, on_rejection, out),
        };
        if done.is_err() {
            out.bytes.truncate(before.0);
            (out.count, out.max_timestamp, out.replaced, out.changed) = (before.1, before.2, before.3, before.4);
        }
        done
    }

    /// Appends the records of a range as they are.
    pub fn keep(&self, range: Range<usize>, out: &mut Applied) {
        out.bytes.extend_from_slice(self.data.get(self.span(&range)).unwrap_or_default());
        for words in self.words.get(range).unwrap_or_default() {
            out.count_in(timestamp(words));
        }
    }

    fn select(
        &self,
        range: Range<usize>,
        selection: &Selection,
        on_rejection: OnRejection,
        out: &mut Applied,
    ) -> Result<(), Fault> {
        let all = selection.keep.is_empty();
        if !all && selection.keep.len() != range.len().div_ceil(8) {
            return Err(fault(format!("{} bytes of bits for {} records", selection.keep.len(), range.len())));
        }
        let mut rejected = selection.rejected.iter().map(|rejection| rejection.index as usize).peekable();
        // Kept records that stand side by side are copied in one piece.
        let mut run = range.start..range.start;
        for i in 0..range.len() {
            let is_rejected = rejected.next_if_eq(&i).is_some();
            let bit = all || selection.keep.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1);
            let kept = if is_rejected { on_rejection == OnRejection::Pass } else { bit };
            let here = range.start + i;
            if kept {
                run.end = here + 1;
            } else {
                out.changed = true;
                self.keep(std::mem::replace(&mut run, here + 1..here + 1), out);
            }
        }
        self.keep(run, out);
        Ok(())
    }

    fn change(
        &self,
        range: Range<usize>,
        changes: &Changes,
        on_rejection: OnRejection,
        out: &mut Applied,
    ) -> Result<(), Fault> {
        if changes.verdicts.len() != range.len() {
            return Err(fault(format!("{} verdicts for {} records", changes.verdicts.len(), range.len())));
        }
        let (words, places) = (self.words.get(range.clone()), self.places.get(range.clone()));
        let (Some(words), Some(places)) = (words, places) else { return Err(fault("no such records".into())) };
        out.bytes.reserve(self.span(&range).len().max(changes.data.len()));
        let mut rejected = changes.rejected.iter().map(|rejection| rejection.index as usize).peekable();
        let mut spans = changes.spans.as_slice();
        for (i, ((verdict, words), place)) in changes.verdicts.iter().zip(words).zip(places).enumerate() {
            let refused = rejected.next_if_eq(&i).is_some();
            if refused != (*verdict == REJECT) {
                return Err(fault(format!("record {i} has verdict {verdict} and {} reason", u8::from(refused))));
            }
            match *verdict {
                KEEP => self.copy(place, words, out),
                DROP => out.changed = true,
                REJECT if on_rejection == OnRejection::Pass => self.copy(place, words, out),
                REJECT => out.changed = true,
                VALUE => {
                    let span: [u32; 2] = take(&mut spans, i)?;
                    self.new_value(words, place, bytes(&changes.data, span, i)?, out);
                }
                RECORD => self.new_record(i, words, place, &changes.data, take(&mut spans, i)?, out)?,
                other => return Err(fault(format!("record {i} has verdict {other}"))),
            }
        }
        if !spans.is_empty() {
            return Err(fault(format!("{} words of spans belong to no record", spans.len())));
        }
        Ok(())
    }

    #[inline]
    fn copy(&self, place: &Place, words: &[u32; WORDS], out: &mut Applied) {
        out.bytes.extend_from_slice(self.part(place.start, place.end));
        out.count_in(timestamp(words));
    }

    /// The record with another value: what stands before and after the value is copied.
    #[inline]
    fn new_value(&self, words: &[u32; WORDS], place: &Place, value: Option<&[u8]>, out: &mut Applied) {
        let (front, back) = (self.part(place.body, place.value), self.part(place.headers, place.end));
        let len = front.len() + back.len() + field_len(value);
        put_long(&mut out.bytes, len as i64);
        out.bytes.extend_from_slice(front);
        put_field(&mut out.bytes, value);
        out.bytes.extend_from_slice(back);
        out.count_changed(timestamp(words));
    }

    /// The record with whatever the eight words say.
    fn new_record(
        &self,
        i: usize,
        words: &[u32; WORDS],
        place: &Place,
        data: &[u8],
        new: [u32; WORDS],
        out: &mut Applied,
    ) -> Result<(), Fault> {
        let [key_at, key_len, value_at, value_len, headers_at, headers_len, low, high] = new;
        let field = |at, len, old: &'_ [u32; 2]| match len {
            AS_IT_WAS => Ok(self.old_field(*old)),
            _ => bytes(data, [at, len], i).map(|field| field.map(<[u8]>::to_vec)),
        };
        let [old_key, old_key_len, old_value, old_value_len, ..] = *words;
        let key = field(key_at, key_len, &[old_key, old_key_len])?;
        let value = field(value_at, value_len, &[old_value, old_value_len])?;
        let headers = match headers_len {
            AS_IT_WAS => self.part(place.headers, place.end).to_vec(),
            _ => counted_headers(bytes(data, [headers_at, headers_len], i)?, i)?,
        };
        let time = match (u64::from(low) | u64::from(high) << 32).cast_signed() {
            i64::MIN => timestamp(words),
            time => time,
        };
        // Timestamps are stored as the distance from the batch's first; one that overflows could not be read again.
        let delta =
            time.checked_sub(self.base_timestamp).ok_or_else(|| fault(format!("record {i}: timestamp {time}")))?;
        let body = 1
            + long_len(delta)
            + long_len(place.offset_delta.into())
            + field_len(key.as_deref())
            + field_len(value.as_deref())
            + headers.len();
        put_long(&mut out.bytes, body as i64);
        out.bytes.push(self.part(place.body, place.body + 1).first().copied().unwrap_or(0));
        put_long(&mut out.bytes, delta);
        put_long(&mut out.bytes, place.offset_delta.into());
        put_field(&mut out.bytes, key.as_deref());
        put_field(&mut out.bytes, value.as_deref());
        out.bytes.extend_from_slice(&headers);
        out.count_changed(time);
        Ok(())
    }

    fn old_field(&self, [at, len]: [u32; 2]) -> Option<Vec<u8>> {
        if len == NULL { None } else { Some(self.part(at, at.saturating_add(len)).to_vec()) }
    }

    #[inline]
    fn part(&self, from: u32, end: u32) -> &[u8] {
        self.data.get(from as usize..end as usize).unwrap_or_default()
    }
}

fn check_rejections(range: &Range<usize>, answer: &Answer) -> Result<(), Fault> {
    let mut least = 0;
    for rejection in answer.rejected() {
        let index = rejection.index as usize;
        if index >= range.len() {
            return Err(fault(format!("record {index} of {} is refused", range.len())));
        }
        if index < least {
            return Err(fault(format!("record {index} is refused out of order or twice")));
        }
        least = index + 1;
    }
    Ok(())
}

/// The headers with their count before them. The encoding is walked once: it is the guest's.
fn counted_headers(headers: Option<&[u8]>, i: usize) -> Result<Vec<u8>, Fault> {
    let headers = headers.unwrap_or_default();
    let mut cursor = Cursor::new(headers, 0);
    let mut count = 0_i64;
    while cursor.at() < headers.len() {
        skip_headers(&mut cursor, 1).ok_or_else(|| fault(format!("record {i}: its headers are malformed")))?;
        count += 1;
    }
    let mut out = Vec::with_capacity(headers.len() + 2);
    put_long(&mut out, count);
    out.extend_from_slice(headers);
    Ok(out)
}

#[inline]
fn take<const N: usize>(spans: &mut &[u32], i: usize) -> Result<[u32; N], Fault> {
    let (words, rest) = spans.split_first_chunk::<N>().ok_or_else(|| fault(format!("record {i} has no span")))?;
    *spans = rest;
    Ok(*words)
}

#[inline]
fn bytes(data: &[u8], [at, len]: [u32; 2], i: usize) -> Result<Option<&[u8]>, Fault> {
    if len == NULL {
        return Ok(None);
    }
    let end = (at as usize).checked_add(len as usize);
    let bytes = end.and_then(|end| data.get(at as usize..end));
    bytes.map(Some).ok_or_else(|| {
        fault(format!("record {i}: {len} bytes at {at} lie outside the {} bytes of new data", data.len()))
    })
}

#[inline]
fn field_len(field: Option<&[u8]>) -> usize {
    field.map_or(1, |field| long_len(field.len() as i64) + field.len())
}

#[inline]
fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    put_long(out, field.map_or(-1, |field| field.len() as i64));
    out.extend_from_slice(field.unwrap_or_default());
}

#[inline]
fn timestamp(words: &[u32; WORDS]) -> i64 {
    let [.., low, high] = *words;
    (u64::from(low) | u64::from(high) << 32).cast_signed()
}

fn fault(message: String) -> Fault {
    Fault::Answer(message)
}
