//! DescribeTransactions (65), version 0: transactional ids, each with its producer, state and partitions.

use super::{Asked, text, txn_wire};
use crate::coordinator::txn::TxnDescription;
use millrace_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use millrace_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId, TopicName, TransactionalId,
};

pub(super) async fn handle(asked: Asked, request: DescribeTransactionsRequest) -> DescribeTransactionsResponse {
    let mut states = Vec::with_capacity(request.transactional_ids.len());
    for id in &request.transactional_ids {
        states.push(match asked.context.transactions.describe(id.as_str().into()).await {
            Ok(txn) => state(&txn),
            Err(error) => TransactionState::default()
                .with_transactional_id(id.clone())
                .with_error_code(txn_wire::code(error).code()),
        });
    }
    DescribeTransactionsResponse::default().with_transaction_states(states)
}

fn state(txn: &TxnDescription) -> TransactionState {
    let mut topics: Vec<TopicData> = Vec::new();
    for (topic, partition) in &txn.partitions {
        match topics.last_mut() {
            Some(last) if *last.topic == **topic => last.partitions.push(*partition),
            _ => {
                let data = TopicData::default().with_topic(TopicName(text(topic)));
                topics.push(data.with_partitions(vec![*partition]));
            }
        }
    }
    TransactionState::default()
        .with_transactional_id(TransactionalId(text(&txn.id)))
        .with_transaction_state(text(txn.state.name()))
        .with_transaction_timeout_ms(txn.timeout_ms)
        .with_transaction_start_time_ms(txn.started.get())
        .with_producer_id(ProducerId(txn.producer.id.get()))
        .with_producer_epoch(txn.producer.epoch.get())
        .with_topics(topics)
}
