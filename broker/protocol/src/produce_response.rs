//! The answer to Produce, written by hand: it is the most frequent answer of all, and mostly a few numbers.

use crate::endpoints::{Endpoint, put_endpoints};
use crate::header::{begin_response, end_response};
use crate::wire::{put_length, put_no_tags, put_text, put_uuid};
use crate::{ApiKey, ErrorCode};
use bytes::{BufMut, BytesMut};
use millrace_model::{LeaderEpoch, NodeId, Offset, PartitionId, Timestamp, TopicId};

/// What a partition's answer says.
#[derive(Clone, Copy, Debug)]
pub struct Produced<'a> {
    /// The partition.
    pub partition: PartitionId,
    /// What went wrong.
    pub error: ErrorCode,
    /// The first record's offset; −1 where nothing was appended.
    pub base_offset: Offset,
    /// The broker's time, where the topic stores that.
    pub log_append_time: Option<Timestamp>,
    /// The first offset of the log; −1 where it is not known.
    pub log_start: Offset,
    /// The records that are at fault (KIP-467).
    pub records: &'a [(i32, &'a str)],
    /// What is wrong, in words.
    pub message: Option<&'a str>,
    /// Who leads the partition now, for a producer who came to the wrong broker (KIP-951).
    pub current_leader: Option<(NodeId, LeaderEpoch)>,
}

impl Produced<'_> {
    /// A partition of which nothing but an error is known.
    pub const fn error(partition: PartitionId, error: ErrorCode) -> Self {
        const UNKNOWN: Offset = Offset::new(-1);
        Self {
            partition,
            error,
            base_offset: UNKNOWN,
            log_append_time: None,
            log_start: UNKNOWN,
            records: &[],
            message: None,
            current_leader: None,
        }
    }
}

/// An answer to Produce in the making: [`ProduceResponse::begin`], per topic [`ProduceResponse::topic`], per partition
/// [`ProduceResponse::partition`], [`ProduceResponse::end_topic`], at last [`ProduceResponse::finish`].
#[derive(Debug)]
pub struct ProduceResponse {
    version: i16,
    flexible: bool,
    out: BytesMut,
    start: usize,
}

impl ProduceResponse {
    /// Begins the answer in `out`, after what stands there.
    pub fn begin(mut out: BytesMut, version: i16, correlation_id: i32, topics: usize) -> Self {
        let flexible = ApiKey::Produce.is_flexible(version);
        let start = begin_response(&mut out, ApiKey::Produce, version, correlation_id);
        put_length(&mut out, flexible, topics);
        Self { version, flexible, out, start }
    }

    /// Begins a topic of so many partitions.
    pub fn topic(&mut self, id: TopicId, name: &str, partitions: usize) {
        if self.version >= 13 {
            put_uuid(&mut self.out, id.get());
        } else {
            put_text(&mut self.out, self.flexible, name);
        }
        put_length(&mut self.out, self.flexible, partitions);
    }

    /// Adds a partition.
    pub fn partition(&mut self, produced: &Produced<'_>) {
        self.out.put_i32(produced.partition.get());
        self.out.put_i16(produced.error.code());
        self.out.put_i64(produced.base_offset.get());
        self.out.put_i64(produced.log_append_time.unwrap_or(Timestamp::NONE).get());
        if self.version >= 5 {
            self.out.put_i64(produced.log_start.get());
        }
        if self.version >= 8 {
            put_length(&mut self.out, self.flexible, produced.records.len());
            for (index, reason) in produced.records {
                self.out.put_i32(*index);
                self.nullable_text(Some(reason));
                put_no_tags(&mut self.out, self.flexible);
            }
            self.nullable_text(produced.message);
        }
        match produced.current_leader {
            Some((leader, epoch)) if self.version >= 10 => {
                self.out.put_slice(&[1, 0, 9]);
                self.out.put_i32(leader.get());
                self.out.put_i32(epoch.get());
                self.out.put_u8(0);
            }
            _ => put_no_tags(&mut self.out, self.flexible),
        }
    }

    fn nullable_text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => put_text(&mut self.out, self.flexible, text),
            None if self.flexible => self.out.put_u8(0),
            None => self.out.put_i16(-1),
        }
    }

    /// Ends a topic.
    pub fn end_topic(&mut self) {
        put_no_tags(&mut self.out, self.flexible);
    }

    /// Ends the answer. The endpoints are those of the brokers that stand in `current_leader`.
    pub fn finish(mut self, endpoints: &[Endpoint<'_>]) -> BytesMut {
        self.out.put_i32(0); // throttle time
        if self.version >= 10 && !endpoints.is_empty() {
            put_endpoints(&mut self.out, endpoints);
        } else {
            put_no_tags(&mut self.out, self.flexible);
        }
        end_response(&mut self.out, self.start, 0);
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode_response;
    use crate::messages::ProduceRequest;
    use uuid::Uuid;

    #[test]
    fn kafka_protocol_reads_every_version_as_it_was_meant() {
        let id = TopicId::new(Uuid::from_u128(77));
        for version in 3..=13 {
            let mut answer = ProduceResponse::begin(BytesMut::new(), version, 42, 1);
            answer.topic(id, "orders", 2);
            let fine = Produced {
                base_offset: Offset::new(100),
                log_start: Offset::new(7),
                log_append_time: Some(Timestamp::new(5)),
                ..Produced::error(PartitionId::new(0), ErrorCode::None)
            };
            let refused = Produced {
                records: &[(3, "too red")],
                message: Some("refused"),
                current_leader: Some((NodeId::new(2), LeaderEpoch::new(6))),
                ..Produced::error(PartitionId::new(1), ErrorCode::InvalidRecord)
            };
            answer.partition(&fine);
            answer.partition(&refused);
            answer.end_topic();
            let endpoint = Endpoint { node: NodeId::new(2), host: "there", port: 9093 };
            let mut bytes = answer.finish(&[endpoint]);
            let size = bytes.split_to(4);
            assert_eq!(u32::from_be_bytes(size[..].try_into().unwrap()) as usize, bytes.len());

            let read = decode_response::<ProduceRequest>(bytes.freeze(), version, 42).unwrap();
            let topic = &read.responses[0];
            if version >= 13 {
                assert_eq!(topic.topic_id, id.get());
            } else {
                assert_eq!(topic.name.as_str(), "orders");
            }
            let [fine, refused] = &topic.partition_responses[..] else { panic!("two partitions") };
            assert_eq!((fine.error_code, fine.base_offset, fine.log_append_time_ms), (0, 100, 5));
            assert_eq!(fine.log_start_offset, if version >= 5 { 7 } else { -1 });
            assert_eq!((refused.index, refused.error_code), (1, 87));
            if version >= 8 {
                assert_eq!(refused.record_errors[0].batch_index, 3);
                assert_eq!(refused.record_errors[0].batch_index_error_message.as_deref(), Some("too red"));
                assert_eq!(refused.error_message.as_deref(), Some("refused"));
                assert_eq!(fine.error_message, None);
            }
            assert_eq!(refused.current_leader.leader_id.0, if version >= 10 { 2 } else { -1 });
            assert_eq!(read.node_endpoints.len(), usize::from(version >= 10));
        }
    }
}
