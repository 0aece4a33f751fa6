//! librdkafka behind the driver protocol, in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Message as _, Offset, Timestamp, TopicPartitionList};
use serde_json::{Value, json};

use crate::client::Client;
use crate::load::Load;
use crate::patience::{self, Closing};
use crate::record::{Record, Seen};

const PATIENCE: Duration = Duration::from_secs(30);

/// The client and the group members it holds.
#[derive(Default)]
pub struct Librdkafka {
    bootstrap: String,
    members: BTreeMap<String, Closing<BaseConsumer>>,
    producers: BTreeMap<String, Transactional>,
    load: Option<Load>,
}

/// A producer with a transactional id, and where its delivery reports go.
struct Transactional {
    producer: Closing<ThreadedProducer<Context<Acks>>>,
    acks: Arc<Acks>,
}

/// Takes delivery reports: the index of a record, and what became of it.
pub trait Reports: Send + Sync + 'static {
    /// One record's partition and offset, or the error.
    fn report(&self, index: u64, ack: Result<(i32, i64), String>);
}

/// rdkafka's callbacks, handed on.
pub struct Context<R>(pub Arc<R>);

impl<R: Reports> ClientContext for Context<R> {}

impl<R: Reports> ProducerContext for Context<R> {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<u64>) {
        let ack = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(format!("{error:?}")),
        };
        self.0.report(*index, ack);
    }
}

type Acks = Mutex<Vec<Option<Result<(i32, i64), String>>>>;

impl Reports for Acks {
    fn report(&self, index: u64, ack: Result<(i32, i64), String>) {
        let mut acks = self.lock().expect("no one panics with the lock");
        acks[usize::try_from(index).expect("a small number")] = Some(ack);
    }
}

/// Settings every client of the tests has.
pub fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("reconnect.backoff.max.ms", "200");
    // A killed broker is part of the tests; its log lines would hide a failure's.
    config.set("log_level", "2");
    config
}

/// A producer as a command describes it.
pub fn producer<R: Reports>(
    bootstrap: &str,
    command: &Value,
    reports: &Arc<R>,
) -> KafkaResult<Closing<ThreadedProducer<Context<R>>>> {
    let mut config = config(bootstrap);
    config
        .set("compression.codec", command["codec"].as_str().unwrap_or("none"))
        .set("enable.idempotence", command["idempotent"].as_bool().unwrap_or(true).to_string())
        .set("message.timeout.ms", command["timeout_ms"].as_u64().unwrap_or(30_000).to_string())
        .set("message.max.bytes", "20000000")
        .set("request.timeout.ms", "10000")
        .set("linger.ms", command["linger_ms"].as_u64().unwrap_or(5).to_string());
    if let Some(id) = command["transactional"].as_str() {
        config.set("transactional.id", id).set("transaction.timeout.ms", "30000");
    }
    config.create_with_context(Context(Arc::clone(reports))).map(Closing::new)
}

impl Librdkafka {
    /// A client of this broker.
    pub fn new(bootstrap: &str) -> Self {
        Self { bootstrap: bootstrap.to_owned(), ..Self::default() }
    }

    fn act(&mut self, command: &Value) -> Result<Value, String> {
        let done = match command["op"].as_str().expect("a command") {
            "produce" => self.produce(command),
            "consume" => self.consume(command),
            "create" | "delete" | "configs" => return self.admin(command),
            "describe" => self.describe(command),
            "times" => self.times(command),
            "join" => self.join(command),
            "poll" => return self.poll(command),
            "commit" => self.member(command).commit_consumer_state(CommitMode::Sync).map(|()| json!({})),
            "committed" => self.committed(command),
            "leave" => {
                self.members.remove(text(command, "member"));
                Ok(json!({}))
            }
            "init" => self.init(command),
            "begin" | "send" | "offsets" | "end" => self.transact(command),
            "close" => {
                self.producers.remove(text(command, "producer"));
                Ok(json!({}))
            }
            "load" => {
                self.load = Some(Load::start(&self.bootstrap, command));
                Ok(json!({}))
            }
            "stop" => Ok(self.load.take().expect("a load was started").stop()),
            other => panic!("unknown command {other}"),
        };
        // A commit without anything to commit is fine with every other library.
        match done {
            Err(KafkaError::ConsumerCommit(rdkafka::types::RDKafkaErrorCode::NoOffset)) => Ok(json!({})),
            done => done.map_err(|error| format!("{error:?}")),
        }
    }

    fn produce(&self, command: &Value) -> KafkaResult<Value> {
        let acks: Arc<Acks> = Arc::default();
        let producer = producer(&self.bootstrap, command, &acks)?;
        send(&producer, &acks, command)
    }

    fn init(&mut self, command: &Value) -> KafkaResult<Value> {
        let acks: Arc<Acks> = Arc::default();
        let producer = producer(&self.bootstrap, command, &acks)?;
        producer.init_transactions(PATIENCE)?;
        self.producers.insert(text(command, "producer").to_owned(), Transactional { producer, acks });
        Ok(json!({}))
    }

    fn transact(&self, command: &Value) -> KafkaResult<Value> {
        let Transactional { producer, acks } = &self.producers[text(command, "producer")];
        match text(command, "op") {
            "begin" => producer.begin_transaction()?,
            "send" => return send(producer, acks, command),
            "offsets" => {
                let member = self.member(command);
                let metadata = member.group_metadata().expect("a member of a group");
                producer.send_offsets_to_transaction(&member.position()?, &metadata, PATIENCE)?;
            }
            _ if command["commit"] == true => producer.commit_transaction(PATIENCE)?,
            _ => producer.abort_transaction(PATIENCE)?,
        }
        Ok(json!({}))
    }

    fn consumer(&self, settings: &[(&str, &str)]) -> KafkaResult<Closing<BaseConsumer>> {
        let mut config = config(&self.bootstrap);
        config.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest").set("group.id", "unused");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config.create().map(Closing::new)
    }

    fn consume(&self, command: &Value) -> KafkaResult<Value> {
        let isolation = if command["committed"] == true { "read_committed" } else { "read_uncommitted" };
        let consumer = self.consumer(&[("isolation.level", isolation)])?;
        let mut assigned = TopicPartitionList::new();
        let offset = Offset::Offset(command["offset"].as_i64().unwrap_or(0));
        assigned.add_partition_offset(text(command, "topic"), partition(command), offset)?;
        consumer.assign(&assigned)?;
        let count = command["count"].as_u64().expect("a count");
        let deadline = Instant::now() + Duration::from_millis(command["timeout_ms"].as_u64().unwrap_or(20_000));
        let mut records = Vec::new();
        while (records.len() as u64) < count && Instant::now() < deadline {
            if let Some(message) = consumer.poll(Duration::from_millis(200)) {
                records.push(seen(&message?).to_json());
            }
        }
        Ok(json!({"records": records}))
    }

    fn describe(&self, command: &Value) -> KafkaResult<Value> {
        let metadata = self.consumer(&[])?.fetch_metadata(Some(text(command, "topic")), PATIENCE)?;
        let topic = metadata.topics().first().expect("the topic asked for");
        match topic.error() {
            Some(error) => Err(KafkaError::MetadataFetch(error.into())),
            None => Ok(json!({"partitions": topic.partitions().len(), "id": null})),
        }
    }

    fn admin(&self, command: &Value) -> Result<Value, String> {
        let admin: Closing<AdminClient<DefaultClientContext>> =
            config(&self.bootstrap).create().map(Closing::new).map_err(|error| format!("{error:?}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
        let name = text(command, "topic");
        let configs: Vec<(&String, &str)> = command["configs"].as_object().map_or_else(Vec::new, |all| {
            all.iter().map(|(key, value)| (key, value.as_str().expect("a string"))).collect()
        });
        match text(command, "op") {
            "create" => {
                let partitions = i32::try_from(command["partitions"].as_i64().unwrap_or(1)).expect("a small number");
                let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
                for (key, value) in configs {
                    topic = topic.set(key, value);
                }
                let done = runtime.block_on(admin.create_topics([&topic], &options));
                each(done.map_err(|error| format!("{error:?}"))?)
            }
            "delete" => {
                let done = runtime.block_on(admin.delete_topics(&[name], &options));
                each(done.map_err(|error| format!("{error:?}"))?)
            }
            _ => {
                let done = runtime.block_on(admin.describe_configs([&ResourceSpecifier::Topic(name)], &options));
                let mut all = done.map_err(|error| format!("{error:?}"))?;
                let topic = all.remove(0).map_err(|error| format!("{error:?}"))?;
                let configs: BTreeMap<String, Option<String>> =
                    topic.entries.into_iter().map(|entry| (entry.name, entry.value)).collect();
                Ok(json!({"configs": configs}))
            }
        }
    }

    fn times(&self, command: &Value) -> KafkaResult<Value> {
        let (topic, partition) = (text(command, "topic"), partition(command));
        let consumer = self.consumer(&[])?;
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
        let mut offsets = Vec::new();
        for timestamp in command["timestamps"].as_array().expect("timestamps") {
            offsets.push(match timestamp.as_i64().expect("a timestamp") {
                -1 => json!(high),
                -2 => json!(low),
                at => {
                    let mut asked = TopicPartitionList::new();
                    asked.add_partition_offset(topic, partition, Offset::Offset(at))?;
                    let found = consumer.offsets_for_times(asked, PATIENCE)?;
                    json!(
                        found.elements().first().and_then(|element| element.offset().to_raw()).filter(|raw| *raw >= 0)
                    )
                }
            });
        }
        Ok(json!({"offsets": offsets}))
    }

    fn join(&mut self, command: &Value) -> KafkaResult<Value> {
        let session = command["session_timeout_ms"].as_u64().unwrap_or(10_000).to_string();
        let mut settings = vec![("group.id", text(command, "group")), ("enable.auto.offset.store", "true")];
        if command["protocol"] == "consumer" {
            settings.push(("group.protocol", "consumer"));
        } else {
            settings.extend([("session.timeout.ms", session.as_str()), ("heartbeat.interval.ms", "500")]);
        }
        if let Some(instance) = command["instance"].as_str() {
            settings.push(("group.instance.id", instance));
        }
        if command["cooperative"] == true {
            settings.push(("partition.assignment.strategy", "cooperative-sticky"));
        }
        let member = self.consumer(&settings)?;
        member.subscribe(&[text(command, "topic")])?;
        self.members.insert(text(command, "member").to_owned(), member);
        Ok(json!({}))
    }

    fn member(&self, command: &Value) -> &BaseConsumer {
        self.members.get(text(command, "member")).expect("a member that joined")
    }

    fn poll(&self, command: &Value) -> Result<Value, String> {
        let member = self.member(command);
        let mut records = Vec::new();
        let mut wait = Duration::from_millis(command["timeout_ms"].as_u64().unwrap_or(300));
        while let Some(message) = member.poll(wait) {
            records.push(seen(&message.map_err(|error| format!("{error:?}"))?).to_json());
            // As other libraries do: wait for the first record, then take what is there.
            wait = Duration::ZERO;
        }
        let assigned = member.assignment().map_err(|error| format!("{error:?}"))?;
        let mut partitions: Vec<i32> = assigned.elements().iter().map(|element| element.partition()).collect();
        partitions.sort_unstable();
        Ok(json!({"records": records, "assigned": partitions}))
    }

    fn committed(&self, command: &Value) -> KafkaResult<Value> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(text(command, "topic"), partition(command));
        let found = self.member(command).committed_offsets(asked, PATIENCE)?;
        let offset = found.elements().first().and_then(|element| element.offset().to_raw()).filter(|raw| *raw >= 0);
        Ok(json!({"offset": offset}))
    }
}

impl Client for Librdkafka {
    fn call(&mut self, command: &Value) -> Result<Value, String> {
        patience::during(command, || self.act(command))
    }
}

/// Waits for every record's delivery report.
fn send(producer: &ThreadedProducer<Context<Acks>>, acks: &Arc<Acks>, command: &Value) -> KafkaResult<Value> {
    let records: Vec<Record> = command["records"].as_array().expect("records").iter().map(Record::from_json).collect();
    *acks.lock().expect("no one panics with the lock") = vec![None; records.len()];
    for (index, record) in (0..).zip(&records) {
        if let Err((error, _)) = producer.send(message(text(command, "topic"), record, index)) {
            acks.report(index, Err(format!("{error:?}")));
        }
    }
    producer.flush(PATIENCE)?;
    let acks = acks.lock().expect("no one panics with the lock");
    let one = |ack: &Option<Result<(i32, i64), String>>| match ack {
        Some(Ok((partition, offset))) => json!({"partition": partition, "offset": offset}),
        Some(Err(error)) => json!({"error": error}),
        None => json!({"error": "no delivery report"}),
    };
    Ok(json!({"acks": acks.iter().map(one).collect::<Vec<Value>>()}))
}

fn each<N>(results: Vec<Result<String, (String, N)>>) -> Result<Value, String>
where
    N: std::fmt::Debug,
{
    for result in results {
        result.map_err(|(name, error)| format!("{name}: {error:?}"))?;
    }
    Ok(json!({}))
}

fn text<'a>(command: &'a Value, name: &str) -> &'a str {
    command[name].as_str().unwrap_or_else(|| panic!("a command without {name}"))
}

fn partition(command: &Value) -> i32 {
    i32::try_from(command["partition"].as_i64().unwrap_or(0)).expect("a small number")
}

fn message<'a>(topic: &'a str, record: &'a Record, index: u64) -> BaseRecord<'a, Vec<u8>, Vec<u8>, Box<u64>> {
    let mut message =
        BaseRecord::with_opaque_to(topic, Box::new(index)).partition(record.partition).timestamp(record.timestamp);
    if let Some(key) = &record.key {
        message = message.key(key);
    }
    if let Some(value) = &record.value {
        message = message.payload(value);
    }
    if record.headers.is_empty() {
        return message;
    }
    let headers = OwnedHeaders::new_with_capacity(record.headers.len());
    message.headers(
        record
            .headers
            .iter()
            .fold(headers, |headers, (name, value)| headers.insert(Header { key: name, value: value.as_ref() })),
    )
}

fn seen(message: &BorrowedMessage<'_>) -> Seen {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    Seen {
        offset: message.offset(),
        append_time: Some(matches!(message.timestamp(), Timestamp::LogAppendTime(_))),
        record: Record {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
            partition: message.partition(),
        },
    }
}
