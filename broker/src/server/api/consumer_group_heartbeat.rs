//! ConsumerGroupHeartbeat (68), versions 0 and 1: a member of a consumer group joins, stays or leaves, and hears what it
//! may have (KIP-848).
//!
//! - 1: regular expressions, and members choose their ids themselves (KIP-1082).

use super::Asked;
use super::group_wire::{client_host, code, optional, text};
use crate::coordinator::group::records::Partitions;
use crate::coordinator::group::{Beat, ConsumerHeartbeat, Refusal};
use millrace_model::TopicId;
use millrace_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use millrace_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

pub(super) async fn handle(asked: Asked, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
    let groups = &asked.context.groups;
    let owned = request.topic_partitions.map(|topics| {
        let mut owned = Partitions::new();
        for topic in topics {
            owned.entry(TopicId::new(topic.topic_id)).or_default().extend(topic.partitions);
        }
        owned
    });
    let beat = ConsumerHeartbeat {
        group: request.group_id.as_str().into(),
        member_id: request.member_id.as_str().to_owned(),
        epoch: request.member_epoch,
        instance_id: optional(request.instance_id.as_ref()),
        rack: optional(request.rack_id.as_ref()),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        topics: request.subscribed_topic_names.map(|names| names.iter().map(|name| name.as_str().to_owned()).collect()),
        regex: optional(request.subscribed_topic_regex.as_ref()),
        assignor: optional(request.server_assignor.as_ref()),
        owned,
        client_id: asked.client_id().to_owned(),
        client_host: client_host(asked.connection.peer),
        requires_member_id: asked.version >= 1,
        fresh: groups.fresh(),
    };
    match groups.consumer_heartbeat(beat).await {
        Ok(beat) => answer(beat),
        Err(Refusal { error, message }) => ConsumerGroupHeartbeatResponse::default()
            .with_error_code(code(error) as i16)
            .with_error_message(message.or_else(|| Some(error.to_string())).map(text)),
    }
}

fn answer(beat: Beat) -> ConsumerGroupHeartbeatResponse {
    let assignment = beat.assignment.map(|partitions| {
        let topic = |(topic, partitions): (TopicId, std::collections::BTreeSet<i32>)| {
            TopicPartitions::default().with_topic_id(topic.get()).with_partitions(partitions.into_iter().collect())
        };
        Assignment::default().with_topic_partitions(partitions.into_iter().map(topic).collect())
    });
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(text(beat.member_id)))
        .with_member_epoch(beat.epoch)
        .with_heartbeat_interval_ms(beat.heartbeat_interval_ms)
        .with_assignment(assignment)
}
