//! ConsumerGroupDescribe (69), versions 0 and 1: consumer groups with their members (KIP-848).
//!
//! - 1: which protocol each member speaks (KIP-1099).

use super::Asked;
use super::group_wire::{ALL_OPERATIONS, number, shared, text};
use crate::coordinator::group::records::Partitions;
use crate::coordinator::group::{ConsumerGroupDescription, ConsumerMemberDescription, GroupError};
use millrace_metadata::Image;
use millrace_protocol::StrBytes;
use millrace_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use millrace_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId, TopicName};

pub(super) async fn handle(asked: Asked, request: ConsumerGroupDescribeRequest) -> ConsumerGroupDescribeResponse {
    let ids = request.group_ids.iter().map(|group| group.as_str().into()).collect();
    let described = asked.context.groups.describe_consumer(ids).await;
    let image = asked.context.cluster.image();
    let with_operations = request.include_authorized_operations;
    let group = |group| wire(group, &image, asked.version, with_operations);
    ConsumerGroupDescribeResponse::default().with_groups(described.into_iter().map(group).collect())
}

fn wire(group: ConsumerGroupDescription, image: &Image, version: i16, with_operations: bool) -> DescribedGroup {
    let message = match group.error {
        Some(GroupError::GroupIdNotFound) => Some(format!("Group {} not found.", group.group)),
        Some(GroupError::WrongType) => Some(format!("Group {} is not a consumer group.", group.group)),
        _ => None,
    };
    let operations = if with_operations && group.error.is_none() { ALL_OPERATIONS } else { i32::MIN };
    DescribedGroup::default()
        .with_error_code(number(group.error))
        .with_error_message(message.map(text))
        .with_group_id(GroupId(shared(&group.group)))
        .with_group_state(StrBytes::from_static_str(group.state))
        .with_group_epoch(group.epoch)
        .with_assignment_epoch(group.assignment_epoch)
        .with_assignor_name(text(group.assignor))
        .with_members(group.members.into_iter().map(|one| member(one, image, version)).collect())
        .with_authorized_operations(operations)
}

fn member(member: ConsumerMemberDescription, image: &Image, version: i16) -> Member {
    let member_type = match (version, member.is_classic) {
        (0, _) => -1,
        (_, true) => 0,
        (_, false) => 1,
    };
    Member::default()
        .with_member_id(text(member.member_id))
        .with_instance_id(member.instance_id.map(text))
        .with_rack_id(member.rack.map(text))
        .with_member_epoch(member.epoch)
        .with_client_id(text(member.client_id))
        .with_client_host(text(member.client_host))
        .with_subscribed_topic_names(member.topics.into_iter().map(|name| TopicName(text(name))).collect())
        .with_subscribed_topic_regex(Some(text(member.regex)))
        .with_assignment(assignment(&member.assignment, image))
        .with_target_assignment(assignment(&member.target, image))
        .with_member_type(member_type)
}

/// Topics that are gone have no name and are left out.
fn assignment(partitions: &Partitions, image: &Image) -> Assignment {
    let topics = partitions.iter().filter_map(|(id, partitions)| {
        let topic = image.topic_by_id(*id)?;
        let wire =
            TopicPartitions::default().with_topic_id(id.get()).with_topic_name(TopicName(text(topic.name.clone())));
        Some(wire.with_partitions(partitions.iter().copied().collect()))
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
