//! SyncGroup (14), versions 0 to 5: the leader gives the assignment, every member takes its own.
//!
//! - 3: group instance ids; 5: the member says which protocol it believes was chosen, and must (KIP-559).

use super::Asked;
use super::group_wire::{code, kept, optional, text};
use crate::coordinator::group::{GroupError, SyncGroup};
use millrace_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

pub(super) async fn handle(asked: Asked, request: SyncGroupRequest) -> SyncGroupResponse {
    let mut response = SyncGroupResponse::default();
    let synced = if asked.version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        Err(GroupError::InconsistentProtocol)
    } else {
        let assignments = request.assignments.iter();
        let sync = SyncGroup {
            group: request.group_id.as_str().into(),
            generation: request.generation_id,
            member_id: request.member_id.as_str().to_owned(),
            instance_id: optional(request.group_instance_id.as_ref()),
            protocol_type: optional(request.protocol_type.as_ref()),
            protocol: optional(request.protocol_name.as_ref()),
            assignments: assignments.map(|one| (one.member_id.as_str().to_owned(), kept(&one.assignment))).collect(),
        };
        // The frame need not stay in memory until the leader answers.
        drop(request);
        asked.context.groups.sync(sync).await
    };
    match synced {
        Ok(synced) => {
            response.protocol_type = synced.protocol_type.map(text);
            response.protocol_name = synced.protocol.map(text);
            response.assignment = synced.assignment;
        }
        Err(error) => response.error_code = code(error) as i16,
    }
    response
}
