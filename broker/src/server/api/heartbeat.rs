//! Heartbeat (12), versions 0 to 4: a member is alive, and hears whether it has to join again.
//!
//! - 3: group instance ids.

use super::Asked;
use super::group_wire::{number, optional};
use crate::coordinator::group::Heartbeat;
use millrace_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

pub(super) async fn handle(asked: Asked, request: HeartbeatRequest) -> HeartbeatResponse {
    let beat = asked
        .context
        .groups
        .heartbeat(Heartbeat {
            group: request.group_id.as_str().into(),
            generation: request.generation_id,
            member_id: request.member_id.as_str().to_owned(),
            instance_id: optional(request.group_instance_id.as_ref()),
        })
        .await;
    HeartbeatResponse::default().with_error_code(number(beat.err()))
}
