//! FindCoordinator (10), versions 0 to 6: the broker that coordinates a group or a transactional id.
//!
//! - 0: groups only; 1: transactional ids too; 4: many keys at once; 6: share groups.
//! - The topic behind the coordinator is created by the first who asks.

use super::errors::INVALID_REQUEST;
use super::group_wire::{code, text};
use super::{Asked, txn_wire};
use millrace_protocol::messages::find_coordinator_response::Coordinator;
use millrace_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use millrace_protocol::{ErrorCode, StrBytes};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

pub(super) async fn handle(asked: Asked, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    if asked.version >= 4 {
        let mut found = Vec::with_capacity(request.coordinator_keys.len());
        for key in &request.coordinator_keys {
            let coordinator = find(&asked, request.key_type, key).await;
            found.push(coordinator.with_key(key.clone()));
        }
        return FindCoordinatorResponse::default().with_coordinators(found);
    }
    let found = find(&asked, request.key_type, &request.key).await;
    let message = match ErrorCode::from_code(found.error_code) {
        Some(ErrorCode::None) => Some(StrBytes::from_static_str("NONE")),
        _ => found.error_message,
    };
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

async fn find(asked: &Asked, key_type: i8, key: &StrBytes) -> Coordinator {
    let nowhere = |error: ErrorCode, message: &'static str| {
        Coordinator::default()
            .with_error_code(error as i16)
            .with_error_message(Some(StrBytes::from_static_str(message)))
            .with_node_id(BrokerId(-1))
            .with_port(-1)
    };
    let node = match key_type {
        GROUP => asked.context.groups.coordinator_of(key).await.map_err(code),
        TRANSACTION => asked.context.transactions.coordinator_of(key).await.map_err(txn_wire::code),
        SHARE => return nowhere(ErrorCode::InvalidRequest, ""),
        _ => return nowhere(ErrorCode::InvalidRequest, INVALID_REQUEST),
    };
    let node = match node {
        Ok(node) => node,
        Err(error) => return nowhere(error, ""),
    };
    match asked.context.cluster.image().broker(node) {
        Some(broker) => Coordinator::default()
            .with_error_message(Some(Default::default()))
            .with_node_id(BrokerId(node.get()))
            .with_host(text(broker.host()))
            .with_port(broker.port().into()),
        None => nowhere(ErrorCode::CoordinatorNotAvailable, ""),
    }
}
