//! DeleteRecords (21), versions 0 to 2: the first offset of a partition moves on; −1 moves it to the high watermark.

use super::list_offsets::missing;
use super::{Asked, errors};
use crate::partition::DeleteRecordsError;
use futures::future::join_all;
use millrace_metadata::is_internal_topic;
use millrace_model::PartitionId;
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::delete_records_request::DeleteRecordsTopic;
use millrace_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use millrace_protocol::messages::{DeleteRecordsRequest, TopicName};
use std::collections::BTreeMap;

pub(super) async fn handle(asked: Asked, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let wanted = each_once(&request.topics);
    let mut topics = join_all(wanted.iter().map(|(topic, partitions)| one_topic(&asked, topic, partitions))).await;
    // What is answered stays deleted: one checkpoint for all of them.
    let results = || topics.iter().flat_map(|topic| &topic.partitions);
    if results().any(|result| result.error_code == ErrorCode::None.code())
        && let Err(error) = asked.context.partitions.keep_starts().await
    {
        tracing::error!(%error, "it could not be written down where logs begin");
        for result in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if result.error_code == ErrorCode::None.code() {
                *result = response(result.partition_index, Err(ErrorCode::KafkaStorageError));
            }
        }
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

/// Each partition's offset. Of what is said twice the last word counts.
fn each_once(topics: &[DeleteRecordsTopic]) -> BTreeMap<&TopicName, BTreeMap<i32, i64>> {
    let mut wanted = BTreeMap::<&TopicName, BTreeMap<i32, i64>>::new();
    for topic in topics {
        for partition in &topic.partitions {
            wanted.entry(&topic.name).or_default().insert(partition.partition_index, partition.offset);
        }
    }
    wanted
}

async fn one_topic(asked: &Asked, topic: &TopicName, partitions: &BTreeMap<i32, i64>) -> DeleteRecordsTopicResult {
    let results = partitions.iter().map(|(index, offset)| one_partition(asked, topic, *index, *offset));
    DeleteRecordsTopicResult::default().with_name(topic.clone()).with_partitions(join_all(results).await)
}

async fn one_partition(asked: &Asked, topic: &str, partition: i32, offset: i64) -> DeleteRecordsPartitionResult {
    let index = PartitionId::new(partition);
    let handle = asked.context.partitions.topic_named(topic).and_then(|topic| topic.get(index).cloned());
    let outcome = match handle {
        None => Err(missing(asked, topic, index)),
        Some(_) if is_internal_topic(topic) => Err(ErrorCode::InvalidTopicException),
        Some(handle) => handle.delete_records(offset).await.map(|start| start.get()).map_err(|error| code(&error)),
    };
    response(partition, outcome)
}

fn code(error: &DeleteRecordsError) -> ErrorCode {
    match error {
        DeleteRecordsError::Policy { .. } => ErrorCode::PolicyViolation,
        DeleteRecordsError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        DeleteRecordsError::Log(error) => errors::append(error),
    }
}

fn response(index: i32, outcome: Result<i64, ErrorCode>) -> DeleteRecordsPartitionResult {
    let (start, error) = match outcome {
        Ok(start) => (start, ErrorCode::None),
        Err(error) => (-1, error),
    };
    DeleteRecordsPartitionResult::default()
        .with_partition_index(index)
        .with_low_watermark(start)
        .with_error_code(error.code())
}
