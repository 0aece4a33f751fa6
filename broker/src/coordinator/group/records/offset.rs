//! Offsets as they are stored.

use super::wire::{Reader, RecordError, Writer};
use bytes::Bytes;
use millrace_model::{LeaderEpoch, Offset, Timestamp, TopicId};
use uuid::Uuid;

/// A stored offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetValue {
    /// The next offset to be read.
    pub offset: Offset,
    /// The leader epoch of the last record read, −1 if unknown.
    pub leader_epoch: LeaderEpoch,
    /// Text of the client's.
    pub metadata: String,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// When it expires, if the client said so; −1 otherwise.
    pub expires_at: Timestamp,
    /// The topic's id; nil if unknown.
    pub topic_id: TopicId,
}

pub(super) fn encode_offset(value: &OffsetValue) -> Bytes {
    let version = match (value.expires_at.get(), value.topic_id == TopicId::NIL) {
        (0.., _) => 1,
        (_, true) => 3,
        (_, false) => 4,
    };
    let mut to = Writer::new(version);
    to.i64(value.offset.get());
    if version >= 3 {
        to.i32(value.leader_epoch.get());
    }
    if version >= 4 {
        to.compact_string(&value.metadata);
    } else {
        to.string(&value.metadata);
    }
    to.i64(value.committed_at.get());
    if version == 1 {
        to.i64(value.expires_at.get());
    }
    if version >= 4 {
        // One tagged field: tag 0, 16 bytes.
        to.raw(&[1, 0, 16]).raw(value.topic_id.get().as_bytes());
    }
    to.done()
}

pub(super) fn decode_offset(bytes: &[u8]) -> Result<OffsetValue, RecordError> {
    let mut from = Reader::new(bytes);
    let version = from.version("an offset")?;
    let offset = Offset::new(from.i64("offset")?);
    let leader_epoch = LeaderEpoch::new(if version >= 3 { from.i32("leader epoch")? } else { -1 });
    let metadata = from.string("metadata")?;
    let committed_at = Timestamp::new(from.i64("commit timestamp")?);
    let expires_at = Timestamp::new(if version == 1 { from.i64("expire timestamp")? } else { -1 });
    let mut topic_id = TopicId::NIL;
    from.tagged(|tag, field| {
        if tag == 0
            && let Ok(id) = Uuid::from_slice(field)
        {
            topic_id = TopicId::new(id);
        }
    })?;
    Ok(OffsetValue { offset, leader_epoch, metadata, committed_at, expires_at, topic_id })
}
