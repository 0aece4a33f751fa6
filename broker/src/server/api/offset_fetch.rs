//! OffsetFetch (9), versions 1 to 10: reads stored offsets.
//!
//! - 2: all partitions where none are named, and an error for the whole; 5: leader epochs; 7: `require_stable`
//!   (KIP-447); 8: many groups at once; 9: member id and epoch (KIP-848); 10: topics by id.
//! - A partition without an offset, of a topic that exists or not, has offset −1 and no error.

use super::Asked;
use super::group_wire::{number, optional, shared, text};
use crate::coordinator::group::{FetchedPartition, FetchedTopic, GroupError, OffsetFetch, TopicPartitions};
use crate::coordinator::groups::GroupCoordinator;
use millrace_metadata::Image;
use millrace_model::{LeaderEpoch, Offset, TopicId};
use millrace_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use millrace_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use millrace_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};

pub(super) async fn handle(asked: Asked, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let version = asked.version;
    let groups = &asked.context.groups;
    let image = asked.context.cluster.image();
    let require_stable = request.require_stable;
    if version >= 8 {
        let each = request.groups.into_iter().map(|group| fetch(groups, &image, group, require_stable, version));
        let fetched = futures::future::join_all(each).await;
        return OffsetFetchResponse::default().with_groups(fetched);
    }
    let topic = |topic: millrace_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| {
        OffsetFetchRequestTopics::default().with_name(topic.name).with_partition_indexes(topic.partition_indexes)
    };
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(request.group_id)
        .with_member_id(None)
        .with_member_epoch(-1)
        .with_topics(request.topics.map(|topics| topics.into_iter().map(topic).collect()));
    let topics = group.topics.clone().unwrap_or_default();
    single(fetch(groups, &image, group, require_stable, version).await, &topics, version)
}

async fn fetch(
    groups: &GroupCoordinator,
    image: &Image,
    asked: OffsetFetchRequestGroup,
    require_stable: bool,
    version: i16,
) -> OffsetFetchResponseGroup {
    let by_id = version >= 10;
    let mut unknown = Vec::new();
    let topics = asked.topics.as_ref().map(|topics| {
        let mut known = Vec::with_capacity(topics.len());
        for topic in topics {
            let id = TopicId::new(topic.topic_id);
            let name = match (by_id, image.topic_by_id(id)) {
                (true, None) => {
                    unknown.push(unknown_topic(topic));
                    continue;
                }
                (true, Some(found)) => found.name.as_str().into(),
                (false, _) => topic.name.as_str().into(),
            };
            let id = if by_id { id } else { TopicId::NIL };
            known.push(TopicPartitions { name, id, partitions: topic.partition_indexes.clone() });
        }
        known
    });
    let fetch = OffsetFetch {
        group: asked.group_id.as_str().into(),
        member_id: optional(asked.member_id.as_ref()),
        member_epoch: asked.member_epoch,
        topics,
        require_stable,
    };
    let response = OffsetFetchResponseGroup::default().with_group_id(asked.group_id);
    match groups.fetch(fetch).await {
        Err(error) => response.with_error_code(number(Some(error))),
        Ok(fetched) => {
            // Where all were asked for the ids are not known yet; a topic that is gone has none and is left out.
            let named = fetched.into_iter().filter_map(|mut topic| {
                if by_id && topic.id == TopicId::NIL {
                    topic.id = image.topic(&topic.name)?.id;
                }
                Some(topic)
            });
            response.with_topics(named.chain(unknown).map(|topic| wire(topic, by_id)).collect())
        }
    }
}

fn unknown_topic(topic: &OffsetFetchRequestTopics) -> FetchedTopic {
    let partition = |&partition| FetchedPartition {
        partition,
        offset: Offset::new(-1),
        leader_epoch: LeaderEpoch::NONE,
        metadata: String::new(),
        error: Some(GroupError::UnknownTopicId),
    };
    let partitions = topic.partition_indexes.iter().map(partition).collect();
    FetchedTopic { name: "".into(), id: TopicId::new(topic.topic_id), partitions }
}

fn wire(topic: FetchedTopic, by_id: bool) -> OffsetFetchResponseTopics {
    let partition = |fetched: FetchedPartition| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(fetched.partition)
            .with_committed_offset(fetched.offset.get())
            .with_committed_leader_epoch(fetched.leader_epoch.get())
            .with_metadata(Some(text(fetched.metadata)))
            .with_error_code(number(fetched.error))
    };
    let response = OffsetFetchResponseTopics::default();
    let response =
        if by_id { response.with_topic_id(topic.id.get()) } else { response.with_name(TopicName(shared(&topic.name))) };
    response.with_partitions(topic.partitions.into_iter().map(partition).collect())
}

/// The answer of the versions that know one group only.
fn single(group: OffsetFetchResponseGroup, asked: &[OffsetFetchRequestTopics], version: i16) -> OffsetFetchResponse {
    let mut response = OffsetFetchResponse::default();
    if version >= 2 {
        response.error_code = group.error_code;
    } else if group.error_code != 0 {
        // Version 1 has no error for the whole: every partition carries it.
        let partition = |&index: &i32| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(-1)
                .with_metadata(Some(Default::default()))
                .with_error_code(group.error_code)
        };
        let topic = |topic: &OffsetFetchRequestTopics| {
            OffsetFetchResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(topic.partition_indexes.iter().map(partition).collect())
        };
        response.topics = asked.iter().map(topic).collect();
        return response;
    }
    let partition = |fetched: OffsetFetchResponsePartitions| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(fetched.partition_index)
            .with_committed_offset(fetched.committed_offset)
            .with_committed_leader_epoch(fetched.committed_leader_epoch)
            .with_metadata(fetched.metadata)
            .with_error_code(fetched.error_code)
    };
    let topic = |topic: OffsetFetchResponseTopics| {
        OffsetFetchResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(topic.partitions.into_iter().map(partition).collect())
    };
    response.topics = group.topics.into_iter().map(topic).collect();
    response
}
