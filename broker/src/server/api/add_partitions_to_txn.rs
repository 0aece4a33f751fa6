//! AddPartitionsToTxn (24), versions 0 to 5: partitions become part of a transaction, or are looked for in it.
//!
//! - To 3: one transaction, from a client. 4: many, from brokers, some of them to be verified only (KIP-890). 5:
//!   TRANSACTION_ABORTABLE.
//!   Internal topics are closed to clients.
//! - All or nothing for a transaction: where one partition does not exist, the others are not attempted.

use super::Asked;
use super::txn_wire::{code, code_since, producer};
use crate::coordinator::txn::{AddPartitions, ProducerIdentity, TxnPartition, TxnVersion};
use millrace_metadata::is_internal_topic;
use millrace_model::PartitionId;
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use millrace_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use millrace_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One transaction of the request.
struct Wanted<'a> {
    id: &'a str,
    producer: ProducerIdentity,
    topics: &'a [AddPartitionsToTxnTopic],
    verify_only: bool,
}

pub(super) async fn handle(asked: Asked, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
    if asked.version < 4 {
        let wanted = Wanted {
            id: &request.v3_and_below_transactional_id,
            producer: producer(request.v3_and_below_producer_id.0, request.v3_and_below_producer_epoch),
            topics: &request.v3_and_below_topics,
            verify_only: false,
        };
        let results = one(&asked, &wanted).await;
        return AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results);
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for transaction in &request.transactions {
        let wanted = Wanted {
            id: &transaction.transactional_id,
            producer: producer(transaction.producer_id.0, transaction.producer_epoch),
            topics: &transaction.topics,
            verify_only: transaction.verify_only,
        };
        let result = AddPartitionsToTxnResult::default().with_transactional_id(transaction.transactional_id.clone());
        results.push(result.with_topic_results(one(&asked, &wanted).await));
    }
    AddPartitionsToTxnResponse::default().with_results_by_transaction(results)
}

async fn one(asked: &Asked, wanted: &Wanted<'_>) -> Vec<AddPartitionsToTxnTopicResult> {
    let image = asked.context.cluster.image();
    let exists = |partition: &TxnPartition| image.locate(&partition.0, PartitionId::new(partition.1)).is_some();
    let mut codes: BTreeMap<TxnPartition, ErrorCode> = BTreeMap::new();
    for topic in wanted.topics {
        let name: Arc<str> = topic.name.as_str().into();
        codes.extend(topic.partitions.iter().map(|index| ((Arc::clone(&name), *index), ErrorCode::None)));
    }
    // Clients have other ways to make groups' partitions part of a transaction.
    let is_closed = |partition: &TxnPartition| asked.version < 4 && is_internal_topic(&partition.0);
    if codes.keys().all(|partition| exists(partition) && !is_closed(partition)) {
        decide(asked, wanted, &mut codes).await;
    } else {
        for (partition, code) in &mut codes {
            *code = match partition {
                partition if is_closed(partition) => ErrorCode::TopicAuthorizationFailed,
                partition if !exists(partition) => ErrorCode::UnknownTopicOrPartition,
                _ => ErrorCode::OperationNotAttempted,
            };
        }
    }
    wanted.topics.iter().map(|topic| result(topic, &codes)).collect()
}

async fn decide(asked: &Asked, wanted: &Wanted<'_>, codes: &mut BTreeMap<TxnPartition, ErrorCode>) {
    let ask = AddPartitions {
        id: wanted.id.into(),
        producer: wanted.producer,
        partitions: codes.keys().cloned().collect(),
        version: if asked.version > 3 { TxnVersion::V2 } else { TxnVersion::V0 },
    };
    let outcome = if wanted.verify_only {
        asked.context.transactions.verify(ask).await
    } else {
        asked.context.transactions.add(ask).await.map(|()| Vec::new())
    };
    match outcome {
        Ok(verdicts) => {
            for (partition, error) in verdicts {
                codes.insert(partition, error.map_or(ErrorCode::None, code));
            }
        }
        Err(error) => codes.values_mut().for_each(|code| *code = code_since(2, asked.version, error)),
    }
}

fn result(topic: &AddPartitionsToTxnTopic, codes: &BTreeMap<TxnPartition, ErrorCode>) -> AddPartitionsToTxnTopicResult {
    let name: Arc<str> = topic.name.as_str().into();
    let partitions = topic.partitions.iter().map(|index| {
        let code = codes.get(&(Arc::clone(&name), *index)).copied().unwrap_or(ErrorCode::UnknownServerError);
        AddPartitionsToTxnPartitionResult::default().with_partition_index(*index).with_partition_error_code(code.code())
    });
    AddPartitionsToTxnTopicResult::default()
        .with_name(topic.name.clone())
        .with_results_by_partition(partitions.collect())
}
