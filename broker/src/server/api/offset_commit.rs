//! OffsetCommit (8), versions 2 to 10: stores offsets; answers when they are committed.
//!
//! - 2 to 4: the client may set a retention; 6: leader epochs; 7: group instance ids; 9: GROUP_ID_NOT_FOUND where older
//!   clients hear ILLEGAL_GENERATION; 10: topics by id (KIP-848).
//! - Partitions that do not exist are refused here; the group hears of the others only, and of nothing if none is left.

use super::Asked;
use super::group_wire::{number, optional, shared};
use crate::coordinator::group::{CommitPartition, CommitTopic, GroupError, OffsetCommit, TopicOutcome};
use millrace_metadata::{Image, Topic};
use millrace_model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use millrace_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use millrace_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, TopicName};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) async fn handle(asked: Asked, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let version = asked.version;
    let image = asked.context.cluster.image();
    let mut outcomes = Outcomes::default();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let (refused, known) = sort_out(&image, topic, version);
        if !refused.partitions.is_empty() {
            outcomes.add(refused);
        }
        topics.extend(known);
    }
    if !topics.is_empty() {
        let commit = OffsetCommit {
            group: request.group_id.as_str().into(),
            generation: request.generation_id_or_member_epoch,
            member_id: request.member_id.as_str().to_owned(),
            instance_id: optional(request.group_instance_id.as_ref()),
            retention_time_ms: if version <= 4 { request.retention_time_ms } else { -1 },
            knows_group_id_not_found: version >= 9,
            topics: topics.clone(),
        };
        let stored = asked.context.groups.commit(commit).await.unwrap_or_else(|error| refuse_all(topics, error));
        stored.into_iter().for_each(|topic| outcomes.add(topic));
    }
    OffsetCommitResponse::default().with_topics(outcomes.topics.into_iter().map(|topic| wire(topic, version)).collect())
}

/// Each topic once, however often the request names it: what is refused stands first.
#[derive(Default)]
struct Outcomes {
    topics: Vec<TopicOutcome>,
    places: BTreeMap<(Arc<str>, TopicId), usize>,
}

impl Outcomes {
    fn add(&mut self, topic: TopicOutcome) {
        let next = self.topics.len();
        let place = *self.places.entry((Arc::clone(&topic.name), topic.id)).or_insert(next);
        match self.topics.get_mut(place) {
            Some(known) => known.partitions.extend(topic.partitions),
            None => self.topics.push(topic),
        }
    }
}

/// The partitions of a topic that are refused, and what is left to store.
fn sort_out(image: &Image, asked: &OffsetCommitRequestTopic, version: i16) -> (TopicOutcome, Option<CommitTopic>) {
    let (topic, missing) = if version >= 10 {
        (image.topic_by_id(TopicId::new(asked.topic_id)), GroupError::UnknownTopicId)
    } else {
        (image.topic(asked.name.as_str()), GroupError::UnknownTopic)
    };
    let name: Arc<str> = topic.map_or_else(|| asked.name.as_str().into(), |topic| topic.name.as_str().into());
    let id = topic.map_or(TopicId::new(asked.topic_id), |topic| topic.id);
    let exists = |topic: &Arc<Topic>, partition: i32| topic.partition(PartitionId::new(partition)).is_some();
    let mut refused = Vec::new();
    let mut known = Vec::with_capacity(asked.partitions.len());
    for partition in &asked.partitions {
        let index = partition.partition_index;
        match topic {
            None => refused.push((index, Some(missing))),
            Some(topic) if !exists(topic, index) => refused.push((index, Some(GroupError::UnknownTopic))),
            Some(_) => known.push(CommitPartition {
                partition: index,
                offset: Offset::new(partition.committed_offset),
                leader_epoch: LeaderEpoch::new(partition.committed_leader_epoch),
                metadata: optional(partition.committed_metadata.as_ref()),
            }),
        }
    }
    let outcome = TopicOutcome { name: Arc::clone(&name), id, partitions: refused };
    (outcome, (!known.is_empty()).then_some(CommitTopic { name, id, partitions: known }))
}

fn refuse_all(topics: Vec<CommitTopic>, error: GroupError) -> Vec<TopicOutcome> {
    let refused = |topic: CommitTopic| TopicOutcome {
        name: topic.name,
        id: topic.id,
        partitions: topic.partitions.into_iter().map(|partition| (partition.partition, Some(error))).collect(),
    };
    topics.into_iter().map(refused).collect()
}

fn wire(topic: TopicOutcome, version: i16) -> OffsetCommitResponseTopic {
    let partition = |(partition, error): (i32, Option<GroupError>)| {
        OffsetCommitResponsePartition::default().with_partition_index(partition).with_error_code(number(error))
    };
    let response = OffsetCommitResponseTopic::default();
    let response = if version >= 10 {
        response.with_topic_id(topic.id.get())
    } else {
        response.with_name(TopicName(shared(&topic.name)))
    };
    response.with_partitions(topic.partitions.into_iter().map(partition).collect())
}
