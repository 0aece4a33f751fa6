//! What is asked and answered about offsets.

use super::GroupError;
use crate::partition::Guard;
use millrace_model::control::Marker;
use millrace_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId};
use std::sync::Arc;

/// An offset to be stored for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPartition {
    /// The partition.
    pub partition: i32,
    /// The next offset to be read.
    pub offset: Offset,
    /// The leader epoch of the last record that was read, or none.
    pub leader_epoch: LeaderEpoch,
    /// Text of the client's.
    pub metadata: Option<String>,
}

/// The offsets of one topic in an [`OffsetCommit`].
#[derive(Clone, Debug)]
pub struct CommitTopic {
    /// The topic's name.
    pub name: Arc<str>,
    /// The topic's id; nil where it is not known.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: Vec<CommitPartition>,
}

/// OffsetCommit.
#[derive(Clone, Debug)]
pub struct OffsetCommit {
    /// The group; may be empty.
    pub group: Arc<str>,
    /// The member's generation; −1 for a consumer that manages its partitions itself.
    pub generation: i32,
    /// The member, or empty.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// How long to keep the offsets (versions 2 to 4); −1 for the broker's setting.
    pub retention_time_ms: i64,
    /// Whether the client understands [`GroupError::GroupIdNotFound`], and so the new protocol (version 9 on).
    pub knows_group_id_not_found: bool,
    /// The offsets.
    pub topics: Vec<CommitTopic>,
}

/// The outcome for each partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicOutcome {
    /// The topic's name.
    pub name: Arc<str>,
    /// The topic's id as the request gave it.
    pub id: TopicId,
    /// Partition and error.
    pub partitions: Vec<(i32, Option<GroupError>)>,
}

/// The partitions of one topic in an [`OffsetFetch`] or an [`OffsetDelete`].
#[derive(Clone, Debug)]
pub struct TopicPartitions {
    /// The topic's name.
    pub name: Arc<str>,
    /// The topic's id; nil where the request gives names.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

/// OffsetFetch for one group.
#[derive(Clone, Debug)]
pub struct OffsetFetch {
    /// The group; may be empty.
    pub group: Arc<str>,
    /// The member, in the new protocol.
    pub member_id: Option<String>,
    /// Its epoch; −1 in the classic protocol.
    pub member_epoch: i32,
    /// The partitions asked for; none for all that have offsets.
    pub topics: Option<Vec<TopicPartitions>>,
    /// Offsets that a transaction may still change are an error.
    pub require_stable: bool,
}

/// A stored offset, or that there is none (offset −1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: i32,
    /// The stored offset, −1 without one.
    pub offset: Offset,
    /// The leader epoch stored with it.
    pub leader_epoch: LeaderEpoch,
    /// The text stored with it.
    pub metadata: String,
    /// Why it cannot be told.
    pub error: Option<GroupError>,
}

/// The stored offsets of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTopic {
    /// The topic's name.
    pub name: Arc<str>,
    /// The topic's id as the request gave it.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: Vec<FetchedPartition>,
}

/// OffsetDelete.
#[derive(Clone, Debug)]
pub struct OffsetDelete {
    /// The group.
    pub group: Arc<str>,
    /// What to forget.
    pub topics: Vec<TopicPartitions>,
}

/// Offsets to be stored once a transaction commits.
#[derive(Clone, Debug)]
pub struct TxnOffsetCommit {
    /// The offsets.
    pub commit: OffsetCommit,
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// That the transaction's coordinator has agreed, where it was asked.
    pub guard: Option<Guard>,
}

/// A transaction that has offsets here ends.
#[derive(Clone, Copy, Debug)]
pub struct EndOfTransaction {
    /// What is written.
    pub marker: Marker,
    /// The marker's epoch is newer than that of all records of the transaction.
    pub strict: bool,
}
