//! DescribeGroups (15), versions 0 to 6: groups with their members.
//!
//! - 3: what the client may do with the group, if it asks; 4: group instance ids; 6: GROUP_ID_NOT_FOUND and a message
//!   for a group that is not there (KIP-1043), where older clients hear of a group in state Dead.

use super::Asked;
use super::group_wire::{ALL_OPERATIONS, number, shared, text};
use crate::coordinator::group::{GroupDescription, GroupError, MemberDescription};
use millrace_protocol::StrBytes;
use millrace_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use millrace_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};

pub(super) async fn handle(asked: Asked, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let ids = request.groups.iter().map(|group| group.as_str().into()).collect();
    let described = asked.context.groups.describe(ids).await;
    let with_operations = request.include_authorized_operations;
    let group = |group| wire(group, asked.version, with_operations);
    DescribeGroupsResponse::default().with_groups(described.into_iter().map(group).collect())
}

fn wire(group: GroupDescription, version: i16, with_operations: bool) -> DescribedGroup {
    let missing = match group.error {
        Some(GroupError::GroupIdNotFound) => Some(format!("Group {} not found.", group.group)),
        Some(GroupError::WrongType) => Some(format!("Group {} is not a classic group.", group.group)),
        _ => None,
    };
    let error = group.error.filter(|_| version >= 6 || missing.is_none());
    let message = missing.filter(|_| version >= 6).map(text);
    let operations = if with_operations && error.is_none() { ALL_OPERATIONS } else { i32::MIN };
    DescribedGroup::default()
        .with_error_code(number(error))
        .with_error_message(message)
        .with_group_id(GroupId(shared(&group.group)))
        .with_group_state(StrBytes::from_static_str(group.state))
        .with_protocol_type(text(group.protocol_type))
        .with_protocol_data(text(group.protocol))
        .with_members(group.members.into_iter().map(member).collect())
        .with_authorized_operations(operations)
}

fn member(member: MemberDescription) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(text(member.member_id))
        .with_group_instance_id(member.instance_id.map(text))
        .with_client_id(text(member.client_id))
        .with_client_host(text(member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment)
}
