//! A batch into another batch that stands for the same range of offsets and
//! the same range of sequences.
//!
//! Invariants: base offset, last offset delta, leader epoch, producer id,
//! producer epoch and base sequence never change here, whatever becomes of the
//! records; so idempotence holds across a rewrite, as it holds across Kafka's
//! compaction, which leaves batches in the same state. The checksum is always
//! that of the new bytes.

use crate::Timestamp;
use crate::batch::{Attributes, Batch, BatchHeader, HEADER_LEN};
use crate::builder::{self, BuildError, Section, write_header};
use crate::codec::{self, CodecError, Compression};
use bytes::{Bytes, BytesMut};

/// The records of a batch, uncompressed: a share of the batch's own bytes where
/// it is not compressed, otherwise at most `limit` new bytes.
///
/// # Errors
/// As [`codec::decompress`], and for a codec that does not exist.
pub fn plain_records(batch: &Batch, limit: usize) -> Result<Bytes, CodecError> {
    match Compression::of(batch.header().attributes)? {
        Compression::None => Ok(batch.records_section()),
        codec => {
            let mut out = Vec::new();
            codec::decompress(codec, records_of(batch), limit, &mut out)?;
            Ok(Bytes::from(out))
        }
    }
}

/// The batch with other records: those of `section`, whose offset and timestamp
/// deltas count from the same bases. The largest timestamp becomes theirs,
/// except where the broker stamped the batch.
///
/// Without any record the batch becomes an empty header, as compaction leaves
/// it: not compressed, no base timestamp, the largest timestamp as it was.
///
/// # Errors
/// [`BuildError::Codec`] and [`BuildError::TooLarge`].
pub fn replace_records(
    original: &BatchHeader,
    section: Section,
    codec: Compression,
    level: Option<i32>,
) -> Result<Batch, BuildError> {
    let mut header = *original;
    let Some(latest) = section.max_timestamp_delta() else {
        header.base_timestamp = Timestamp::NONE;
        return section.seal(header, Compression::None, None);
    };
    if !header.attributes.is_log_append_time() {
        header.max_timestamp = header.base_timestamp.plus_ms(latest);
    }
    section.seal(header, codec, level)
}

/// The batch under another codec, its records untouched. The same batch where
/// it has that codec already, and where it is an uncompressed control batch,
/// which Kafka never compresses.
///
/// # Errors
/// [`BuildError::Codec`] where the records do not unfold within `limit` or do
/// not compress, [`BuildError::TooLarge`].
pub fn recompress(batch: &Batch, codec: Compression, level: Option<i32>, limit: usize) -> Result<Batch, BuildError> {
    let header = *batch.header();
    let from = Compression::of(header.attributes)?;
    let left_alone = from == Compression::None && (header.attributes.is_control() || header.records_count == 0);
    if from == codec || left_alone {
        return Ok(batch.clone());
    }
    if codec == Compression::None {
        let mut bytes = vec![0; HEADER_LEN];
        codec::decompress(from, records_of(batch), limit, &mut bytes)?;
        return builder::seal(bytes, header, codec);
    }
    let plain = plain_records(batch, limit)?;
    builder::compressed(header, &plain, codec, level)
}

/// The batch stamped by the broker (`message.timestamp.type=LogAppendTime`):
/// every record in it then counts as of `now`. The base timestamp stays, and no
/// record is looked at.
pub fn stamp_log_append_time(batch: Batch, now: Timestamp) -> Batch {
    let attributes = batch.header().attributes.with_log_append_time(true);
    restamp(batch, attributes, now)
}

/// The batch with its records' own timestamps, the largest being `max`.
pub fn stamp_create_time(batch: Batch, max: Timestamp) -> Batch {
    let attributes = batch.header().attributes.with_log_append_time(false);
    restamp(batch, attributes, max)
}

/// Only the header changes, but the checksum covers all: it is summed anew.
/// (Deriving it from the old one costs more than summing up to some 400 KB.)
fn restamp(batch: Batch, attributes: Attributes, max_timestamp: Timestamp) -> Batch {
    let before = *batch.header();
    if before.attributes == attributes && before.max_timestamp == max_timestamp {
        return batch;
    }
    let mut header = BatchHeader { attributes, max_timestamp, ..before };
    // In place where nobody else holds the bytes.
    let mut bytes = batch.into_bytes().try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    write_header(&mut bytes, &mut header);
    Batch::sealed(header, bytes.freeze())
}

fn records_of(batch: &Batch) -> &[u8] {
    batch.bytes().get(HEADER_LEN..).unwrap_or_default()
}
