//! Produce, ListOffsets, Fetch, OffsetForLeaderEpoch, InitProducerId.

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, InitProducerIdRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest, ProduceRequest,
    ProducerId, TransactionalId,
};
use uuid::Uuid;

use super::batch::Raw;
use super::topics::name;
use super::{Pair, text};

pub fn produce_to(topic: &str, partition: i32, records: Option<Bytes>, acks: i16) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(records);
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(5_000).with_topic_data(vec![topic])
}

/// Produce: what is stored here is what `fetch` and `list_offsets` find.
///
/// Records that are null are left out: Kafka never answers them.
pub fn produce(pair: &mut Pair) {
    let good = Raw::default();
    let cases = [
        ("acks all", "alpha", 0, Some(good.bytes()), -1),
        ("acks one", "alpha", 0, Some(good.bytes()), 1),
        ("acks five", "alpha", 0, Some(good.bytes()), 5),
        ("unknown topic", "nowhere", 0, Some(good.bytes()), -1),
        ("unknown partition", "alpha", 9, Some(good.bytes()), -1),
        ("partition -1", "alpha", -1, Some(good.bytes()), -1),
        ("bad name", "a b", 0, Some(good.bytes()), -1),
        ("broken checksum", "alpha", 1, Some(Raw { break_crc: true, ..good.clone() }.bytes()), -1),
        ("magic 3", "alpha", 1, Some(Raw { magic: 3, ..good.clone() }.bytes()), -1),
        ("magic 1", "alpha", 1, Some(Raw { magic: 1, ..good.clone() }.bytes()), -1),
        ("codec 7", "alpha", 1, Some(Raw { attributes: 7, ..good.clone() }.bytes()), -1),
        ("control batch", "alpha", 1, Some(Raw { attributes: 0x20, ..good.clone() }.bytes()), -1),
        ("transactional without an id", "alpha", 1, Some(Raw { attributes: 0x10, ..good.clone() }.bytes()), -1),
        ("one record too few", "alpha", 1, Some(Raw { extra_count: 1, ..good.clone() }.bytes()), -1),
        ("one record too many", "alpha", 1, Some(Raw { extra_count: -1, ..good.clone() }.bytes()), -1),
        ("not gzip", "alpha", 1, Some(Raw { attributes: 1, ..good.clone() }.bytes()), -1),
        ("no records", "alpha", 1, Some(Bytes::new()), -1),
        ("noise", "alpha", 1, Some(Bytes::from_static(&[0x5a; 100])), -1),
        ("cut short", "alpha", 1, Some(good.bytes().slice(..70)), -1),
        ("an internal topic", "__consumer_offsets", 0, Some(good.bytes()), -1),
        ("two batches", "alpha", 1, Some([good.bytes(), good.bytes()].concat().into()), -1),
        ("from the future", "alpha", 2, Some(Raw { timestamp: 4_000_000_000_000, ..good.clone() }.bytes()), -1),
        ("before 1970", "alpha", 2, Some(Raw { timestamp: -5, ..good.clone() }.bytes()), -1),
        ("unknown producer", "alpha", 2, Some(Raw { producer: (4_000, 0, 0), ..good.clone() }.bytes()), -1),
        (
            "unknown producer in the middle",
            "alpha",
            2,
            Some(Raw { producer: (4_001, 0, 7), ..good.clone() }.bytes()),
            -1,
        ),
        ("a sequence skipped", "alpha", 2, Some(Raw { producer: (4_000, 0, 9), ..good.clone() }.bytes()), -1),
        (
            "an epoch bumped in the middle",
            "alpha",
            2,
            Some(Raw { producer: (4_000, 1, 5), ..good.clone() }.bytes()),
            -1,
        ),
        ("an epoch bumped", "alpha", 2, Some(Raw { producer: (4_000, 1, 0), ..good.clone() }.bytes()), -1),
        ("an old epoch", "alpha", 2, Some(Raw { producer: (4_000, 0, 3), ..good.clone() }.bytes()), -1),
        ("kept", "old", 0, Some(Raw { timestamp: 1_600_000_000_000, ..good.clone() }.bytes()), -1),
    ];
    for (case, topic, partition, records, acks) in cases {
        // Version 13 names topics by id, which differs between brokers.
        pair.ask::<ProduceRequest>(&format!("Produce, {case}"), |version| {
            let mut request = produce_to(topic, partition, records.clone(), acks);
            if version >= 13 {
                request.topic_data[0].name = name("");
                request.topic_data[0].topic_id = Uuid::from_u128(7);
            }
            request
        });
    }
    pair.ask::<ProduceRequest>("Produce, nothing", |_| ProduceRequest::default().with_acks(-1).with_timeout_ms(5_000));
    pair.ask::<ProduceRequest>("Produce, transactional, but not known", |version| {
        let records = Raw { attributes: 0x10, producer: (4_002, 0, 0), ..Raw::default() }.bytes();
        let id = (version < 13).then(|| TransactionalId(text("nobody")));
        produce_to(if version < 13 { "alpha" } else { "" }, 2, Some(records), -1).with_transactional_id(id)
    });
}

/// ListOffsets at every special timestamp and between.
pub fn list_offsets(pair: &mut Pair) {
    let ask = |pair: &mut Pair, case: &str, topic: &str, partition: i32, timestamp: i64, epoch: i32| {
        pair.ask::<ListOffsetsRequest>(&format!("ListOffsets, {case}"), |version| {
            let mut asked = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
            if version >= 4 {
                asked.current_leader_epoch = epoch;
            }
            let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![asked]);
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
        });
    };
    for timestamp in
        [-1, -2, -3, -4, -5, -6, -7, 0, 1_600_000_000_000, 1_600_000_000_001, 1_600_000_000_002, 1_600_000_000_003]
    {
        ask(pair, &format!("timestamp {timestamp}"), "old", 0, timestamp, -1);
        ask(pair, &format!("timestamp {timestamp} of nothing"), "beta", 0, timestamp, -1);
    }
    ask(pair, "unknown topic", "nowhere", 0, -1, -1);
    ask(pair, "unknown partition", "alpha", 9, -1, -1);
    ask(pair, "the epoch", "alpha", 0, -1, 0);
    ask(pair, "a later epoch", "alpha", 0, -1, 5);
    pair.ask::<ListOffsetsRequest>("ListOffsets, the same partition twice", |_| {
        let one = |timestamp| ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(name("old")).with_partitions(vec![one(-1), one(-2)]);
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
    });
}

pub fn fetch_of(version: i16, topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let asked =
        FetchPartition::default().with_partition(partition).with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let mut topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![asked]);
    if version >= 13 {
        topic.topic = name("");
        topic.topic_id = Uuid::from_u128(7);
    }
    let mut request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic]);
    if version < 15 {
        request.replica_id = BrokerId(-1);
    }
    if version >= 7 {
        // Without a session.
        request.session_epoch = -1;
    }
    request
}

/// Fetch without and with sessions.
pub fn fetch(pair: &mut Pair) {
    for (case, topic, partition, offset) in [
        ("from the start", "old", 0, 0),
        ("from the middle of a batch", "old", 0, 1),
        ("several batches", "alpha", 0, 0),
        ("at the end", "beta", 0, 0),
        ("beyond the end", "beta", 0, 1),
        ("before the start", "beta", 0, -1),
        ("unknown topic", "nowhere", 0, 0),
        ("unknown partition", "alpha", 9, 0),
    ] {
        pair.ask::<FetchRequest>(&format!("Fetch, {case}"), |version| fetch_of(version, topic, partition, offset));
    }
    pair.ask::<FetchRequest>("Fetch, one byte", |version| fetch_of(version, "alpha", 0, 0).with_max_bytes(1));
    pair.ask::<FetchRequest>("Fetch, committed only", |version| {
        fetch_of(version, "alpha", 0, 0).with_isolation_level(1)
    });
    pair.ask::<FetchRequest>("Fetch, a later epoch", |version| {
        let mut request = fetch_of(version, "alpha", 0, 0);
        if version >= 9 {
            request.topics[0].partitions[0].current_leader_epoch = 5;
        }
        request
    });
    pair.ask::<FetchRequest>("Fetch, a new session", |version| {
        let mut request = fetch_of(version, "old", 0, 0);
        request.session_epoch = 0;
        request
    });
    pair.ask::<FetchRequest>("Fetch, an unknown session", |version| {
        let mut request = fetch_of(version, "old", 0, 0);
        (request.session_id, request.session_epoch) = (4_711, 1);
        request
    });
    pair.ask::<FetchRequest>("Fetch, nothing", |version| {
        let mut request = fetch_of(version, "old", 0, 0);
        request.topics.clear();
        request
    });
}

/// OffsetForLeaderEpoch and InitProducerId.
pub fn epochs_and_producers(pair: &mut Pair) {
    for (case, topic, partition, current, epoch) in [
        ("the first", "alpha", 0, -1, 0),
        ("a later one", "alpha", 0, -1, 5),
        ("none", "alpha", 0, -1, -1),
        ("of nothing", "beta", 0, -1, 0),
        ("asked with a later one", "alpha", 0, 5, 0),
        ("unknown topic", "nowhere", 0, -1, 0),
        ("unknown partition", "alpha", 9, -1, 0),
    ] {
        pair.ask::<OffsetForLeaderEpochRequest>(&format!("OffsetForLeaderEpoch, {case}"), |version| {
            let asked = OffsetForLeaderPartition::default()
                .with_partition(partition)
                .with_current_leader_epoch(current)
                .with_leader_epoch(epoch);
            let topic = OffsetForLeaderTopic::default().with_topic(name(topic)).with_partitions(vec![asked]);
            let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
            if version >= 3 { request.with_replica_id(BrokerId(-1)) } else { request }
        });
    }
    pair.ask::<InitProducerIdRequest>("InitProducerId", |_| {
        InitProducerIdRequest::default().with_transaction_timeout_ms(60_000)
    });
    pair.ask::<InitProducerIdRequest>("InitProducerId, empty id", |_| {
        let id = Some(TransactionalId(text("")));
        InitProducerIdRequest::default().with_transactional_id(id).with_transaction_timeout_ms(60_000)
    });
    pair.ask::<InitProducerIdRequest>("InitProducerId, with an epoch and no producer", |_| {
        InitProducerIdRequest::default().with_producer_epoch(3).with_transaction_timeout_ms(60_000)
    });
    pair.ask::<InitProducerIdRequest>("InitProducerId, with a producer and an epoch", |_| {
        InitProducerIdRequest::default()
            .with_producer_id(ProducerId(4_000))
            .with_producer_epoch(3)
            .with_transaction_timeout_ms(60_000)
    });
}
