//! ListTransactions (66), versions 0 to 2: the transactional ids that this broker coordinates.
//!
//! - 1: those that have been going on for some time; 2: those whose id matches a pattern as a whole (KIP-1152).

use super::{Asked, text, txn_wire};
use crate::coordinator::txn::{ListTxns, TxnDescription, TxnState};
use millrace_model::ProducerId;
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::list_transactions_response::TransactionState;
use millrace_protocol::messages::{
    ListTransactionsRequest, ListTransactionsResponse, ProducerId as WireProducerId, TransactionalId,
};
use regex::Regex;

/// States of Kafka's that are never stored.
const PASSING: [&str; 2] = ["Dead", "PrepareEpochFence"];

pub(super) async fn handle(asked: Asked, request: ListTransactionsRequest) -> ListTransactionsResponse {
    let refused = |code: ErrorCode| ListTransactionsResponse::default().with_error_code(code.code());
    let pattern = match request.transactional_id_pattern.as_deref().filter(|pattern| !pattern.is_empty()) {
        Some(pattern) => match Regex::new(&format!("^(?:{pattern})$")) {
            Ok(pattern) => Some(pattern),
            Err(_) => return refused(ErrorCode::InvalidRegularExpression),
        },
        None => None,
    };
    let state = |name: &str| TxnState::ALL.into_iter().find(|state| state.name() == name);
    let filters = &request.state_filters;
    let unknown = filters.iter().filter(|name| state(name).is_none() && !PASSING.contains(&name.as_str()));
    let unknown: Vec<_> = unknown.cloned().collect();
    let states: Vec<_> = filters.iter().filter_map(|name| state(name)).collect();
    let ask = ListTxns {
        producers: request.producer_id_filters.iter().map(|id| ProducerId::new(id.0)).collect(),
        longer_than_ms: if asked.version >= 1 { request.duration_filter } else { -1 },
        states,
    };
    // Where all of the states are unknown, nothing is in them.
    let listed = if !filters.is_empty() && ask.states.is_empty() {
        Vec::new()
    } else {
        match asked.context.transactions.list(&ask).await {
            Ok(listed) => listed,
            Err(error) => return refused(txn_wire::code(error)),
        }
    };
    let matching = listed.iter().filter(|txn| pattern.as_ref().is_none_or(|pattern| pattern.is_match(&txn.id)));
    ListTransactionsResponse::default()
        .with_unknown_state_filters(unknown)
        .with_transaction_states(matching.map(line).collect())
}

fn line(txn: &TxnDescription) -> TransactionState {
    TransactionState::default()
        .with_transactional_id(TransactionalId(text(&txn.id)))
        .with_producer_id(WireProducerId(txn.producer.id.get()))
        .with_transaction_state(text(txn.state.name()))
}
