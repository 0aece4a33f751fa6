//! The transactional requests outside of any transaction: strangers, names that cannot be, timeouts, filters.

use std::time::Duration;

use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, CreateTopicsRequest, DescribeProducersRequest,
    DescribeTransactionsRequest, EndTxnRequest, FindCoordinatorRequest, GroupId, InitProducerIdRequest,
    ListTransactionsRequest, ProducerId, TransactionalId, TxnOffsetCommitRequest, WriteTxnMarkersRequest,
};

use super::topics::name;
use super::{Pair, text};

/// Where the scripts write.
pub const TOPIC: &str = "txn";
/// How many partitions there are to write to.
pub const PARTITIONS: i32 = 120;

/// A transactional id.
pub fn id(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

pub fn init(id: Option<&str>, timeout_ms: i32, producer: (i64, i16)) -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(id.map(self::id))
        .with_transaction_timeout_ms(timeout_ms)
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
}

fn parts(partitions: &[(&str, &[i32])]) -> Vec<AddPartitionsToTxnTopic> {
    let one = |(topic, indexes): &(&str, &[i32])| {
        AddPartitionsToTxnTopic::default().with_name(name(topic)).with_partitions(indexes.to_vec())
    };
    partitions.iter().map(one).collect()
}

pub fn transaction(
    id: &str,
    producer: (i64, i16),
    partitions: &[(&str, &[i32])],
    verify_only: bool,
) -> AddPartitionsToTxnTransaction {
    AddPartitionsToTxnTransaction::default()
        .with_transactional_id(self::id(id))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_verify_only(verify_only)
        .with_topics(parts(partitions))
}

pub fn add(version: i16, id: &str, producer: (i64, i16), partitions: &[(&str, &[i32])]) -> AddPartitionsToTxnRequest {
    if version >= 4 {
        let transactions = vec![transaction(id, producer, partitions, false)];
        return AddPartitionsToTxnRequest::default().with_transactions(transactions);
    }
    AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(self::id(id))
        .with_v3_and_below_producer_id(ProducerId(producer.0))
        .with_v3_and_below_producer_epoch(producer.1)
        .with_v3_and_below_topics(parts(partitions))
}

pub fn offsets(id: &str, producer: (i64, i16), group: &str) -> AddOffsetsToTxnRequest {
    AddOffsetsToTxnRequest::default()
        .with_transactional_id(self::id(id))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_group_id(GroupId(text(group)))
}

pub fn commit(
    id: &str,
    producer: (i64, i16),
    group: &str,
    partitions: &[(&str, i32)],
    offset: i64,
) -> TxnOffsetCommitRequest {
    let one = |(topic, partition): &(&str, i32)| {
        let data = TxnOffsetCommitRequestPartition::default();
        let data = data.with_partition_index(*partition).with_committed_offset(offset).with_committed_metadata(None);
        TxnOffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![data])
    };
    TxnOffsetCommitRequest::default()
        .with_transactional_id(self::id(id))
        .with_group_id(GroupId(text(group)))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_topics(partitions.iter().map(one).collect())
}

pub fn end(id: &str, producer: (i64, i16), committed: bool) -> EndTxnRequest {
    EndTxnRequest::default()
        .with_transactional_id(self::id(id))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_committed(committed)
}

pub fn marker(producer: (i64, i16), committed: bool, coordinator: i32, at: &[(&str, &[i32])]) -> WritableTxnMarker {
    let one = |(topic, indexes): &(&str, &[i32])| {
        WritableTxnMarkerTopic::default().with_name(name(topic)).with_partition_indexes(indexes.to_vec())
    };
    WritableTxnMarker::default()
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_transaction_result(committed)
        .with_coordinator_epoch(coordinator)
        .with_topics(at.iter().map(one).collect())
}

pub fn producers(at: &[(&str, &[i32])]) -> DescribeProducersRequest {
    let one = |(topic, indexes): &(&str, &[i32])| {
        TopicRequest::default().with_name(name(topic)).with_partition_indexes(indexes.to_vec())
    };
    DescribeProducersRequest::default().with_topics(at.iter().map(one).collect())
}

/// All of it.
pub fn all(pair: &mut Pair) {
    prepare(pair);
    inits(pair);
    partitions(pair);
    groups(pair);
    ends(pair);
    markers(pair);
    descriptions(pair);
}

/// Topics to write to, and coordinators that have loaded.
fn prepare(pair: &mut Pair) {
    let fresh = |topic: &str, partitions| {
        CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions).with_replication_factor(1)
    };
    let compact = CreatableTopicConfig::default().with_name(text("cleanup.policy")).with_value(Some(text("compact")));
    let mut topics = vec![fresh(TOPIC, PARTITIONS), fresh("txn-keys", 1).with_configs(vec![compact])];
    topics.push(fresh("txn-gone", 1));
    let mut script = pair.script("transactions");
    script.step(
        "CreateTopics",
        4,
        |_| CreateTopicsRequest::default().with_topics(topics.clone()).with_timeout_ms(10_000),
        |_, answer| answer.topics.sort_by(|a, b| a.name.cmp(&b.name)),
    );
    let find = |_: &_| FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text("early")]);
    script.until(4, find, |_, answer| answer.coordinators.iter().all(|one| one.error_code == 0));
    script.until(4, |_| init(Some("early"), 1_000, (-1, -1)), |_, answer| answer.error_code == 0);
    std::thread::sleep(Duration::from_secs(1));
    pair.ask::<FindCoordinatorRequest>("FindCoordinator, a transaction", |version| {
        let request = FindCoordinatorRequest::default();
        let request = if version >= 1 { request.with_key_type(1) } else { request };
        if version < 4 {
            return request.with_key(text("early"));
        }
        request.with_coordinator_keys(["early", "", "late"].map(text).to_vec())
    });
}

fn inits(pair: &mut Pair) {
    let long = "x".repeat(40_000);
    for (case, id, timeout, producer) in [
        ("no id and no timeout", None, 0, (-1, -1)),
        ("no id and a producer", None, 60_000, (5, 1)),
        ("an id without timeout", Some("inits"), 0, (-1, -1)),
        ("an id and a negative timeout", Some("inits"), -1, (-1, -1)),
        ("the longest timeout", Some("inits-longest"), 900_000, (-1, -1)),
        ("too long a timeout", Some("inits"), 900_001, (-1, -1)),
        ("the longest number", Some("inits"), i32::MAX, (-1, -1)),
        ("a producer that nobody is", Some("inits-nobody"), 60_000, (987_654, 3)),
        ("a producer that is negative", Some("inits-negative"), 60_000, (-2, 3)),
        ("a negative epoch", Some("inits-epoch"), 60_000, (5, -2)),
        ("a producer without epoch", Some("inits"), 60_000, (5, -1)),
        ("an epoch without producer", Some("inits"), 60_000, (-1, 5)),
        ("an empty id without timeout", Some(""), 0, (-1, -1)),
        ("a long id", Some(long.as_str()), 60_000, (-1, -1)),
    ] {
        pair.ask::<InitProducerIdRequest>(&format!("InitProducerId, {case}"), |version| {
            // Before version 3 nobody says who they are.
            init(id, timeout, if version < 3 { (-1, -1) } else { producer })
        });
    }
}

fn partitions(pair: &mut Pair) {
    for (case, id, at) in [
        ("unknown", "nobody", &[(TOPIC, &[0][..])][..]),
        ("no id", "", &[(TOPIC, &[0])]),
        ("another's producer", "early", &[(TOPIC, &[0])]),
        ("no topics", "nobody", &[]),
        ("no partitions", "nobody", &[(TOPIC, &[])]),
        ("an unknown topic", "nobody", &[("nowhere", &[0])]),
        ("an unknown partition", "nobody", &[(TOPIC, &[0, 9_999])]),
        ("the same twice", "nobody", &[(TOPIC, &[1, 1]), (TOPIC, &[1])]),
        ("an internal topic", "nobody", &[("__consumer_offsets", &[0]), ("__transaction_state", &[0])]),
    ] {
        pair.ask_tidy::<AddPartitionsToTxnRequest>(
            &format!("AddPartitionsToTxn, {case}"),
            |version| add(version, id, (987_654, 0), at),
            sort_added,
        );
    }
    let both = |verify| {
        vec![
            transaction("nobody", (987_654, 0), &[(TOPIC, &[0])], verify),
            transaction("early", (987_654, 0), &[(TOPIC, &[0, 1])], verify),
            transaction("", (987_654, 0), &[(TOPIC, &[0, 1])], verify),
            transaction("somebody", (987_654, 0), &[("nowhere", &[0])], verify),
        ]
    };
    for (case, transactions) in [("none", vec![]), ("four", both(false)), ("four to verify", both(true))] {
        pair.ask_tidy::<AddPartitionsToTxnRequest>(
            &format!("AddPartitionsToTxn, {case} at once"),
            |version| {
                let transactions = if version < 4 { Vec::new() } else { transactions.clone() };
                AddPartitionsToTxnRequest::default().with_transactions(transactions)
            },
            sort_added,
        );
    }
}

pub fn sort_added(answer: &mut kafka_protocol::messages::AddPartitionsToTxnResponse) {
    answer.results_by_transaction.sort_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
    let mut topics: Vec<_> = answer.results_by_topic_v3_and_below.iter_mut().collect();
    for transaction in &mut answer.results_by_transaction {
        transaction.topic_results.sort_by(|a, b| a.name.cmp(&b.name));
        topics.extend(transaction.topic_results.iter_mut());
    }
    topics.into_iter().for_each(|topic| topic.results_by_partition.sort_by_key(|one| one.partition_index));
    answer.results_by_topic_v3_and_below.sort_by(|a, b| a.name.cmp(&b.name));
}

fn groups(pair: &mut Pair) {
    for (case, id, group) in [("unknown", "nobody", "g"), ("no id", "", "g"), ("no group", "nobody", "")] {
        pair.ask::<AddOffsetsToTxnRequest>(&format!("AddOffsetsToTxn, {case}"), |_| offsets(id, (987_654, 0), group));
    }
    let here = [(TOPIC, 0)];
    for (case, id, group, at) in [
        ("unknown", "nobody", "probe", &here[..]),
        ("no id", "", "probe", &here),
        ("no group", "nobody", "", &here),
        ("no topics", "nobody", "probe", &[]),
        ("an unknown topic", "nobody", "probe", &[("nowhere", 0)]),
        ("an unknown partition", "nobody", "probe", &[(TOPIC, 9_999), (TOPIC, 1)]),
    ] {
        pair.ask_tidy::<TxnOffsetCommitRequest>(
            &format!("TxnOffsetCommit, {case}"),
            |_| commit(id, (987_654, 0), group, at, 5),
            |answer| answer.topics.sort_by(|a, b| a.name.cmp(&b.name)),
        );
    }
    pair.ask::<TxnOffsetCommitRequest>("TxnOffsetCommit, as a member", |version| {
        let request = commit("nobody", (987_654, 0), "probe", &here, 5);
        if version < 3 { request } else { request.with_generation_id(3).with_member_id(text("m")) }
    });
}

fn ends(pair: &mut Pair) {
    for (case, id) in [("unknown", "nobody"), ("no id", ""), ("another's producer", "early")] {
        for committed in [false, true] {
            pair.ask::<EndTxnRequest>(&format!("EndTxn, {case}, {committed}"), |_| end(id, (987_654, 0), committed));
        }
    }
}

fn markers(pair: &mut Pair) {
    for (case, markers) in [
        ("none", vec![]),
        ("no topics", vec![marker((987_654, 0), true, 0, &[])]),
        ("an unknown topic", vec![marker((987_654, 0), true, 0, &[("nowhere", &[0])])]),
        ("an unknown partition", vec![marker((987_654, 0), true, 0, &[(TOPIC, &[9_999])])]),
        ("a stranger", vec![marker((987_654, 0), true, 0, &[(TOPIC, &[90])])]),
        ("a stranger, later", vec![marker((987_654, 3), false, 0, &[(TOPIC, &[90])])]),
        ("a stranger, earlier", vec![marker((987_654, 1), false, 0, &[(TOPIC, &[90])])]),
        ("a later coordinator", vec![marker((987_654, 3), true, 7, &[(TOPIC, &[90])])]),
        ("an earlier coordinator", vec![marker((987_654, 3), true, 6, &[(TOPIC, &[90])])]),
        ("a negative coordinator", vec![marker((987_655, 3), true, -1, &[(TOPIC, &[90])])]),
        ("a negative epoch", vec![marker((987_656, -1), true, 0, &[(TOPIC, &[90])])]),
        ("a negative producer", vec![marker((-1, 0), true, 0, &[(TOPIC, &[91])])]),
        ("a compacted topic", vec![marker((987_654, 3), true, 0, &[("txn-keys", &[0])])]),
        ("a group's partition", vec![marker((987_654, 3), true, 0, &[("__consumer_offsets", &[0])])]),
        (
            "two producers",
            vec![
                marker((987_657, 0), true, 0, &[(TOPIC, &[92, 93])]),
                marker((987_658, 0), false, 0, &[(TOPIC, &[92]), ("nowhere", &[1])]),
            ],
        ),
        (
            "one producer twice",
            vec![marker((987_657, 0), true, 0, &[(TOPIC, &[92])]), marker((987_657, 0), false, 0, &[(TOPIC, &[93])])],
        ),
    ] {
        pair.ask_tidy::<WriteTxnMarkersRequest>(
            &format!("WriteTxnMarkers, {case}"),
            |_| WriteTxnMarkersRequest::default().with_markers(markers.clone()),
            |answer| {
                answer.markers.sort_by_key(|marker| marker.producer_id);
                for marker in &mut answer.markers {
                    marker.topics.sort_by(|a, b| a.name.cmp(&b.name));
                    marker.topics.iter_mut().for_each(|it| it.partitions.sort_by_key(|it| it.partition_index));
                }
            },
        );
    }
}

fn descriptions(pair: &mut Pair) {
    let at = [(TOPIC, &[90, 91, 92, 9_999][..]), ("nowhere", &[0])];
    pair.ask_tidy::<DescribeProducersRequest>("DescribeProducers", |_| producers(&at), sort_producers);
    pair.ask::<DescribeProducersRequest>("DescribeProducers, nothing", |_| producers(&[]));
    pair.ask_tidy::<DescribeTransactionsRequest>(
        "DescribeTransactions",
        |_| DescribeTransactionsRequest::default().with_transactional_ids(["early", "", "nobody"].map(id).to_vec()),
        |answer| answer.transaction_states.sort_by(|a, b| a.transactional_id.cmp(&b.transactional_id)),
    );
    pair.ask::<DescribeTransactionsRequest>("DescribeTransactions, none", |_| DescribeTransactionsRequest::default());
    for (case, states, producers, longer, pattern) in [
        ("all", &[][..], &[][..], -1, None),
        ("empty", &["Empty"], &[], -1, None),
        ("going on", &["Ongoing"], &[], -1, None),
        ("in passing states", &["PrepareEpochFence", "Dead"], &[], -1, None),
        ("in unknown states", &["Empty", "empty", "Nonsense"], &[], -1, None),
        ("in no known state", &["Nonsense"], &[], -1, None),
        ("of a stranger", &[], &[987_654], -1, None),
        ("of nobody", &[], &[-1], -1, None),
        ("for some time", &[], &[], 0, None),
        ("for long", &[], &[], 1_000_000, None),
        ("negatively long", &[], &[], -5, None),
        ("by a pattern", &[], &[], -1, Some("inits-.*")),
        ("by half a pattern", &[], &[], -1, Some("inits")),
        ("by an empty pattern", &[], &[], -1, Some("")),
        ("by a broken pattern", &[], &[], -1, Some("(")),
    ] {
        pair.ask_tidy::<ListTransactionsRequest>(
            &format!("ListTransactions, {case}"),
            |version| {
                ListTransactionsRequest::default()
                    .with_state_filters(states.iter().map(|state| text(state)).collect())
                    .with_producer_id_filters(producers.iter().map(|id| ProducerId(*id)).collect())
                    .with_duration_filter(if version >= 1 { longer } else { -1 })
                    .with_transactional_id_pattern(if version >= 2 { pattern.map(text) } else { None })
            },
            |answer| {
                answer.unknown_state_filters.sort();
                answer.transaction_states.sort_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
            },
        );
    }
}

pub fn sort_producers(answer: &mut kafka_protocol::messages::DescribeProducersResponse) {
    answer.topics.sort_by(|a, b| a.name.cmp(&b.name));
    for partition in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.active_producers.sort_by_key(|producer| producer.producer_id);
    }
}
