//! Groups step by step: members of both protocols, right and wrong, and the move from one protocol to the other.

use bytes::{BufMut as _, Bytes};
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_groups_response::DescribedGroupMember;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, CreateTopicsRequest, DeleteGroupsRequest,
    DeleteTopicsRequest, DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};
use uuid::Uuid;

use super::script::{Script, Side};
use super::topics::name;
use super::{Pair, text};

/// An epoch or a generation.
#[derive(Debug, Clone, Copy)]
enum At {
    /// The one that the member was told last, so much later.
    Now(i32),
    Is(i32),
}
use At::{Is, Now};

/// What a member says it owns.
#[derive(Debug, Clone, Copy)]
enum Owned {
    Silent,
    Nothing,
    /// What it was told.
    Told,
    /// Of a topic.
    Of(&'static str, &'static [i32]),
    /// Of a topic that nobody has.
    Strange,
}

/// A ConsumerGroupHeartbeat.
#[derive(Debug, Clone, Copy)]
struct Beat {
    who: &'static str,
    at: At,
    instance: Option<&'static str>,
    rack: Option<&'static str>,
    timeout: i32,
    topics: Option<&'static [&'static str]>,
    regex: Option<&'static str>,
    assignor: Option<&'static str>,
    owned: Owned,
}

const fn stay(who: &'static str) -> Beat {
    Beat {
        who,
        at: Now(0),
        instance: None,
        rack: None,
        timeout: -1,
        topics: None,
        regex: None,
        assignor: None,
        owned: Owned::Silent,
    }
}

const fn join(who: &'static str) -> Beat {
    Beat { at: Is(0), timeout: 45_000, topics: Some(&["turns"]), owned: Owned::Nothing, ..stay(who) }
}

const fn has(who: &'static str) -> Beat {
    Beat { owned: Owned::Told, ..stay(who) }
}

const fn at(who: &'static str, at: At) -> Beat {
    Beat { at, ..stay(who) }
}

/// A JoinGroup.
#[derive(Debug, Clone, Copy)]
struct Join {
    who: &'static str,
    instance: Option<&'static str>,
    kind: &'static str,
    protocols: &'static [&'static str],
    /// Topics of a consumer's subscription; none for bytes that are no subscription.
    topics: Option<&'static [&'static str]>,
}

const fn enter(who: &'static str) -> Join {
    Join { who, instance: None, kind: "consumer", protocols: &["range"], topics: Some(&["turns"]) }
}

#[derive(Debug, Clone, Copy)]
enum Do {
    Beats(Beat),
    Joins(Join),
    /// Waits for others; `Joined` has the answer.
    JoinsLater(Join),
    Joined(&'static str),
    /// Member, generation, and to whom it assigns.
    Syncs(&'static str, At, &'static [&'static str]),
    SyncsLater(&'static str, At, &'static [&'static str]),
    Synced(&'static str),
    Pulse(&'static str, At),
    Leaves(&'static [(&'static str, Option<&'static str>)]),
    Commits(i16, &'static str, At, i64),
    Commits10(&'static str, At, &'static str),
    Fetches(Option<&'static str>, At),
    Fetches10(&'static str),
    Describe,
    DescribeClassic,
    List(&'static [&'static str], &'static [&'static str]),
    Delete,
    DeleteOffsets(&'static str),
    CreateTopic(&'static str),
    DeleteTopic(&'static str),
    Sleep(u64),
}
use Do::{
    Beats, Commits, Commits10, CreateTopic, Delete, DeleteOffsets, DeleteTopic, Describe, DescribeClassic, Fetches,
    Fetches10, Joined, Joins, JoinsLater, Leaves, List, Pulse, Sleep, Synced, Syncs, SyncsLater,
};

const ALONE: &[Do] = &[
    Beats(join("a")),
    Describe,
    Beats(stay("a")),
    Beats(has("a")),
    Describe,
    Beats(at("a", Now(1))),
    Beats(at("a", Now(-1))),
    Beats(Beat { owned: Owned::Told, ..at("a", Now(-1)) }),
    Beats(at("a", Is(-3))),
    Beats(at("b", Now(0))),
    Beats(at("b", Is(5))),
    Beats(at("b", Is(-1))),
    Beats(Beat { owned: Owned::Of("turns", &[0]), ..stay("a") }),
    Beats(Beat { owned: Owned::Of("turns", &[0, 1, 2, 77]), ..stay("a") }),
    Beats(Beat { owned: Owned::Strange, ..stay("a") }),
    Beats(Beat { owned: Owned::Nothing, ..stay("a") }),
    Beats(Beat { topics: Some(&["turns", "nowhere"]), ..has("a") }),
    Beats(has("a")),
    Describe,
    Beats(Beat { topics: Some(&[]), ..has("a") }),
    Beats(has("a")),
    Describe,
    Beats(Beat { topics: Some(&["turns", "turns", "alpha"]), ..has("a") }),
    Beats(has("a")),
    Beats(Beat { assignor: Some("range"), ..has("a") }),
    Beats(Beat { assignor: Some("sticky"), ..has("a") }),
    Beats(Beat { rack: Some("here"), ..has("a") }),
    Beats(Beat { instance: Some("i"), ..has("a") }),
    Beats(Beat { timeout: 40_000, ..has("a") }),
    Beats(Beat { timeout: 50_000, topics: Some(&["turns"]), ..has("a") }),
    Beats(has("a")),
    Describe,
    Beats(join("a")),
    Describe,
    List(&[], &["Consumer"]),
    List(&["stable"], &[]),
    List(&["Reconciling", "Assigning"], &["consumer"]),
    Delete,
    DescribeClassic,
    Beats(at("a", Is(-1))),
    Describe,
    DescribeClassic,
    Beats(at("a", Now(0))),
    List(&["Empty"], &["consumer"]),
    Delete,
    Describe,
    DescribeClassic,
];

const TWO: &[Do] = &[
    Beats(join("a")),
    Beats(has("a")),
    Beats(join("b")),
    Describe,
    Beats(stay("b")),
    Beats(stay("a")),
    Beats(stay("a")),
    Describe,
    Beats(stay("b")),
    Beats(has("a")),
    Beats(stay("b")),
    Beats(has("b")),
    Describe,
    Beats(Beat { topics: Some(&["alpha"]), ..has("b") }),
    Beats(has("a")),
    Beats(has("b")),
    Beats(has("b")),
    Beats(has("a")),
    Describe,
    Beats(Beat { assignor: Some("range"), ..join("c") }),
    Beats(has("a")),
    Beats(has("b")),
    Beats(has("c")),
    Beats(has("a")),
    Beats(has("b")),
    Beats(has("c")),
    Describe,
    Beats(at("a", Is(-1))),
    Beats(has("b")),
    Beats(has("c")),
    Beats(has("b")),
    Beats(has("c")),
    Describe,
    Beats(at("a", Is(-1))),
    Beats(at("b", Is(-1))),
    Beats(at("c", Is(-1))),
    Describe,
];

const STATIC: &[Do] = &[
    Beats(Beat { instance: Some("i"), ..join("a") }),
    Beats(Beat { instance: Some("i"), ..has("a") }),
    Beats(Beat { instance: Some("i"), ..join("b") }),
    Describe,
    Beats(Beat { instance: Some("i"), ..at("b", Is(3)) }),
    Beats(Beat { instance: Some("j"), ..at("a", Now(0)) }),
    Beats(Beat { instance: Some("i"), ..at("a", Is(-2)) }),
    Describe,
    Beats(Beat { instance: Some("i"), ..at("a", Now(0)) }),
    Beats(Beat { instance: Some("i"), ..join("b") }),
    Beats(Beat { instance: Some("i"), ..has("b") }),
    Describe,
    Beats(Beat { instance: Some("i"), ..at("a", Is(1)) }),
    Beats(Beat { instance: Some("i"), ..at("a", Is(-1)) }),
    Beats(Beat { instance: Some("i"), ..at("a", Is(-2)) }),
    Beats(Beat { instance: None, ..at("b", Is(-2)) }),
    Beats(Beat { instance: Some("k"), ..at("b", Is(-2)) }),
    Beats(Beat { instance: Some("i"), ..at("b", Is(-2)) }),
    Beats(Beat { instance: Some("i"), topics: Some(&["alpha"]), ..join("c") }),
    Beats(Beat { instance: Some("i"), ..has("c") }),
    Describe,
    Beats(Beat { instance: Some("i"), ..at("c", Is(-1)) }),
    Describe,
];

const REGEX: &[Do] = &[
    Beats(Beat { topics: None, regex: Some("tur.*"), ..join("a") }),
    Sleep(300),
    Beats(has("a")),
    Beats(has("a")),
    Describe,
    Beats(Beat { regex: Some("("), ..has("a") }),
    Beats(Beat { regex: Some("a)(b"), ..has("a") }),
    Beats(Beat { regex: Some("*"), ..has("a") }),
    Beats(Beat { regex: Some("(?=x)"), ..has("a") }),
    Beats(Beat { regex: Some("turn"), ..has("a") }),
    Sleep(300),
    Beats(has("a")),
    Beats(has("a")),
    Describe,
    Beats(Beat { regex: Some(""), ..has("a") }),
    Beats(has("a")),
    Beats(Beat { topics: Some(&["alpha"]), regex: Some("\\Qturns\\E"), ..has("a") }),
    Sleep(300),
    Beats(has("a")),
    Beats(has("a")),
    Describe,
    Beats(Beat { topics: None, regex: Some("[[:alpha:]]+-turn"), ..join("b") }),
    Beats(Beat { topics: None, regex: Some("("), ..join("c") }),
    Beats(Beat { topics: None, regex: Some(""), ..join("c") }),
    Describe,
];

/// Expressions that two libraries may read differently, and what becomes of a group whose members use both kinds.
const EXPRESSIONS: &[Do] = &[
    Beats(Beat { topics: None, regex: Some("turns|alpha"), ..join("a") }),
    Sleep(300),
    Beats(has("a")),
    Beats(has("a")),
    Beats(has("a")),
    Describe,
    Beats(Beat { regex: Some("(?i)TURNS"), ..has("a") }),
    Sleep(300),
    Beats(has("a")),
    Beats(has("a")),
    Beats(has("a")),
    Describe,
    Beats(Beat { regex: Some("^turns$"), ..has("a") }),
    Sleep(300),
    Beats(has("a")),
    Beats(has("a")),
    Describe,
    Beats(Beat { regex: Some("urn"), ..has("a") }),
    Sleep(300),
    Beats(has("a")),
    Beats(has("a")),
    Describe,
    Beats(Beat { regex: Some("t\\w+s{1}"), ..has("a") }),
    Sleep(300),
    Beats(has("a")),
    Beats(has("a")),
    Describe,
    Beats(Beat { regex: Some("tur\\pL+"), ..has("a") }),
    Beats(Beat { regex: Some("[[]turns"), ..has("a") }),
    Beats(Beat { regex: Some("turns{,3}"), ..has("a") }),
    Beats(Beat { regex: Some("[t&&u]+"), ..has("a") }),
    Beats(Beat { regex: Some("\\<turns\\>"), ..has("a") }),
    Beats(Beat { regex: Some("nothing-like-it"), ..has("a") }),
    Sleep(300),
    Beats(has("a")),
    Beats(has("a")),
    Describe,
    Beats(Beat { topics: Some(&["turns"]), regex: Some(""), ..has("a") }),
    Beats(has("a")),
    Beats(has("a")),
    Describe,
    Beats(Beat { topics: None, regex: Some("turns"), assignor: Some("range"), ..join("b") }),
    Sleep(300),
    Beats(has("a")),
    Beats(has("b")),
    Beats(has("a")),
    Beats(has("b")),
    Beats(has("b")),
    Describe,
    Beats(at("a", Is(-1))),
    Beats(has("b")),
    Beats(has("b")),
    Describe,
    Beats(at("b", Is(-1))),
    Describe,
];

/// What one library or the other does not take for an expression; nothing comes of it.
const NO_EXPRESSIONS: &[Do] = &[
    Beats(join("a")),
    Beats(has("a")),
    Beats(Beat { regex: Some("\\d{1,1001}"), ..has("a") }),
    Beats(Beat { regex: Some("a{2,1}"), ..has("a") }),
    Beats(Beat { regex: Some("(a)\\1"), ..has("a") }),
    Beats(Beat { regex: Some("[z-a]"), ..has("a") }),
    Beats(Beat { regex: Some("[[:no:]]"), ..has("a") }),
    Beats(Beat { regex: Some("\\"), ..has("a") }),
    Beats(Beat { regex: Some("a++"), ..has("a") }),
    Beats(Beat { regex: Some("a**"), ..has("a") }),
    Beats(Beat { regex: Some("(?P<x>a)(?P<x>b)"), ..has("a") }),
    Beats(Beat { regex: Some("\\pX"), ..has("a") }),
    Beats(Beat { regex: Some("(?#c)turns"), ..has("a") }),
    Beats(Beat { regex: Some("a??+"), ..has("a") }),
    Beats(Beat { regex: Some("a{2}{3}"), ..has("a") }),
    Beats(Beat { regex: Some("(?x)a b"), ..has("a") }),
    Beats(Beat { regex: Some("(?u)a"), ..has("a") }),
    Beats(Beat { regex: Some("\\u0061"), ..has("a") }),
    Beats(Beat { regex: Some("a|*"), ..has("a") }),
    Beats(Beat { regex: Some("[a"), ..has("a") }),
    Beats(Beat { regex: Some("[]"), ..has("a") }),
    Beats(Beat { regex: Some("(?<!a)b"), ..has("a") }),
    Beats(Beat { regex: Some("(?>a)"), ..has("a") }),
    Describe,
    Beats(at("a", Is(-1))),
];

const OFFSETS: &[Do] = &[
    Beats(join("a")),
    Beats(has("a")),
    Commits(8, "a", Now(0), 5),
    Commits(9, "a", Now(0), 5),
    Commits(8, "a", Now(-1), 6),
    Commits(9, "a", Now(-1), 6),
    Commits(9, "a", Now(1), 6),
    Commits(9, "a", Is(-1), 6),
    Commits(9, "", Is(-1), 6),
    Commits(8, "", Is(-1), 6),
    Commits(9, "b", Now(0), 6),
    Commits(9, "b", Is(3), 6),
    Commits(9, "", Is(3), 6),
    Commits10("a", Now(0), "turns"),
    Commits10("a", Now(0), "nowhere"),
    Commits10("a", Now(-1), "turns"),
    Fetches(Some("a"), Now(0)),
    Fetches(Some("a"), Now(-1)),
    Fetches(Some("a"), Now(1)),
    Fetches(Some("b"), Is(1)),
    Fetches(Some("b"), Is(-1)),
    Fetches(None, Is(-1)),
    Fetches(None, Is(0)),
    Fetches(Some(""), Is(3)),
    Fetches10("turns"),
    Fetches10("nowhere"),
    DeleteOffsets("turns"),
    DeleteOffsets("alpha"),
    Beats(at("a", Is(-1))),
    Commits(9, "", Is(-1), 7),
    Commits(9, "a", Now(0), 7),
    Fetches(None, Is(-1)),
    Fetches(Some("a"), Is(1)),
    DeleteOffsets("turns"),
    DeleteOffsets("nowhere"),
    Fetches(None, Is(-1)),
    Delete,
    Commits(9, "a", Is(1), 7),
    Fetches(Some("a"), Is(1)),
    DeleteOffsets("turns"),
];

const CLASSIC: &[Do] = &[
    Joins(enter("a")),
    Joins(enter("a")),
    DescribeClassic,
    Pulse("a", Now(0)),
    Commits(8, "a", Now(0), 5),
    Syncs("a", Now(1), &["a"]),
    Syncs("a", Now(0), &["a"]),
    Syncs("a", Now(0), &[]),
    DescribeClassic,
    Describe,
    List(&["Stable"], &[]),
    List(&["stable"], &["classic"]),
    List(&[], &["consumer"]),
    List(&["nonsense"], &["nonsense"]),
    Pulse("a", Now(0)),
    Pulse("a", Now(1)),
    Pulse("a", Now(-1)),
    Pulse("b", Now(0)),
    Commits(8, "a", Now(0), 5),
    Commits(9, "a", Now(0), 5),
    Commits(9, "a", Now(-1), 6),
    Commits(9, "b", Is(1), 6),
    Commits(9, "", Is(-1), 6),
    Commits(9, "", Is(1), 6),
    Commits10("a", Now(0), "turns"),
    Fetches(Some("a"), Now(0)),
    Fetches(Some("b"), Now(3)),
    DeleteOffsets("turns"),
    DeleteOffsets("alpha"),
    Delete,
    Joins(Join { kind: "connect", ..enter("a") }),
    Joins(Join { kind: "connect", ..enter("new") }),
    Joins(Join { protocols: &["other"], ..enter("new") }),
    Joins(Join { kind: "", ..enter("new") }),
    Joins(enter("a")),
    Syncs("a", Now(0), &["a"]),
    Leaves(&[("b", None), ("a", Some("i"))]),
    Leaves(&[("a", None), ("a", None)]),
    DescribeClassic,
    Commits(9, "a", Now(0), 5),
    Commits(9, "", Is(-1), 5),
    DeleteOffsets("turns"),
    Delete,
    DescribeClassic,
];

const REBALANCE: &[Do] = &[
    Joins(enter("a")),
    Joins(enter("a")),
    Syncs("a", Now(0), &["a"]),
    Joins(enter("b")),
    JoinsLater(enter("b")),
    DescribeClassic,
    Pulse("a", Now(0)),
    Commits(9, "a", Now(0), 3),
    Syncs("a", Now(0), &[]),
    Joins(enter("a")),
    Joined("b"),
    DescribeClassic,
    Pulse("a", Now(0)),
    SyncsLater("b", Now(0), &[]),
    Commits(9, "b", Now(0), 3),
    Syncs("a", Now(0), &["a", "b"]),
    Synced("b"),
    DescribeClassic,
    Pulse("b", Now(0)),
    Leaves(&[("a", None)]),
    Pulse("b", Now(0)),
    Joins(enter("b")),
    Syncs("b", Now(0), &["b"]),
    Commits(9, "b", Now(0), 3),
    DescribeClassic,
];

const CLASSIC_STATIC: &[Do] = &[
    Joins(Join { instance: Some("i"), ..enter("a") }),
    Syncs("a", Now(0), &["a"]),
    Joins(Join { instance: Some("i"), ..enter("b") }),
    DescribeClassic,
    Pulse("a", Now(0)),
    Pulse("b", Now(0)),
    Joins(Join { instance: Some("i"), ..enter("a") }),
    Joins(Join { instance: Some("j"), ..enter("b") }),
    Syncs("b", Now(0), &[]),
    Leaves(&[("a", Some("i"))]),
    Leaves(&[("", Some("k"))]),
    Leaves(&[("", Some("i"))]),
    DescribeClassic,
    List(&["Empty"], &["classic"]),
];

const UPGRADE: &[Do] = &[
    Joins(enter("a")),
    Joins(enter("a")),
    Beats(Beat { topics: Some(&["alpha"]), ..join("z") }),
    Syncs("a", Now(0), &["a"]),
    Commits(9, "a", Now(0), 3),
    Beats(Beat { topics: Some(&["alpha"]), ..join("b") }),
    Describe,
    DescribeClassic,
    Pulse("a", Now(0)),
    Pulse("a", Now(1)),
    Commits(9, "a", Now(0), 4),
    Commits(9, "b", Now(0), 4),
    Beats(has("b")),
    Joins(enter("a")),
    Describe,
    Syncs("a", Now(1), &[]),
    Syncs("a", Now(0), &[]),
    Describe,
    Beats(has("b")),
    Pulse("a", Now(0)),
    Beats(has("b")),
    Describe,
    List(&[], &["consumer"]),
    Joins(Join { topics: None, ..enter("c") }),
    Joins(Join { protocols: &["nonsense"], ..enter("c") }),
    Joins(Join { kind: "connect", ..enter("c") }),
    Beats(at("a", Now(0))),
    Pulse("b", Now(0)),
    Leaves(&[("b", None), ("nobody", None)]),
    Describe,
    Beats(at("b", Is(-1))),
    Describe,
    DescribeClassic,
    Pulse("a", Now(0)),
    Joins(enter("a")),
    Syncs("a", Now(0), &["a"]),
    DescribeClassic,
    Leaves(&[("a", None)]),
    Beats(Beat { topics: Some(&["alpha"]), ..join("b") }),
    Describe,
    Beats(at("b", Is(-1))),
    Describe,
    Joins(enter("d")),
    Joins(enter("d")),
    DescribeClassic,
];

const OPAQUE: &[Do] = &[
    Joins(Join { kind: "connect", protocols: &["compatible"], topics: None, ..enter("a") }),
    Joins(Join { kind: "connect", protocols: &["compatible"], topics: None, ..enter("a") }),
    Syncs("a", Now(0), &["a"]),
    Beats(join("b")),
    Beats(at("a", Now(0))),
    Describe,
    DescribeClassic,
    Commits(9, "", Is(-1), 6),
    DeleteOffsets("turns"),
    Leaves(&[("a", None)]),
    Beats(join("b")),
    Beats(has("b")),
    Describe,
];

const TOPICS: &[Do] = &[
    CreateTopic("comes-and-goes"),
    Sleep(1_500),
    Beats(Beat { topics: Some(&["turns", "comes-and-goes"]), ..join("a") }),
    Beats(has("a")),
    DeleteTopic("comes-and-goes"),
    Sleep(1_500),
    Beats(has("a")),
    Beats(has("a")),
    Describe,
    CreateTopic("comes-and-goes"),
    Sleep(1_500),
    Beats(has("a")),
    Beats(has("a")),
    Describe,
    DeleteTopic("comes-and-goes"),
];

/// Every script.
pub fn all(pair: &mut Pair) {
    let mut script = pair.script("Groups");
    create(&mut script, "turns, created", "turns", 3);
    std::thread::sleep(std::time::Duration::from_secs(1));
    for (what, steps) in [
        ("a consumer alone", ALONE),
        ("two consumers and a third", TWO),
        ("static consumers", STATIC),
        ("subscribed by expressions", REGEX),
        ("subscribed by expressions of more kinds", EXPRESSIONS),
        ("subscribed by what is no expression", NO_EXPRESSIONS),
        ("offsets of consumers", OFFSETS),
        ("a classic member", CLASSIC),
        ("a classic rebalance", REBALANCE),
        ("static classic members", CLASSIC_STATIC),
        ("from classic to consumer and back", UPGRADE),
        ("from something else to consumer", OPAQUE),
        ("topics that come and go", TOPICS),
    ] {
        let group = format!("group of {what}");
        let mut script = pair.script(format!("Groups, {what}"));
        for (place, step) in steps.iter().enumerate() {
            walk(&mut script, &group, &format!("{place} {step:?}"), *step);
        }
    }
}

fn create(script: &mut Script<'_>, what: &str, topic: &str, partitions: i32) {
    let fresh =
        CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![fresh]).with_timeout_ms(10_000);
    script.step::<CreateTopicsRequest>(what, 4, |_| request.clone(), |_, _| {});
}

fn epoch(side: &Side, who: &str, at: At) -> i32 {
    match at {
        Now(more) => side.epochs.get(who).copied().unwrap_or(0) + more,
        Is(epoch) => epoch,
    }
}

fn walk(script: &mut Script<'_>, group: &str, what: &str, step: Do) {
    match step {
        Beats(beat) => beats(script, group, what, beat),
        Joins(join) => script.step::<JoinGroupRequest>(what, 9, |side| joins(side, group, join), joined(join.who)),
        JoinsLater(join) => script.begin::<JoinGroupRequest>(join.who, 9, |side| joins(side, group, join)),
        Joined(who) => script.end::<JoinGroupRequest>(who, 9, joined(who)),
        Syncs(who, at, to) => {
            script.step::<SyncGroupRequest>(what, 5, |side| syncs(side, group, who, at, to), |_, _| {})
        }
        SyncsLater(who, at, to) => script.begin::<SyncGroupRequest>(who, 5, |side| syncs(side, group, who, at, to)),
        Synced(who) => script.end::<SyncGroupRequest>(who, 5, |_, _| {}),
        Pulse(who, at) => script.step::<HeartbeatRequest>(
            what,
            4,
            |side| {
                HeartbeatRequest::default()
                    .with_group_id(GroupId(text(group)))
                    .with_generation_id(epoch(side, who, at))
                    .with_member_id(text(&side.member(who)))
            },
            |_, _| {},
        ),
        Leaves(members) => script.step::<LeaveGroupRequest>(
            what,
            5,
            |side| {
                let one = |(who, instance): &(&str, Option<&str>)| {
                    let member = MemberIdentity::default().with_member_id(text(&side.member(who)));
                    member.with_group_instance_id(instance.map(text))
                };
                LeaveGroupRequest::default()
                    .with_group_id(GroupId(text(group)))
                    .with_members(members.iter().map(one).collect())
            },
            |_, _| {},
        ),
        Commits(..) | Commits10(..) | Fetches(..) | Fetches10(_) | DeleteOffsets(_) => {
            offsets(script, group, what, step);
        }
        Describe | DescribeClassic | List(..) | Delete => look(script, group, what, step),
        CreateTopic(topic) => create(script, what, topic, 2),
        DeleteTopic(topic) => script.step::<DeleteTopicsRequest>(
            what,
            4,
            |_| DeleteTopicsRequest::default().with_topic_names(vec![name(topic)]).with_timeout_ms(10_000),
            |_, _| {},
        ),
        Sleep(ms) => std::thread::sleep(std::time::Duration::from_millis(ms)),
    }
}

fn beats(script: &mut Script<'_>, group: &str, what: &str, beat: Beat) {
    let parts = |id: Uuid, partitions: &[i32]| {
        TopicPartitions::default().with_topic_id(id).with_partitions(partitions.to_vec())
    };
    script.step::<ConsumerGroupHeartbeatRequest>(
        what,
        1,
        |side| {
            let owned = match beat.owned {
                Owned::Silent => None,
                Owned::Nothing => Some(Vec::new()),
                Owned::Told => {
                    let told = side.assigned.get(beat.who).map(Vec::as_slice).unwrap_or_default();
                    Some(told.iter().map(|(id, partitions)| parts(*id, partitions)).collect())
                }
                Owned::Of(topic, partitions) => Some(vec![parts(side.topic_id(topic), partitions)]),
                Owned::Strange => Some(vec![parts(Uuid::from_u128(7), &[0])]),
            };
            ConsumerGroupHeartbeatRequest::default()
                .with_group_id(GroupId(text(group)))
                .with_member_id(text(beat.who))
                .with_member_epoch(epoch(side, beat.who, beat.at))
                .with_instance_id(beat.instance.map(text))
                .with_rack_id(beat.rack.map(text))
                .with_rebalance_timeout_ms(beat.timeout)
                .with_subscribed_topic_names(beat.topics.map(|topics| topics.iter().map(|it| name(it)).collect()))
                .with_subscribed_topic_regex(beat.regex.map(text))
                .with_server_assignor(beat.assignor.map(text))
                .with_topic_partitions(owned)
        },
        |side, answer| {
            if answer.error_code != 0 {
                return;
            }
            side.epochs.insert(beat.who.to_owned(), answer.member_epoch);
            if let Some(assignment) = &mut answer.assignment {
                // By the topics' sizes: their ids are each broker's own.
                assignment.topic_partitions.sort_by_key(|topic| topic.partitions.clone());
                let told = assignment.topic_partitions.iter().map(|it| (it.topic_id, it.partitions.clone())).collect();
                side.assigned.insert(beat.who.to_owned(), told);
            }
        },
    );
}

/// A consumer's subscription, version 1: topics, no data, no partitions.
fn subscription(topics: Option<&[&str]>) -> Bytes {
    let Some(topics) = topics else { return Bytes::from_static(b"whatever") };
    let mut bytes = Vec::new();
    bytes.put_i16(1);
    bytes.put_i32(i32::try_from(topics.len()).expect("few"));
    for topic in topics {
        bytes.put_i16(i16::try_from(topic.len()).expect("short"));
        bytes.put_slice(topic.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.put_i32(0);
    bytes.into()
}

fn joins(side: &Side, group: &str, join: Join) -> JoinGroupRequest {
    let one = |protocol: &&str| {
        JoinGroupRequestProtocol::default().with_name(text(protocol)).with_metadata(subscription(join.topics))
    };
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(text(side.members.get(join.who).map_or("", String::as_str)))
        .with_group_instance_id(join.instance.map(text))
        .with_session_timeout_ms(45_000)
        .with_rebalance_timeout_ms(45_000)
        .with_protocol_type(text(join.kind))
        .with_protocols(join.protocols.iter().map(one).collect())
}

fn joined(who: &str) -> impl Fn(&mut Side, &mut kafka_protocol::messages::JoinGroupResponse) {
    move |side, answer| {
        const MEMBER_ID_REQUIRED: i16 = 79;
        if answer.error_code == 0 || answer.error_code == MEMBER_ID_REQUIRED {
            side.members.insert(who.to_owned(), answer.member_id.to_string());
            if answer.error_code == 0 {
                side.epochs.insert(who.to_owned(), answer.generation_id);
            }
        }
        // The ids are each broker's own, and so is their order.
        answer.members.sort_by_key(|member| member.metadata.clone());
    }
}

fn syncs(side: &Side, group: &str, who: &str, at: At, to: &[&str]) -> SyncGroupRequest {
    // Version 0 of an assignment: nothing of "turns", no data.
    let nothing = |who: &&str| {
        let assignment = SyncGroupRequestAssignment::default().with_member_id(text(&side.member(who)));
        assignment.with_assignment(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]))
    };
    SyncGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id(epoch(side, who, at))
        .with_member_id(text(&side.member(who)))
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(to.iter().map(nothing).collect())
}

fn offsets(script: &mut Script<'_>, group: &str, what: &str, step: Do) {
    match step {
        Commits(version, who, at, offset) => script.step::<OffsetCommitRequest>(
            what,
            version,
            |side| {
                let one = |index| {
                    let data = OffsetCommitRequestPartition::default().with_partition_index(index);
                    data.with_committed_offset(offset)
                };
                let topic = OffsetCommitRequestTopic::default().with_name(name("turns"));
                OffsetCommitRequest::default()
                    .with_group_id(GroupId(text(group)))
                    .with_generation_id_or_member_epoch(epoch(side, who, at))
                    .with_member_id(text(&side.member(who)))
                    .with_topics(vec![topic.with_partitions(vec![one(0), one(9)])])
            },
            |_, _| {},
        ),
        Commits10(who, at, topic) => script.raw(
            what,
            (8, 10),
            |side| commit_10(group, &side.member(who), epoch(side, who, at), id_of(side, topic)),
            |side, answer| without_id(answer, id_of(side, topic)),
        ),
        Fetches(who, at) => script.step::<OffsetFetchRequest>(
            what,
            9,
            |side| {
                let topic = OffsetFetchRequestTopics::default().with_name(name("turns"));
                let asked = OffsetFetchRequestGroup::default()
                    .with_group_id(GroupId(text(group)))
                    .with_member_id(who.map(|who| text(&side.member(who))))
                    .with_member_epoch(epoch(side, who.unwrap_or_default(), at))
                    .with_topics(Some(vec![topic.with_partition_indexes(vec![0, 9])]));
                OffsetFetchRequest::default().with_groups(vec![asked])
            },
            |_, _| {},
        ),
        Fetches10(topic) => script.raw(
            what,
            (9, 10),
            |side| fetch_10(group, id_of(side, topic)),
            |side, answer| without_id(answer, id_of(side, topic)),
        ),
        DeleteOffsets(topic) => script.step::<OffsetDeleteRequest>(
            what,
            0,
            |_| {
                let one = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
                let asked =
                    OffsetDeleteRequestTopic::default().with_name(name(topic)).with_partitions(vec![one(0), one(9)]);
                OffsetDeleteRequest::default().with_group_id(GroupId(text(group))).with_topics(vec![asked])
            },
            |_, _| {},
        ),
        other => unreachable!("{other:?} is not about offsets"),
    }
}

/// A topic's id; one that nobody has for one that is not there.
fn id_of(side: &Side, topic: &str) -> Uuid {
    match side.topic_id(topic) {
        id if id.is_nil() => Uuid::from_u128(7),
        id => id,
    }
}

fn compact(bytes: &mut Vec<u8>, text: &str) {
    bytes.put_u8(u8::try_from(text.len() + 1).expect("a short text"));
    bytes.put_slice(text.as_bytes());
}

/// OffsetCommit 10: one topic by its id, partitions 0 and 9.
fn commit_10(group: &str, member: &str, epoch: i32, topic: Uuid) -> Vec<u8> {
    let mut bytes = Vec::new();
    compact(&mut bytes, group);
    bytes.put_i32(epoch);
    compact(&mut bytes, member);
    bytes.put_slice(&[0, 2]);
    bytes.put_slice(topic.as_bytes());
    bytes.put_u8(3);
    for index in [0, 9] {
        bytes.put_i32(index);
        bytes.put_i64(11);
        bytes.put_i32(-1);
        bytes.put_slice(&[0, 0]);
    }
    bytes.put_slice(&[0, 0]);
    bytes
}

/// OffsetFetch 10: one group, one topic by its id, partitions 0 and 9, by nobody.
fn fetch_10(group: &str, topic: Uuid) -> Vec<u8> {
    let mut bytes = vec![2];
    compact(&mut bytes, group);
    bytes.put_u8(0);
    bytes.put_i32(-1);
    bytes.put_u8(2);
    bytes.put_slice(topic.as_bytes());
    bytes.put_u8(3);
    bytes.put_i32(0);
    bytes.put_i32(9);
    bytes.put_slice(&[0, 0, 0, 0]);
    bytes
}

/// The bytes with the topic's id left out.
fn without_id(answer: &[u8], topic: Uuid) -> String {
    let id: &[u8] = topic.as_bytes();
    match answer.windows(id.len()).position(|window| window == id) {
        Some(place) => format!("{:?} id {:?}", &answer[..place], &answer[place + id.len()..]),
        None => format!("{answer:?}"),
    }
}

fn look(script: &mut Script<'_>, group: &str, what: &str, step: Do) {
    let groups = || vec![GroupId(text(group))];
    match step {
        Describe => script.step::<ConsumerGroupDescribeRequest>(
            what,
            1,
            |_| ConsumerGroupDescribeRequest::default().with_group_ids(groups()),
            |_, answer| {
                for group in &mut answer.groups {
                    group.members.sort_by(|a, b| (a.member_type, &a.member_id).cmp(&(b.member_type, &b.member_id)));
                    for member in &mut group.members {
                        member.assignment.topic_partitions.sort_by(|a, b| a.topic_name.cmp(&b.topic_name));
                        member.target_assignment.topic_partitions.sort_by(|a, b| a.topic_name.cmp(&b.topic_name));
                        member.subscribed_topic_names.sort();
                    }
                }
            },
        ),
        DescribeClassic => script.step::<DescribeGroupsRequest>(
            what,
            6,
            |_| DescribeGroupsRequest::default().with_groups(groups()),
            |_, answer| {
                for group in &mut answer.groups {
                    let order = |it: &DescribedGroupMember| (it.member_metadata.clone(), it.member_assignment.clone());
                    group.members.sort_by_key(order);
                }
            },
        ),
        List(states, types) => script.step::<ListGroupsRequest>(
            what,
            5,
            |_| {
                ListGroupsRequest::default()
                    .with_states_filter(states.iter().map(|state| text(state)).collect())
                    .with_types_filter(types.iter().map(|kind| text(kind)).collect())
            },
            |_, answer| answer.groups.retain(|listed| &*listed.group_id == group),
        ),
        Delete => script.step::<DeleteGroupsRequest>(
            what,
            2,
            |_| DeleteGroupsRequest::default().with_groups_names(groups()),
            |_, _| {},
        ),
        other => unreachable!("{other:?} is not looking"),
    }
}
