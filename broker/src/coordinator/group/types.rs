//! What the group coordinator is asked and what it answers, in types of its own: wire structs end at the edge.

use crate::config::kafka_keys::BrokerSettings;
use bytes::Bytes;
use millrace_model::{LeaderEpoch, Offset, TopicId};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use uuid::Uuid;

/// Why a request to the group coordinator was refused. Each is one of Kafka's error codes; the edge knows which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GroupError {
    /// The coordinator is stopping, or its log cannot be written right now.
    #[error("the group coordinator is not available")]
    NotAvailable,
    /// The group's partition is still being replayed.
    #[error("the group coordinator is loading the group")]
    Loading,
    /// Another broker coordinates this group.
    #[error("this broker does not coordinate the group")]
    NotCoordinator,
    /// The group id is not acceptable.
    #[error("the group id is invalid")]
    InvalidGroupId,
    /// There is no such group.
    #[error("there is no such group")]
    GroupIdNotFound,
    /// The group still has members.
    #[error("the group is not empty")]
    NonEmptyGroup,
    /// The session timeout is outside the configured bounds.
    #[error("the session timeout is outside the allowed range")]
    InvalidSessionTimeout,
    /// No protocol is left that all members support.
    #[error("the member's protocols do not fit the group's")]
    InconsistentProtocol,
    /// The group is as large as it may get.
    #[error("the group has reached its maximum size")]
    GroupMaxSizeReached,
    /// The member shall join again with the id it was given.
    #[error("the member must join with the id it was given")]
    MemberIdRequired,
    /// The group has no such member.
    #[error("the group has no such member")]
    UnknownMemberId,
    /// Another member has taken over the group instance id.
    #[error("the group instance id belongs to another member now")]
    FencedInstanceId,
    /// The generation is not the group's.
    #[error("the generation is not the group's current one")]
    IllegalGeneration,
    /// The member has to join again.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// The text stored with the offset is too long.
    #[error("the metadata stored with the offset is too long")]
    OffsetMetadataTooLarge,
    /// An open transaction has written offsets that are not decided yet.
    #[error("a transaction that is still open has written offsets")]
    UnstableOffsetCommit,
    /// The group consumes the topic.
    #[error("the group is subscribed to the topic")]
    SubscribedToTopic,
    /// There is no topic with this id.
    #[error("there is no topic with this id")]
    UnknownTopicId,
    /// There is no topic with this name.
    #[error("there is no such topic")]
    UnknownTopic,
    /// The records are too large for the log.
    #[error("the group's state does not fit into a batch")]
    TooLarge,
}

/// One assignment protocol of a member: its name, and the member's subscription in bytes the coordinator never reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// As in `range` or `cooperative-sticky`.
    pub name: String,
    /// The subscription.
    pub metadata: Bytes,
}

/// JoinGroup.
#[derive(Clone, Debug)]
pub struct JoinGroup {
    /// The group.
    pub group: Arc<str>,
    /// Empty for a member that has no id yet.
    pub member_id: String,
    /// Set by static members (KIP-345).
    pub instance_id: Option<String>,
    /// Without a heartbeat for this long the member is removed.
    pub session_timeout_ms: i32,
    /// How long the member may take to rejoin.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect` and the like.
    pub protocol_type: String,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
    /// Why the member joins, for the log.
    pub reason: Option<String>,
    /// Who asks, as the client calls itself.
    pub client_id: String,
    /// Who asks, as `/ADDRESS`.
    pub client_host: String,
    /// Whether a new member is sent back to join with the id it is given (version 4 on).
    pub requires_known_member_id: bool,
    /// Whether the client knows `skip_assignment` (version 9 on, KIP-814).
    pub supports_skipping_assignment: bool,
    /// Where the id of a new member comes from.
    pub fresh: Uuid,
}

/// One member, as the leader is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// Its subscription for the chosen protocol.
    pub metadata: Bytes,
}

/// The join phase is over for a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The member's id.
    pub member_id: String,
    /// The generation that begins.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The protocol that was chosen.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: String,
    /// The leader shall not compute an assignment.
    pub skip_assignment: bool,
    /// All members, for the leader; empty for the others.
    pub members: Vec<JoinedMember>,
}

/// The join was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    /// Why.
    pub error: GroupError,
    /// The member id that goes into the answer: the one to come back with for [`GroupError::MemberIdRequired`].
    pub member_id: String,
}

/// SyncGroup.
#[derive(Clone, Debug)]
pub struct SyncGroup {
    /// The group.
    pub group: Arc<str>,
    /// The generation the member was told.
    pub generation: i32,
    /// The member.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// What the member takes for the group's protocol type (version 5 on).
    pub protocol_type: Option<String>,
    /// What the member takes for the chosen protocol (version 5 on).
    pub protocol: Option<String>,
    /// Member id and assignment, from the leader.
    pub assignments: Vec<(String, Bytes)>,
}

/// The assignment of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The chosen protocol.
    pub protocol: Option<String>,
    /// What the leader gave this member.
    pub assignment: Bytes,
}

/// Heartbeat.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The group.
    pub group: Arc<str>,
    /// The member's generation.
    pub generation: i32,
    /// The member.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
}

/// One member that leaves. An administrator names only the instance id.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// The member, or empty.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// Why, for the log.
    pub reason: Option<String>,
}

/// LeaveGroup.
#[derive(Clone, Debug)]
pub struct LeaveGroup {
    /// The group.
    pub group: Arc<str>,
    /// Who leaves.
    pub members: Vec<Leaving>,
}

/// What became of one member of a [`LeaveGroup`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// As in the request.
    pub member_id: String,
    /// As in the request.
    pub instance_id: Option<String>,
    /// Why it could not leave.
    pub error: Option<GroupError>,
}

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
    /// Whether the client understands [`GroupError::GroupIdNotFound`] (version 9 on).
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

/// One group in an overview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOverview {
    /// The group.
    pub group: Arc<str>,
    /// Its protocol type, or empty.
    pub protocol_type: String,
    /// Its state's name, as `Stable`.
    pub state: &'static str,
    /// Its type's name, as `classic`.
    pub kind: &'static str,
}

/// One member in a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// Its subscription, in a stable group.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// One group in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// The group.
    pub group: Arc<str>,
    /// Its state's name; `Dead` for a group that is not there.
    pub state: &'static str,
    /// Its protocol type, or empty.
    pub protocol_type: String,
    /// The chosen protocol, in a stable group.
    pub protocol: String,
    /// Its members.
    pub members: Vec<MemberDescription>,
    /// Why there is nothing to tell.
    pub error: Option<GroupError>,
}

/// Settings, named as in Kafka's `server.properties`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: i32,
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.max.size`.
    pub max_size: usize,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: u64,
    /// `offsets.commit.timeout.ms`.
    pub offsets_commit_timeout_ms: u64,
    /// `offsets.topic.num.partitions`.
    pub offsets_topic_partitions: i32,
    /// `offsets.topic.replication.factor`; fewer where there are fewer brokers.
    pub offsets_topic_replication_factor: i16,
    /// `offsets.topic.segment.bytes`.
    pub offsets_topic_segment_bytes: i32,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            initial_rebalance_delay_ms: 3_000,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_size: i32::MAX as usize,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60_000,
            offsets_retention_check_interval_ms: 600_000,
            offsets_commit_timeout_ms: 5_000,
            offsets_topic_partitions: 50,
            offsets_topic_replication_factor: 3,
            offsets_topic_segment_bytes: 100 * 1024 * 1024,
        }
    }
}

impl From<&BrokerSettings> for GroupOptions {
    fn from(settings: &BrokerSettings) -> Self {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let short = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
        let long = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        Self {
            initial_rebalance_delay_ms: short(settings.group_initial_rebalance_delay),
            min_session_timeout_ms: short(settings.group_min_session_timeout),
            max_session_timeout_ms: short(settings.group_max_session_timeout),
            max_size: settings.group_max_size as usize,
            offset_metadata_max_bytes: settings.offset_metadata_max_bytes as usize,
            offsets_retention_ms: millis(settings.offsets_retention),
            offsets_retention_check_interval_ms: long(settings.offsets_retention_check_interval),
            offsets_commit_timeout_ms: long(settings.offsets_commit_timeout),
            offsets_topic_partitions: count(settings.offsets_topic_partitions),
            offsets_topic_replication_factor: i16::try_from(settings.offsets_topic_replication_factor)
                .unwrap_or(i16::MAX),
            offsets_topic_segment_bytes: count(settings.offsets_topic_segment_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kafka_keys::BrokerKeys;

    #[test]
    fn the_defaults_are_those_of_the_brokers_keys() {
        let settings = BrokerSettings::resolve(&BrokerKeys::default()).unwrap();
        assert_eq!(GroupOptions::from(&settings), GroupOptions::default());
    }
}
