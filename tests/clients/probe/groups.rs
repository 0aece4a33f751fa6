//! The group requests: coordinators, strangers to a group, and commits without one.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, DescribeGroupsRequest,
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};

use super::topics::name;
use super::{Pair, text};

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

/// FindCoordinator, which also creates the groups' topic.
pub fn coordinators(pair: &mut Pair) {
    let find = |version: i16, kind: i8, keys: &[&str]| {
        let request = FindCoordinatorRequest::default();
        let request = if version >= 1 { request.with_key_type(kind) } else { request };
        if version < 4 {
            return request.with_key(text(keys[0]));
        }
        request.with_coordinator_keys(keys.iter().map(|key| text(key)).collect())
    };
    // The first answers may say that the topic is not there yet.
    for broker in [pair.ours.port(), pair.kafka.port()] {
        for _ in 0..50 {
            let frame = super::frame(&find(4, 0, &["probe"]), 4).expect("version 4 can say it");
            let found = super::answer::<FindCoordinatorRequest>(broker, &frame, 4);
            if found.is_ok_and(|answer| answer.coordinators.iter().all(|one| one.error_code == 0)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    for id in ["probe", "nobody", "probe-commits"] {
        wait_for_coordinator(pair, id);
    }
    pair.ask::<FindCoordinatorRequest>("FindCoordinator, a group", |version| find(version, 0, &["probe", "other"]));
    pair.ask::<FindCoordinatorRequest>("FindCoordinator, an empty name", |version| find(version, 0, &[""]));
    pair.ask::<FindCoordinatorRequest>("FindCoordinator, an unknown kind", |version| {
        find(version, if version >= 1 { 9 } else { 0 }, &["probe"])
    });
}

/// A coordinator that has just been found may still have to load its groups.
fn wait_for_coordinator(pair: &Pair, id: &str) {
    const UNKNOWN_MEMBER_ID: i16 = 25;
    let request = HeartbeatRequest::default().with_group_id(group(id)).with_member_id(text("early"));
    let frame = super::frame(&request, 4).expect("version 4 can say it");
    for broker in [pair.ours.port(), pair.kafka.port()] {
        for _ in 0..50 {
            let answer = super::answer::<HeartbeatRequest>(broker, &frame, 4);
            if answer.is_ok_and(|answer| answer.error_code == UNKNOWN_MEMBER_ID) {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn join(version: i16, group_id: &str, member: &str, session: i32, protocols: &[&str]) -> JoinGroupRequest {
    let one = |name: &&str| {
        JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(Bytes::from_static(b"meta"))
    };
    let request = JoinGroupRequest::default()
        .with_group_id(group(group_id))
        .with_member_id(text(member))
        .with_session_timeout_ms(session)
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols.iter().map(one).collect());
    if version >= 1 { request.with_rebalance_timeout_ms(10_000) } else { request }
}

/// What someone is told who is no member.
pub fn strangers(pair: &mut Pair) {
    for (case, id, member, session, protocols) in [
        ("no name", "", "", 10_000, &["range"][..]),
        ("a short session", "probe", "", 10, &["range"]),
        ("a long session", "probe", "", 2_000_000_000, &["range"]),
        ("an unknown member", "probe", "stranger", 10_000, &["range"]),
        ("no protocols", "probe", "", 10_000, &[]),
    ] {
        pair.ask::<JoinGroupRequest>(&format!("JoinGroup, {case}"), |version| {
            join(version, id, member, session, protocols)
        });
    }
    // From version 4 on, a new member is told its id first. Its own id differs, but not its shape.
    pair.ask::<JoinGroupRequest>("JoinGroup, new", |version| {
        join(version.max(4), &format!("new-{version}"), "", 10_000, &["range"])
    });
    for id in ["probe", "nobody", ""] {
        pair.ask::<SyncGroupRequest>(&format!("SyncGroup, a stranger to {id:?}"), |version| {
            let request = SyncGroupRequest::default()
                .with_group_id(group(id))
                .with_generation_id(3)
                .with_member_id(text("stranger"));
            let (kind, protocol) = (Some(text("consumer")), Some(text("range")));
            if version >= 5 { request.with_protocol_type(kind).with_protocol_name(protocol) } else { request }
        });
        pair.ask::<HeartbeatRequest>(&format!("Heartbeat, a stranger to {id:?}"), |_| {
            HeartbeatRequest::default().with_group_id(group(id)).with_generation_id(3).with_member_id(text("stranger"))
        });
        pair.ask::<LeaveGroupRequest>(&format!("LeaveGroup, a stranger to {id:?}"), |version| {
            let request = LeaveGroupRequest::default().with_group_id(group(id));
            if version < 3 {
                return request.with_member_id(text("stranger"));
            }
            request.with_members(vec![MemberIdentity::default().with_member_id(text("stranger"))])
        });
        pair.ask::<DescribeGroupsRequest>(&format!("DescribeGroups, {id:?}"), |version| {
            DescribeGroupsRequest::default()
                .with_groups(vec![group(id)])
                .with_include_authorized_operations(version >= 3)
        });
    }
}

fn commit(id: &str, member: &str, generation: i32, offset: i64, metadata: Option<&str>) -> OffsetCommitRequest {
    let one = |topic: &str, partition: i32| {
        let data = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_metadata(metadata.map(text));
        OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![data])
    };
    OffsetCommitRequest::default()
        .with_group_id(group(id))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(text(member))
        .with_topics(vec![one("alpha", 0), one("alpha", 9), one("nowhere", 0)])
}

/// OffsetCommit and OffsetFetch without a member, and ListGroups.
pub fn commits(pair: &mut Pair) {
    let long = "m".repeat(5_000);
    for (case, request) in [
        ("plain", commit("probe-commits", "", -1, 2, Some("note"))),
        ("null metadata", commit("probe-commits", "", -1, 3, None)),
        ("long metadata", commit("probe-commits", "", -1, 3, Some(&long))),
        ("a negative offset", commit("probe-commits", "", -1, -5, None)),
        ("no name", commit("", "", -1, 2, None)),
        ("a stranger", commit("probe-commits", "stranger", 3, 2, None)),
        ("a stranger to nobody", commit("nobody", "stranger", 3, 2, None)),
        ("a generation and no member", commit("probe-commits", "", 3, 2, None)),
    ] {
        pair.ask::<OffsetCommitRequest>(&format!("OffsetCommit, {case}"), |_| request.clone());
    }
    for id in ["probe-commits", "nobody", ""] {
        for (case, topics) in [("all", None), ("some", Some(vec![("alpha", vec![0, 1, 9]), ("nowhere", vec![0])]))] {
            pair.ask_tidy::<OffsetFetchRequest>(
                &format!("OffsetFetch, {case} of {id:?}"),
                |version| offset_fetch(version, id, topics.as_deref()),
                |answer| answer.topics.sort_by(|a, b| a.name.cmp(&b.name)),
            );
        }
    }
    pair.ask_tidy::<ListGroupsRequest>(
        "ListGroups",
        |_| ListGroupsRequest::default(),
        |answer| {
            answer.groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        },
    );
}

/// ConsumerGroupHeartbeat and ConsumerGroupDescribe (KIP-848): what strangers and malformed members are told.
pub fn consumers(pair: &mut Pair) {
    let join = |group_id: &str, member: &str, epoch: i32| {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group(group_id))
            .with_member_id(text(member))
            .with_member_epoch(epoch)
            .with_rebalance_timeout_ms(45_000)
            .with_subscribed_topic_names(Some(vec![name("alpha")]))
            .with_topic_partitions(Some(Vec::new()))
    };
    let alive = |member: &str, epoch: i32| {
        let request = join("strangers", member, epoch);
        request.with_rebalance_timeout_ms(-1).with_subscribed_topic_names(None).with_topic_partitions(None)
    };
    for (case, request) in [
        ("no group", join("", "m", 0)),
        ("no timeout", join("strangers", "m", 0).with_rebalance_timeout_ms(-1)),
        ("no partitions", join("strangers", "m", 0).with_topic_partitions(None)),
        ("no topics", join("strangers", "m", 0).with_subscribed_topic_names(None)),
        ("an empty instance", join("strangers", "m", 0).with_instance_id(Some(text("")))),
        ("an empty rack", join("strangers", "m", 0).with_rack_id(Some(text("")))),
        ("an unknown assignor", join("strangers", "m", 0).with_server_assignor(Some(text("no-such")))),
        ("an empty assignor", join("strangers", "m", 0).with_server_assignor(Some(text("")))),
        ("an epoch that is none", alive("m", -3)),
        ("leaving as a stranger", alive("m", -1)),
        ("leaving for a while without an instance", alive("m", -2)),
        ("a stranger", alive("m", 7)),
        ("nobody", alive("", 7)),
    ] {
        pair.ask::<ConsumerGroupHeartbeatRequest>(&format!("ConsumerGroupHeartbeat, {case}"), |_| request.clone());
    }
    for id in ["nobody", "", "probe-commits"] {
        pair.ask::<ConsumerGroupDescribeRequest>(&format!("ConsumerGroupDescribe, {id:?}"), |_| {
            ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(id)])
        });
    }
}

/// OffsetDelete and DeleteGroups, last of the groups' because they take away what was committed.
pub fn deletions(pair: &mut Pair) {
    for (case, id, topic, partitions) in [
        ("some", "probe-commits", "alpha", vec![0, 1, 9]),
        ("an unknown topic", "probe-commits", "nowhere", vec![0]),
        ("no partitions", "probe-commits", "alpha", vec![]),
        ("of nobody", "nobody", "alpha", vec![0]),
        ("without a group", "", "alpha", vec![0]),
    ] {
        pair.ask::<OffsetDeleteRequest>(&format!("OffsetDelete, {case}"), |_| {
            let one = |index: &i32| OffsetDeleteRequestPartition::default().with_partition_index(*index);
            let asked = OffsetDeleteRequestTopic::default()
                .with_name(name(topic))
                .with_partitions(partitions.iter().map(one).collect());
            OffsetDeleteRequest::default().with_group_id(group(id)).with_topics(vec![asked])
        });
    }
    for (case, ids) in [
        ("none", vec![]),
        ("nobody", vec!["nobody"]),
        ("without a name", vec![""]),
        ("twice", vec!["nobody", "nobody"]),
        ("that is there, then gone", vec!["probe-commits", "nobody"]),
    ] {
        pair.ask_tidy::<DeleteGroupsRequest>(
            &format!("DeleteGroups, {case}"),
            |_| DeleteGroupsRequest::default().with_groups_names(ids.iter().map(|id| group(id)).collect()),
            |answer| answer.results.sort_by(|a, b| a.group_id.cmp(&b.group_id)),
        );
    }
}

fn offset_fetch(version: i16, id: &str, topics: Option<&[(&str, Vec<i32>)]>) -> OffsetFetchRequest {
    if version >= 8 {
        let one = |(topic, partitions): &(&str, Vec<i32>)| {
            OffsetFetchRequestTopics::default().with_name(name(topic)).with_partition_indexes(partitions.clone())
        };
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group(id))
            .with_topics(topics.map(|topics| topics.iter().map(one).collect()));
        return OffsetFetchRequest::default().with_groups(vec![asked]);
    }
    let one = |(topic, partitions): &(&str, Vec<i32>)| {
        OffsetFetchRequestTopic::default().with_name(name(topic)).with_partition_indexes(partitions.clone())
    };
    OffsetFetchRequest::default()
        .with_group_id(group(id))
        .with_topics(topics.map(|topics| topics.iter().map(one).collect()))
}
