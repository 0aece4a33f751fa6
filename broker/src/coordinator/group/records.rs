//! The records of `__consumer_offsets`, byte for byte as Kafka writes and reads them.
//!
//! A key begins with its type (two bytes), a value with its version (two bytes). Strings carry two bytes of length,
//! byte fields and arrays four; from value version 4 on they are Kafka's compact forms and tagged fields follow.
//!
//! ```text
//! key 1    group, topic, partition     value 0 to 4: offset, leader epoch (3+), metadata, commit timestamp,
//!                                                    expire timestamp (1 only), topic id (4+, tag 0)
//! key 2    group                       value 0 to 4: protocol type, generation, protocol, leader,
//!                                                    state timestamp (2+), members
//! key 3+   the newer group types
//! ```
//! Written: offset value 4 (1 where the client set a retention, 3 where the topic's id is not known), group value 3,
//! as Kafka 4.3 does. A key without a value is a tombstone.
//!
//! Source: `OffsetCommitKey.json` and its siblings among Kafka's message definitions; KIP-915.

use bytes::Bytes;
use millrace_model::{LeaderEpoch, Offset, Timestamp, TopicId};
use std::sync::Arc;
use thiserror::Error;
use uuid::Uuid;

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

/// A group as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupValue {
    /// Empty for a group without one.
    pub protocol_type: String,
    /// The generation.
    pub generation: i32,
    /// The chosen protocol.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: Option<String>,
    /// When the group's state changed last; −1 if unknown.
    pub state_since: Timestamp,
    /// The members.
    pub members: Vec<MemberValue>,
}

/// A member as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberValue {
    /// Its id.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// Its rebalance timeout.
    pub rebalance_timeout_ms: i32,
    /// Its session timeout.
    pub session_timeout_ms: i32,
    /// Its subscription for the chosen protocol.
    pub subscription: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// One record of the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    /// An offset was stored, or forgotten.
    Offset {
        /// The group.
        group: Arc<str>,
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// None: forget it.
        value: Option<OffsetValue>,
    },
    /// A classic group changed, or went away.
    Group {
        /// The group.
        group: Arc<str>,
        /// None: it is gone.
        value: Option<GroupValue>,
    },
    /// A kind of record that this broker does not know; it stays in the log.
    Other {
        /// The key's type.
        kind: i16,
    },
}

const OFFSET_KEYS: std::ops::RangeInclusive<i16> = 0..=1;
const GROUP_KEY: i16 = 2;
const OFFSET_KEY: i16 = 1;
const NEWEST: i16 = 4;
const GROUP_VALUE_VERSION: i16 = 3;

impl GroupRecord {
    /// The record's key and value; [`Self::Other`] is never written and gives nothing.
    pub fn encode(&self) -> Option<(Bytes, Option<Bytes>)> {
        match self {
            Self::Offset { group, topic, partition, value } => {
                let mut key = Writer::new(OFFSET_KEY);
                key.string(group).string(topic).i32(*partition);
                Some((key.done(), value.as_ref().map(encode_offset)))
            }
            Self::Group { group, value } => {
                let mut key = Writer::new(GROUP_KEY);
                key.string(group);
                Some((key.done(), value.as_ref().map(encode_group)))
            }
            Self::Other { .. } => None,
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`] names the field that cannot be.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, RecordError> {
        let mut from = Reader { bytes: key, compact: false };
        match from.i16("key type")? {
            kind if OFFSET_KEYS.contains(&kind) => Ok(Self::Offset {
                group: from.string("group")?.into(),
                topic: from.string("topic")?.into(),
                partition: from.i32("partition")?,
                value: value.map(decode_offset).transpose()?,
            }),
            GROUP_KEY => {
                Ok(Self::Group { group: from.string("group")?.into(), value: value.map(decode_group).transpose()? })
            }
            kind => Ok(Self::Other { kind }),
        }
    }
}

fn encode_offset(value: &OffsetValue) -> Bytes {
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
        to.bytes.extend_from_slice(&[1, 0, 16]);
        to.bytes.extend_from_slice(value.topic_id.get().as_bytes());
    }
    to.done()
}

fn decode_offset(bytes: &[u8]) -> Result<OffsetValue, RecordError> {
    let mut from = Reader { bytes, compact: false };
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

fn encode_group(value: &GroupValue) -> Bytes {
    let mut to = Writer::new(GROUP_VALUE_VERSION);
    to.string(&value.protocol_type)
        .i32(value.generation)
        .nullable(value.protocol.as_deref())
        .nullable(value.leader.as_deref())
        .i64(value.state_since.get())
        .i32(i32::try_from(value.members.len()).unwrap_or(i32::MAX));
    for member in &value.members {
        to.string(&member.member_id)
            .nullable(member.instance_id.as_deref())
            .string(&member.client_id)
            .string(&member.client_host)
            .i32(member.rebalance_timeout_ms)
            .i32(member.session_timeout_ms)
            .blob(&member.subscription)
            .blob(&member.assignment);
    }
    to.done()
}

fn decode_group(bytes: &[u8]) -> Result<GroupValue, RecordError> {
    let mut from = Reader { bytes, compact: false };
    let version = from.version("a group")?;
    let protocol_type = from.string("protocol type")?;
    let generation = from.i32("generation")?;
    let protocol = from.nullable("protocol")?;
    let leader = from.nullable("leader")?;
    let state_since = Timestamp::new(if version >= 2 { from.i64("state timestamp")? } else { -1 });
    let count = from.count("members")?;
    // No capacity is taken from the count: a member needs bytes of its own before it is believed.
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(decode_member(&mut from, version)?);
    }
    from.tagged(|_, _| ())?;
    Ok(GroupValue { protocol_type, generation, protocol, leader, state_since, members })
}

fn decode_member(from: &mut Reader<'_>, version: i16) -> Result<MemberValue, RecordError> {
    let member_id = from.string("member id")?;
    let instance_id = if version >= 3 { from.nullable("group instance id")? } else { None };
    let client_id = from.string("client id")?;
    let client_host = from.string("client host")?;
    let rebalance_timeout_ms = if version >= 1 { from.i32("rebalance timeout")? } else { -1 };
    let session_timeout_ms = from.i32("session timeout")?;
    let member = MemberValue {
        member_id,
        instance_id,
        client_id,
        client_host,
        // Before version 1 the session timeout served for both.
        rebalance_timeout_ms: if rebalance_timeout_ms == -1 { session_timeout_ms } else { rebalance_timeout_ms },
        session_timeout_ms,
        subscription: from.blob("subscription")?,
        assignment: from.blob("assignment")?,
    };
    from.tagged(|_, _| ())?;
    Ok(member)
}

#[derive(Debug)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn new(version: i16) -> Self {
        Self { bytes: version.to_be_bytes().to_vec() }
    }

    fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Every string here came over the wire with at most two bytes of length or is bounded by an option; one that is
    /// longer nevertheless is cut at a character rather than written with a wrong length.
    fn string(&mut self, value: &str) -> &mut Self {
        let value = value.get(..value.floor_char_boundary(i16::MAX as usize)).unwrap_or_default();
        self.bytes.extend_from_slice(&(value.len() as i16).to_be_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self
    }

    fn compact_string(&mut self, value: &str) -> &mut Self {
        self.varint(value.len() as u64 + 1);
        self.bytes.extend_from_slice(value.as_bytes());
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn nullable(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.string(value),
            None => {
                self.bytes.extend_from_slice(&(-1i16).to_be_bytes());
                self
            }
        }
    }

    fn blob(&mut self, value: &[u8]) -> &mut Self {
        self.i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
        self.bytes.extend_from_slice(value);
        self
    }

    fn done(self) -> Bytes {
        self.bytes.into()
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    compact: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], RecordError> {
        let (head, rest) = self.bytes.split_at_checked(length).ok_or(RecordError::Short(field))?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], RecordError> {
        let (head, rest) = self.bytes.split_first_chunk().ok_or(RecordError::Short(field))?;
        self.bytes = rest;
        Ok(*head)
    }

    fn version(&mut self, record: &'static str) -> Result<i16, RecordError> {
        let version = self.i16("version")?;
        if !(0..=NEWEST).contains(&version) {
            return Err(RecordError::Version { record, version });
        }
        self.compact = version >= 4;
        Ok(version)
    }

    fn i16(&mut self, field: &'static str) -> Result<i16, RecordError> {
        Ok(i16::from_be_bytes(self.array(field)?))
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    fn i64(&mut self, field: &'static str) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array(field)?))
    }

    fn varint(&mut self, field: &'static str) -> Result<i64, RecordError> {
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
    fn length(&mut self, wide: bool, field: &'static str) -> Result<i64, RecordError> {
        match (self.compact, wide) {
            (true, _) => Ok(self.varint(field)? - 1),
            (false, true) => Ok(self.i32(field)?.into()),
            (false, false) => Ok(self.i16(field)?.into()),
        }
    }

    fn nullable(&mut self, field: &'static str) -> Result<Option<String>, RecordError> {
        match self.length(false, field)? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| RecordError::Length { field, length })?;
                let text = std::str::from_utf8(self.take(length, field)?).map_err(|_| RecordError::Utf8(field))?;
                Ok(Some(text.to_owned()))
            }
        }
    }

    fn string(&mut self, field: &'static str) -> Result<String, RecordError> {
        self.nullable(field)?.ok_or(RecordError::Length { field, length: -1 })
    }

    fn blob(&mut self, field: &'static str) -> Result<Bytes, RecordError> {
        let length = self.length(true, field)?;
        let length = usize::try_from(length).map_err(|_| RecordError::Length { field, length })?;
        Ok(Bytes::copy_from_slice(self.take(length, field)?))
    }

    fn count(&mut self, field: &'static str) -> Result<i64, RecordError> {
        match self.length(true, field)? {
            length @ 0.. => Ok(length),
            length => Err(RecordError::Length { field, length }),
        }
    }

    fn tagged(&mut self, mut each: impl FnMut(i64, &[u8])) -> Result<(), RecordError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let text: String = text.split_whitespace().collect();
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// Key and value as Kafka 4.3.1 wrote them for group `g1`, topic `t1`.
    fn kafka_offset() -> (Vec<u8>, Vec<u8>) {
        (
            hex("0001 0002 6731 0002 7431 00000000"),
            hex("0004 000000000000000a 00000000 01 000001a1fd731a83 01 00 10 126d1526009046e784 11030b427855f6"),
        )
    }

    #[test]
    fn an_offset_that_kafka_wrote_is_read_and_written_back_byte_for_byte() {
        let (key, value) = kafka_offset();
        let record = GroupRecord::decode(&key, Some(&value)).unwrap();
        let GroupRecord::Offset { group, topic, partition, value: Some(offset) } = &record else {
            panic!("{record:?}")
        };
        assert_eq!((&**group, &**topic, *partition), ("g1", "t1", 0));
        assert_eq!(offset.offset, Offset::new(10));
        assert_eq!(offset.leader_epoch, LeaderEpoch::new(0));
        assert_eq!(offset.committed_at, Timestamp::new(1_795_253_541_507));
        assert_ne!(offset.topic_id, TopicId::NIL);
        let (again, body) = record.encode().unwrap();
        assert_eq!((&again[..], &body.unwrap()[..]), (&key[..], &value[..]));
    }

    #[test]
    fn a_group_that_kafka_wrote_is_read_and_written_back_byte_for_byte() {
        let member = "6b61666b612d707974686f6e2d332e302e31322d39313566303361652d616664332d343330382d386563632d303336356531316232643563";
        let key = hex("0002 0002 6731");
        let value = hex(&format!(
            "0003 0008 636f6e73756d6572 00000001 0005 72616e6765 0038 {member} 000001a1fd7319f1 00000001
             0038 {member} ffff 0013 6b61666b612d707974686f6e2d332e302e3132 000a 2f3132372e302e302e31 000493e0 0000afc8
             0000000e 000000000001 0002 7431 00000000 00000016 000000000001 0002 7431 00000001 00000000 00000000"
        ));
        let record = GroupRecord::decode(&key, Some(&value)).unwrap();
        let GroupRecord::Group { value: Some(group), .. } = &record else { panic!("{record:?}") };
        assert_eq!((group.generation, group.protocol.as_deref()), (1, Some("range")));
        assert_eq!(group.members[0].rebalance_timeout_ms, 300_000);
        assert_eq!(group.members[0].client_host, "/127.0.0.1");
        let (again, body) = record.encode().unwrap();
        assert_eq!((&again[..], &body.unwrap()[..]), (&key[..], &value[..]));

        let empty = hex("0003 0000 00000000 ffff ffff 000001a1fd730e21 00000000");
        let record = GroupRecord::decode(&key, Some(&empty)).unwrap();
        assert_eq!(&record.encode().unwrap().1.unwrap()[..], &empty[..]);
    }

    #[test]
    fn a_key_without_value_is_a_tombstone_and_an_unknown_key_is_left_alone() {
        let (key, _) = kafka_offset();
        assert!(matches!(GroupRecord::decode(&key, None), Ok(GroupRecord::Offset { value: None, .. })));
        assert_eq!(GroupRecord::decode(&hex("0003 0002 6731"), None), Ok(GroupRecord::Other { kind: 3 }));
    }

    #[test]
    fn a_retention_of_the_client_is_kept_in_value_version_1() {
        let value = OffsetValue {
            offset: Offset::new(5),
            leader_epoch: LeaderEpoch::NONE,
            metadata: "hello".into(),
            committed_at: Timestamp::new(1),
            expires_at: Timestamp::new(99),
            topic_id: TopicId::NIL,
        };
        let bytes = encode_offset(&value);
        assert_eq!(bytes[..2], [0, 1]);
        assert_eq!(decode_offset(&bytes).unwrap(), value);
        let unknown_topic = OffsetValue { expires_at: Timestamp::NONE, ..value };
        assert_eq!(encode_offset(&unknown_topic)[..2], [0, 3]);
        assert_eq!(decode_offset(&encode_offset(&unknown_topic)).unwrap(), unknown_topic);
    }

    #[test]
    fn cut_or_mangled_records_are_errors_and_never_more() {
        let (key, value) = kafka_offset();
        for end in 0..value.len() {
            assert!(GroupRecord::decode(&key, Some(&value[..end])).is_err(), "cut at {end}");
        }
        for end in 0..key.len() {
            assert!(GroupRecord::decode(&key[..end], None).is_err(), "cut at {end}");
        }
        for at in 0..value.len() {
            for byte in [0x00, 0x7f, 0x80, 0xff] {
                let mut mangled = value.clone();
                mangled[at] = byte;
                let _ = GroupRecord::decode(&key, Some(&mangled));
            }
        }
        let huge_count = hex("0002 0000 00000001 ffff ffff 0000000000000000 7fffffff");
        assert!(decode_group(&huge_count).is_err());
    }
}
