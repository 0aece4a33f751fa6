//! Batches to produce, and the requests around them.

use bytes::Bytes;
use millrace_model::batch::{BatchHeader, HEADER_LEN, crc};
use millrace_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use millrace_protocol::StrBytes;
use millrace_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millrace_protocol::messages::{ProduceRequest, TopicName};

/// A batch of records with these values, all of them shorter than 50 bytes.
pub(super) fn batch(values: &[&str]) -> Bytes {
    let mut records = Vec::new();
    for (at, value) in values.iter().enumerate() {
        let zigzag = |n: usize| u8::try_from(n * 2).unwrap();
        let mut body = vec![0, 0, zigzag(at), 1, zigzag(value.len())];
        body.extend(value.as_bytes());
        body.push(0);
        records.push(zigzag(body.len()));
        records.extend(body);
    }
    let count = i32::try_from(values.len()).unwrap();
    let mut header = BatchHeader {
        base_offset: Offset::ZERO,
        batch_length: i32::try_from(HEADER_LEN - 12 + records.len()).unwrap(),
        leader_epoch: LeaderEpoch::NONE,
        crc: 0,
        attributes: millrace_model::batch::Attributes::new(0),
        last_offset_delta: count - 1,
        base_timestamp: Timestamp::new(1_700_000_000_000),
        max_timestamp: Timestamp::new(1_700_000_000_000),
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: -1,
        records_count: count,
    };
    let with = |header: &BatchHeader| [&header.encode()[..], &records].concat();
    header.crc = crc(&with(&header)[21..]);
    with(&header).into()
}

pub(super) fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// A request that produces one batch to one partition. Versions from 13 on need the topic's id.
pub(super) fn produce(topic: &str, id: uuid::Uuid, partition: i32, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic =
        TopicProduceData::default().with_name(name(topic)).with_topic_id(id).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic])
}
