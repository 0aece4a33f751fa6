//! LeaveGroup (13), versions 0 to 5: members leave, or an administrator removes static ones.
//!
//! - Before 3: one member, and its error is the answer's; 3: many, each with an error of its own (KIP-345); 5: a reason
//!   (KIP-800).

use super::Asked;
use super::group_wire::{number, optional, text};
use crate::coordinator::group::{LeaveGroup, Leaving};
use millrace_protocol::messages::leave_group_response::MemberResponse;
use millrace_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

pub(super) async fn handle(asked: Asked, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let version = asked.version;
    let members = if version < 3 {
        vec![Leaving { member_id: request.member_id.as_str().to_owned(), instance_id: None, reason: None }]
    } else {
        let members = request.members.iter().map(|member| Leaving {
            member_id: member.member_id.as_str().to_owned(),
            instance_id: optional(member.group_instance_id.as_ref()),
            reason: optional(member.reason.as_ref()),
        });
        members.collect()
    };
    let left = asked.context.groups.leave(LeaveGroup { group: request.group_id.as_str().into(), members }).await;
    let response = LeaveGroupResponse::default();
    match left {
        Err(error) => response.with_error_code(number(Some(error))),
        Ok(left) if version < 3 => response.with_error_code(number(left.first().and_then(|left| left.error))),
        Ok(left) => {
            let member = |left: crate::coordinator::group::Left| {
                MemberResponse::default()
                    .with_member_id(text(left.member_id))
                    .with_group_instance_id(left.instance_id.map(text))
                    .with_error_code(number(left.error))
            };
            response.with_members(left.into_iter().map(member).collect())
        }
    }
}
