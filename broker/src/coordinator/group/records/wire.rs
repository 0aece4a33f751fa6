//! Kafka's forms of numbers, texts and arrays, as the records of the coordinators are made of them.

use bytes::Bytes;
use thiserror::Error;

/// Why bytes are not a record of this topic.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The bytes end within a field.
    #[error("the {0} ends before the record does")]
    Short(&'static str),
    /// A length is negative or beyond the bytes there are.
    #[error("the {field} has length {length}")]
    Length {
        /// The field.
        field: &'static str,
        /// Its length.
        length: i64,
    },
    /// A string is not UTF-8.
    #[error("the {0} is not UTF-8")]
    Utf8(&'static str),
    /// A version that is not known.
    #[error("version {version} of {record} is not known")]
    Version {
        /// The record.
        record: &'static str,
        /// Its version.
        version: i16,
    },
}

/// Writes fields in their order.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn new(version: i16) -> Self {
        Self { bytes: version.to_be_bytes().to_vec() }
    }

    /// Without a version in front: a part of a value.
    pub const fn bare() -> Self {
        Self { bytes: Vec::new() }
    }

    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Every string here came over the wire with at most two bytes of length or is bounded by an option; one that is
    /// longer nevertheless is cut at a character rather than written with a wrong length.
    pub fn string(&mut self, value: &str) -> &mut Self {
        let value = value.get(..value.floor_char_boundary(i16::MAX as usize)).unwrap_or_default();
        self.bytes.extend_from_slice(&(value.len() as i16).to_be_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self
    }

    pub fn compact_string(&mut self, value: &str) -> &mut Self {
        self.varint(value.len() as u64 + 1);
        self.bytes.extend_from_slice(value.as_bytes());
        self
    }

    pub fn compact_nullable(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.compact_string(value),
            None => self.varint(0),
        }
    }

    pub fn compact_blob(&mut self, value: &[u8]) -> &mut Self {
        self.varint(value.len() as u64 + 1).raw(value)
    }

    /// The length of an array.
    pub fn compact_count(&mut self, count: usize) -> &mut Self {
        self.varint(count as u64 + 1)
    }

    pub fn varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.bytes.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
        self
    }

    pub fn nullable(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.string(value),
            None => {
                self.bytes.extend_from_slice(&(-1i16).to_be_bytes());
                self
            }
        }
    }

    pub fn blob(&mut self, value: &[u8]) -> &mut Self {
        self.i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
        self.bytes.extend_from_slice(value);
        self
    }

    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub fn done(self) -> Bytes {
        self.bytes.into()
    }
}

/// The newest version of any value that is known.
const NEWEST: i16 = 4;

/// Reads fields in their order.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    compact: bool,
}

impl<'a> Reader<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, compact: false }
    }

    /// For a part of a value that has Kafka's compact forms.
    pub const fn compact(bytes: &'a [u8]) -> Self {
        Self { bytes, compact: true }
    }

    /// Goes past the version of a value that has had Kafka's compact forms from version 0 on.
    pub fn flexible(mut self, record: &'static str) -> Result<Self, RecordError> {
        match self.i16("version")? {
            0 => Ok(Self { bytes: self.bytes, compact: true }),
            version => Err(RecordError::Version { record, version }),
        }
    }

    pub fn i8(&mut self, field: &'static str) -> Result<i8, RecordError> {
        self.array(field).map(i8::from_be_bytes)
    }

    pub fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], RecordError> {
        let (head, rest) = self.bytes.split_at_checked(length).ok_or(RecordError::Short(field))?;
        self.bytes = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], RecordError> {
        let (head, rest) = self.bytes.split_first_chunk().ok_or(RecordError::Short(field))?;
        self.bytes = rest;
        Ok(*head)
    }

    pub fn version(&mut self, record: &'static str) -> Result<i16, RecordError> {
        let version = self.i16("version")?;
        if !(0..=NEWEST).contains(&version) {
            return Err(RecordError::Version { record, version });
        }
        self.compact = version >= 4;
        Ok(version)
    }

    pub fn i16(&mut self, field: &'static str) -> Result<i16, RecordError> {
        Ok(i16::from_be_bytes(self.array(field)?))
    }

    pub fn i32(&mut self, field: &'static str) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    pub fn i64(&mut self, field: &'static str) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array(field)?))
    }

    pub fn varint(&mut self, field: &'static str) -> Result<i64, RecordError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array(field)?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value.into());
            }
        }
        Err(RecordError::Length { field, length: value.into() })
    }

    /// A length, −1 for null.
    pub fn length(&mut self, wide: bool, field: &'static str) -> Result<i64, RecordError> {
        match (self.compact, wide) {
            (true, _) => Ok(self.varint(field)? - 1),
            (false, true) => Ok(self.i32(field)?.into()),
            (false, false) => Ok(self.i16(field)?.into()),
        }
    }

    pub fn nullable(&mut self, field: &'static str) -> Result<Option<String>, RecordError> {
        match self.length(false, field)? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| RecordError::Length { field, length })?;
                let text = std::str::from_utf8(self.take(length, field)?).map_err(|_| RecordError::Utf8(field))?;
                Ok(Some(text.to_owned()))
            }
        }
    }

    pub fn string(&mut self, field: &'static str) -> Result<String, RecordError> {
        self.nullable(field)?.ok_or(RecordError::Length { field, length: -1 })
    }

    pub fn blob(&mut self, field: &'static str) -> Result<Bytes, RecordError> {
        let length = self.length(true, field)?;
        let length = usize::try_from(length).map_err(|_| RecordError::Length { field, length })?;
        Ok(Bytes::copy_from_slice(self.take(length, field)?))
    }

    pub fn count(&mut self, field: &'static str) -> Result<i64, RecordError> {
        match self.length(true, field)? {
            length @ 0.. => Ok(length),
            length => Err(RecordError::Length { field, length }),
        }
    }

    pub fn tagged(&mut self, mut each: impl FnMut(i64, &[u8])) -> Result<(), RecordError> {
        if !self.compact {
            return Ok(());
        }
        for _ in 0..self.varint("tagged fields")? {
            let tag = self.varint("tag")?;
            let length = self.varint("tagged field")?;
            let length = usize::try_from(length).map_err(|_| RecordError::Length { field: "tagged field", length })?;
            each(tag, self.take(length, "tagged field")?);
        }
        Ok(())
    }
}
