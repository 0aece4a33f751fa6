//! Records into batches.
//!
//! [`Section`] collects encoded records and counts what a header must say of
//! them, so that a batch made of it cannot contradict itself. It keeps room for
//! the header in front: an uncompressed batch is sealed where it stands, and no
//! record is copied twice. [`BatchBuilder`] gives the records their deltas and
//! the batch its header.

use crate::batch::{Attributes, Batch, BatchHeader, CRC_AT, CRC_FROM, HEADER_LEN, LENGTH_BIAS, crc};
use crate::codec::{self, CodecError, Compression};
use crate::record::encode::{self, HeaderSource, RecordParts};
use crate::record::{RecordError, RecordView};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use bytes::Bytes;
use thiserror::Error;

/// Why a batch could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// A record does not fit.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The records do not compress.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// More bytes than a batch's length field can say.
    #[error("a batch of {bytes} bytes is too large")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// More records than a batch's count can say.
    #[error("a batch cannot hold more than {count} records")]
    TooMany {
        /// What it holds.
        count: i32,
    },
}

/// Encoded records and what a header says of them.
#[derive(Clone, Debug)]
pub struct Section {
    /// Room for the header, then the records.
    bytes: Vec<u8>,
    count: i32,
    max_timestamp_delta: Option<i64>,
}

impl Default for Section {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl Section {
    /// No records, and room for this many bytes of them.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut room = Vec::with_capacity(HEADER_LEN.saturating_add(bytes));
        room.resize(HEADER_LEN, 0);
        Self { bytes: room, count: 0, max_timestamp_delta: None }
    }

    /// Records that were encoded elsewhere: [`HEADER_LEN`] bytes of room, and after them `count` records whose largest
    /// timestamp delta is this one.
    pub fn encoded(bytes: Vec<u8>, count: i32, max_timestamp_delta: Option<i64>) -> Self {
        debug_assert!(bytes.len() >= HEADER_LEN, "there is room for the header");
        Self { bytes, count, max_timestamp_delta: max_timestamp_delta.filter(|_| count > 0) }
    }

    /// Appends one record.
    ///
    /// # Errors
    /// [`BuildError::Record`] and [`BuildError::TooMany`]; the section is then as it was.
    #[inline]
    pub fn push(&mut self, record: &RecordParts<'_>) -> Result<(), BuildError> {
        let count = self.one_more()?;
        encode::record(&mut self.bytes, record)?;
        self.note(count, record.timestamp_delta);
        Ok(())
    }

    /// Appends one record as it stands, deltas included.
    ///
    /// # Errors
    /// [`BuildError::TooMany`]; the section is then as it was.
    #[inline]
    pub fn copy(&mut self, record: &RecordView<'_>) -> Result<(), BuildError> {
        let count = self.one_more()?;
        self.bytes.extend_from_slice(record.bytes());
        self.note(count, record.timestamp_delta());
        Ok(())
    }

    #[inline]
    fn one_more(&self) -> Result<i32, BuildError> {
        self.count.checked_add(1).ok_or(BuildError::TooMany { count: self.count })
    }

    #[inline]
    fn note(&mut self, count: i32, timestamp_delta: i64) {
        self.count = count;
        self.max_timestamp_delta = self.max_timestamp_delta.max(Some(timestamp_delta));
    }

    /// The encoded records.
    pub fn records(&self) -> &[u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or_default()
    }

    /// How many records there are.
    pub const fn count(&self) -> i32 {
        self.count
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The largest timestamp delta, if there is a record.
    pub const fn max_timestamp_delta(&self) -> Option<i64> {
        self.max_timestamp_delta
    }

    /// Makes the batch: the header as given, but for the length, checksum,
    /// codec and records count, which follow from the records.
    ///
    /// # Errors
    /// [`BuildError::Codec`] and [`BuildError::TooLarge`].
    pub fn seal(self, mut header: BatchHeader, codec: Compression, level: Option<i32>) -> Result<Batch, BuildError> {
        header.records_count = self.count;
        if codec == Compression::None {
            return seal(self.bytes, header, codec);
        }
        compressed(header, self.records(), codec, level)
    }
}

/// Compresses `records` and makes a batch of them.
pub(crate) fn compressed(
    header: BatchHeader,
    records: &[u8],
    codec: Compression,
    level: Option<i32>,
) -> Result<Batch, BuildError> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + records.len() / 2);
    bytes.resize(HEADER_LEN, 0);
    codec::compress(codec, level, records, &mut bytes)?;
    seal(bytes, header, codec)
}

/// Writes the header into the room that `bytes` keep for it.
pub(crate) fn seal(mut bytes: Vec<u8>, mut header: BatchHeader, codec: Compression) -> Result<Batch, BuildError> {
    let too_large = BuildError::TooLarge { bytes: bytes.len() };
    header.batch_length = i32::try_from(bytes.len().saturating_sub(LENGTH_BIAS)).map_err(|_| too_large)?;
    header.attributes = header.attributes.with_codec(codec.id());
    write_header(&mut bytes, &mut header);
    Ok(Batch::sealed(header, Bytes::from(bytes)))
}

/// Writes a header into the front of its batch, with the checksum that comes of it.
pub(crate) fn write_header(batch: &mut [u8], header: &mut BatchHeader) {
    if let Some(room) = batch.first_chunk_mut() {
        *room = header.encode();
    }
    header.crc = crc(batch.get(CRC_FROM..).unwrap_or_default());
    if let Some(room) = batch.get_mut(CRC_AT..CRC_FROM) {
        room.copy_from_slice(&header.crc.to_be_bytes());
    }
}

/// Builds one batch, record by record.
///
/// Offsets count from 0 and timestamps from the first record's, as a producer
/// does it; the broker assigns the base offset at the append.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    codec: Compression,
    level: Option<i32>,
    section: Section,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// A batch without a producer id, uncompressed, without records.
    pub fn new() -> Self {
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: 0,
            leader_epoch: LeaderEpoch::NONE,
            crc: 0,
            attributes: Attributes::new(0),
            last_offset_delta: 0,
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: -1,
            records_count: 0,
        };
        Self { header, codec: Compression::None, level: None, section: Section::default() }
    }

    /// Sets the base offset: for batches that are written as they are, not appended.
    #[must_use]
    pub const fn base_offset(mut self, offset: Offset) -> Self {
        self.header.base_offset = offset;
        self
    }

    /// Sets the leader epoch: for batches that are written as they are, not appended.
    #[must_use]
    pub const fn leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.header.leader_epoch = epoch;
        self
    }

    /// Sets producer id, epoch and the first record's sequence.
    #[must_use]
    pub const fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Makes the batch part of its producer's transaction.
    #[must_use]
    pub const fn transactional(mut self) -> Self {
        self.header.attributes = self.header.attributes.with_transactional(true);
        self
    }

    /// Makes the records control records.
    #[must_use]
    pub const fn control(mut self) -> Self {
        self.header.attributes = self.header.attributes.with_control(true);
        self
    }

    /// Compresses the records; the level as in [`codec::compress`].
    #[must_use]
    pub const fn compression(mut self, codec: Compression, level: Option<i32>) -> Self {
        self.codec = codec;
        self.level = level;
        self
    }

    /// Appends a record.
    ///
    /// # Errors
    /// [`BuildError::Record`] and [`BuildError::TooMany`]; the batch is then as it was.
    pub fn append(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: HeaderSource<'_>,
    ) -> Result<(), BuildError> {
        let base = if self.section.is_empty() { timestamp } else { self.header.base_timestamp };
        let offset_delta = self.section.count();
        let timestamp_delta = timestamp.since(base);
        self.section.push(&RecordParts { offset_delta, timestamp_delta, key, value, headers })?;
        self.header.base_timestamp = base;
        self.header.max_timestamp = self.header.max_timestamp.max(timestamp);
        self.header.last_offset_delta = offset_delta;
        Ok(())
    }

    /// How many records there are.
    pub const fn count(&self) -> i32 {
        self.section.count()
    }

    /// Bytes of the batch so far, uncompressed.
    pub const fn len(&self) -> usize {
        self.section.bytes.len()
    }

    /// Whether there are no records yet.
    pub const fn is_empty(&self) -> bool {
        self.section.is_empty()
    }

    /// The batch.
    ///
    /// # Errors
    /// [`BuildError::Codec`] and [`BuildError::TooLarge`].
    pub fn build(self) -> Result<Batch, BuildError> {
        self.section.seal(self.header, self.codec, self.level)
    }
}
