//! WriteTxnMarkers (27), versions 1 and 2: transaction coordinators, and operators, end transactions on partitions.
//!
//! Version 2 says how the transaction was done. An operator who ends one by hand names the epoch that it has in the
//! partition, so that is not held against the marker.

use super::Asked;
use super::txn_wire::producer;
use crate::coordinator::transactions::MarkerOutcome;
use millrace_model::PartitionId;
use millrace_model::control::Marker;
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use millrace_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use millrace_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

pub(super) async fn handle(asked: Asked, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let mut results = Vec::with_capacity(request.markers.len());
    for marker in &request.markers {
        results.push(write(&asked, marker).await);
    }
    WriteTxnMarkersResponse::default().with_markers(results)
}

async fn write(asked: &Asked, wanted: &WritableTxnMarker) -> WritableTxnMarkerResult {
    let identity = producer(wanted.producer_id.0, wanted.producer_epoch);
    let marker = Marker {
        producer_id: identity.id,
        producer_epoch: identity.epoch,
        committed: wanted.transaction_result,
        coordinator_epoch: wanted.coordinator_epoch,
    };
    let mut topics = Vec::with_capacity(wanted.topics.len());
    for topic in &wanted.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in &topic.partition_indexes {
            let transactions = &asked.context.transactions;
            let outcome = transactions.write_marker(&topic.name, PartitionId::new(*index), marker, false).await;
            let result = WritableTxnMarkerPartitionResult::default().with_partition_index(*index);
            partitions.push(result.with_error_code(code(outcome).code()));
        }
        let result = WritableTxnMarkerTopicResult::default().with_name(topic.name.clone());
        topics.push(result.with_partitions(partitions));
    }
    WritableTxnMarkerResult::default().with_producer_id(wanted.producer_id).with_topics(topics)
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
