//! DescribeTopicPartitions (75), version 0: topics in pages (KIP-966).
//!
//! Topics come sorted by name. A page holds as many partitions as the client and `max.request.partition.size.limit`
//! allow; where it ends before the topics do, `next_cursor` says where the next begins.

use super::metadata::{NOT_ASKED, TOPIC_OPERATIONS};
use super::{Asked, text};
use millrace_metadata::{Image, Partition, Topic};
use millrace_model::{NodeId, PartitionId};
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use millrace_protocol::messages::{BrokerId, DescribeTopicPartitionsRequest, TopicName};
use std::collections::BTreeSet;

pub(super) async fn handle(asked: Asked, request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let image = asked.context.cluster.image();
    let mut names: BTreeSet<&str> = request.topics.iter().map(|topic| topic.name.as_str()).collect();
    if request.topics.is_empty() {
        names = image.topics().map(|topic| topic.name.as_str()).collect();
    }
    let (from_topic, mut from_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index.max(0)),
        None => ("", 0),
    };
    if !request.topics.is_empty() && !from_topic.is_empty() && !names.contains(from_topic) {
        let refused = names.iter().map(|name| refused(name, ErrorCode::InvalidRequest, NOT_ASKED));
        return DescribeTopicPartitionsResponse::default().with_topics(refused.collect());
    }
    let limit = asked.context.settings.describe_partitions_limit;
    let mut room = usize::try_from(request.response_partition_limit.clamp(1, i32::try_from(limit).unwrap_or(i32::MAX)))
        .unwrap_or(1);
    let mut topics = Vec::new();
    let mut next = None;
    for name in names.range(from_topic..) {
        if *name != from_topic {
            from_partition = 0;
        }
        let Some(topic) = image.topic(name) else {
            // Only a topic that was asked for by name can be missing.
            topics.push(missing(name));
            continue;
        };
        if room == 0 {
            next = Some(cursor(name, 0));
            break;
        }
        let from = usize::try_from(from_partition).unwrap_or(usize::MAX);
        let page: Vec<_> = topic.numbered().skip(from).take(room).collect();
        room -= page.len();
        let end = from.saturating_add(page.len());
        topics.push(describe(&image, topic, &page));
        if end < topic.partitions.len() {
            next = Some(cursor(name, i32::try_from(end).unwrap_or(i32::MAX)));
            break;
        }
    }
    DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(next)
}

fn cursor(topic: &str, partition: i32) -> Cursor {
    Cursor::default().with_topic_name(TopicName(text(topic))).with_partition_index(partition)
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match millrace_metadata::check_topic_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    refused(name, error, TOPIC_OPERATIONS)
}

fn refused(name: &str, error: ErrorCode, operations: i32) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(TopicName(text(name))))
        .with_topic_authorized_operations(operations)
}

fn describe(image: &Image, topic: &Topic, page: &[(PartitionId, &Partition)]) -> DescribeTopicPartitionsResponseTopic {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| BrokerId(node.get())).collect::<Vec<_>>();
    let offline = |node: &NodeId| image.broker(*node).is_none_or(|broker| broker.fenced);
    let partitions = page.iter().map(|(index, partition)| {
        let led = !offline(&partition.leader);
        let gone: Vec<NodeId> = partition.replicas.iter().copied().filter(offline).collect();
        DescribeTopicPartitionsResponsePartition::default()
            .with_error_code(if led { ErrorCode::None } else { ErrorCode::LeaderNotAvailable }.code())
            .with_partition_index(index.get())
            .with_leader_id(BrokerId(if led { partition.leader.get() } else { -1 }))
            .with_leader_epoch(partition.leader_epoch.get())
            .with_replica_nodes(ids(&partition.replicas))
            .with_isr_nodes(ids(&partition.isr))
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
            .with_offline_replicas(ids(&gone))
    });
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_topic_id(topic.id.get())
        .with_is_internal(topic.internal)
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}
