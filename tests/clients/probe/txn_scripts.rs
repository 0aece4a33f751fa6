//! Transactions, right and wrong, step by step and as clients of three generations do them.

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, BrokerId, DescribeProducersRequest, DescribeTransactionsRequest, EndTxnRequest,
    FetchRequest, GroupId, InitProducerIdRequest, ListOffsetsRequest, ListTransactionsRequest, OffsetFetchRequest,
    ProduceRequest, TxnOffsetCommitRequest, WriteTxnMarkersRequest,
};

use super::batch::Raw;
use super::script::{Script, Side};
use super::topics::name;
use super::transactions::{self as wire, TOPIC};
use super::{Pair, data, text};

/// The versions that a client speaks.
#[derive(Debug, Clone, Copy)]
struct Client {
    what: &'static str,
    init: i16,
    add: i16,
    produce: i16,
    offsets: i16,
    commit: i16,
    end: i16,
}

const CLIENTS: [Client; 4] = [
    Client { what: "0.11", init: 0, add: 0, produce: 3, offsets: 0, commit: 0, end: 0 },
    Client { what: "3.x", init: 4, add: 3, produce: 11, offsets: 3, commit: 3, end: 3 },
    Client { what: "4.x", init: 5, add: 4, produce: 12, offsets: 4, commit: 5, end: 5 },
    Client { what: "4.x by ids", init: 5, add: 4, produce: 13, offsets: 4, commit: 5, end: 5 },
];

/// In whose name something is asked.
#[derive(Debug, Clone, Copy)]
enum As {
    /// The producer.
    Me,
    /// Who it was before the last change.
    Before,
    /// The producer with an epoch so much higher.
    Epoch(i16),
    /// Somebody else with the same epoch.
    Stranger,
    /// Nobody.
    Nobody,
}
use As::{Before, Epoch, Me, Nobody, Stranger};

/// One step.
#[derive(Debug, Clone, Copy)]
enum Do {
    Init(i32),
    /// Partitions by their distance from the script's first.
    Add(&'static [i32]),
    Verify(&'static [i32]),
    Produce(i32),
    /// As clients of another version do.
    ProduceIn(i16, i32),
    Skip(i32),
    Offsets,
    Commit(i64),
    /// As a member with a generation.
    CommitAs(i64, &'static str, i32),
    End(bool),
    /// In another version.
    EndIn(i16, bool),
    Settle,
    /// Until its time is over and it is aborted.
    Expire,
    /// InitProducerId so many times.
    Bump(usize),
    Describe,
    List,
    Producers(i32),
    Read(i32),
    Committed(bool),
    /// Commit, the partition, the coordinator's epoch.
    Marker(bool, i32, i32),
    /// With the transaction's version.
    MarkerOf(i8, bool, i32, i32),
    /// Outside of any transaction.
    Plain(i32),
    /// To where a client must not write.
    Internal,
}
use Do::{
    Add, Bump, Commit, CommitAs, Committed, Describe, End, EndIn, Expire, Init, Internal, List, Marker, MarkerOf,
    Offsets, Plain, Produce, ProduceIn, Producers, Read, Settle, Skip, Verify,
};

const ONCE: &[(Do, As)] = &[
    (Init(60_000), Nobody),
    (Describe, Me),
    (List, Me),
    (Add(&[0, 1]), Me),
    (Describe, Me),
    (Produce(0), Me),
    (Produce(0), Me),
    (Produce(1), Me),
    (Verify(&[0, 2]), Me),
    (Producers(0), Me),
    (Read(0), Me),
    (Describe, Me),
    (List, Me),
    (End(true), Me),
    (Settle, Me),
    (Describe, Me),
    (Read(0), Me),
    (Producers(0), Me),
    (End(true), Before),
    (End(false), Before),
    (End(true), Me),
    (End(false), Me),
    (Settle, Me),
    (Describe, Me),
    (List, Me),
];

const ABORTED: &[(Do, As)] = &[
    (Init(60_000), Nobody),
    (Add(&[0]), Me),
    (Produce(0), Me),
    (End(false), Me),
    (Settle, Me),
    (Describe, Me),
    (Read(0), Me),
    (End(false), Before),
    (End(true), Before),
    (End(false), Me),
    (Settle, Me),
    (Describe, Me),
    (End(true), Me),
    (Settle, Me),
    (Add(&[0]), Me),
    (Produce(0), Me),
    (Read(0), Me),
    (Add(&[0]), Before),
    (Produce(0), Before),
    (End(true), Me),
    (Settle, Me),
    (Read(0), Me),
    (Producers(0), Me),
];

const NOTHING: &[(Do, As)] = &[
    (Init(60_000), Nobody),
    (End(true), Me),
    (End(false), Me),
    (Settle, Me),
    (Describe, Me),
    (Add(&[]), Me),
    (Describe, Me),
    (Produce(0), Me),
    (ProduceIn(10, 0), Me),
    (ProduceIn(11, 0), Me),
    (Verify(&[0]), Me),
    (Describe, Me),
    (Settle, Me),
    (EndIn(1, true), Me),
    (Settle, Me),
    (Describe, Me),
    (EndIn(2, false), Me),
    (EndIn(5, false), Me),
    (Settle, Me),
    (Describe, Me),
];

const STRANGERS: &[(Do, As)] = &[
    (Init(60_000), Nobody),
    (Init(60_000), Nobody),
    (Add(&[0]), Epoch(1)),
    (Add(&[0]), Epoch(-1)),
    (Add(&[0]), Stranger),
    (Add(&[0]), Nobody),
    (Verify(&[0]), Epoch(1)),
    (Verify(&[0]), Stranger),
    (Offsets, Epoch(1)),
    (Offsets, Stranger),
    (Add(&[0]), Me),
    (Produce(0), Me),
    (Produce(0), Epoch(1)),
    (Produce(0), Epoch(-1)),
    (Produce(0), Stranger),
    (Produce(1), Epoch(1)),
    (Produce(1), Epoch(-1)),
    (Produce(1), Stranger),
    (Produce(1), Nobody),
    (Skip(0), Me),
    (Plain(0), Me),
    (Plain(1), Me),
    (Internal, Me),
    (Commit(5), Epoch(1)),
    (Commit(5), Stranger),
    (Commit(5), Nobody),
    (End(true), Epoch(1)),
    (End(true), Epoch(-1)),
    (End(true), Stranger),
    (End(true), Nobody),
    (Describe, Me),
    (End(true), Me),
    (Settle, Me),
    (End(true), Epoch(1)),
    (End(true), Epoch(-2)),
    (Describe, Me),
];

const FENCED: &[(Do, As)] = &[
    (Init(60_000), Nobody),
    (Init(50_000), Nobody),
    (Describe, Me),
    (Init(40_000), Me),
    (Init(40_000), Before),
    (Init(40_000), Stranger),
    (Init(40_000), Epoch(3)),
    (Describe, Me),
    (Add(&[0]), Me),
    (Produce(0), Me),
    (Init(30_000), Nobody),
    (Settle, Me),
    (Describe, Me),
    (Read(0), Me),
    (Add(&[0]), Me),
    (Produce(0), Me),
    (End(true), Me),
    (Init(30_000), Nobody),
    (Describe, Me),
    (Produce(0), Before),
    (End(true), Before),
    (Add(&[0]), Before),
    (Add(&[0]), Me),
    (Produce(0), Me),
    (Init(30_000), Me),
    (Settle, Me),
    (Init(30_000), Me),
    (Describe, Me),
    (Producers(0), Me),
    (Read(0), Me),
];

const GROUP: &[(Do, As)] = &[
    (Init(60_000), Nobody),
    (Commit(3), Me),
    (Offsets, Me),
    (Describe, Me),
    (Commit(4), Me),
    (Committed(false), Me),
    (Committed(true), Me),
    (CommitAs(6, "stranger", 3), Me),
    (CommitAs(6, "", 3), Me),
    (CommitAs(6, "stranger", -1), Me),
    (End(true), Me),
    (Settle, Me),
    (Committed(true), Me),
    (Offsets, Me),
    (Commit(9), Me),
    (Committed(true), Me),
    (End(false), Me),
    (Settle, Me),
    (Committed(true), Me),
    (Offsets, Before),
    (Commit(9), Before),
    (Describe, Me),
];

const OVERDUE: &[(Do, As)] = &[
    (Init(1_500), Nobody),
    (Init(1_500), Nobody),
    (Add(&[0]), Me),
    (Produce(0), Me),
    (Expire, Me),
    (Describe, Me),
    (Read(0), Me),
    (Produce(0), Me),
    (Produce(0), Epoch(1)),
    (Commit(5), Me),
    (Add(&[0]), Me),
    (End(true), Me),
    (End(false), Me),
    (Settle, Me),
    (Describe, Me),
    (Init(60_000), Me),
    (Settle, Me),
    (Init(60_000), Before),
    (Settle, Me),
    (Describe, Me),
    (Producers(0), Me),
];

const EXHAUSTED: &[(Do, As)] = &[
    (Init(60_000), Nobody),
    (Bump(32_762), Me),
    (Describe, Me),
    (Init(60_000), Me),
    (Init(60_000), Me),
    (Add(&[0]), Me),
    (Produce(0), Me),
    (End(true), Me),
    (Settle, Me),
    (Describe, Me),
    (Add(&[0]), Me),
    (Produce(0), Me),
    (End(false), Me),
    (Settle, Me),
    (Describe, Me),
    (End(false), Before),
    (End(true), Before),
    (Settle, Me),
    (Add(&[0]), Before),
    (Init(60_000), Before),
    (Init(60_000), Me),
    (Init(60_000), Me),
    (Describe, Me),
    (Init(60_000), Before),
    (Add(&[0]), Me),
    (Produce(0), Me),
    (End(true), Me),
    (Settle, Me),
    (Producers(0), Me),
    (Read(0), Me),
];

const BY_HAND: &[(Do, As)] = &[
    (Init(60_000), Nobody),
    (Init(60_000), Nobody),
    (Add(&[0]), Me),
    (Produce(0), Me),
    (Marker(false, 0, 0), Epoch(-1)),
    (Marker(false, 0, 0), Stranger),
    (Read(0), Me),
    (Marker(false, 0, 0), Me),
    (Read(0), Me),
    (Producers(0), Me),
    (Describe, Me),
    (Produce(0), Me),
    (MarkerOf(2, true, 0, 0), Me),
    (MarkerOf(2, true, 0, 0), Epoch(-1)),
    (MarkerOf(2, true, 2, 0), Me),
    (MarkerOf(1, false, 0, 0), Me),
    (MarkerOf(2, false, 0, 0), Me),
    (MarkerOf(9, false, 0, 0), Me),
    (MarkerOf(-1, false, 0, 0), Me),
    (Produce(0), Me),
    (Producers(0), Me),
    (Marker(false, 0, 5), Me),
    (Marker(false, 0, 4), Me),
    (MarkerOf(2, true, 0, 5), Epoch(1)),
    (Marker(true, 0, 5), Epoch(1)),
    (Produce(0), Me),
    (Read(0), Me),
    (Producers(0), Me),
];

const MIXED: &[(Do, As)] = &[
    (Init(60_000), Nobody),
    (Add(&[0]), Me),
    (ProduceIn(11, 0), Me),
    (ProduceIn(12, 1), Me),
    (EndIn(3, true), Me),
    (Settle, Me),
    (Describe, Me),
    (Add(&[0]), Me),
    (ProduceIn(10, 1), Me),
    (ProduceIn(11, 1), Me),
    (EndIn(5, true), Me),
    (Settle, Me),
    (Describe, Me),
    (ProduceIn(12, 1), Me),
    (EndIn(3, false), Me),
    (Settle, Me),
    (EndIn(4, false), Me),
    (EndIn(5, false), Me),
    (Settle, Me),
    (Describe, Me),
    (Read(0), Me),
    (Read(1), Me),
    (Producers(1), Me),
];

/// Every script by every client.
pub fn all(pair: &mut Pair) {
    let scripts = [
        ("a transaction", ONCE),
        ("an aborted transaction", ABORTED),
        ("an empty transaction", NOTHING),
        ("strangers to a transaction", STRANGERS),
        ("fencing", FENCED),
        ("offsets in a transaction", GROUP),
        ("markers by hand", BY_HAND),
        ("overdue", OVERDUE),
        ("epochs at their end", EXHAUSTED),
        ("versions mixed", MIXED),
    ];
    let mut at = 0;
    for (what, steps) in scripts {
        for client in CLIENTS {
            // Before version 3 nobody says who they are.
            if what == "epochs at their end" && client.init < 3 {
                continue;
            }
            let mut walk = Walk { client, id: format!("{what}, {}", client.what), first: at };
            let mut script = pair.script(format!("Transactions, {what}, {}", client.what));
            walk.wait_for_coordinator(&mut script);
            for (place, (step, who)) in steps.iter().enumerate() {
                walk.step(&mut script, &format!("{place} {step:?} {who:?}"), *step, *who);
            }
            at += 3;
        }
    }
}

/// A script by a client.
struct Walk {
    client: Client,
    id: String,
    /// The first partition that it may write to.
    first: i32,
}

fn identity(side: &Side, who: As) -> (i64, i16) {
    let (id, epoch) = side.producer;
    match who {
        Me => (id, epoch),
        Before => side.before,
        Epoch(more) => (id, epoch + more),
        Stranger => (id + 500_000, epoch),
        Nobody => (-1, -1),
    }
}

/// From version 13 on topics go by their ids.
fn by_id(side: &Side, version: i16, mut request: ProduceRequest) -> ProduceRequest {
    for topic in request.topic_data.iter_mut().filter(|_| version >= 13) {
        topic.topic_id = side.topic_id(&topic.name);
        topic.name = name("");
    }
    request
}

fn changed(side: &mut Side, id: i64, epoch: i16) {
    if id >= 0 && side.producer != (id, epoch) {
        side.before = std::mem::replace(&mut side.producer, (id, epoch));
    }
}

impl Walk {
    /// The partition that keeps the id may still have to be loaded.
    fn wait_for_coordinator(&self, script: &mut Script<'_>) {
        const NOT_FOUND: i16 = 105;
        let describe =
            |_: &Side| DescribeTransactionsRequest::default().with_transactional_ids(vec![wire::id(&self.id)]);
        script.until(0, describe, |_, answer| {
            answer.transaction_states.first().is_some_and(|state| state.error_code == NOT_FOUND)
        });
    }

    fn at(&self, partition: i32) -> i32 {
        self.first + partition
    }

    fn step(&mut self, script: &mut Script<'_>, what: &str, step: Do, who: As) {
        let (client, id) = (self.client, self.id.clone());
        match step {
            Init(timeout) => script.step::<InitProducerIdRequest>(
                what,
                client.init,
                |side| wire::init(Some(&id), timeout, if client.init < 3 { (-1, -1) } else { identity(side, who) }),
                |side, answer| changed(side, answer.producer_id.0, answer.producer_epoch),
            ),
            Add(partitions) => self.add(script, what, partitions, who),
            Verify(partitions) => {
                let at: Vec<i32> = partitions.iter().map(|it| self.at(*it)).collect();
                script.step::<AddPartitionsToTxnRequest>(
                    what,
                    client.add.max(4),
                    |side| {
                        let one = wire::transaction(&id, identity(side, who), &[(TOPIC, &at)], true);
                        AddPartitionsToTxnRequest::default().with_transactions(vec![one])
                    },
                    |_, answer| wire::sort_added(answer),
                );
            }
            Produce(partition) => self.produce(script, what, client.produce, partition, who, 0),
            ProduceIn(version, partition) => self.produce(script, what, version, partition, who, 0),
            Skip(partition) => self.produce(script, what, client.produce, partition, who, 7),
            Offsets => script.step::<AddOffsetsToTxnRequest>(
                what,
                client.offsets,
                |side| wire::offsets(&id, identity(side, who), &id),
                |_, _| {},
            ),
            Commit(offset) => self.commit(script, what, offset, None, who),
            CommitAs(offset, member, generation) => {
                self.commit(script, what, offset, Some((member, generation)), who);
            }
            End(commit) => self.end(script, what, client.end, commit, who),
            EndIn(version, commit) => self.end(script, what, version, commit, who),
            Marker(commit, partition, coordinator) => script.step::<WriteTxnMarkersRequest>(
                what,
                1,
                |side| {
                    let at = [self.at(partition)];
                    let marker = wire::marker(identity(side, who), commit, coordinator, &[(TOPIC, &at)]);
                    WriteTxnMarkersRequest::default().with_markers(vec![marker])
                },
                |_, _| {},
            ),
            MarkerOf(version, commit, partition, coordinator) => {
                let at = self.at(partition);
                let body = |side: &Side| marker_2(identity(side, who), commit, at, coordinator, version);
                // Without the producer.
                script.raw(what, (27, 2), body, |_, answer| format!("{:?}", answer.get(9..)));
            }
            Plain(partition) => self.plain(script, what, (TOPIC, self.at(partition)), 0, who),
            Internal => self.plain(script, what, ("__transaction_state", 0), 0x10, who),
            Bump(times) => {
                let request = wire::init(Some(&id), 60_000, (-1, -1));
                script.repeat::<InitProducerIdRequest>(times, client.init, &request, |side, answer| {
                    changed(side, answer.producer_id.0, answer.producer_epoch);
                });
            }
            Settle | Expire | Describe | List | Producers(_) | Read(_) | Committed(_) => self.look(script, what, step),
        }
    }

    fn add(&self, script: &mut Script<'_>, what: &str, partitions: &[i32], who: As) {
        let at: Vec<i32> = partitions.iter().map(|it| self.at(*it)).collect();
        script.step::<AddPartitionsToTxnRequest>(
            what,
            self.client.add,
            |side| wire::add(self.client.add, &self.id, identity(side, who), &[(TOPIC, &at)]),
            |_, answer| wire::sort_added(answer),
        );
    }

    fn produce(&self, script: &mut Script<'_>, what: &str, version: i16, partition: i32, who: As, skip: i32) {
        let at = self.at(partition);
        script.step::<ProduceRequest>(
            what,
            version,
            |side| {
                let (id, epoch) = identity(side, who);
                let sequence = side.sequences.get(&(epoch, at)).copied().unwrap_or(0) + skip;
                let batch =
                    Raw { attributes: 0x10, producer: (id, epoch, sequence), values: vec!["one"], ..Raw::default() };
                let request = by_id(side, version, data::produce_to(TOPIC, at, Some(batch.bytes()), -1));
                request.with_transactional_id(Some(wire::id(&self.id)))
            },
            |side, answer| {
                let (_, epoch) = identity(side, who);
                let stored =
                    answer.responses.iter().flat_map(|it| &it.partition_responses).all(|it| it.error_code == 0);
                if stored {
                    *side.sequences.entry((epoch, at)).or_default() += 1;
                }
            },
        );
    }

    fn plain(&self, script: &mut Script<'_>, what: &str, at: (&str, i32), attributes: i16, who: As) {
        script.step::<ProduceRequest>(
            what,
            self.client.produce,
            |side| {
                let (id, epoch) = identity(side, who);
                let batch = Raw { attributes, producer: (id, epoch, 3), values: vec!["one"], ..Raw::default() };
                let request = by_id(side, self.client.produce, data::produce_to(at.0, at.1, Some(batch.bytes()), -1));
                request.with_transactional_id(Some(wire::id(&self.id)))
            },
            |_, _| {},
        );
    }

    fn commit(&self, script: &mut Script<'_>, what: &str, offset: i64, member: Option<(&str, i32)>, who: As) {
        let version = self.client.commit;
        script.step::<TxnOffsetCommitRequest>(
            what,
            version,
            |side| {
                let request =
                    wire::commit(&self.id, identity(side, who), &self.id, &[(TOPIC, 0), ("nowhere", 0)], offset);
                match member {
                    Some((member, generation)) if version >= 3 => {
                        request.with_member_id(text(member)).with_generation_id(generation)
                    }
                    _ => request,
                }
            },
            |_, answer| answer.topics.sort_by(|a, b| a.name.cmp(&b.name)),
        );
    }

    fn end(&self, script: &mut Script<'_>, what: &str, version: i16, commit: bool, who: As) {
        script.step::<EndTxnRequest>(
            what,
            version,
            |side| wire::end(&self.id, identity(side, who), commit),
            |side, answer| changed(side, answer.producer_id.0, answer.producer_epoch),
        );
    }

    fn look(&self, script: &mut Script<'_>, what: &str, step: Do) {
        let id = &self.id;
        let describe = |_: &Side| DescribeTransactionsRequest::default().with_transactional_ids(vec![wire::id(id)]);
        match step {
            Settle => script.until(0, describe, |_, answer| {
                answer.transaction_states.iter().all(|it| !it.transaction_state.starts_with("Prepare"))
            }),
            Expire => script.until(0, describe, |_, answer| {
                answer.transaction_states.iter().all(|it| &*it.transaction_state == "CompleteAbort")
            }),
            Describe => script.step::<DescribeTransactionsRequest>(what, 0, describe, |_, answer| {
                for state in &mut answer.transaction_states {
                    state.topics.sort_by(|a, b| a.topic.cmp(&b.topic));
                    state.topics.iter_mut().for_each(|topic| topic.partitions.sort_unstable());
                }
            }),
            List => script.step::<ListTransactionsRequest>(
                what,
                2,
                |side| {
                    let request = ListTransactionsRequest::default().with_transactional_id_pattern(Some(text(id)));
                    request.with_producer_id_filters(vec![side.producer.0.into()]).with_duration_filter(-1)
                },
                |_, _| {},
            ),
            Producers(partition) => script.step::<DescribeProducersRequest>(
                what,
                0,
                |_| wire::producers(&[(TOPIC, &[self.at(partition)])]),
                |_, answer| wire::sort_producers(answer),
            ),
            Read(partition) => self.read(script, what, self.at(partition)),
            Committed(stable) => script.step::<OffsetFetchRequest>(
                what,
                9,
                |_| {
                    let topic =
                        OffsetFetchRequestTopics::default().with_name(name(TOPIC)).with_partition_indexes(vec![0]);
                    let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text(id)));
                    let group = group.with_topics(Some(vec![topic]));
                    OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(stable)
                },
                |_, _| {},
            ),
            other => unreachable!("{other:?} is not looking"),
        }
    }

    /// Fetch and ListOffsets, of everything and of what is committed.
    fn read(&self, script: &mut Script<'_>, what: &str, at: i32) {
        for isolation in [0, 1] {
            script.step::<FetchRequest>(
                &format!("{what}, fetched {isolation}"),
                11,
                |_| {
                    let asked = FetchPartition::default().with_partition(at).with_partition_max_bytes(1 << 20);
                    let topic = FetchTopic::default().with_topic(name(TOPIC)).with_partitions(vec![asked]);
                    let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic]);
                    request.with_replica_id(BrokerId(-1)).with_session_epoch(-1).with_isolation_level(isolation)
                },
                |_, answer| {
                    for partition in answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
                        let lines = partition.records.as_deref().map(batches).unwrap_or_default();
                        partition.records = Some(Bytes::from(lines));
                    }
                },
            );
            for timestamp in [-1, -2, -3, 0] {
                script.step::<ListOffsetsRequest>(
                    &format!("{what}, listed {isolation}, {timestamp}"),
                    7,
                    |_| {
                        let asked = ListOffsetsPartition::default().with_partition_index(at).with_timestamp(timestamp);
                        let topic = ListOffsetsTopic::default().with_name(name(TOPIC)).with_partitions(vec![asked]);
                        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1));
                        request.with_topics(vec![topic]).with_isolation_level(isolation)
                    },
                    // A marker's time is a broker's own.
                    |_, answer| {
                        for partition in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                            if partition.timestamp > 1_700_000_100_000 {
                                partition.timestamp = 7;
                            }
                        }
                    },
                );
            }
        }
    }
}

/// The body of WriteTxnMarkers version 2: one marker on one partition.
fn marker_2(producer: (i64, i16), commit: bool, partition: i32, coordinator: i32, version: i8) -> Vec<u8> {
    let mut body = vec![2];
    body.extend(producer.0.to_be_bytes());
    body.extend(producer.1.to_be_bytes());
    body.extend([u8::from(commit), 2, 4]);
    body.extend(TOPIC.bytes());
    body.push(2);
    body.extend(partition.to_be_bytes());
    body.push(0);
    body.extend(coordinator.to_be_bytes());
    body.extend(version.to_be_bytes());
    body.extend([0, 0]);
    body
}

/// What the batches' headers say; producer ids and the times of markers are a broker's own.
fn batches(mut records: &[u8]) -> String {
    let mut lines = Vec::new();
    while let Some(header) = records.get(..61) {
        let number =
            |at: usize, len: usize| header[at..at + len].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let length = usize::try_from(number(8, 4)).expect("a length") + 12;
        let (base, attributes, epoch) = (number(0, 8), number(21, 2), number(51, 2));
        let (last, sequence, count) = (number(23, 4), number(53, 4), number(57, 4));
        // The marker's type stands behind its version in the record's key.
        let control = if attributes & 0x20 == 0 { None } else { records.get(61..length) };
        let marker = control.map(|record| record.iter().skip(5).take(4).copied().collect::<Vec<u8>>());
        let coordinator = control.map(|record| record.iter().rev().skip(1).take(4).rev().copied().collect::<Vec<u8>>());
        lines.push(format!(
            "at {base} +{last} attributes {attributes:x} epoch {epoch} sequence {sequence:x} count {count} length {length} \
             marker {marker:?} coordinator {coordinator:?}"
        ));
        records = records.get(length..).unwrap_or_default();
    }
    lines.join(" / ")
}
