//! A record batch of message format v2, as it stands on the wire and on disk.
//!
//! ```text
//!  0  base offset            i64  ┐ the broker assigns these two; the checksum
//!  8  batch length           i32  │ does not cover them
//! 12  partition leader epoch i32  ┘
//! 16  magic                  i8   = 2
//! 17  crc                    u32  CRC-32C of all that follows
//! 21  attributes             i16
//! 23  last offset delta      i32
//! 27  base timestamp         i64
//! 35  max timestamp          i64
//! 43  producer id            i64
//! 51  producer epoch         i16
//! 53  base sequence          i32
//! 57  records count          i32
//! 61  records, compressed as a whole where attributes say so
//! ```
//!
//! Source: Kafka's protocol documentation, "Record Batch"; KIP-98.

use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use bytes::Bytes;
use thiserror::Error;

/// Bytes before the records.
pub const HEADER_LEN: usize = 61;
/// Bytes that the batch-length field does not count: base offset and itself.
pub const LENGTH_BIAS: usize = 12;
/// The bytes at the front that the broker writes itself: base offset, batch
/// length and leader epoch.
pub const ASSIGNED_LEN: usize = 16;
/// Where the checksum stands.
pub const CRC_AT: usize = 17;
/// Where the part that the checksum covers begins.
pub const CRC_FROM: usize = 21;
/// The only message format spoken here.
pub const MAGIC: i8 = 2;

/// Why bytes are not a batch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("{have} bytes are left where a batch needs {need}")]
    Short {
        /// What there is.
        have: usize,
        /// What the batch needs.
        need: usize,
    },
    /// The length field is below what a header takes.
    #[error("batch length {0} is too small")]
    Length(i32),
    /// A message format other than v2.
    #[error("message format (magic) {0} is not supported")]
    Magic(i8),
    /// The checksum does not match.
    #[error("checksum {found:#010x} does not match the batch's {expected:#010x}")]
    Crc {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// A field of the header has an impossible value.
    #[error("{field} is {value}")]
    Field {
        /// Its name, as in Kafka's documentation.
        field: &'static str,
        /// Its value.
        value: i64,
    },
}

/// The attributes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// The attributes with these bits.
    pub const fn new(bits: i16) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn bits(self) -> i16 {
        self.0
    }

    /// The codec's number; `codec::Compression` knows which exist.
    pub const fn codec(self) -> i16 {
        self.0 & Self::CODEC
    }

    /// The same attributes with another codec.
    #[must_use]
    pub const fn with_codec(self, codec: i16) -> Self {
        Self((self.0 & !Self::CODEC) | (codec & Self::CODEC))
    }

    /// Whether the timestamps are the broker's (`LogAppendTime`).
    pub const fn is_log_append_time(self) -> bool {
        self.0 & Self::LOG_APPEND_TIME != 0
    }

    /// The same attributes with the timestamp type set.
    #[must_use]
    pub const fn with_log_append_time(self, yes: bool) -> Self {
        if yes { Self(self.0 | Self::LOG_APPEND_TIME) } else { Self(self.0 & !Self::LOG_APPEND_TIME) }
    }

    /// Whether the batch is part of a transaction.
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// The same attributes, part of a transaction or not.
    #[must_use]
    pub const fn with_transactional(self, yes: bool) -> Self {
        if yes { Self(self.0 | Self::TRANSACTIONAL) } else { Self(self.0 & !Self::TRANSACTIONAL) }
    }

    /// The same attributes, for control records or not.
    #[must_use]
    pub const fn with_control(self, yes: bool) -> Self {
        if yes { Self(self.0 | Self::CONTROL) } else { Self(self.0 & !Self::CONTROL) }
    }

    /// Whether the batch holds control records.
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is a delete horizon (compaction).
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The same attributes, the base timestamp being a delete horizon or not.
    #[must_use]
    pub const fn with_delete_horizon(self, yes: bool) -> Self {
        if yes { Self(self.0 | Self::DELETE_HORIZON) } else { Self(self.0 & !Self::DELETE_HORIZON) }
    }
}

/// The 61 bytes before the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The first record's offset (of the range; that record may be gone).
    pub base_offset: Offset,
    /// Bytes after this field.
    pub batch_length: i32,
    /// The epoch of the leader that appended the batch.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C from `attributes` to the end.
    pub crc: u32,
    /// Codec, timestamp type, transactional, control.
    pub attributes: Attributes,
    /// The last offset of the range, from the first.
    pub last_offset_delta: i32,
    /// What the records' timestamps count from.
    pub base_timestamp: Timestamp,
    /// The largest timestamp in the batch.
    pub max_timestamp: Timestamp,
    /// The producer, if it is idempotent.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence; −1 without idempotence.
    pub base_sequence: i32,
    /// How many records there are: fewer than the range is wide once records were dropped.
    pub records_count: i32,
}

impl BatchHeader {
    /// Reads a header. Checks the format and the length field, not the checksum.
    ///
    /// # Errors
    /// [`BatchError::Short`] for fewer than 61 bytes, [`BatchError::Magic`] for another format,
    /// [`BatchError::Length`] and [`BatchError::Field`] for impossible values.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let header: &[u8; HEADER_LEN] =
            bytes.first_chunk().ok_or(BatchError::Short { have: bytes.len(), need: HEADER_LEN })?;
        let magic = i8::from_be_bytes(at(header, 16));
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let parsed = Self {
            base_offset: Offset::new(i64::from_be_bytes(at(header, 0))),
            batch_length: i32::from_be_bytes(at(header, 8)),
            leader_epoch: LeaderEpoch::new(i32::from_be_bytes(at(header, 12))),
            crc: u32::from_be_bytes(at(header, 17)),
            attributes: Attributes(i16::from_be_bytes(at(header, 21))),
            last_offset_delta: i32::from_be_bytes(at(header, 23)),
            base_timestamp: Timestamp::new(i64::from_be_bytes(at(header, 27))),
            max_timestamp: Timestamp::new(i64::from_be_bytes(at(header, 35))),
            producer_id: ProducerId::new(i64::from_be_bytes(at(header, 43))),
            producer_epoch: ProducerEpoch::new(i16::from_be_bytes(at(header, 51))),
            base_sequence: i32::from_be_bytes(at(header, 53)),
            records_count: i32::from_be_bytes(at(header, 57)),
        };
        if parsed.batch_length < (HEADER_LEN - LENGTH_BIAS) as i32 {
            return Err(BatchError::Length(parsed.batch_length));
        }
        let at_least_zero = |field, value: i64| match value {
            0.. => Ok(()),
            _ => Err(BatchError::Field { field, value }),
        };
        at_least_zero("last offset delta", parsed.last_offset_delta.into())?;
        at_least_zero("records count", parsed.records_count.into())?;
        at_least_zero("base offset", parsed.base_offset.get())?;
        Ok(parsed)
    }

    /// The header's 61 bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        put(&mut out, 0, self.base_offset.get().to_be_bytes());
        put(&mut out, 8, self.batch_length.to_be_bytes());
        put(&mut out, 12, self.leader_epoch.get().to_be_bytes());
        put(&mut out, 16, MAGIC.to_be_bytes());
        put(&mut out, 17, self.crc.to_be_bytes());
        put(&mut out, 21, self.attributes.bits().to_be_bytes());
        put(&mut out, 23, self.last_offset_delta.to_be_bytes());
        put(&mut out, 27, self.base_timestamp.get().to_be_bytes());
        put(&mut out, 35, self.max_timestamp.get().to_be_bytes());
        put(&mut out, 43, self.producer_id.get().to_be_bytes());
        put(&mut out, 51, self.producer_epoch.get().to_be_bytes());
        put(&mut out, 53, self.base_sequence.to_be_bytes());
        put(&mut out, 57, self.records_count.to_be_bytes());
        out
    }

    /// Bytes of the whole batch.
    pub const fn total_len(&self) -> usize {
        self.batch_length as usize + LENGTH_BIAS
    }

    /// The last offset of the batch's range.
    pub const fn last_offset(&self) -> Offset {
        self.base_offset.plus(self.last_offset_delta as i64)
    }

    /// The offset after the batch's range.
    pub const fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// The last record's sequence. Sequences wrap to 0 after 2³¹−1.
    pub const fn last_sequence(&self) -> i32 {
        add_sequence(self.base_sequence, self.last_offset_delta)
    }

    /// The first 16 bytes as the broker stores them.
    pub fn assigned(base_offset: Offset, batch_length: i32, leader_epoch: LeaderEpoch) -> [u8; ASSIGNED_LEN] {
        let mut out = [0; ASSIGNED_LEN];
        put(&mut out, 0, base_offset.get().to_be_bytes());
        put(&mut out, 8, batch_length.to_be_bytes());
        put(&mut out, 12, leader_epoch.get().to_be_bytes());
        out
    }
}

/// `sequence` advanced by `by` records: 2³¹−1 is followed by 0.
pub const fn add_sequence(sequence: i32, by: i32) -> i32 {
    (sequence.wrapping_add(by)) & i32::MAX
}

/// One whole batch: the header that was read from the bytes, and all the bytes,
/// header included. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// The batch at the front of `bytes`, which is cut off from them.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`], and [`BatchError::Short`] where the batch is longer than the bytes.
    pub fn split_from(bytes: &mut Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let need = header.total_len();
        if bytes.len() < need {
            return Err(BatchError::Short { have: bytes.len(), need });
        }
        Ok(Self { header, bytes: bytes.split_to(need) })
    }

    /// All batches of `bytes`, one after the other. Ends after the first error.
    pub fn all(mut bytes: Bytes) -> impl Iterator<Item = Result<Self, BatchError>> {
        std::iter::from_fn(move || {
            if bytes.is_empty() {
                return None;
            }
            let next = Self::split_from(&mut bytes);
            if next.is_err() {
                bytes.clear();
            }
            Some(next)
        })
    }

    /// A batch whose header was just written into its bytes.
    pub(crate) const fn sealed(header: BatchHeader, bytes: Bytes) -> Self {
        Self { header, bytes }
    }

    /// The header.
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All bytes, the header's too. Base offset and leader epoch in them are the producer's.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// All bytes, taken out of the batch.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The records, compressed as the attributes say.
    pub fn records_section(&self) -> Bytes {
        self.bytes.slice(HEADER_LEN..)
    }

    /// Compares the checksum with the bytes.
    ///
    /// # Errors
    /// [`BatchError::Crc`] where they differ.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        check_crc(&self.header, &self.bytes)
    }
}

/// Compares a header's checksum with the batch's bytes (the header's included).
///
/// # Errors
/// [`BatchError::Crc`] where they differ.
pub fn check_crc(header: &BatchHeader, batch: &[u8]) -> Result<(), BatchError> {
    let found = crc(batch.get(CRC_FROM..).unwrap_or_default());
    if found == header.crc { Ok(()) } else { Err(BatchError::Crc { expected: header.crc, found }) }
}

/// CRC-32C, as the batch header carries it.
pub fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

fn at<const N: usize>(header: &[u8; HEADER_LEN], from: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(field) = header.get(from..from + N) {
        out.copy_from_slice(field);
    }
    out
}

fn put<const N: usize>(out: &mut [u8], from: usize, field: [u8; N]) {
    if let Some(place) = out.get_mut(from..from + N) {
        place.copy_from_slice(&field);
    }
}
