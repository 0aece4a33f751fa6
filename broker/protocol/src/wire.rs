//! Reading and writing the primitive types by hand, for what kafka-protocol does not serve: headers, the walk over
//! untrusted bytes, and the answers that are written in pieces.

use bytes::{BufMut, BytesMut};
use thiserror::Error;
use uuid::Uuid;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// They end too early.
    #[error("{need} bytes are needed at byte {at} where {have} are left")]
    Short {
        /// Where, from the beginning of what is read.
        at: usize,
        /// How many are needed.
        need: usize,
        /// How many there are.
        have: usize,
    },
    /// A length is negative and not −1.
    #[error("length {length} at byte {at} is negative")]
    Negative {
        /// Where.
        at: usize,
        /// The length.
        length: i64,
    },
    /// A variable-length number goes on after five bytes.
    #[error("the number at byte {at} is too long")]
    Varint {
        /// Where.
        at: usize,
    },
    /// An array announces more elements than its bytes can hold.
    #[error("an array of {count} elements at byte {at} cannot stand in {have} bytes")]
    Count {
        /// Where.
        at: usize,
        /// How many it announces.
        count: usize,
        /// The bytes that are left.
        have: usize,
    },
    /// What must not be null is.
    #[error("null at byte {at}")]
    Null {
        /// Where.
        at: usize,
    },
    /// A tagged field has another length than its type.
    #[error("tagged field {tag} at byte {at} has the wrong length")]
    Tag {
        /// Where.
        at: usize,
        /// Which.
        tag: u32,
    },
    /// The whole would take too much memory once decoded.
    #[error("decoded it would take more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Text that is not UTF-8.
    #[error("text at byte {at} is not UTF-8")]
    Text {
        /// Where.
        at: usize,
    },
}

/// A position in bytes that somebody else wrote.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of the bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes have been read.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next bytes.
    ///
    /// # Errors
    /// [`WireError::Short`] where there are fewer; nothing is taken then.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let have = self.left();
        let taken = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(WireError::Short { at: self.at, need: count, have })?;
        self.at += count;
        Ok(taken)
    }

    /// The next bytes as an array.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let at = self.at;
        let have = self.left();
        self.take(N)?.first_chunk().copied().ok_or(WireError::Short { at, need: N, have })
    }

    /// An INT8.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn i8(&mut self) -> Result<i8, WireError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    /// An INT16.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn i16(&mut self) -> Result<i16, WireError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// An INT32.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn i32(&mut self) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// An UNSIGNED_VARINT of at most five bytes.
    ///
    /// # Errors
    /// [`WireError::Varint`] where it goes on after five, and as [`Self::take`].
    pub fn varint(&mut self) -> Result<u32, WireError> {
        let at = self.at;
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Varint { at })
    }

    /// A length of two bytes; `None` for −1.
    ///
    /// # Errors
    /// [`WireError::Negative`], and as [`Self::take`].
    pub fn length16(&mut self) -> Result<Option<usize>, WireError> {
        let at = self.at;
        length(at, self.i16()?.into())
    }

    /// A length of four bytes; `None` for −1.
    ///
    /// # Errors
    /// [`WireError::Negative`], and as [`Self::take`].
    pub fn length32(&mut self) -> Result<Option<usize>, WireError> {
        let at = self.at;
        length(at, self.i32()?.into())
    }

    /// A compact length: one more than it means, so that 0 is null.
    ///
    /// # Errors
    /// As [`Self::varint`].
    pub fn compact_length(&mut self) -> Result<Option<usize>, WireError> {
        Ok(self.varint()?.checked_sub(1).map(|length| length as usize))
    }
}

fn length(at: usize, length: i64) -> Result<Option<usize>, WireError> {
    match length {
        -1 => Ok(None),
        _ => usize::try_from(length).map(Some).map_err(|_| WireError::Negative { at, length }),
    }
}

/// Writes an UNSIGNED_VARINT.
pub fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes a length: compact in flexible versions, of four bytes in others.
pub fn put_length(out: &mut BytesMut, flexible: bool, length: usize) {
    if flexible {
        put_varint(out, u32::try_from(length + 1).unwrap_or(u32::MAX));
    } else {
        out.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
    }
}

/// Writes text that is not null: compact in flexible versions, with a length of two bytes in others.
pub fn put_text(out: &mut BytesMut, flexible: bool, text: &str) {
    if flexible {
        put_varint(out, u32::try_from(text.len() + 1).unwrap_or(u32::MAX));
        out.put_slice(text.as_bytes());
    } else {
        // A longer text has no encoding here; what Kafka names is far shorter.
        let cut = text.get(..text.len().min(i16::MAX as usize)).unwrap_or_default();
        out.put_i16(i16::try_from(cut.len()).unwrap_or(i16::MAX));
        out.put_slice(cut.as_bytes());
    }
}

/// Writes a UUID.
pub fn put_uuid(out: &mut BytesMut, id: Uuid) {
    out.put_slice(id.as_bytes());
}

/// Ends a struct of a flexible version that has no tagged fields.
pub fn put_no_tags(out: &mut BytesMut, flexible: bool) {
    if flexible {
        out.put_u8(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_is_read_as_it_was_written() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u32::MAX] {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.left(), 0);
        }
    }

    #[test]
    fn a_varint_that_never_ends_is_refused() {
        assert_eq!(Reader::new(&[0xff; 9]).varint(), Err(WireError::Varint { at: 0 }));
    }

    #[test]
    fn lengths_below_minus_one_are_refused() {
        assert_eq!(Reader::new(&[0xff, 0xff]).length16(), Ok(None));
        assert_eq!(Reader::new(&[0xff, 0xfe]).length16(), Err(WireError::Negative { at: 0, length: -2 }));
    }
}
