//! OffsetForLeaderEpoch (23), versions 2 to 4: where an epoch ends in the log (KIP-101, KIP-320).
//!
//! A follower or a consumer asks for the end of the last epoch it has read from, and finds out whether its log or position is still on
//! the leader's branch.

use super::Asked;
use super::list_offsets::{check_epoch, missing};
use millrace_model::{LeaderEpoch, PartitionId};
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::OffsetForLeaderEpochRequest;
use millrace_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use millrace_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};

pub(super) async fn handle(asked: Asked, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| one(&asked, &topic.topic, wanted));
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn one(asked: &Asked, topic: &str, wanted: &OffsetForLeaderPartition) -> EpochEndOffset {
    let index = PartitionId::new(wanted.partition);
    let result = EpochEndOffset::default().with_partition(wanted.partition).with_leader_epoch(-1).with_end_offset(-1);
    let refused = |error: ErrorCode| result.clone().with_error_code(error.code());
    let topics = asked.context.partitions.topic_named(topic);
    let Some(handle) = topics.as_ref().and_then(|topic| topic.get(index)) else {
        return refused(missing(asked, topic, index));
    };
    if let Err(error) = check_epoch(handle, wanted.current_leader_epoch) {
        return refused(error);
    }
    let asked_for = LeaderEpoch::new(wanted.leader_epoch);
    let (epoch, end) = if asked_for == handle.leader_epoch() {
        // The log may have no batch of it yet.
        (asked_for, handle.reader().end_offset())
    } else {
        handle.reader().epoch_end(asked_for)
    };
    result.with_leader_epoch(epoch.get()).with_end_offset(end.get())
}
