//! AddOffsetsToTxn (25), versions 0 to 4: the partition that keeps a group becomes part of a transaction.
//!
//! - From 2 on PRODUCER_FENCED stands where older clients hear INVALID_PRODUCER_EPOCH. 4: TRANSACTION_ABORTABLE.

use super::Asked;
use super::txn_wire::{code_since, producer};
use crate::coordinator::runtime::shards::partition_of;
use crate::coordinator::txn::{AddPartitions, TxnVersion};
use millrace_metadata::CONSUMER_OFFSETS;
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

pub(super) async fn handle(asked: Asked, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let code = add(&asked, &request).await.err().unwrap_or(ErrorCode::None);
    AddOffsetsToTxnResponse::default().with_error_code(code.code())
}

async fn add(asked: &Asked, request: &AddOffsetsToTxnRequest) -> Result<(), ErrorCode> {
    let group = request.group_id.as_str();
    // Creates the topic where it is missing.
    asked.context.groups.coordinator_of(group).await.map_err(super::group_wire::code)?;
    let image = asked.context.cluster.image();
    let topic = image.topic(CONSUMER_OFFSETS).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let index = partition_of(group, topic.partitions.len());
    let ask = AddPartitions {
        id: request.transactional_id.as_str().into(),
        producer: producer(request.producer_id.0, request.producer_epoch),
        partitions: [(CONSUMER_OFFSETS.into(), index.get())].into(),
        version: TxnVersion::V0,
    };
    asked.context.transactions.add(ask).await.map_err(|error| code_since(2, asked.version, error))
}
