//! WriteTxnMarkers (27), versions 1 and 2: transaction coordinators, and operators, end transactions on partitions.
//!
//! Version 2 says how the transaction was done: where every transaction has an epoch of its own, a marker must bring a new
//! one (KIP-890). An operator who ends one by hand in version 1 names the epoch that it has in the partition.

use super::Asked;
use super::txn_wire::producer;
use crate::coordinator::transactions::MarkerOutcome;
use crate::coordinator::txn::TxnVersion;
use millrace_model::PartitionId;
use millrace_model::control::Marker;
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use millrace_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use millrace_protocol::messages::{
    ProducerId as WireProducerId, TopicName, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use millrace_protocol::served::transaction_version;
use std::collections::BTreeMap;

/// What became of the markers: by producer, topic and partition.
type Outcomes = BTreeMap<WireProducerId, BTreeMap<TopicName, BTreeMap<i32, ErrorCode>>>;

pub(super) async fn handle(asked: Asked, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    // Each producer stands in the answer once, and not at all where its marker names no partition.
    let mut outcomes = Outcomes::new();
    for marker in &request.markers {
        for topic in &marker.topics {
            for index in &topic.partition_indexes {
                let code = write(&asked, marker, &topic.name, PartitionId::new(*index)).await;
                let producer = outcomes.entry(marker.producer_id).or_default();
                producer.entry(topic.name.clone()).or_default().insert(*index, code);
            }
        }
    }
    let partition = |(index, code): (i32, ErrorCode)| {
        WritableTxnMarkerPartitionResult::default().with_partition_index(index).with_error_code(code.code())
    };
    let markers = outcomes.into_iter().map(|(producer, topics)| {
        let topics = topics.into_iter().map(|(name, partitions)| {
            let result = WritableTxnMarkerTopicResult::default().with_name(name);
            result.with_partitions(partitions.into_iter().map(partition).collect())
        });
        WritableTxnMarkerResult::default().with_producer_id(producer).with_topics(topics.collect())
    });
    WriteTxnMarkersResponse::default().with_markers(markers.collect())
}

async fn write(asked: &Asked, wanted: &WritableTxnMarker, topic: &str, index: PartitionId) -> ErrorCode {
    let identity = producer(wanted.producer_id.0, wanted.producer_epoch);
    let version = transaction_version(wanted);
    if wanted.producer_id.0 < 0 || wanted.producer_epoch < 0 || version < 0 {
        // What Kafka's own batches cannot say.
        return ErrorCode::UnknownServerError;
    }
    let marker = Marker {
        producer_id: identity.id,
        producer_epoch: identity.epoch,
        committed: wanted.transaction_result,
        coordinator_epoch: wanted.coordinator_epoch,
    };
    let strict = TxnVersion::of_level(version.into()).bumps_epoch();
    code(asked.context.transactions.write_marker(topic, index, marker, strict).await)
}

fn code(outcome: MarkerOutcome) -> ErrorCode {
    match outcome {
        MarkerOutcome::Written => ErrorCode::None,
        MarkerOutcome::NotHere => ErrorCode::UnknownTopicOrPartition,
        MarkerOutcome::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        MarkerOutcome::CoordinatorFenced => ErrorCode::TransactionCoordinatorFenced,
        MarkerOutcome::NotAvailable => ErrorCode::KafkaStorageError,
    }
}
