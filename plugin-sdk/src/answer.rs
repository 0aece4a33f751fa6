//! What a plugin answers: for one record, and for a batch.

use crate::bindings::types::Rejection;
use std::fmt::Display;

/// The length word of a null key or value.
const NULL: u32 = u32::MAX;
/// The length word of a key, value or headers that stay as they are.
const AS_IT_WAS: u32 = u32::MAX - 1;

const KEEP: u8 = 0;
const DROP: u8 = 1;
const REJECT: u8 = 2;
const VALUE: u8 = 3;
const RECORD: u8 = 4;

/// A filter's answer as it crosses the border; the generated type has the same fields.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct WireSelection {
    pub keep: Vec<u8>,
    pub rejected: Vec<Rejection>,
}

/// A transform's answer as it crosses the border; the generated type has the same fields.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct WireChanges {
    pub verdicts: Vec<u8>,
    pub data: Vec<u8>,
    pub spans: Vec<u32>,
    pub rejected: Vec<Rejection>,
}

/// What a filter may answer for a record.
pub trait IntoKeep {
    /// Whether the record is kept, or why it is refused.
    fn into_keep(self) -> Result<bool, String>;
}

impl IntoKeep for bool {
    #[inline]
    fn into_keep(self) -> Result<bool, String> {
        Ok(self)
    }
}

impl<E: Display> IntoKeep for Result<bool, E> {
    #[inline]
    fn into_keep(self) -> Result<bool, String> {
        self.map_err(|error| error.to_string())
    }
}

/// The answer of a filter over a batch. Records that nothing is said of are kept.
#[derive(Debug)]
pub struct Keep {
    bits: Vec<u8>,
    count: usize,
    next: usize,
    rejected: Vec<Rejection>,
}

impl Keep {
    /// An answer for `count` records.
    pub fn new(count: usize) -> Self {
        Self { bits: Vec::new(), count, next: 0, rejected: Vec::new() }
    }

    /// Says what becomes of the next record.
    #[inline]
    pub fn push(&mut self, keep: impl IntoKeep) {
        match keep.into_keep() {
            Ok(true) => self.next += 1,
            Ok(false) => self.drop_next(),
            Err(reason) => self.reject_next(reason),
        }
    }

    fn drop_next(&mut self) {
        if self.bits.is_empty() {
            self.bits.resize(self.count.div_ceil(8), 0xff);
        }
        self.bits[self.next / 8] &= !(1 << (self.next % 8));
        self.next += 1;
    }

    fn reject_next(&mut self, reason: String) {
        self.rejected.push(Rejection { index: self.next as u32, reason });
        self.next += 1;
    }

    pub(crate) fn into_wire(self) -> WireSelection {
        assert!(self.next <= self.count, "{} answers for {} records", self.next, self.count);
        WireSelection { keep: self.bits, rejected: self.rejected }
    }
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is stored as it is.
    Keep,
    /// It is not stored.
    Drop,
    /// It is refused, for this reason.
    Reject(String),
    /// It gets this value and is otherwise stored as it is.
    Value(Vec<u8>),
    /// More of it changes.
    Record(NewRecord),
}

/// A record of which more than the value changes. What nothing is said of stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    key: Option<Option<Vec<u8>>>,
    value: Option<Option<Vec<u8>>>,
    headers: Option<Vec<u8>>,
    timestamp: Option<i64>,
}

impl NewRecord {
    /// The record as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this key; `None` is null.
    #[must_use]
    pub fn key(mut self, key: Option<Vec<u8>>) -> Self {
        self.key = Some(key);
        self
    }

    /// With this value; `None` is null.
    #[must_use]
    pub fn value(mut self, value: Option<Vec<u8>>) -> Self {
        self.value = Some(value);
        self
    }

    /// With this timestamp.
    #[must_use]
    pub fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// With one header more; the first call takes the place of all headers that the record had. To keep those, begin
    /// with them: they can be iterated.
    #[must_use]
    pub fn header(mut self, name: &str, value: Option<&[u8]>) -> Self {
        let out = self.headers.get_or_insert_default();
        put_bytes(out, Some(name.as_bytes()));
        put_bytes(out, value);
        self
    }

    /// Without headers.
    #[must_use]
    pub fn without_headers(mut self) -> Self {
        self.headers = Some(Vec::new());
        self
    }
}

/// A length as zigzag varint, and the bytes.
fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let mut raw = bytes.map_or(1, |bytes| (bytes.len() as u32) << 1);
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// What a transform may answer for a record.
pub trait IntoChange {
    /// What becomes of the record.
    fn into_change(self) -> Change;
}

impl IntoChange for Change {
    #[inline]
    fn into_change(self) -> Change {
        self
    }
}

impl<E: Display> IntoChange for Result<Change, E> {
    #[inline]
    fn into_change(self) -> Change {
        self.unwrap_or_else(|error| Change::Reject(error.to_string()))
    }
}

/// The answer of a transform over a batch, record by record. Records that nothing is said of are kept.
#[derive(Debug)]
pub struct Changes {
    count: usize,
    next: usize,
    verdicts: Vec<u8>,
    data: Vec<u8>,
    spans: Vec<u32>,
    rejected: Vec<Rejection>,
}

impl Changes {
    /// An answer for `count` records.
    pub fn new(count: usize) -> Self {
        Self { count, next: 0, verdicts: Vec::new(), data: Vec::new(), spans: Vec::new(), rejected: Vec::new() }
    }

    /// Says what becomes of the next record.
    pub fn push(&mut self, change: impl IntoChange) {
        match change.into_change() {
            Change::Keep => self.keep(),
            Change::Drop => self.drop_record(),
            Change::Reject(reason) => self.reject(reason),
            Change::Value(value) => self.value(&value),
            Change::Record(record) => self.record(&record),
        }
    }

    /// The next record is stored as it is.
    #[inline]
    pub fn keep(&mut self) {
        self.next += 1;
    }

    /// The next record is not stored.
    pub fn drop_record(&mut self) {
        self.verdict(DROP);
    }

    /// The next record is refused.
    pub fn reject(&mut self, reason: impl Into<String>) {
        self.rejected.push(Rejection { index: self.next as u32, reason: reason.into() });
        self.verdict(REJECT);
    }

    /// The next record gets this value.
    pub fn value(&mut self, value: &[u8]) {
        self.value_with(|out| {
            out.extend_from_slice(value);
            true
        });
    }

    /// The next record gets the value that `write` appends; where it returns false, the record is kept as it is, and
    /// what it has appended is forgotten.
    #[inline]
    pub fn value_with(&mut self, write: impl FnOnce(&mut Vec<u8>) -> bool) {
        let from = self.data.len();
        if write(&mut self.data) {
            let len = self.data.len() - from;
            self.spans.extend([from as u32, len as u32]);
            self.verdict(VALUE);
        } else {
            self.data.truncate(from);
            self.next += 1;
        }
    }

    /// As [`Self::value_with`], where `write` may find that the record must be refused.
    #[inline]
    pub fn try_value_with<E: Display>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>) {
        let from = self.data.len();
        match write(&mut self.data) {
            Ok(changed) => {
                let end = self.data.len();
                if changed {
                    self.spans.extend([from as u32, (end - from) as u32]);
                    self.verdict(VALUE);
                } else {
                    self.data.truncate(from);
                    self.next += 1;
                }
            }
            Err(error) => {
                self.data.truncate(from);
                self.reject(error.to_string());
            }
        }
    }

    /// Makes room for new values, where their size is known to be about that much.
    pub fn reserve(&mut self, bytes: usize) {
        self.data.reserve(bytes);
        self.spans.reserve(2 * self.count);
        self.verdicts.reserve(self.count);
    }

    /// The next record changes as this says.
    pub fn record(&mut self, record: &NewRecord) {
        for field in [&record.key, &record.value] {
            match field {
                None => self.spans.extend([0, AS_IT_WAS]),
                Some(None) => self.spans.extend([0, NULL]),
                Some(Some(bytes)) => self.span(bytes),
            }
        }
        match &record.headers {
            None => self.spans.extend([0, AS_IT_WAS]),
            Some(bytes) => self.span(bytes),
        }
        let timestamp = record.timestamp.unwrap_or(i64::MIN).cast_unsigned();
        self.spans.extend([timestamp as u32, (timestamp >> 32) as u32]);
        self.verdict(RECORD);
    }

    fn span(&mut self, bytes: &[u8]) {
        self.spans.extend([self.data.len() as u32, bytes.len() as u32]);
        self.data.extend_from_slice(bytes);
    }

    #[inline]
    fn verdict(&mut self, verdict: u8) {
        if self.verdicts.len() < self.next {
            self.verdicts.resize(self.next, KEEP);
        }
        self.verdicts.push(verdict);
        self.next += 1;
    }

    /// The answer as it crosses the border. For tests, and for those who spoil it.
    #[doc(hidden)]
    pub fn into_answer(mut self) -> WireChanges {
        assert!(self.next <= self.count, "{} answers for {} records", self.next, self.count);
        if !self.verdicts.is_empty() {
            self.verdicts.resize(self.count, KEEP);
        }
        WireChanges { verdicts: self.verdicts, data: self.data, spans: self.spans, rejected: self.rejected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_kept_records_is_answered_with_nothing() {
        let mut keep = Keep::new(3);
        (0..3).for_each(|_| keep.push(true));
        assert!(keep.into_wire().keep.is_empty());
        let mut changes = Changes::new(3);
        (0..3).for_each(|_| changes.push(Change::Keep));
        assert!(changes.into_answer().verdicts.is_empty());
    }

    #[test]
    fn dropped_and_refused_records_stand_in_the_answer() {
        let mut keep = Keep::new(10);
        (0..10).for_each(|i| keep.push(if i == 7 { Err("no") } else { Ok(i != 9 && i != 0) }));
        let wire = keep.into_wire();
        assert_eq!(wire.keep, [0xfe, 0xfd]);
        assert_eq!((wire.rejected[0].index, wire.rejected[0].reason.as_str()), (7, "no"));
    }

    #[test]
    fn new_values_and_records_have_spans() {
        let mut changes = Changes::new(6);
        changes.keep();
        changes.value(b"abc");
        changes.value_with(|out| {
            out.push(b'x');
            false
        });
        changes.push(Change::Record(NewRecord::new().key(None).header("h", Some(b"v")).timestamp(-1)));
        changes.push(Err::<Change, _>("bad"));
        let wire = changes.into_answer();
        assert_eq!(wire.verdicts, [KEEP, VALUE, KEEP, RECORD, REJECT, KEEP]);
        assert_eq!(wire.data, b"abc\x02h\x02v");
        assert_eq!(wire.spans, [0, 3, 0, NULL, 0, AS_IT_WAS, 3, 4, u32::MAX, u32::MAX]);
        assert_eq!(wire.rejected[0].index, 4);
    }
}
