//! Records of message format v2 as views over the bytes of a batch's
//! (uncompressed) records section. Nothing is copied and nothing is allocated.
//!
//! ```text
//! length           varint   bytes after this field
//! attributes       i8       unused
//! timestamp delta  varlong  from the batch's base timestamp
//! offset delta     varint   from the batch's base offset
//! key length       varint   negative: null      key    bytes
//! value length     varint   negative: null      value  bytes
//! headers count    varint   then per header: key length varint, key,
//!                           value length varint (negative: null), value
//! ```
//!
//! Invariants: a [`RecordView`] that was handed out is well formed to its last
//! header, so reading its parts cannot fail. Headers keep their order, and a
//! header's key may repeat. No length is believed before it was held against
//! the bytes that are there.
//!
//! Source: Kafka's protocol documentation, "Record" and "Record Header".

pub mod encode;
mod varint;

use thiserror::Error;

pub use varint::{Truncated, read_varint, read_varlong, varint_len, varlong_len, write_varint, write_varlong};

/// The fewest bytes a record takes, its length field included.
pub const MIN_RECORD_LEN: usize = 7;

/// Why bytes are not the records they are said to be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The section ends before all records were read.
    #[error("record {index} of {count} is cut off")]
    Short {
        /// The record, counted from 0.
        index: i32,
        /// How many records the batch announces.
        count: i32,
    },
    /// Bytes are left after the last record.
    #[error("{bytes} bytes follow the last of {count} records")]
    Trailing {
        /// How many bytes.
        bytes: usize,
        /// How many records the batch announces.
        count: i32,
    },
    /// A number that is not encoded as a varint must be.
    #[error("record {index}: {field} is not a valid varint")]
    Varint {
        /// The record.
        index: i32,
        /// What was read.
        field: &'static str,
    },
    /// A length or a count that cannot be.
    #[error("record {index}: {field} is {value} with {left} bytes left")]
    Length {
        /// The record.
        index: i32,
        /// What was read.
        field: &'static str,
        /// The length.
        value: i64,
        /// Bytes that are left.
        left: usize,
    },
    /// The record's length field says more than its parts take.
    #[error("record {index} announces {bytes} bytes more than it holds")]
    Slack {
        /// The record.
        index: i32,
        /// How many.
        bytes: usize,
    },
    /// A record that is too large for its length field.
    #[error("a record of {bytes} bytes is too large to encode")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// The records of one batch, in order. Yields an error once and then ends;
/// bytes after the last record are an error too.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    index: i32,
    count: i32,
    over: bool,
}

impl<'a> Records<'a> {
    /// The `count` records of an uncompressed `section`.
    pub const fn new(section: &'a [u8], count: i32) -> Self {
        Self { rest: section, index: 0, count, over: false }
    }

    /// Reads all records and throws them away.
    ///
    /// # Errors
    /// The first error that reading them gives.
    pub fn check(mut self) -> Result<(), RecordError> {
        self.try_for_each(|record| record.map(|_| ()))
    }

    fn end(&mut self) -> Option<Result<RecordView<'a>, RecordError>> {
        self.over = true;
        match self.rest.len() {
            0 => None,
            bytes => Some(Err(RecordError::Trailing { bytes, count: self.count })),
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        // Reading does not say what is wrong: an error's cause is looked for
        // afterwards, so that good records do not pay for it.
        if self.over {
            return None;
        }
        if self.index >= self.count {
            return self.end();
        }
        let Some((view, rest)) = RecordView::read(self.rest) else {
            self.over = true;
            return Some(explain(self.rest, self.index, self.count));
        };
        self.rest = rest;
        self.index += 1;
        Some(Ok(view))
    }

    /// At most as many as fit into the bytes, whatever the count says.
    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.over {
            return (0, Some(0));
        }
        let announced = usize::try_from(self.count.saturating_sub(self.index)).unwrap_or(0);
        // One more for the error that may end it.
        (0, Some(announced.min(self.rest.len() / MIN_RECORD_LEN) + 1))
    }
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    bytes: &'a [u8],
    attributes: i8,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> RecordView<'a> {
    /// The record at the front of `section`, and what follows it.
    #[inline]
    fn read(section: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut body = section;
        let length = usize::try_from(varint(&mut body)?).ok()?;
        let (mut record, rest) = body.split_at_checked(length)?;
        let (attributes, after) = record.split_first()?;
        record = after;
        let timestamp_delta = varlong(&mut record)?;
        let offset_delta = varint(&mut record)?;
        let key = nullable(&mut record)?;
        let value = nullable(&mut record)?;
        let headers = match record {
            [0] => Headers::EMPTY,
            more => Headers::read(more)?,
        };
        let bytes = section.get(..section.len() - rest.len())?;
        let attributes = attributes.cast_signed();
        Some((Self { bytes, attributes, timestamp_delta, offset_delta, key, value, headers }, rest))
    }

    /// All its bytes, the length field too: what is copied where a record stays as it is.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The attributes byte, unused so far.
    pub const fn attributes(&self) -> i8 {
        self.attributes
    }

    /// Milliseconds after the batch's base timestamp.
    pub const fn timestamp_delta(&self) -> i64 {
        self.timestamp_delta
    }

    /// Offsets after the batch's base offset.
    pub const fn offset_delta(&self) -> i32 {
        self.offset_delta
    }

    /// The key, if it is not null.
    pub const fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value, if it is not null.
    pub const fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The headers.
    pub const fn headers(&self) -> Headers<'a> {
        self.headers
    }
}

/// A record's headers, in order; a key may occur more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    raw: &'a [u8],
    count: u32,
}

impl Default for Headers<'_> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<'a> Headers<'a> {
    /// No headers.
    pub const EMPTY: Self = Self { raw: &[0], count: 0 };

    /// Headers from their encoding: the count, then the headers, and nothing more.
    ///
    /// # Errors
    /// As for a record's headers, the record's index being 0.
    pub fn parse(raw: &'a [u8]) -> Result<Self, RecordError> {
        Self::read(raw).ok_or_else(|| {
            let mut from = Cursor { left: raw, index: 0 };
            match from.headers() {
                Ok(()) => RecordError::Slack { index: 0, bytes: from.left.len() },
                Err(error) => error,
            }
        })
    }

    fn read(raw: &'a [u8]) -> Option<Self> {
        let mut left = raw;
        let count = u32::try_from(varint(&mut left)?).ok()?;
        // A header takes two bytes at least: a count above that is refused before the loop.
        if count as usize > left.len() / 2 {
            return None;
        }
        for _ in 0..count {
            header(&mut left)?;
        }
        left.is_empty().then_some(Self { raw, count })
    }

    /// The encoding: the count as a varint, then the headers.
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers in order.
    pub fn iter(&self) -> HeaderIter<'a> {
        let mut rest = self.raw;
        let _ = varint(&mut rest);
        HeaderIter { rest, left: self.count }
    }

    /// The first header with this key.
    pub fn first(&self, key: &[u8]) -> Option<HeaderView<'a>> {
        self.iter().find(|header| header.key == key)
    }

    /// The last header with this key: the one that counts where a key stands for one value.
    pub fn last(&self, key: &[u8]) -> Option<HeaderView<'a>> {
        self.iter().filter(|header| header.key == key).last()
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = HeaderView<'a>;
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

/// One header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderView<'a> {
    /// Its key: UTF-8 by convention, which nothing enforces.
    pub key: &'a [u8],
    /// Its value, if it is not null.
    pub value: Option<&'a [u8]>,
}

/// Goes through [`Headers`].
#[derive(Clone, Debug)]
pub struct HeaderIter<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = HeaderView<'a>;

    fn next(&mut self) -> Option<HeaderView<'a>> {
        self.left = self.left.checked_sub(1)?;
        // They were read once when the headers were made, so this does not fail.
        header(&mut self.rest)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for HeaderIter<'_> {}

/// Where `part` stands in `whole`, if it is a part of it: what a plugin's
/// index needs to name a key or a value by place.
pub fn position_in(whole: &[u8], part: &[u8]) -> Option<usize> {
    let from = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    (from.checked_add(part.len())? <= whole.len()).then_some(from)
}

#[inline]
fn varint(from: &mut &[u8]) -> Option<i32> {
    read_varint(from).ok()
}

#[inline]
fn varlong(from: &mut &[u8]) -> Option<i64> {
    read_varlong(from).ok()
}

/// As Kafka reads it: any negative length is null.
#[inline]
fn nullable<'a>(from: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let Ok(length) = usize::try_from(varint(from)?) else { return Some(None) };
    let (bytes, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(Some(bytes))
}

fn header<'a>(from: &mut &'a [u8]) -> Option<HeaderView<'a>> {
    // Unlike a value, a header's key is never null.
    let key = nullable(from)??;
    Some(HeaderView { key, value: nullable(from)? })
}

/// What is wrong with the record at the front of `section`, number `index` of `count`.
#[cold]
#[inline(never)]
fn explain<'a>(section: &'a [u8], index: i32, count: i32) -> Result<RecordView<'a>, RecordError> {
    let mut body = section;
    let length = match read_varint(&mut body) {
        Ok(length) => length,
        Err(Truncated::Yes) => return Err(RecordError::Short { index, count }),
        Err(Truncated::No) => return Err(RecordError::Varint { index, field: "record length" }),
    };
    let negative = |_| RecordError::Length { index, field: "record length", value: length.into(), left: body.len() };
    let length = usize::try_from(length).map_err(negative)?;
    let record = body.get(..length).ok_or(RecordError::Short { index, count })?;
    let mut from = Cursor { left: record, index };
    from.take(1, "attributes")?;
    from.varlong("timestamp delta")?;
    from.varint("offset delta")?;
    from.nullable("key length")?;
    from.nullable("value length")?;
    from.headers()?;
    Err(RecordError::Slack { index, bytes: from.left.len() })
}

/// Reads the parts of record number `index` once more, to say what is wrong.
struct Cursor<'a> {
    left: &'a [u8],
    index: i32,
}

impl Cursor<'_> {
    fn varint(&mut self, field: &'static str) -> Result<i32, RecordError> {
        read_varint(&mut self.left).map_err(|_| RecordError::Varint { index: self.index, field })
    }

    fn varlong(&mut self, field: &'static str) -> Result<i64, RecordError> {
        read_varlong(&mut self.left).map_err(|_| RecordError::Varint { index: self.index, field })
    }

    fn take(&mut self, length: i32, field: &'static str) -> Result<(), RecordError> {
        let wrong = RecordError::Length { index: self.index, field, value: length.into(), left: self.left.len() };
        let after = usize::try_from(length).ok().and_then(|length| self.left.get(length..));
        self.left = after.ok_or(wrong)?;
        Ok(())
    }

    fn nullable(&mut self, field: &'static str) -> Result<(), RecordError> {
        match self.varint(field)? {
            ..0 => Ok(()),
            length => self.take(length, field),
        }
    }

    fn headers(&mut self) -> Result<(), RecordError> {
        let field = "headers count";
        let value = self.varint(field)?.into();
        if value < 0 || value > (self.left.len() / 2) as i64 {
            return Err(RecordError::Length { index: self.index, field, value, left: self.left.len() });
        }
        for _ in 0..value {
            let length = self.varint("header key length")?;
            self.take(length, "header key length")?;
            self.nullable("header value length")?;
        }
        Ok(())
    }
}
