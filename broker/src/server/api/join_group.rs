//! JoinGroup (11), versions 0 to 9: a member joins the group's next generation, and hears when it begins.
//!
//! - 0: no rebalance timeout, the session timeout serves for it; 4: a new member is sent back to join with the id it is
//!   given (KIP-394); 5: group instance ids (KIP-345); 7: protocol type, and a protocol name that may be null; 8: a
//!   reason (KIP-800); 9: the leader may be told to keep the assignment (KIP-814).

use super::Asked;
use super::group_wire::{client_host, code, kept, optional, text};
use crate::coordinator::group::{JoinGroup, JoinRefused, Joined, Protocol};
use millrace_protocol::messages::join_group_response::JoinGroupResponseMember;
use millrace_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

pub(super) async fn handle(asked: Asked, request: JoinGroupRequest) -> JoinGroupResponse {
    let version = asked.version;
    let groups = &asked.context.groups;
    let member_id = request.member_id.as_str().to_owned();
    let mut protocols: Vec<Protocol> = Vec::with_capacity(request.protocols.len());
    for offered in &request.protocols {
        // A name counts once.
        if !protocols.iter().any(|known| known.name == offered.name.as_str()) {
            protocols.push(Protocol { name: offered.name.as_str().to_owned(), metadata: kept(&offered.metadata) });
        }
    }
    let joined = groups
        .join(JoinGroup {
            group: request.group_id.as_str().into(),
            member_id,
            instance_id: optional(request.group_instance_id.as_ref()),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms },
            protocol_type: request.protocol_type.as_str().to_owned(),
            protocols,
            reason: optional(request.reason.as_ref()),
            client_id: asked.client_id().to_owned(),
            client_host: client_host(asked.connection.peer),
            requires_known_member_id: version >= 4,
            supports_skipping_assignment: version >= 9,
            fresh: groups.fresh(),
        })
        .await;
    response(joined, version)
}

fn response(joined: Result<Joined, JoinRefused>, version: i16) -> JoinGroupResponse {
    let mut response = JoinGroupResponse::default();
    // Before version 7 there is no null for "no protocol".
    response.protocol_name = (version < 7).then(Default::default);
    match joined {
        Ok(joined) => {
            response.generation_id = joined.generation;
            response.protocol_type = joined.protocol_type.map(text);
            response.protocol_name = joined.protocol.map(text).or(response.protocol_name);
            response.leader = text(joined.leader);
            response.skip_assignment = joined.skip_assignment;
            response.member_id = text(joined.member_id);
            let member = |member: crate::coordinator::group::JoinedMember| {
                JoinGroupResponseMember::default()
                    .with_member_id(text(member.member_id))
                    .with_group_instance_id(member.instance_id.map(text))
                    .with_metadata(member.metadata)
            };
            response.members = joined.members.into_iter().map(member).collect();
        }
        Err(JoinRefused { error, member_id }) => {
            response.error_code = code(error) as i16;
            response.generation_id = -1;
            response.member_id = text(member_id);
        }
    }
    response
}
