//! InitProducerId (22), versions 0 to 5: an id for an idempotent producer, or id and epoch of a transactional one.
//!
//! - From version 3 on the producer says who it believes to be (KIP-360); from 4 on PRODUCER_FENCED stands where older
//!   clients hear INVALID_PRODUCER_EPOCH.
//! - Ids come from blocks that the cluster hands out, so that no two nodes give the same.
//! - Two-phase commit (KIP-939) comes with version 6, which Kafka 4.3 does not serve.

use super::{Asked, errors, txn_wire};
use crate::coordinator::txn::InitProducer;
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

pub(super) async fn handle(asked: Asked, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let expected = match (request.producer_id.0, request.producer_epoch) {
        (-1, -1) => None,
        (-1, _) | (_, -1) => return refused(ErrorCode::InvalidRequest),
        (id, epoch) => Some(txn_wire::producer(id, epoch)),
    };
    let Some(id) = &request.transactional_id else { return idempotent(&asked).await };
    let ask = InitProducer {
        id: id.as_str().into(),
        timeout_ms: request.transaction_timeout_ms,
        expected: expected.filter(|_| asked.version >= 3),
        fresh: None,
    };
    match asked.context.transactions.init(ask).await {
        Ok(producer) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(producer.id.get()))
            .with_producer_epoch(producer.epoch.get()),
        Err(error) => refused(txn_wire::code_since(4, asked.version, error)),
    }
}

async fn idempotent(asked: &Asked) -> InitProducerIdResponse {
    match asked.context.transactions.fresh_producer_id().await {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id.get())).with_producer_epoch(0),
        Err(error) => {
            tracing::warn!(%error, "no block of producer ids");
            match errors::propose(&error) {
                ErrorCode::NotController => refused(ErrorCode::CoordinatorLoadInProgress),
                code => refused(code),
            }
        }
    }
}

fn refused(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(code.code())
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}
