//! DescribeProducers (61), version 0: the producers that partitions remember, and where their transactions begin.

use super::list_offsets::missing;
use super::{Asked, errors, text};
use millrace_model::{Offset, PartitionId};
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use millrace_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};
use millrace_storage::ProducerFacts;

pub(super) async fn handle(asked: Asked, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let is_known = asked.context.cluster.image().topic(&topic.name).is_some();
        let unknown = (!is_known).then(|| text("This server does not host this topic-partition."));
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in &topic.partition_indexes {
            let response = PartitionResponse::default().with_partition_index(*index);
            partitions.push(match producers(&asked, &topic.name, PartitionId::new(*index)).await {
                Ok(producers) => response.with_active_producers(producers),
                // Kafka finds words for topics only.
                Err(error) => response.with_error_code(error.code()).with_error_message(unknown.clone()),
            });
        }
        topics.push(TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    DescribeProducersResponse::default().with_topics(topics)
}

async fn producers(asked: &Asked, topic: &str, index: PartitionId) -> Result<Vec<ProducerState>, ErrorCode> {
    let found = asked.context.partitions.topic_named(topic).and_then(|topic| topic.get(index).cloned());
    let Some(partition) = found else { return Err(missing(asked, topic, index)) };
    let producers = partition.producers().await.map_err(|error| errors::append(&error))?;
    Ok(producers.into_iter().map(state).collect())
}

fn state(producer: ProducerFacts) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.id.get()))
        .with_producer_epoch(producer.epoch.get().into())
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp.get())
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.transaction_start.map_or(-1, Offset::get))
}
