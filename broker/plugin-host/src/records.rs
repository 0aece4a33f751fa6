//! A records section and the index over it: built in one pass, reused from batch to batch.
//!
//! A record: length, attributes (1 byte), timestamp delta, offset delta, key, value, count of headers, headers. All
//! numbers are zigzag varints. Source: Kafka's protocol documentation, "Record".

use crate::varint::Cursor;
use bytes::Bytes;
use std::ops::Range;
use thiserror::Error;

/// Words of the index that belong to one record; `wit/types.wit` says what each means.
pub(crate) const WORDS: usize = 8;
/// The length word of a key or value that is null.
pub(crate) const NULL: u32 = u32::MAX;
/// The least bytes a record takes: seven fields of one byte.
const LEAST: usize = 7;

/// Why bytes are not a records section.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordsError {
    /// More bytes than an index of 32-bit words reaches.
    #[error("the records take {0} bytes")]
    Size(usize),
    /// More records than the bytes can hold, or fewer than none.
    #[error("{count} records are said to be in {bytes} bytes")]
    Count {
        /// What the header says.
        count: i32,
        /// The section's size.
        bytes: usize,
    },
    /// A record that is not encoded as it must be.
    #[error("record {index} is malformed at byte {at}")]
    Record {
        /// Its place, from 0.
        index: u32,
        /// Where in the section.
        at: usize,
    },
    /// Bytes after the last record.
    #[error("{0} bytes follow the last record")]
    Trailing(usize),
}

/// Where a record's parts begin in the section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Its length field.
    pub start: u32,
    /// Its attributes.
    pub body: u32,
    /// Its value's length field.
    pub value: u32,
    /// Its count of headers.
    pub headers: u32,
    /// The next record.
    pub end: u32,
    pub offset_delta: i32,
}

/// An uncompressed records section with its index.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub(crate) data: Bytes,
    pub(crate) base_timestamp: i64,
    /// As the guests get it, offsets from the section's beginning.
    pub(crate) words: Vec<[u32; WORDS]>,
    pub(crate) places: Vec<Place>,
}

impl Records {
    /// Reads `count` records; what was read before is forgotten, its buffers are used again.
    ///
    /// # Errors
    /// For bytes that are not exactly `count` well-formed records.
    pub fn parse(&mut self, data: Bytes, count: i32, base_timestamp: i64) -> Result<(), RecordsError> {
        self.words.clear();
        self.places.clear();
        if u32::try_from(data.len()).is_err() || data.len() >= (u32::MAX - 1) as usize {
            return Err(RecordsError::Size(data.len()));
        }
        let bound = data.len() / LEAST;
        let wanted = usize::try_from(count).ok().filter(|&n| n <= bound);
        let wanted = wanted.ok_or(RecordsError::Count { count, bytes: data.len() })?;
        self.words.reserve(wanted);
        self.places.reserve(wanted);
        let mut at = 0;
        for index in 0..wanted {
            let mut cursor = Cursor::new(&data, at);
            let (words, place) = record(&data, &mut cursor, base_timestamp)
                .ok_or_else(|| RecordsError::Record { index: index as u32, at: cursor.at() })?;
            at = place.end as usize;
            self.words.push(words);
            self.places.push(place);
        }
        if at != data.len() {
            return Err(RecordsError::Trailing(data.len() - at));
        }
        self.data = data;
        self.base_timestamp = base_timestamp;
        Ok(())
    }

    /// How many records there are.
    pub const fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The section's bytes.
    pub const fn data(&self) -> &Bytes {
        &self.data
    }

    /// The offset delta of a record: as a producer writes it, its place in the batch.
    pub fn offset_delta(&self, index: usize) -> Option<i32> {
        self.places.get(index).map(|place| place.offset_delta)
    }

    /// Forgets the records and keeps the buffers, unless they have become large.
    pub fn clear(&mut self) {
        const KEPT: usize = 16 << 10;
        self.data = Bytes::new();
        self.words.clear();
        self.places.clear();
        self.words.shrink_to(KEPT);
        self.places.shrink_to(KEPT);
    }

    /// The bytes that records of a range take in a call: theirs and their index's.
    pub(crate) fn call_bytes(&self, range: &Range<usize>) -> usize {
        self.span(range).len() + range.len() * WORDS * 4
    }

    /// Where the range's records stand in the section.
    pub(crate) fn span(&self, range: &Range<usize>) -> Range<usize> {
        let Some(places) = self.places.get(range.clone()) else { return 0..0 };
        match (places.first(), places.last()) {
            (Some(first), Some(last)) => first.start as usize..last.end as usize,
            _ => 0..0,
        }
    }

    /// Cuts all records into ranges that take at most `bytes` each in a call; a record larger than that has a range of
    /// its own.
    pub fn chunks(&self, bytes: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut from = 0;
        std::iter::from_fn(move || {
            let rest = self.places.get(from..).filter(|rest| !rest.is_empty())?;
            let start = rest.first()?.start as usize;
            let fitting = rest
                .iter()
                .enumerate()
                .take_while(|(i, place)| (place.end as usize - start) + (i + 1) * WORDS * 4 <= bytes)
                .count();
            let range = from..from + fitting.max(1);
            from = range.end;
            Some(range)
        })
    }
}

/// One record at the cursor, which on failure is left where it went wrong.
#[inline]
fn record<'a>(data: &'a [u8], cursor: &mut Cursor<'a>, base_timestamp: i64) -> Option<([u32; WORDS], Place)> {
    let start = cursor.at();
    let len = usize::try_from(cursor.int()?).ok()?;
    let body = cursor.at();
    let end = body.checked_add(len).filter(|&end| end <= data.len())?;
    // From here on nothing is read beyond the record's own end.
    *cursor = Cursor::new(data.get(..end)?, body);
    cursor.byte()?;
    let timestamp = base_timestamp.wrapping_add(cursor.long()?).cast_unsigned();
    let offset_delta = cursor.int()?;
    let key = cursor.span()?.unwrap_or((0, NULL));
    let value_at = cursor.at();
    let value = cursor.span()?.unwrap_or((0, NULL));
    let headers_at = cursor.at();
    let headers = u32::try_from(cursor.int()?).ok()?;
    let headers_from = cursor.at();
    skip_headers(cursor, headers)?;
    if cursor.at() != end {
        return None;
    }
    let words = [
        key.0,
        key.1,
        value.0,
        value.1,
        headers_from as u32,
        (end - headers_from) as u32,
        timestamp as u32,
        (timestamp >> 32) as u32,
    ];
    let place = Place {
        start: start as u32,
        body: body as u32,
        value: value_at as u32,
        headers: headers_at as u32,
        end: end as u32,
        offset_delta,
    };
    Some((words, place))
}

/// Walks over `count` headers: each a name, which is never null, and a value.
#[inline]
pub(crate) fn skip_headers(cursor: &mut Cursor<'_>, count: u32) -> Option<()> {
    for _ in 0..count {
        cursor.span()??;
        cursor.span()?;
    }
    Some(())
}
