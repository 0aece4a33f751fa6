//! The answer to Fetch, written by hand: record bytes that lie in files stay there, and the answer says where between its
//! own bytes they belong.
//!
//! Order of calls: [`FetchResponse::begin`], then per topic [`FetchResponse::topic`], per partition of it
//! [`FetchResponse::partition`], then [`FetchResponse::end_topic`]; at last [`FetchResponse::finish`]. The counts that were
//! announced must be the numbers that follow.

use crate::endpoints::{Endpoint, put_endpoints};
use crate::header::{begin_response, end_response};
use crate::wire::{put_length, put_no_tags, put_text, put_uuid};
use crate::{ApiKey, ErrorCode};
use bytes::{BufMut, BytesMut};
use millrace_model::{LeaderEpoch, NodeId, Offset, PartitionId, TopicId};

/// The answer's own bytes, size and header included, and what belongs between them.
#[derive(Debug)]
pub struct Pieces<F> {
    /// The bytes.
    pub bytes: BytesMut,
    /// The regions of files, each with the place in `bytes` before which it is sent, in order.
    pub regions: Vec<(usize, F)>,
}

/// What a partition's answer says beside its records.
#[derive(Clone, Copy, Debug)]
pub struct PartitionHead {
    /// The partition.
    pub partition: PartitionId,
    /// What went wrong.
    pub error: ErrorCode,
    /// The high watermark; −1 where it is not known.
    pub high_watermark: Offset,
    /// The last stable offset; −1 where it is not known.
    pub last_stable: Offset,
    /// The first offset of the log; −1 where it is not known.
    pub log_start: Offset,
    /// Where the asker's log leaves ours, for followers (KIP-595): the last common epoch and its end.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// Who leads the partition now, for an asker who came to the wrong broker (KIP-951).
    pub current_leader: Option<(NodeId, LeaderEpoch)>,
}

impl PartitionHead {
    /// A partition of which nothing but an error is known.
    pub const fn error(partition: PartitionId, error: ErrorCode) -> Self {
        const UNKNOWN: Offset = Offset::new(-1);
        Self {
            partition,
            error,
            high_watermark: UNKNOWN,
            last_stable: UNKNOWN,
            log_start: UNKNOWN,
            diverging: None,
            current_leader: None,
        }
    }
}

/// A transaction that was aborted and whose records are in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// The producer.
    pub producer_id: i64,
    /// The transaction's first record in this partition.
    pub first_offset: i64,
}

/// A partition's records.
#[derive(Debug)]
pub enum FetchedRecords<'a, F> {
    /// There are none.
    None,
    /// These bytes are copied into the answer.
    Inline(&'a [u8]),
    /// So many bytes that are sent from elsewhere.
    Region(F, u64),
}

/// An answer to Fetch in the making.
#[derive(Debug)]
pub struct FetchResponse<F> {
    version: i16,
    flexible: bool,
    out: BytesMut,
    start: usize,
    regions: Vec<(usize, F)>,
    elsewhere: u64,
}

impl<F> FetchResponse<F> {
    /// Begins the answer in `out`, after what stands there.
    pub fn begin(
        mut out: BytesMut,
        version: i16,
        correlation_id: i32,
        error: ErrorCode,
        session_id: i32,
        topics: usize,
    ) -> Self {
        let flexible = ApiKey::Fetch.is_flexible(version);
        let start = begin_response(&mut out, ApiKey::Fetch, version, correlation_id);
        out.put_i32(0); // throttle time
        if version >= 7 {
            out.put_i16(error.code());
            out.put_i32(session_id);
        }
        put_length(&mut out, flexible, topics);
        Self { version, flexible, out, start, regions: Vec::new(), elsewhere: 0 }
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

    /// Adds a partition. `aborted` is `None` for readers of uncommitted records.
    pub fn partition(
        &mut self,
        head: &PartitionHead,
        aborted: Option<&[AbortedTransaction]>,
        records: FetchedRecords<'_, F>,
    ) {
        self.out.put_i32(head.partition.get());
        self.out.put_i16(head.error.code());
        self.out.put_i64(head.high_watermark.get());
        self.out.put_i64(head.last_stable.get());
        if self.version >= 5 {
            self.out.put_i64(head.log_start.get());
        }
        self.aborted(aborted);
        if self.version >= 11 {
            self.out.put_i32(-1); // preferred read replica
        }
        self.records(records);
        if self.flexible {
            self.partition_tags(head);
        }
    }

    fn aborted(&mut self, aborted: Option<&[AbortedTransaction]>) {
        let Some(aborted) = aborted else {
            if self.flexible {
                self.out.put_u8(0);
            } else {
                self.out.put_i32(-1);
            }
            return;
        };
        put_length(&mut self.out, self.flexible, aborted.len());
        for transaction in aborted {
            self.out.put_i64(transaction.producer_id);
            self.out.put_i64(transaction.first_offset);
            put_no_tags(&mut self.out, self.flexible);
        }
    }

    fn records(&mut self, records: FetchedRecords<'_, F>) {
        match records {
            FetchedRecords::None => put_length(&mut self.out, self.flexible, 0),
            FetchedRecords::Inline(bytes) => {
                put_length(&mut self.out, self.flexible, bytes.len());
                self.out.put_slice(bytes);
            }
            FetchedRecords::Region(region, len) => {
                put_length(&mut self.out, self.flexible, usize::try_from(len).unwrap_or(usize::MAX));
                self.elsewhere += len;
                self.regions.push((self.out.len(), region));
            }
        }
    }

    fn partition_tags(&mut self, head: &PartitionHead) {
        let count = u8::from(head.diverging.is_some()) + u8::from(head.current_leader.is_some());
        self.out.put_u8(count);
        if let Some((epoch, end)) = head.diverging {
            self.out.put_slice(&[0, 13]);
            self.out.put_i32(epoch.get());
            self.out.put_i64(end.get());
            self.out.put_u8(0);
        }
        if let Some((leader, epoch)) = head.current_leader {
            self.out.put_slice(&[1, 9]);
            self.out.put_i32(leader.get());
            self.out.put_i32(epoch.get());
            self.out.put_u8(0);
        }
    }

    /// Ends a topic.
    pub fn end_topic(&mut self) {
        put_no_tags(&mut self.out, self.flexible);
    }

    /// Bytes of records so far that are sent from elsewhere.
    pub const fn elsewhere(&self) -> u64 {
        self.elsewhere
    }

    /// Ends the answer. The endpoints are those of the brokers that stand in `current_leader`.
    pub fn finish(mut self, endpoints: &[Endpoint<'_>]) -> Pieces<F> {
        if self.version >= 16 && !endpoints.is_empty() {
            put_endpoints(&mut self.out, endpoints);
        } else {
            put_no_tags(&mut self.out, self.flexible);
        }
        end_response(&mut self.out, self.start, self.elsewhere);
        Pieces { bytes: self.out, regions: self.regions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::decode_response;
    use crate::messages::FetchRequest;
    use uuid::Uuid;

    fn head(diverging: bool) -> PartitionHead {
        PartitionHead {
            high_watermark: Offset::new(9),
            last_stable: Offset::new(8),
            log_start: Offset::new(3),
            diverging: diverging.then_some((LeaderEpoch::new(4), Offset::new(5))),
            current_leader: diverging.then_some((NodeId::new(2), LeaderEpoch::new(6))),
            ..PartitionHead::error(PartitionId::new(1), ErrorCode::None)
        }
    }

    fn whole(pieces: Pieces<Vec<u8>>) -> BytesMut {
        let mut out = BytesMut::new();
        let mut from = 0;
        for (at, region) in pieces.regions {
            out.put_slice(&pieces.bytes[from..at]);
            out.put_slice(&region);
            from = at;
        }
        out.put_slice(&pieces.bytes[from..]);
        out
    }

    #[test]
    fn kafka_protocol_reads_every_version_as_it_was_meant() {
        let id = TopicId::new(Uuid::from_u128(77));
        for version in 4..=18 {
            let mut answer = FetchResponse::begin(BytesMut::new(), version, 42, ErrorCode::None, 7, 1);
            answer.topic(id, "orders", 3);
            answer.partition(&head(false), None, FetchedRecords::Region(b"abc".to_vec(), 3));
            let aborted = [AbortedTransaction { producer_id: 5, first_offset: 6 }];
            answer.partition(&head(version >= 12), Some(&aborted), FetchedRecords::Inline(b"de"));
            answer.partition(&head(false), Some(&[]), FetchedRecords::None);
            answer.end_topic();
            let endpoint = Endpoint { node: NodeId::new(2), host: "there", port: 9093 };
            let mut bytes = whole(answer.finish(&[endpoint]));
            let size = bytes.split_to(4);
            assert_eq!(u32::from_be_bytes(size[..].try_into().unwrap()) as usize, bytes.len());

            let read = decode_response::<FetchRequest>(bytes.freeze(), version, 42).unwrap();
            let topic = &read.responses[0];
            if version >= 13 {
                assert_eq!(topic.topic_id, id.get());
            } else {
                assert_eq!(topic.topic.as_str(), "orders");
            }
            let [first, second, third] = &topic.partitions[..] else { panic!("three partitions") };
            assert_eq!(first.records.as_deref(), Some(&b"abc"[..]));
            assert_eq!((first.partition_index, first.high_watermark, first.last_stable_offset), (1, 9, 8));
            assert_eq!(first.log_start_offset, if version >= 5 { 3 } else { -1 });
            assert!(first.aborted_transactions.is_none());
            assert_eq!(second.records.as_deref(), Some(&b"de"[..]));
            assert_eq!(second.aborted_transactions.as_ref().unwrap()[0].first_offset, 6);
            if version >= 12 {
                assert_eq!((second.diverging_epoch.epoch, second.diverging_epoch.end_offset), (4, 5));
                assert_eq!(second.current_leader.leader_id.0, 2);
            }
            assert_eq!(third.records.as_deref(), Some(&b""[..]));
            assert_eq!(read.node_endpoints.len(), usize::from(version >= 16));
            assert_eq!(read.session_id, if version >= 7 { 7 } else { 0 });
        }
    }
}
