//! ListGroups (16), versions 0 to 5: the groups that this broker coordinates.
//!
//! - 4: filter by state, and states in the answer (KIP-518); 5: the same for types (KIP-848).

use super::Asked;
use super::group_wire::{number, shared, text};
use crate::coordinator::group::GroupOverview;
use millrace_protocol::StrBytes;
use millrace_protocol::messages::list_groups_response::ListedGroup;
use millrace_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};

pub(super) async fn handle(asked: Asked, request: ListGroupsRequest) -> ListGroupsResponse {
    let names = |filter: &[StrBytes]| filter.iter().map(|name| name.as_str().to_owned()).collect();
    match asked.context.groups.list(names(&request.states_filter), names(&request.types_filter)).await {
        Err(error) => ListGroupsResponse::default().with_error_code(number(Some(error))),
        Ok(listed) => {
            let group = |group: GroupOverview| {
                ListedGroup::default()
                    .with_group_id(GroupId(shared(&group.group)))
                    .with_protocol_type(text(group.protocol_type))
                    .with_group_state(StrBytes::from_static_str(group.state))
                    .with_group_type(StrBytes::from_static_str(group.kind))
            };
            ListGroupsResponse::default().with_groups(listed.into_iter().map(group).collect())
        }
    }
}
