//! An idempotent producer that retries until it is answered, and then a reader that holds everything against the acks.

use crate::world::{History, Seeded};
use bytes::Bytes;
use millrace::peer::Peer;
use millrace_model::builder::BatchBuilder;
use millrace_model::record::Records;
use millrace_model::record::encode::HeaderSource;
use millrace_model::{Batch, ProducerEpoch, ProducerId, Timestamp};
use millrace_protocol::StrBytes;
use millrace_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use millrace_protocol::messages::fetch_response::PartitionData;
use millrace_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millrace_protocol::messages::{
    BrokerId, FetchRequest, FetchResponse, InitProducerIdRequest, ProduceRequest, ProduceResponse, TopicName,
};
use std::time::Duration;
use turmoil::net::TcpStream;

pub const TOPIC: &str = "cards";
const BATCHES: u64 = 300;
const PRODUCE: i16 = 11;
const FETCH: i16 = 12;
/// As long as a request may take; a killed broker's connections do not always say that they are dead.
const PATIENCE: Duration = Duration::from_secs(2);

pub type Outcome<T> = Result<T, String>;
pub type Connection = Peer<TcpStream>;

/// What was acked: the offset of each record, by its number.
#[derive(Default)]
struct Acked {
    offsets: Vec<i64>,
}

pub async fn produce_and_check(broker: (&str, u16), random: &Seeded, history: &History) -> Outcome<()> {
    let mut connection = connect(broker).await;
    let producer = loop {
        match ask_producer_id(&mut connection).await {
            Ok(id) => break id,
            Err(reason) => {
                history.note(reason);
                tokio::time::sleep(Duration::from_millis(20)).await;
                connection = connect(broker).await;
            }
        }
    };
    history.note(format!("producer id {producer}"));
    let mut acked = Acked::default();
    let mut number = 0;
    for _ in 0..BATCHES {
        tokio::time::sleep(Duration::from_millis(random.below(60))).await;
        let count = 1 + random.below(5);
        let batch = batch(producer, number, count);
        let base = loop {
            match produce(&mut connection, &batch).await {
                Ok(offset) => break offset,
                Err(reason) => {
                    history.note(format!("record {number}: {reason}"));
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    connection = connect(broker).await;
                }
            }
        };
        history.note(format!("records {number} to {} acked at {base}", number + count - 1));
        acked.offsets.extend((0..count).map(|i| base + i64::try_from(i).unwrap()));
        number += count;
    }
    let stored = loop {
        match read_all(&mut connection, acked.offsets.len()).await {
            Ok(stored) => break stored,
            Err(reason) => {
                history.note(format!("reading: {reason}"));
                connection = connect(broker).await;
            }
        }
    };
    check(&acked, &stored)?;
    history.note(format!("{} records are as acked", stored.len()));
    Ok(())
}

/// Connects, however often it takes.
pub async fn connect(broker: (&str, u16)) -> Connection {
    loop {
        let attempt = async {
            let stream = TcpStream::connect(broker).await.map_err(|error| error.to_string())?;
            Peer::over(stream, "simulated").await.map_err(|error| error.to_string())
        };
        match tokio::time::timeout(PATIENCE, attempt).await {
            Ok(Ok(connection)) => return connection,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

pub async fn patiently<T, E: std::fmt::Display>(work: impl Future<Output = Result<T, E>>) -> Outcome<T> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

async fn ask_producer_id(connection: &mut Connection) -> Outcome<i64> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    let answer = patiently(async {
        let sent = connection.send_version(4, &request).await?;
        connection.receive(sent).await
    })
    .await?;
    match answer.error_code {
        0 => Ok(answer.producer_id.0),
        code => Err(format!("InitProducerId: error {code}")),
    }
}

fn batch(producer: i64, number: u64, count: u64) -> Bytes {
    let sequence = i32::try_from(number).unwrap();
    let mut builder = BatchBuilder::new().producer(ProducerId::new(producer), ProducerEpoch::new(0), sequence);
    for n in number..number + count {
        let value = format!("{{\"n\":{n},\"card\":\"{:016}\"}}", n * 7919);
        let time = Timestamp::new(1_767_225_600_000 + i64::try_from(n).unwrap());
        builder.append(time, None, Some(value.as_bytes()), HeaderSource::None).unwrap();
    }
    builder.build().unwrap().bytes().clone()
}

async fn produce(connection: &mut Connection, batch: &Bytes) -> Outcome<i64> {
    let data = PartitionProduceData::default().with_index(0).with_records(Some(batch.clone()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic]);
    let answer: ProduceResponse = patiently(async {
        let sent = connection.send_version(PRODUCE, &request).await?;
        connection.receive(sent).await
    })
    .await?;
    let partition = &answer.responses[0].partition_responses[0];
    match partition.error_code {
        0 => Ok(partition.base_offset),
        code => Err(format!("Produce: error {code}")),
    }
}

/// The stored records with their offsets, in the log's order.
async fn read_all(connection: &mut Connection, expected: usize) -> Outcome<Vec<(i64, String)>> {
    let mut stored = Vec::new();
    let mut from = 0;
    while stored.len() < expected {
        let bytes = fetch(connection, from, 64 << 10, 0).await?.records.unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        for batch in Batch::all(bytes) {
            // The last one may be cut short.
            let Ok(batch) = batch else { break };
            batch.check_crc().map_err(|error| error.to_string())?;
            let section = batch.records_section();
            for record in Records::new(&section, batch.header().records_count) {
                let record = record.map_err(|error| error.to_string())?;
                let offset = batch.header().base_offset.get() + i64::from(record.offset_delta());
                stored.push((offset, String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned()));
            }
            from = batch.header().next_offset().get();
        }
    }
    Ok(stored)
}

/// Up to `bytes` of the partition from there on, of committed transactions only where `isolation` is 1.
pub async fn fetch(connection: &mut Connection, from: i64, bytes: i32, isolation: i8) -> Outcome<PartitionData> {
    let partition = FetchPartition::default()
        .with_partition(0)
        .with_fetch_offset(from)
        .with_partition_max_bytes(bytes)
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1);
    let topic =
        FetchTopic::default().with_topic(TopicName(StrBytes::from_static_str(TOPIC))).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(100)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_isolation_level(isolation)
        .with_topics(vec![topic]);
    let mut answer: FetchResponse = patiently(async {
        let sent = connection.send_version(FETCH, &request).await?;
        connection.receive(sent).await
    })
    .await?;
    let partition = answer.responses.remove(0).partitions.remove(0);
    match partition.error_code {
        0 => Ok(partition),
        code => Err(format!("Fetch: error {code}")),
    }
}

fn check(acked: &Acked, stored: &[(i64, String)]) -> Outcome<()> {
    if stored.len() != acked.offsets.len() {
        return Err(format!("{} records were acked and {} are stored", acked.offsets.len(), stored.len()));
    }
    for (n, ((offset, value), expected)) in stored.iter().zip(&acked.offsets).enumerate() {
        if offset != expected {
            return Err(format!("record {n} was acked at {expected} and is at {offset}"));
        }
        if !value.starts_with(&format!("{{\"n\":{n},\"card\":\"")) {
            return Err(format!("at {offset} there is {value}, not record {n}"));
        }
        if value.contains(&format!("{:016}", n * 7919)) {
            return Err(format!("record {n} is not masked: {value}"));
        }
    }
    Ok(())
}
