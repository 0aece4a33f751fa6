//! EndTxn (26), versions 0 to 5: commits or aborts a transaction; answers when that is decided, before all have heard.
//!
//! - From 2 on PRODUCER_FENCED stands where older clients hear INVALID_PRODUCER_EPOCH. 4: TRANSACTION_ABORTABLE. 5: the
//!   epoch moves with every transaction, and the answer says who the producer is now (KIP-890).

use super::Asked;
use super::txn_wire::{code_since, producer};
use crate::coordinator::txn::{EndTxn, TxnVersion};
use millrace_protocol::messages::{EndTxnRequest, EndTxnResponse, ProducerId};

pub(super) async fn handle(asked: Asked, request: EndTxnRequest) -> EndTxnResponse {
    let ask = EndTxn {
        id: request.transactional_id.as_str().into(),
        producer: producer(request.producer_id.0, request.producer_epoch),
        commit: request.committed,
        version: if asked.version >= 5 { TxnVersion::V2 } else { TxnVersion::V0 },
        fresh: None,
    };
    match asked.context.transactions.end(ask).await {
        Ok(producer) if asked.version >= 5 => EndTxnResponse::default()
            .with_producer_id(ProducerId(producer.id.get()))
            .with_producer_epoch(producer.epoch.get()),
        Ok(_) => EndTxnResponse::default(),
        Err(error) => EndTxnResponse::default().with_error_code(code_since(2, asked.version, error).code()),
    }
}
