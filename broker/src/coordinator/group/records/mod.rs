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
//! key 3 to 8, 16                   consumer groups, see `consumer`
//! key 9+   share groups and streams groups
//! ```
//! Written: offset value 4 (1 where the client set a retention, 3 where the topic's id is not known), group value 3,
//! as Kafka 4.3 does. A key without a value is a tombstone.
//!
//! Source: `OffsetCommitKey.json` and its siblings among Kafka's message definitions; KIP-915.

mod classic;
mod consumer;
mod offset;
mod wire;

pub use classic::{GroupValue, MemberValue};
pub use consumer::{
    ClassicSide, ConsumerGroupValue, ConsumerMemberValue, ConsumerRecord, CurrentValue, Epochs, MemberState,
    Partitions, RegexValue, TargetEpochValue,
};
pub use offset::OffsetValue;
pub use wire::RecordError;

use bytes::Bytes;
use classic::{decode_group, encode_group};
use offset::{decode_offset, encode_offset};
use std::sync::Arc;
use wire::{Reader, Writer};

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
    /// A part of a consumer group changed, or went away.
    Consumer {
        /// The group.
        group: Arc<str>,
        /// What of it.
        record: ConsumerRecord,
    },
    /// A kind of record that this broker does not know; it stays in the log.
    Other {
        /// The key's type.
        kind: i16,
    },
}

const OFFSET_KEYS: std::ops::RangeInclusive<i16> = 0..=1;
const GROUP_KEY: i16 = 2;
const CONSUMER_KEYS: [i16; 7] = [3, 4, 5, 6, 7, 8, 16];
const OFFSET_KEY: i16 = 1;

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
            Self::Consumer { group, record } => Some(record.encode(group)),
            Self::Other { .. } => None,
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`] names the field that cannot be.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, RecordError> {
        let mut from = Reader::new(key);
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
            kind if CONSUMER_KEYS.contains(&kind) => {
                let group = from.string("group")?.into();
                let record = ConsumerRecord::decode(kind, &mut from, value)?;
                Ok(record.map_or(Self::Other { kind }, |record| Self::Consumer { group, record }))
            }
            kind => Ok(Self::Other { kind }),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use millrace_model::{LeaderEpoch, Offset, Timestamp, TopicId};

    pub(super) fn hex(text: &str) -> Vec<u8> {
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
        assert_eq!(GroupRecord::decode(&hex("0011 0002 6731"), None), Ok(GroupRecord::Other { kind: 17 }));
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
