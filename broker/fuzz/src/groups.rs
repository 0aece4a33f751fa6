//! What the coordinators read: the consumers' own protocol, and the records of their two topics.

use crate::cut::{Cut, put_part};
use bytes::Bytes;
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use kafka_protocol::protocol::Decodable;
use millrace::coordinator::group::consumer_protocol::{Assignment, Subscription};
use millrace::coordinator::group::hosted::GroupSetup;
use millrace::coordinator::group::machine::{GroupMachine, Images};
use millrace::coordinator::group::records::*;
use millrace::coordinator::group::{GroupOptions, Protocol};
use millrace::coordinator::runtime::machine::{Machine, Now, Step, Token};
use millrace::coordinator::txn::machine::TxnMachine;
use millrace::coordinator::txn::records::{Txn, TxnRecord};
use millrace::coordinator::txn::{ListTxns, TxnOptions, TxnState, TxnVersion};
use millrace_metadata::Image;
use millrace_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId};
use std::sync::Arc;
use uuid::Uuid;

/// kafka-protocol refuses lengths below −1 where Kafka takes all negative ones for null, and so do we.
fn understood<T>(oracle: Result<T, impl std::fmt::Display>) -> Option<T> {
    match oracle {
        Ok(read) => Some(read),
        Err(error) => {
            assert!(error.to_string().contains("negative"), "only we read it: {error}");
            None
        }
    }
}

/// A subscription, or an assignment: whatever the bytes are.
pub(crate) fn subscriptions(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let version = Subscription::version_of(&bytes);
    let theirs =
        |most: i16| data.first_chunk().map(|version| i16::from_be_bytes(*version)).filter(|v| (0..=most).contains(v));
    if let Some(read) = Subscription::read(&bytes) {
        assert_eq!(Subscription::topics_of(&bytes).as_ref(), Some(&read.topics));
        if let Some(version) = theirs(3) {
            let oracle = ConsumerProtocolSubscription::decode(&mut bytes.slice(2..), version);
            let Some(oracle) = understood(oracle) else { return };
            assert!(oracle.topics.iter().map(|topic| topic.as_str()).eq(read.topics.iter().map(String::as_str)));
            let owned = oracle.owned_partitions.iter().map(|owned| (owned.topic.to_string(), owned.partitions.clone()));
            assert!(owned.eq(read.owned));
            assert_eq!(oracle.rack_id.as_deref(), read.rack.as_deref());
        }
    }
    if let Some(read) = Assignment::read(&bytes) {
        if let Some(version) = theirs(3) {
            let oracle = ConsumerProtocolAssignment::decode(&mut bytes.slice(2..), version);
            let Some(oracle) = understood(oracle) else { return };
            let assigned = oracle.assigned_partitions.iter();
            assert!(assigned.map(|of| (of.topic.to_string(), of.partitions.clone())).eq(read.partitions.clone()));
        }
        let named: Vec<_> = read.partitions.iter().map(|(topic, of)| (topic.as_str(), of.clone())).collect();
        let again = Assignment::read(&Assignment::write(version, &named)).expect("it was just written");
        assert_eq!((again.partitions, again.has_user_data), (read.partitions, false));
    }
}

pub(crate) fn subscription_seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for version in 0..=3_i16 {
        let mut bytes = version.to_be_bytes().to_vec();
        bytes.extend(b"\0\0\0\x02\0\x01a\0\x02bc\0\0\0\x01u");
        if version >= 1 {
            bytes.extend(b"\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\x01\0\0\0\x05");
        }
        if version >= 2 {
            bytes.extend(7_i32.to_be_bytes());
        }
        if version >= 3 {
            bytes.extend(b"\0\x02r1");
        }
        all.push(bytes);
        all.push(Assignment::write(version, &[("a", vec![0, 3]), ("bc", vec![1])]).to_vec());
    }
    all
}

/// Records: each a byte whose lowest bits say whether there is a value and a transaction around it, a key, a value.
struct Stored<'a> {
    key: &'a [u8],
    value: Option<&'a [u8]>,
    transaction: Option<ProducerId>,
}

/// More records make an input slower and show nothing new.
const MOST: usize = 40;

fn stored(data: &[u8]) -> Vec<Stored<'_>> {
    let mut cut = Cut(data);
    let mut all = Vec::new();
    while !cut.is_empty() && all.len() < MOST {
        let flags = cut.byte();
        let (key, value) = (cut.part(), cut.part());
        let value = (flags & 1 == 0).then_some(value);
        all.push(Stored { key, value, transaction: (flags & 6 == 6).then_some(ProducerId::new(3)) });
    }
    all
}

fn put(to: &mut Vec<u8>, flags: u8, (key, value): &(Bytes, Option<Bytes>)) {
    to.push(flags | u8::from(value.is_none()));
    put_part(to, key);
    put_part(to, value.as_deref().unwrap_or_default());
}

fn seeds(records: &[(Bytes, Option<Bytes>)]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut together = Vec::new();
    for record in records {
        let mut one = Vec::new();
        put(&mut one, 0, record);
        put(&mut one, 6, record);
        put(&mut together, 0, record);
        all.push(one);
    }
    all.push(together);
    all
}

const START: Now = Now { wall: Timestamp::new(1_700_000_000_000), tick: 1_000 };

/// Follows a step to its end; how many answers there were.
fn settle<M: Machine>(machine: &mut M, mut step: Step<M::Reply, M::Pending>, now: Now) -> usize {
    let mut answers = 0;
    for at in 0..20 {
        answers += step.replies.len();
        let Some(pending) = step.pending else { return answers };
        let records = M::records(&pending);
        M::envelope(&pending).seal(now.wall, &records).expect("what a machine stores fits a batch");
        step = machine.conclude(pending, Ok(Offset::new(1_000 + at)), now);
    }
    panic!("one request leads to record after record");
}

/// Whatever records say, a machine takes them, answers, and time goes on.
fn replay<M: Machine>(records: &[Stored<'_>], options: M::Options, list: impl Fn() -> M::Request) {
    let mut machine = M::new(options);
    for (at, record) in (0..).zip(records) {
        let _ = machine.replay((record.key, record.value), Offset::new(at), record.transaction, START);
    }
    machine.replay_marker(ProducerId::new(3), records.len().is_multiple_of(2));
    for step in machine.loaded(LeaderEpoch::new(0), START) {
        settle(&mut machine, step, START);
    }
    machine.take_work();
    let mut now = START;
    for _ in 0..3 {
        let step = machine.handle(Token(1), list(), now);
        assert_eq!(settle(&mut machine, step, now), 1, "a request has one answer");
        now = Now { wall: now.wall.plus_ms(90_000_000), tick: now.tick + 90_000_000 };
        for _ in 0..8 {
            let Some(step) = machine.expire(now) else { break };
            settle(&mut machine, step, now);
        }
    }
}

#[derive(Debug, Default)]
struct NoTopics(Arc<Image>);

impl Images for NoTopics {
    fn image(&self) -> Arc<Image> {
        Arc::clone(&self.0)
    }
}

/// Records of `__consumer_offsets`.
pub(crate) fn group_records(data: &[u8]) {
    let records = stored(data);
    for record in &records {
        let Ok(read) = GroupRecord::decode(record.key, record.value) else { continue };
        let Some((key, value)) = read.encode() else { continue };
        let again = GroupRecord::decode(&key, value.as_deref()).expect("it was just written");
        // Of these the tombstone alone is ever written.
        if !matches!(&read, GroupRecord::Consumer { record: ConsumerRecord::Topics { .. }, .. }) {
            assert_eq!(again, plain_offset(read));
        }
    }
    let setup = GroupSetup { options: GroupOptions::default(), images: Arc::new(NoTopics::default()) };
    replay::<GroupMachine>(&records, setup, || millrace::coordinator::group::machine::Request::List {
        states: Vec::new(),
        types: Vec::new(),
    });
}

/// Times before 1970 all mean none, and none is written.
fn plain_offset(mut record: GroupRecord) -> GroupRecord {
    if let GroupRecord::Offset { value: Some(value), .. } = &mut record
        && value.expires_at < Timestamp::new(0)
    {
        value.expires_at = Timestamp::NONE;
    }
    record
}

pub(crate) fn group_seeds() -> Vec<Vec<u8>> {
    let group: Arc<str> = "g".into();
    let member: Arc<str> = "m0".into();
    let topic = TopicId::new(Uuid::from_u128(7));
    let offset = OffsetValue {
        offset: Offset::new(5),
        leader_epoch: LeaderEpoch::new(1),
        metadata: "note".into(),
        committed_at: START.wall,
        expires_at: Timestamp::NONE,
        topic_id: TopicId::NIL,
    };
    let offsets = [
        offset.clone(),
        OffsetValue { topic_id: topic, ..offset.clone() },
        OffsetValue { expires_at: START.wall, leader_epoch: LeaderEpoch::NONE, ..offset },
    ];
    let offsets = offsets.map(Some).into_iter().chain([None]);
    let mut records: Vec<GroupRecord> = offsets
        .map(|value| GroupRecord::Offset { group: Arc::clone(&group), topic: "t".into(), partition: 2, value })
        .collect();
    let classic_member = MemberValue {
        member_id: "m1".into(),
        instance_id: Some("fixed".into()),
        client_id: "c".into(),
        client_host: "/h".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        subscription: Bytes::from(subscription_seeds().swap_remove(6)),
        assignment: Assignment::write(3, &[("a", vec![0])]),
    };
    let classic = GroupValue {
        protocol_type: "consumer".into(),
        generation: 3,
        protocol: Some("range".into()),
        leader: Some("m1".into()),
        state_since: START.wall,
        members: vec![classic_member],
    };
    for value in [Some(classic), None] {
        records.push(GroupRecord::Group { group: "classic".into(), value });
    }
    let protocols = vec![Protocol { name: "range".into(), metadata: Bytes::from(subscription_seeds().swap_remove(6)) }];
    let value = ConsumerMemberValue {
        instance_id: Some("i".into()),
        rack: Some("r".into()),
        client_id: "c".into(),
        client_host: "/h".into(),
        topics: ["a".to_owned(), "bc".to_owned()].into(),
        regex: "a.*".into(),
        rebalance_timeout_ms: 60_000,
        assignor: Some("uniform".into()),
        classic: Some(ClassicSide { session_timeout_ms: 10_000, protocols }),
    };
    let current = CurrentValue {
        epoch: 4,
        previous_epoch: 3,
        state: MemberState::UnrevokedPartitions,
        assigned: [(topic, [(0, 4), (1, 3)].into())].into(),
        revoking: [(topic, [(2, 3)].into())].into(),
    };
    let consumer = [
        ConsumerRecord::Group(Some(ConsumerGroupValue { epoch: 4, metadata_hash: 99 })),
        ConsumerRecord::Topics { kept: false },
        ConsumerRecord::Member(Arc::clone(&member), Some(value.clone())),
        ConsumerRecord::Member("m2".into(), Some(ConsumerMemberValue { classic: None, ..value })),
        ConsumerRecord::TargetEpoch(Some(TargetEpochValue { epoch: 4, at: START.wall })),
        ConsumerRecord::Target(Arc::clone(&member), Some([(topic, [0, 1].into())].into())),
        ConsumerRecord::Current(Arc::clone(&member), Some(current)),
        ConsumerRecord::Regex(
            "a.*".into(),
            Some(RegexValue { topics: ["a".to_owned()].into(), version: 8, at: START.wall }),
        ),
        ConsumerRecord::Target("m2".into(), None),
        ConsumerRecord::Current("m2".into(), None),
        ConsumerRecord::Member("m2".into(), None),
        ConsumerRecord::Regex("a.*".into(), None),
    ];
    records.extend(consumer.map(|record| GroupRecord::Consumer { group: "modern".into(), record }));
    let records: Vec<_> = records.iter().filter_map(GroupRecord::encode).collect();
    seeds(&records)
}

/// Records of `__transaction_state`.
pub(crate) fn txn_records(data: &[u8]) {
    let records = stored(data);
    for record in &records {
        let Ok(Some(read)) = TxnRecord::decode(record.key, record.value) else { continue };
        // In this state there are no partitions to write, and Kafka refuses some where there are.
        let lossy = read.value.as_ref().is_some_and(|txn| txn.state == TxnState::Empty && !txn.partitions.is_empty());
        let (key, value) = read.encode();
        let again = TxnRecord::decode(&key, value.as_deref()).expect("it was just written");
        assert!(lossy || again == Some(plain(&read)), "{read:?} reads back as {again:?}");
    }
    let list = || ListTxns { states: Vec::new(), producers: Vec::new(), longer_than_ms: 0 };
    replay::<TxnMachine>(
        &records,
        TxnOptions::default(),
        || millrace::coordinator::txn::machine::Request::List(list()),
    );
}

/// Ids below zero all mean none, and none is written.
fn plain(record: &TxnRecord) -> TxnRecord {
    let none = |id: ProducerId| if id.is_some() { id } else { ProducerId::NONE };
    let value = record.value.clone();
    let value = value.map(|txn| Txn { previous_id: none(txn.previous_id), next_id: none(txn.next_id), ..txn });
    TxnRecord { id: Arc::clone(&record.id), value }
}

pub(crate) fn txn_seeds() -> Vec<Vec<u8>> {
    let txn = |state, version| Txn {
        producer_id: ProducerId::new(7),
        producer_epoch: ProducerEpoch::new(3),
        previous_id: ProducerId::new(6),
        next_id: ProducerId::NONE,
        last_epoch: ProducerEpoch::NONE,
        timeout_ms: 60_000,
        state,
        partitions: if state == TxnState::Empty { [].into() } else { [("t".into(), 0), ("t".into(), 2)].into() },
        started: START.wall,
        updated: START.wall,
        version,
    };
    let mut records = Vec::new();
    for (number, state) in TxnState::ALL.into_iter().enumerate() {
        for version in [TxnVersion::V0, TxnVersion::V2] {
            let id = format!("id{number}{}", version.level());
            records.push(TxnRecord { id: id.into(), value: Some(txn(state, version)) }.encode());
        }
    }
    records.push(TxnRecord { id: "id0".into(), value: None }.encode());
    // As brokers before 3.8 wrote it.
    let mut old = b"\0\0\0\0\0\0\0\0\0\x07\0\x03\0\0\xea\x60\x01\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x02".to_vec();
    old.extend([START.wall.get().to_be_bytes(), START.wall.get().to_be_bytes()].concat());
    records.push((Bytes::from_static(b"\0\0\0\x03old"), Some(old.into())));
    seeds(&records)
}
