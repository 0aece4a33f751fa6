//! DeleteGroups (42), versions 0 to 2: deletes groups without members, and their offsets.

use super::Asked;
use super::group_wire::{number, shared};
use millrace_protocol::messages::delete_groups_response::DeletableGroupResult;
use millrace_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};
use std::collections::BTreeSet;

pub(super) async fn handle(asked: Asked, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    // Who is named twice is deleted once.
    let mut seen = BTreeSet::new();
    let names = request.groups_names.iter().map(|group| group.as_str()).filter(|name| seen.insert(*name));
    let ids = names.map(Into::into).collect();
    let deleted = asked.context.groups.delete_groups(ids).await;
    let result = |(group, error)| {
        DeletableGroupResult::default().with_group_id(GroupId(shared(&group))).with_error_code(number(error))
    };
    DeleteGroupsResponse::default().with_results(deleted.into_iter().map(result).collect())
}
