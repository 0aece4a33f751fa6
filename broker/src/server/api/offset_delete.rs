//! OffsetDelete (47), version 0: forgets stored offsets of topics that the group does not consume (KIP-496).

use super::Asked;
use super::group_wire::{number, shared};
use crate::coordinator::group::{GroupError, OffsetDelete, TopicOutcome, TopicPartitions};
use millrace_model::{PartitionId, TopicId};
use millrace_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use millrace_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse, TopicName};
use std::sync::Arc;

/// Partitions that do not exist are refused here.
pub(super) async fn handle(asked: Asked, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let image = asked.context.cluster.image();
    let mut outcomes = Vec::with_capacity(request.topics.len());
    let mut topics = Vec::with_capacity(request.topics.len());
    for wanted in &request.topics {
        let name: Arc<str> = wanted.name.as_str().into();
        let topic = image.topic(&name);
        let indexes = wanted.partitions.iter().map(|partition| partition.partition_index);
        let (known, missing): (Vec<i32>, Vec<i32>) =
            indexes.partition(|index| topic.is_some_and(|topic| topic.partition(PartitionId::new(*index)).is_some()));
        let partitions = missing.into_iter().map(|index| (index, Some(GroupError::UnknownTopic))).collect();
        outcomes.push(TopicOutcome { name: Arc::clone(&name), id: TopicId::NIL, partitions });
        topics.push(TopicPartitions { name, id: TopicId::NIL, partitions: known });
    }
    let deleted =
        asked.context.groups.delete_offsets(OffsetDelete { group: request.group_id.as_str().into(), topics }).await;
    let deleted = match deleted {
        Ok(deleted) => deleted,
        Err(error) => return OffsetDeleteResponse::default().with_error_code(number(Some(error))),
    };
    for (outcome, deleted) in outcomes.iter_mut().zip(deleted) {
        outcome.partitions.extend(deleted.partitions);
    }
    let partition = |(index, error)| {
        OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(number(error))
    };
    let topic = |topic: TopicOutcome| {
        OffsetDeleteResponseTopic::default()
            .with_name(TopicName(shared(&topic.name)))
            .with_partitions(topic.partitions.into_iter().map(partition).collect())
    };
    OffsetDeleteResponse::default()
        .with_topics(outcomes.into_iter().filter(|topic| !topic.partitions.is_empty()).map(topic).collect())
}
