//! Consumer groups (KIP-848) as they are stored: one record for the group, and three for each member.
//!
//! ```text
//! key 3    group            epoch; hash of the topics' metadata (tag 0)
//! key 4    group            topics' metadata, before Kafka 4.1; only tombstones are written
//! key 5    group, member    what the member says of itself; its classic side (tag 0) where it speaks that protocol
//! key 6    group            epoch of the target assignment; when it was computed (tag 0)
//! key 7    group, member    what the member shall have
//! key 8    group, member    what the member has: epochs, state, partitions and those it gives up; for each partition
//!                           the epoch it was given in (tag 0, KIP-1251)
//! key 16   group, regex     the topics that match; version and time of the search
//! ```
//! All values have version 0 and Kafka's compact forms.
//!
//! Source: `ConsumerGroupMetadataValue.json` and its siblings among Kafka's message definitions.

use super::wire::{Reader, RecordError, Writer};
use crate::coordinator::group::types::Protocol;
use bytes::Bytes;
use millrace_model::{Timestamp, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

/// Partitions by topic.
pub type Partitions = BTreeMap<TopicId, BTreeSet<i32>>;

/// Partitions by topic, each with the epoch it was given in.
pub type Epochs = BTreeMap<TopicId, BTreeMap<i32, i32>>;

/// What of a consumer group a record is about, with its new value; none is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerRecord {
    /// The group.
    Group(Option<ConsumerGroupValue>),
    /// What brokers before Kafka 4.1 kept of the topics. Its content is of no use.
    Topics {
        /// Whether there is a value.
        kept: bool,
    },
    /// A member.
    Member(Arc<str>, Option<ConsumerMemberValue>),
    /// The target assignment as a whole.
    TargetEpoch(Option<TargetEpochValue>),
    /// What a member shall have.
    Target(Arc<str>, Option<Partitions>),
    /// What a member has.
    Current(Arc<str>, Option<CurrentValue>),
    /// A regular expression that members subscribe to.
    Regex(Arc<str>, Option<RegexValue>),
}

/// A consumer group as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerGroupValue {
    /// Counts changes of members, subscriptions and topics.
    pub epoch: i32,
    /// A number that stands for the topics as they were at this epoch.
    pub metadata_hash: i64,
}

/// When the target assignment was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetEpochValue {
    /// For which epoch of the group.
    pub epoch: i32,
    /// When; 0 if unknown.
    pub at: Timestamp,
}

/// A member as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerMemberValue {
    /// Set for a static member.
    pub instance_id: Option<String>,
    /// Where it is.
    pub rack: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// The topics it names.
    pub topics: BTreeSet<String>,
    /// The expression for more topics; empty for none.
    pub regex: String,
    /// How long it may take to give partitions up; −1 if unknown.
    pub rebalance_timeout_ms: i32,
    /// The assignor it would like.
    pub assignor: Option<String>,
    /// Set for a member that speaks the classic protocol.
    pub classic: Option<ClassicSide>,
}

/// What is kept of a member that speaks the classic protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicSide {
    /// Without a heartbeat for this long it is removed.
    pub session_timeout_ms: i32,
    /// The protocols it offers, in its order of preference.
    pub protocols: Vec<Protocol>,
}

/// How far a member is on its way to the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// It has what it is to have, as far as the epoch it is in goes.
    #[default]
    Stable,
    /// It has to give partitions up.
    UnrevokedPartitions,
    /// It waits for partitions that others still have.
    UnreleasedPartitions,
    /// A newer broker knew more.
    Unknown,
}

/// What a member has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentValue {
    /// The member's epoch.
    pub epoch: i32,
    /// The one before, which a member whose answer was lost still has.
    pub previous_epoch: i32,
    /// How far it is.
    pub state: MemberState,
    /// Its partitions.
    pub assigned: Epochs,
    /// The partitions it has to give up before others may have them.
    pub revoking: Epochs,
}

/// The topics that an expression matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegexValue {
    /// The topics' names.
    pub topics: BTreeSet<String>,
    /// The index of the metadata that was searched.
    pub version: i64,
    /// When.
    pub at: Timestamp,
}

const GROUP: i16 = 3;
const TOPICS: i16 = 4;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const CURRENT: i16 = 8;
const REGEX: i16 = 16;

impl ConsumerRecord {
    /// Whether it takes away what was there.
    pub const fn is_tombstone(&self) -> bool {
        matches!(
            self,
            Self::Group(None)
                | Self::Topics { .. }
                | Self::Member(_, None)
                | Self::TargetEpoch(None)
                | Self::Target(_, None)
                | Self::Current(_, None)
                | Self::Regex(_, None)
        )
    }

    pub(super) fn encode(&self, group: &str) -> (Bytes, Option<Bytes>) {
        let key = |kind: i16, more: Option<&str>| {
            let mut key = Writer::new(kind);
            key.string(group);
            if let Some(more) = more {
                key.string(more);
            }
            key.done()
        };
        match self {
            Self::Group(value) => (key(GROUP, None), value.as_ref().map(encode_group)),
            // There is nothing worth keeping: what is written here is always the tombstone.
            Self::Topics { .. } => (key(TOPICS, None), None),
            Self::Member(member, value) => (key(MEMBER, Some(member)), value.as_ref().map(encode_member)),
            Self::TargetEpoch(value) => (key(TARGET_EPOCH, None), value.as_ref().map(encode_target_epoch)),
            Self::Target(member, value) => (key(TARGET, Some(member)), value.as_ref().map(encode_target)),
            Self::Current(member, value) => (key(CURRENT, Some(member)), value.as_ref().map(encode_current)),
            Self::Regex(regex, value) => (key(REGEX, Some(regex)), value.as_ref().map(encode_regex)),
        }
    }

    /// Reads a record whose key has this type; `key` stands behind the group. None for types that are not known.
    pub(super) fn decode(kind: i16, key: &mut Reader<'_>, value: Option<&[u8]>) -> Result<Option<Self>, RecordError> {
        let value = value.map(|bytes| Reader::new(bytes).flexible("a consumer group's record")).transpose()?;
        Ok(Some(match kind {
            GROUP => Self::Group(value.map(decode_group).transpose()?),
            TOPICS => Self::Topics { kept: value.is_some() },
            MEMBER => Self::Member(key.string("member")?.into(), value.map(decode_member).transpose()?),
            TARGET_EPOCH => Self::TargetEpoch(value.map(decode_target_epoch).transpose()?),
            TARGET => Self::Target(key.string("member")?.into(), value.map(decode_target).transpose()?),
            CURRENT => Self::Current(key.string("member")?.into(), value.map(decode_current).transpose()?),
            REGEX => Self::Regex(key.string("expression")?.into(), value.map(decode_regex).transpose()?),
            _ => return Ok(None),
        }))
    }
}

fn encode_group(value: &ConsumerGroupValue) -> Bytes {
    let mut to = Writer::new(0);
    to.i32(value.epoch);
    tagged_i64(&mut to, value.metadata_hash);
    to.done()
}

fn decode_group(mut from: Reader<'_>) -> Result<ConsumerGroupValue, RecordError> {
    Ok(ConsumerGroupValue { epoch: from.i32("epoch")?, metadata_hash: read_tagged_i64(&mut from)? })
}

fn encode_target_epoch(value: &TargetEpochValue) -> Bytes {
    let mut to = Writer::new(0);
    to.i32(value.epoch);
    tagged_i64(&mut to, value.at.get());
    to.done()
}

fn decode_target_epoch(mut from: Reader<'_>) -> Result<TargetEpochValue, RecordError> {
    Ok(TargetEpochValue { epoch: from.i32("assignment epoch")?, at: Timestamp::new(read_tagged_i64(&mut from)?) })
}

/// One number under tag 0, left out where it is 0.
fn tagged_i64(to: &mut Writer, value: i64) {
    if value == 0 {
        to.raw(&[0]);
    } else {
        to.raw(&[1, 0, 8]).i64(value);
    }
}

fn read_tagged_i64(from: &mut Reader<'_>) -> Result<i64, RecordError> {
    let mut value = 0;
    from.tagged(|tag, field| {
        if tag == 0
            && let Ok(bytes) = field.try_into()
        {
            value = i64::from_be_bytes(bytes);
        }
    })?;
    Ok(value)
}

fn encode_member(value: &ConsumerMemberValue) -> Bytes {
    let mut to = Writer::new(0);
    to.compact_nullable(value.instance_id.as_deref())
        .compact_nullable(value.rack.as_deref())
        .compact_string(&value.client_id)
        .compact_string(&value.client_host)
        .compact_count(value.topics.len());
    for topic in &value.topics {
        to.compact_string(topic);
    }
    to.compact_string(&value.regex).i32(value.rebalance_timeout_ms).compact_nullable(value.assignor.as_deref());
    match &value.classic {
        None => {
            to.raw(&[0]);
        }
        Some(classic) => {
            let side = encode_classic_side(classic);
            to.raw(&[1, 0]).varint(side.len() as u64).raw(&side);
        }
    }
    to.done()
}

/// A byte that says that the struct is there, then the struct.
fn encode_classic_side(classic: &ClassicSide) -> Bytes {
    let mut to = Writer::bare();
    to.raw(&[1]).i32(classic.session_timeout_ms).compact_count(classic.protocols.len());
    for protocol in &classic.protocols {
        to.compact_string(&protocol.name).compact_blob(&protocol.metadata).raw(&[0]);
    }
    to.raw(&[0]);
    to.done()
}

fn decode_member(mut from: Reader<'_>) -> Result<ConsumerMemberValue, RecordError> {
    let mut value = ConsumerMemberValue {
        instance_id: from.nullable("group instance id")?.filter(|id| !id.is_empty()),
        rack: from.nullable("rack")?.filter(|rack| !rack.is_empty()),
        client_id: from.string("client id")?,
        client_host: from.string("client host")?,
        topics: texts(&mut from, "subscribed topics")?,
        regex: from.nullable("subscribed expression")?.unwrap_or_default(),
        rebalance_timeout_ms: from.i32("rebalance timeout")?,
        assignor: from.nullable("assignor")?.filter(|name| !name.is_empty()),
        classic: None,
    };
    let mut classic = Ok(None);
    from.tagged(|tag, field| {
        if tag == 0 {
            classic = decode_classic_side(field);
        }
    })?;
    value.classic = classic?;
    Ok(value)
}

fn decode_classic_side(bytes: &[u8]) -> Result<Option<ClassicSide>, RecordError> {
    let mut from = Reader::compact(bytes);
    if from.i8("classic side")? < 0 {
        return Ok(None);
    }
    let session_timeout_ms = from.i32("session timeout")?;
    let mut protocols = Vec::new();
    for _ in 0..from.count("protocols")? {
        let name = from.string("protocol")?;
        protocols.push(Protocol { name, metadata: from.blob("protocol's metadata")? });
        from.tagged(|_, _| ())?;
    }
    Ok(Some(ClassicSide { session_timeout_ms, protocols }))
}

fn encode_target(value: &Partitions) -> Bytes {
    let mut to = Writer::new(0);
    to.compact_count(value.len());
    for (topic, partitions) in value {
        to.raw(topic.get().as_bytes()).compact_count(partitions.len());
        for partition in partitions {
            to.i32(*partition);
        }
        to.raw(&[0]);
    }
    to.raw(&[0]);
    to.done()
}

fn decode_target(mut from: Reader<'_>) -> Result<Partitions, RecordError> {
    let mut all = Partitions::new();
    for _ in 0..from.count("topics")? {
        let topic = topic_id(&mut from)?;
        let partitions = numbers(&mut from)?;
        from.tagged(|_, _| ())?;
        all.insert(topic, partitions.into_iter().collect());
    }
    from.tagged(|_, _| ())?;
    Ok(all)
}

fn encode_current(value: &CurrentValue) -> Bytes {
    let state = match value.state {
        MemberState::Stable => 0,
        MemberState::UnrevokedPartitions => 1,
        MemberState::UnreleasedPartitions => 2,
        MemberState::Unknown => 127,
    };
    let mut to = Writer::new(0);
    to.i32(value.epoch).i32(value.previous_epoch).raw(&[state]);
    encode_epochs(&mut to, &value.assigned);
    encode_epochs(&mut to, &value.revoking);
    to.raw(&[0]);
    to.done()
}

fn encode_epochs(to: &mut Writer, value: &Epochs) {
    to.compact_count(value.len());
    for (topic, partitions) in value {
        to.raw(topic.get().as_bytes()).compact_count(partitions.len());
        for partition in partitions.keys() {
            to.i32(*partition);
        }
        let mut epochs = Writer::bare();
        epochs.compact_count(partitions.len());
        for epoch in partitions.values() {
            epochs.i32(*epoch);
        }
        let epochs = epochs.done();
        to.raw(&[1, 0]).varint(epochs.len() as u64).raw(&epochs);
    }
}

fn decode_current(mut from: Reader<'_>) -> Result<CurrentValue, RecordError> {
    let epoch = from.i32("member epoch")?;
    let previous_epoch = from.i32("previous member epoch")?;
    let state = match from.i8("state")? {
        0 => MemberState::Stable,
        1 => MemberState::UnrevokedPartitions,
        2 => MemberState::UnreleasedPartitions,
        _ => MemberState::Unknown,
    };
    let assigned = decode_epochs(&mut from, epoch)?;
    let revoking = decode_epochs(&mut from, epoch)?;
    from.tagged(|_, _| ())?;
    Ok(CurrentValue { epoch, previous_epoch, state, assigned, revoking })
}

/// Records of brokers before KIP-1251 have no epochs: the member's stands for each.
fn decode_epochs(from: &mut Reader<'_>, unknown: i32) -> Result<Epochs, RecordError> {
    let mut all = Epochs::new();
    for _ in 0..from.count("topics")? {
        let topic = topic_id(from)?;
        let partitions = numbers(from)?;
        let mut epochs = Ok(Vec::new());
        from.tagged(|tag, field| {
            if tag == 0 {
                epochs = numbers(&mut Reader::compact(field));
            }
        })?;
        let epochs = epochs?.into_iter().chain(std::iter::repeat(unknown));
        all.insert(topic, partitions.into_iter().zip(epochs).collect());
    }
    Ok(all)
}

fn encode_regex(value: &RegexValue) -> Bytes {
    let mut to = Writer::new(0);
    to.compact_count(value.topics.len());
    for topic in &value.topics {
        to.compact_string(topic);
    }
    to.i64(value.version).i64(value.at.get()).raw(&[0]);
    to.done()
}

fn decode_regex(mut from: Reader<'_>) -> Result<RegexValue, RecordError> {
    let topics = texts(&mut from, "topics")?;
    let value = RegexValue { topics, version: from.i64("version")?, at: Timestamp::new(from.i64("timestamp")?) };
    from.tagged(|_, _| ())?;
    Ok(value)
}

fn topic_id(from: &mut Reader<'_>) -> Result<TopicId, RecordError> {
    Ok(TopicId::new(Uuid::from_bytes(from.array("topic id")?)))
}

// Nothing is reserved for a count: an element needs bytes of its own before it is believed.

fn numbers(from: &mut Reader<'_>) -> Result<Vec<i32>, RecordError> {
    let mut all = Vec::new();
    for _ in 0..from.count("partitions")? {
        all.push(from.i32("partition")?);
    }
    Ok(all)
}

fn texts(from: &mut Reader<'_>, field: &'static str) -> Result<BTreeSet<String>, RecordError> {
    let mut all = BTreeSet::new();
    for _ in 0..from.count(field)? {
        all.insert(from.string(field)?);
    }
    Ok(all)
}

#[cfg(test)]
#[path = "consumer_tests.rs"]
mod tests;
