//! InitProducerId (22), versions 0 to 5: an id for an idempotent producer.
//!
//! Ids come from blocks that the cluster hands out, so that no two nodes give the same. A transactional producer is
//! refused: there is no transaction coordinator yet.

use super::{Asked, errors};
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

pub(super) async fn handle(asked: Asked, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refused = |code: ErrorCode| {
        InitProducerIdResponse::default()
            .with_error_code(code.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    if request.transactional_id.is_some() {
        return refused(ErrorCode::InvalidRequest);
    }
    match asked.context.producer_ids.next(&asked.context.cluster).await {
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
