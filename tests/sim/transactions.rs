//! Transactional producers that go on whatever happens, and then a reader of committed records that holds everything
//! against what they were told.

use crate::client::{Connection, Outcome, TOPIC, connect, fetch, patiently};
use crate::world::{History, Seeded};
use bytes::Bytes;
use millrace_model::builder::BatchBuilder;
use millrace_model::control::Marker;
use millrace_model::record::Records;
use millrace_model::record::encode::HeaderSource;
use millrace_model::{Batch, ProducerEpoch, ProducerId, Timestamp};
use millrace_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millrace_protocol::messages::{
    EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest, ProduceRequest, ProducerId as WireProducerId,
    TopicName, TransactionalId,
};
use millrace_protocol::{ErrorCode, StrBytes};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const TRANSACTIONS: u64 = 60;
const PAUSE: Duration = Duration::from_millis(20);

/// What became of the transactions, each by its name.
#[derive(Debug, Default)]
struct Outcomes {
    committed: BTreeSet<String>,
    aborted: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

struct Worker<'a> {
    broker: (&'a str, u16),
    connection: Connection,
    id: String,
    producer: i64,
    epoch: i16,
    sequence: i32,
    history: &'a History,
}

/// What a worker does after an answer.
enum Next {
    GoOn,
    /// Its epoch is worth nothing any more.
    BeginAnew,
}

pub async fn transact_and_check(broker: (&str, u16), random: &Seeded, history: &History) -> Outcome<()> {
    let mut outcomes = Outcomes::default();
    let mut workers = Vec::new();
    for n in 0..2 {
        let connection = connect(broker).await;
        let id = format!("w{n}");
        let mut worker = Worker { broker, connection, id, producer: -1, epoch: -1, sequence: 0, history };
        worker.init().await;
        workers.push(worker);
    }
    // Their transactions are open at the same time; the steps alternate as the seed says.
    let mut open: Vec<Option<(String, u64, u64)>> = vec![None; workers.len()];
    let mut number = 0;
    while number < TRANSACTIONS || open.iter().any(Option::is_some) {
        tokio::time::sleep(Duration::from_millis(random.below(60))).await;
        let at = usize::try_from(random.below(workers.len() as u64)).unwrap();
        let worker = &mut workers[at];
        let Some((name, written, count)) = &mut open[at] else {
            if number < TRANSACTIONS {
                open[at] = Some((format!("{}-{number}", worker.id), 0, 1 + random.below(4)));
                number += 1;
            }
            continue;
        };
        let next = if written < count {
            *written += 1;
            worker.write(name, *written, *count).await
        } else {
            let commit = random.below(4) != 0;
            let name = std::mem::take(name);
            open[at] = None;
            worker.end(name, commit, &mut outcomes).await
        };
        if matches!(next, Next::BeginAnew) {
            if let Some((name, ..)) = open[at].take() {
                outcomes.aborted.insert(name);
            }
            worker.init().await;
        }
    }
    // What is being ended is ended before this is answered.
    for worker in &mut workers {
        worker.init().await;
    }
    let values = loop {
        match read_committed(&mut workers[0].connection).await {
            Ok(values) => break values,
            Err(reason) => {
                history.note(format!("reading: {reason}"));
                tokio::time::sleep(PAUSE).await;
                workers[0].connection = connect(broker).await;
            }
        }
    };
    check(&values, &outcomes)?;
    let Outcomes { committed, aborted, unknown } = &outcomes;
    history.note(format!("{} committed, {} aborted, {} unknown", committed.len(), aborted.len(), unknown.len()));
    Ok(())
}

impl Worker<'_> {
    fn transactional_id(&self) -> TransactionalId {
        TransactionalId(StrBytes::from_string(self.id.clone()))
    }

    async fn reconnect(&mut self, reason: &str) {
        self.history.note(format!("{}: {reason}", self.id));
        tokio::time::sleep(PAUSE).await;
        self.connection = connect(self.broker).await;
    }

    /// Takes the id over from whoever has it.
    async fn init(&mut self) {
        loop {
            match self.try_init().await {
                Ok(0) => return self.history.note(format!("{}: epoch {}", self.id, self.epoch)),
                Ok(_) => tokio::time::sleep(PAUSE).await,
                Err(reason) => self.reconnect(&reason).await,
            }
        }
    }

    async fn try_init(&mut self) -> Outcome<i16> {
        let find = FindCoordinatorRequest::default()
            .with_key_type(1)
            .with_coordinator_keys(vec![StrBytes::from_string(self.id.clone())]);
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(self.transactional_id()))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let connection = &mut self.connection;
        let answer = patiently(async {
            let sent = connection.send_version(4, &find).await?;
            connection.receive(sent).await?;
            let sent = connection.send_version(4, &request).await?;
            connection.receive(sent).await
        })
        .await?;
        if answer.error_code == 0 {
            (self.producer, self.epoch, self.sequence) = (answer.producer_id.0, answer.producer_epoch, 0);
        }
        Ok(answer.error_code)
    }

    async fn write(&mut self, name: &str, part: u64, count: u64) -> Next {
        let (id, epoch) = (ProducerId::new(self.producer), ProducerEpoch::new(self.epoch));
        let mut builder = BatchBuilder::new().producer(id, epoch, self.sequence).transactional();
        let value = format!("{{\"t\":\"{name} {part} {count}\",\"card\":\"4111\"}}");
        let time = Timestamp::new(1_767_225_600_000);
        builder.append(time, None, Some(value.as_bytes()), HeaderSource::None).unwrap();
        let batch = builder.build().unwrap().into_bytes();
        loop {
            match self.produce(&batch).await {
                Ok(0) => {
                    self.sequence += 1;
                    return Next::GoOn;
                }
                Ok(code) if code == ErrorCode::NotEnoughReplicas.code() => tokio::time::sleep(PAUSE).await,
                Ok(code) => {
                    self.history.note(format!("{name} {part}: error {code}"));
                    return Next::BeginAnew;
                }
                Err(reason) => self.reconnect(&reason).await,
            }
        }
    }

    async fn produce(&mut self, batch: &Bytes) -> Outcome<i16> {
        let data = PartitionProduceData::default().with_index(0).with_records(Some(batch.clone()));
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.transactional_id()))
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![topic]);
        let connection = &mut self.connection;
        let answer = patiently(async {
            let sent = connection.send_version(12, &request).await?;
            connection.receive(sent).await
        })
        .await?;
        Ok(answer.responses[0].partition_responses[0].error_code)
    }

    async fn end(&mut self, name: String, commit: bool, outcomes: &mut Outcomes) -> Next {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_producer_id(WireProducerId(self.producer))
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        loop {
            let connection = &mut self.connection;
            let answer = patiently(async {
                let sent = connection.send_version(5, &request).await?;
                connection.receive(sent).await
            })
            .await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(reason) => {
                    self.reconnect(&reason).await;
                    continue;
                }
            };
            match ErrorCode::from_code(answer.error_code) {
                Some(ErrorCode::None) => {
                    self.history.note(format!("{name}: {}", if commit { "committed" } else { "aborted" }));
                    (self.producer, self.epoch, self.sequence) = (answer.producer_id.0, answer.producer_epoch, 0);
                    let known = if commit { &mut outcomes.committed } else { &mut outcomes.aborted };
                    known.insert(name);
                    return Next::GoOn;
                }
                Some(
                    ErrorCode::ConcurrentTransactions
                    | ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::NotCoordinator,
                ) => tokio::time::sleep(PAUSE).await,
                other => {
                    self.history.note(format!("{name}: the end is refused: {other:?}"));
                    let open = if commit { &mut outcomes.unknown } else { &mut outcomes.aborted };
                    open.insert(name);
                    return Next::BeginAnew;
                }
            }
        }
    }
}

/// The values of committed records, as a client sorts them out by the list of aborted transactions. Waits until
/// everything is decided.
async fn read_committed(connection: &mut Connection) -> Outcome<Vec<String>> {
    let (mut values, mut from) = (Vec::new(), 0);
    let mut begun: BTreeSet<i64> = BTreeSet::new();
    loop {
        let partition = fetch(connection, from, 4 << 10, 1).await?;
        if from >= partition.high_watermark {
            return Ok(values);
        }
        let mut aborted: BTreeMap<i64, i64> = BTreeMap::new();
        for one in partition.aborted_transactions.unwrap_or_default() {
            aborted.insert(one.first_offset, one.producer_id.0);
        }
        for batch in Batch::all(partition.records.unwrap_or_default()) {
            // The last one may be cut short.
            let Ok(batch) = batch else { break };
            batch.check_crc().map_err(|error| error.to_string())?;
            let (header, section) = (batch.header(), batch.records_section());
            if header.next_offset().get() <= from {
                continue;
            }
            from = header.next_offset().get();
            while let Some(first) = aborted.first_entry().filter(|first| *first.key() < from) {
                begun.insert(first.remove());
            }
            if header.attributes.is_control() {
                if Marker::read(header, &section).is_some_and(|marker| !marker.committed) {
                    begun.remove(&header.producer_id.get());
                }
                continue;
            }
            if begun.contains(&header.producer_id.get()) {
                continue;
            }
            for record in Records::new(&section, header.records_count) {
                let record = record.map_err(|error| error.to_string())?;
                values.push(String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned());
            }
        }
    }
}

fn check(values: &[String], outcomes: &Outcomes) -> Outcome<()> {
    let mut seen: BTreeMap<String, (Vec<u64>, u64)> = BTreeMap::new();
    for value in values {
        let label = value.strip_prefix("{\"t\":\"").and_then(|rest| rest.split('"').next()).unwrap_or_default();
        let words: Vec<&str> = label.split(' ').collect();
        let [name, part, count] = words[..] else { return Err(format!("nobody wrote {value}")) };
        let entry = seen.entry(name.to_owned()).or_default();
        entry.0.push(part.parse().unwrap());
        entry.1 = count.parse().unwrap();
    }
    for (name, (parts, count)) in &seen {
        if *parts != (1..=*count).collect::<Vec<_>>() {
            return Err(format!("of {name} the parts {parts:?} of {count} were read"));
        }
        if outcomes.aborted.contains(name) {
            return Err(format!("{name} was aborted and read"));
        }
    }
    match outcomes.committed.iter().find(|name| !seen.contains_key(*name)) {
        Some(name) => Err(format!("{name} was committed and is not there")),
        None => Ok(()),
    }
}
