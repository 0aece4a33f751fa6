//! How each served request is read once its bytes have been walked.
//!
//! kafka-protocol tracks Kafka 4.1. Where 4.3 serves a later version, the body is read here by hand into the same struct,
//! whose fields have room for it: OffsetCommit and OffsetFetch 10 name topics by id (KIP-848),
//! WriteTxnMarkers 2 says how a transaction was done. ListOffsets 11 has the
//! layout of 10.

use crate::ApiKey;
use crate::error::DecodeError;
use crate::messages::metadata_request::MetadataRequestTopic;
use crate::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use crate::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use crate::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use crate::messages::*;
use crate::wire::{Reader, WireError};
use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Request, StrBytes};
use uuid::Uuid;

/// A request that a broker serves.
pub trait Served: Request {
    /// The kind.
    const API: ApiKey;

    /// Reads a body that has been walked.
    ///
    /// # Errors
    /// [`DecodeError`] where it is malformed nevertheless: text that is not UTF-8, null where there must be something.
    fn read(mut body: Bytes, version: i16) -> Result<Self, DecodeError> {
        Self::decode(&mut body, Self::API.layout_version(version)).map_err(|e| DecodeError::Decoder(e.to_string()))
    }
}

macro_rules! served {
    ($($request:ty = $key:ident),* $(,)?) => {
        $(impl Served for $request {
            const API: ApiKey = ApiKey::$key;
        })*
    };
}

served! {
    ProduceRequest = Produce,
    FetchRequest = Fetch,
    ListOffsetsRequest = ListOffsets,
    FindCoordinatorRequest = FindCoordinator,
    JoinGroupRequest = JoinGroup,
    HeartbeatRequest = Heartbeat,
    LeaveGroupRequest = LeaveGroup,
    SyncGroupRequest = SyncGroup,
    DescribeGroupsRequest = DescribeGroups,
    ListGroupsRequest = ListGroups,
    ApiVersionsRequest = ApiVersions,
    CreateTopicsRequest = CreateTopics,
    DeleteTopicsRequest = DeleteTopics,
    DeleteRecordsRequest = DeleteRecords,
    InitProducerIdRequest = InitProducerId,
    OffsetForLeaderEpochRequest = OffsetForLeaderEpoch,
    AddPartitionsToTxnRequest = AddPartitionsToTxn,
    AddOffsetsToTxnRequest = AddOffsetsToTxn,
    EndTxnRequest = EndTxn,
    TxnOffsetCommitRequest = TxnOffsetCommit,
    DescribeProducersRequest = DescribeProducers,
    DescribeTransactionsRequest = DescribeTransactions,
    ListTransactionsRequest = ListTransactions,
    DescribeConfigsRequest = DescribeConfigs,
    DescribeLogDirsRequest = DescribeLogDirs,
    ListConfigResourcesRequest = ListConfigResources,
    AlterConfigsRequest = AlterConfigs,
    IncrementalAlterConfigsRequest = IncrementalAlterConfigs,
    CreatePartitionsRequest = CreatePartitions,
    DeleteGroupsRequest = DeleteGroups,
    OffsetDeleteRequest = OffsetDelete,
    DescribeClusterRequest = DescribeCluster,
    ConsumerGroupHeartbeatRequest = ConsumerGroupHeartbeat,
    ConsumerGroupDescribeRequest = ConsumerGroupDescribe,
    DescribeTopicPartitionsRequest = DescribeTopicPartitions,
}

/// Kafka ends the connection where the resource, the pattern, the operation or the permission of a rule or a filter is the one
/// that is called "unknown". Numbers that nothing is called by it lets pass.
fn known_acls(mut kinds: impl Iterator<Item = [i8; 4]>) -> Result<(), DecodeError> {
    let known = |kinds: [i8; 4]| !kinds.contains(&0);
    if kinds.all(known) { Ok(()) } else { Err(DecodeError::Decoder("access rules of an unknown kind".to_owned())) }
}

impl Served for DescribeAclsRequest {
    const API: ApiKey = ApiKey::DescribeAcls;

    fn read(mut body: Bytes, version: i16) -> Result<Self, DecodeError> {
        let request = Self::decode(&mut body, version).map_err(|e| DecodeError::Decoder(e.to_string()))?;
        let Self { resource_type_filter, pattern_type_filter, operation, permission_type, .. } = request;
        known_acls(std::iter::once([resource_type_filter, pattern_type_filter, operation, permission_type]))?;
        Ok(request)
    }
}

impl Served for CreateAclsRequest {
    const API: ApiKey = ApiKey::CreateAcls;

    fn read(mut body: Bytes, version: i16) -> Result<Self, DecodeError> {
        let request = Self::decode(&mut body, version).map_err(|e| DecodeError::Decoder(e.to_string()))?;
        known_acls(
            request
                .creations
                .iter()
                .map(|a| [a.resource_type, a.resource_pattern_type, a.operation, a.permission_type]),
        )?;
        Ok(request)
    }
}

impl Served for DeleteAclsRequest {
    const API: ApiKey = ApiKey::DeleteAcls;

    fn read(mut body: Bytes, version: i16) -> Result<Self, DecodeError> {
        let request = Self::decode(&mut body, version).map_err(|e| DecodeError::Decoder(e.to_string()))?;
        let kinds = request.filters.iter();
        known_acls(kinds.map(|a| [a.resource_type_filter, a.pattern_type_filter, a.operation, a.permission_type]))?;
        Ok(request)
    }
}

impl Served for MetadataRequest {
    const API: ApiKey = ApiKey::Metadata;

    /// kafka-protocol lets pass what these versions have no null for.
    fn read(mut body: Bytes, version: i16) -> Result<Self, DecodeError> {
        let request = Self::decode(&mut body, version).map_err(|e| DecodeError::Decoder(e.to_string()))?;
        let nameless = |topics: &Vec<MetadataRequestTopic>| topics.iter().any(|topic| topic.name.is_none());
        if (version == 0 && request.topics.is_none()) || (version < 10 && request.topics.as_ref().is_some_and(nameless))
        {
            return Err(WireError::Null { at: 0 }.into());
        }
        Ok(request)
    }
}

impl Served for OffsetCommitRequest {
    const API: ApiKey = ApiKey::OffsetCommit;

    fn read(mut body: Bytes, version: i16) -> Result<Self, DecodeError> {
        if version < 10 {
            return Self::decode(&mut body, version).map_err(|e| DecodeError::Decoder(e.to_string()));
        }
        let mut from = Compact::new(&body);
        let request = Self::default()
            .with_group_id(GroupId(from.text()?))
            .with_generation_id_or_member_epoch(from.reader.i32()?)
            .with_member_id(from.text()?)
            .with_group_instance_id(from.nullable_text()?)
            .with_topics(from.array(|from| {
                let topic = OffsetCommitRequestTopic::default().with_topic_id(from.uuid()?);
                let topic = topic.with_partitions(from.array(|from| {
                    let partition = OffsetCommitRequestPartition::default()
                        .with_partition_index(from.reader.i32()?)
                        .with_committed_offset(i64::from_be_bytes(from.reader.array()?))
                        .with_committed_leader_epoch(from.reader.i32()?)
                        .with_committed_metadata(from.nullable_text()?);
                    from.end_struct()?;
                    Ok(partition)
                })?);
                from.end_struct()?;
                Ok(topic)
            })?);
        from.end_struct()?;
        Ok(request)
    }
}

impl Served for OffsetFetchRequest {
    const API: ApiKey = ApiKey::OffsetFetch;

    fn read(mut body: Bytes, version: i16) -> Result<Self, DecodeError> {
        if version < 10 {
            let request = Self::decode(&mut body, version).map_err(|e| DecodeError::Decoder(e.to_string()))?;
            // All topics can be asked for from version 2 on.
            let is_null = version == 1 && request.topics.is_none();
            return if is_null { Err(WireError::Null { at: 0 }.into()) } else { Ok(request) };
        }
        let mut from = Compact::new(&body);
        let groups = from.array(|from| {
            let group = OffsetFetchRequestGroup::default()
                .with_group_id(GroupId(from.text()?))
                .with_member_id(from.nullable_text()?)
                .with_member_epoch(from.reader.i32()?)
                .with_topics(from.nullable_array(|from| {
                    let topic = OffsetFetchRequestTopics::default()
                        .with_topic_id(from.uuid()?)
                        .with_partition_indexes(from.array(|from| Ok(from.reader.i32()?))?);
                    from.end_struct()?;
                    Ok(topic)
                })?);
            from.end_struct()?;
            Ok(group)
        })?;
        let request = Self::default().with_groups(groups).with_require_stable(from.reader.i8()? != 0);
        from.end_struct()?;
        Ok(request)
    }
}

impl Served for WriteTxnMarkersRequest {
    const API: ApiKey = ApiKey::WriteTxnMarkers;

    fn read(mut body: Bytes, version: i16) -> Result<Self, DecodeError> {
        if version < 2 {
            let mut request = Self::decode(&mut body, version).map_err(|e| DecodeError::Decoder(e.to_string()))?;
            // kafka-protocol keeps the unknown tag 2³² − 1 under this number too.
            for marker in &mut request.markers {
                marker.unknown_tagged_fields.remove(&TRANSACTION_VERSION);
            }
            return Ok(request);
        }
        let mut from = Compact::new(&body);
        let markers = from.array(|from| {
            let marker = WritableTxnMarker::default()
                .with_producer_id(ProducerId(i64::from_be_bytes(from.reader.array()?)))
                .with_producer_epoch(i16::from_be_bytes(from.reader.array()?))
                .with_transaction_result(from.reader.i8()? != 0)
                .with_topics(from.array(|from| {
                    let topic = WritableTxnMarkerTopic::default().with_name(TopicName(from.text()?));
                    let topic = topic.with_partition_indexes(from.array(|from| Ok(from.reader.i32()?))?);
                    from.end_struct()?;
                    Ok(topic)
                })?)
                .with_coordinator_epoch(from.reader.i32()?);
            let version = Bytes::copy_from_slice(&from.reader.array::<1>()?);
            from.end_struct()?;
            Ok(marker.with_unknown_tagged_field(TRANSACTION_VERSION, version))
        })?;
        from.end_struct()?;
        Ok(Self::default().with_markers(markers))
    }
}

/// Under this tag, which is taken from what clients send, a marker keeps how its transaction was done: the struct has no field for it.
const TRANSACTION_VERSION: i32 = -1;

/// How the transaction of a marker was done: a level of the feature `transaction.version`.
pub fn transaction_version(marker: &WritableTxnMarker) -> i8 {
    let version = marker.unknown_tagged_fields.get(&TRANSACTION_VERSION).and_then(|bytes| bytes.first());
    version.map_or(0, |byte| i8::from_be_bytes([*byte]))
}

/// Reads the types of flexible versions; text shares the body's bytes.
struct Compact<'a> {
    body: &'a Bytes,
    reader: Reader<'a>,
}

impl<'a> Compact<'a> {
    fn new(body: &'a Bytes) -> Self {
        Self { body, reader: Reader::new(body) }
    }

    fn nullable_text(&mut self) -> Result<Option<StrBytes>, DecodeError> {
        let Some(length) = self.reader.compact_length()? else { return Ok(None) };
        let at = self.reader.at();
        self.reader.take(length)?;
        let text = StrBytes::from_utf8(self.body.slice(at..at + length)).map_err(|_| WireError::Text { at })?;
        Ok(Some(text))
    }

    fn text(&mut self) -> Result<StrBytes, DecodeError> {
        let at = self.reader.at();
        Ok(self.nullable_text()?.ok_or(WireError::Null { at })?)
    }

    fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid::from_bytes(self.reader.array()?))
    }

    /// The body has been walked: what an array announces is there.
    fn nullable_array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.reader.compact_length()? else { return Ok(None) };
        (0..count).map(|_| element(self)).collect::<Result<Vec<T>, _>>().map(Some)
    }

    fn array<T>(&mut self, element: impl FnMut(&mut Self) -> Result<T, DecodeError>) -> Result<Vec<T>, DecodeError> {
        let at = self.reader.at();
        Ok(self.nullable_array(element)?.ok_or(WireError::Null { at })?)
    }

    fn end_struct(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.reader.varint()? {
            self.reader.varint()?;
            let length = self.reader.varint()? as usize;
            self.reader.take(length)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    #[test]
    fn an_offset_commit_of_version_10_names_topics_by_id() {
        let mut body = vec![2, b'g', 0, 0, 0, 5, 2, b'm', 0, 2];
        body.extend([7; 16]);
        body.extend([2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 4, 3, b'h', b'i', 0, 0, 0]);
        let request: OffsetCommitRequest = decode(body.into(), 10).unwrap();
        assert_eq!((request.group_id.as_str(), request.generation_id_or_member_epoch), ("g", 5));
        let topic = &request.topics[0];
        assert_eq!(topic.topic_id, Uuid::from_bytes([7; 16]));
        let partition = &topic.partitions[0];
        assert_eq!((partition.partition_index, partition.committed_offset), (3, 9));
        assert_eq!(partition.committed_metadata.as_deref(), Some("hi"));
    }

    #[test]
    fn an_offset_fetch_of_version_10_may_ask_for_all_topics() {
        let body = vec![2, 2, b'g', 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0];
        let request: OffsetFetchRequest = decode(body.into(), 10).unwrap();
        assert_eq!(request.groups[0].topics, None);
        assert!(request.require_stable);
    }

    #[test]
    fn no_unknown_tag_of_version_1_passes_for_the_transactions_version() {
        let mut body = vec![2];
        body.extend(7_i64.to_be_bytes());
        body.extend([0, 3, 1, 2, 2, b't', 2, 0, 0, 0, 5, 0, 0, 0, 0, 9]);
        body.extend([1, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 0]);
        let request: WriteTxnMarkersRequest = decode(body.into(), 1).unwrap();
        assert_eq!(transaction_version(&request.markers[0]), 0);
    }

    #[test]
    fn markers_of_version_2_say_how_the_transaction_was_done() {
        let mut body = vec![2];
        body.extend(7_i64.to_be_bytes());
        body.extend([0, 3, 1, 2, 2, b't', 2, 0, 0, 0, 5, 0, 0, 0, 0, 9, 2, 0, 0]);
        let request: WriteTxnMarkersRequest = decode(body.into(), 2).unwrap();
        let marker = &request.markers[0];
        assert_eq!((marker.producer_id.0, marker.producer_epoch, marker.transaction_result), (7, 3, true));
        assert_eq!((marker.coordinator_epoch, &marker.topics[0].partition_indexes[..]), (9, &[5][..]));
    }
}
