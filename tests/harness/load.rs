//! A steady load of counted records, and the account that must come out even afterwards.
//!
//! Producer P sends record N as `P:N:padding` to partition N modulo the number of partitions and notes the offset of
//! every ack. Afterwards each partition must hold, for each producer, exactly its records, in order, each once, and
//! every acked one at the offset that was acked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::librdkafka::{Context, Reports, config, producer};
use crate::patience::Closing;

/// A load by librdkafka, on a thread of its own.
#[derive(Debug)]
pub struct Load {
    running: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
    notes: Arc<Notes>,
}

#[derive(Debug)]
struct Notes {
    acks: Mutex<BufWriter<File>>,
    failed: Mutex<Option<String>>,
}

impl Reports for Notes {
    fn report(&self, index: u64, ack: Result<(i32, i64), String>) {
        match ack {
            Ok((partition, offset)) => {
                let mut acks = self.acks.lock().expect("no one panics with the lock");
                writeln!(acks, "{index} {partition} {offset}").expect("the disk takes the acks");
            }
            Err(error) => *self.failed.lock().expect("no one panics with the lock") = Some(format!("{index}: {error}")),
        }
    }
}

impl Load {
    /// Starts the load that a `load` command describes.
    pub fn start(bootstrap: &str, command: &Value) -> Self {
        let path = command["path"].as_str().expect("a path");
        let acks = Mutex::new(BufWriter::new(File::create(path).expect("the acks' file")));
        let notes = Arc::new(Notes { acks, failed: Mutex::new(None) });
        let running = Arc::new(AtomicBool::new(true));
        let producer = producer(bootstrap, command, &notes).expect("a producer");
        let thread = std::thread::spawn({
            let (running, notes, command) = (Arc::clone(&running), Arc::clone(&notes), command.clone());
            move || run(&producer, &command, &running, &notes)
        });
        Self { running, thread, notes }
    }

    /// Stops producing, waits for the last acks and says what was sent.
    pub fn stop(self) -> Value {
        self.running.store(false, Ordering::Relaxed);
        let sent = self.thread.join().expect("the load does not panic");
        self.notes.acks.lock().expect("no one panics with the lock").flush().expect("the disk takes the acks");
        json!({"sent": sent, "failed": *self.notes.failed.lock().expect("no one panics with the lock")})
    }
}

fn run(producer: &ThreadedProducer<Context<Notes>>, command: &Value, running: &AtomicBool, notes: &Notes) -> u64 {
    let topic = command["topic"].as_str().expect("a topic");
    let pause =
        Duration::from_secs(1) / u32::try_from(command["rate"].as_u64().expect("a rate")).expect("a small rate");
    let partitions = command["partitions"].as_u64().expect("partitions");
    let mut due = Instant::now();
    let mut number = 0;
    while running.load(Ordering::Relaxed) && notes.failed.lock().expect("no one panics with the lock").is_none() {
        let value = value(command, number);
        let partition = i32::try_from(number % partitions).expect("a small number");
        let mut record =
            BaseRecord::<(), str, _>::with_opaque_to(topic, Box::new(number)).partition(partition).payload(&value);
        while let Err((error, back)) = producer.send(record) {
            assert_eq!(
                error,
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull),
                "librdkafka refuses a record"
            );
            std::thread::sleep(Duration::from_millis(10));
            record = back;
        }
        number += 1;
        due = (due + pause).max(Instant::now() - Duration::from_secs(1));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    producer.flush(Duration::from_secs(300)).expect("the last records are acked");
    number
}

fn value(command: &Value, number: u64) -> String {
    let bytes = command["bytes"].as_u64().expect("bytes");
    let mut value = format!("{}:{number}:", command["producer"].as_str().expect("a name"));
    value.extend((0..bytes).map(|i| char::from(b'a' + u8::try_from((number + i) % 26).expect("a letter"))));
    value
}

/// What one producer did.
#[derive(Debug)]
pub struct Account {
    /// Its name in the records.
    pub producer: String,
    /// How many records it sent.
    pub sent: u64,
    /// Where its acks are.
    pub acks: PathBuf,
}

/// A topic as it is after the load: for each producer the offset of each of its records.
#[derive(Debug)]
pub struct Ledger {
    found: BTreeMap<String, BTreeMap<u64, (i32, i64)>>,
}

impl Ledger {
    /// Reads the whole topic. Panics at a gap, a record out of order, or one that is there twice.
    pub fn read(bootstrap: &str, topic: &str, partitions: i32) -> Self {
        let mut found: BTreeMap<String, BTreeMap<u64, (i32, i64)>> = BTreeMap::new();
        let step = u64::try_from(partitions).expect("a positive number");
        for partition in 0..partitions {
            let mut next: BTreeMap<String, u64> = BTreeMap::new();
            scan(bootstrap, topic, partition, |offset, value| {
                let (producer, number) = parse(value);
                let expected = next.entry(producer.clone()).or_insert(u64::try_from(partition).expect("positive"));
                assert_eq!(
                    number, *expected,
                    "{topic}-{partition} at offset {offset}: {producer} has record {number} where {expected} must be"
                );
                *expected += step;
                found.entry(producer).or_default().insert(number, (partition, offset));
            });
        }
        Self { found }
    }

    /// Holds a producer's account against the topic; returns the number of acks.
    pub fn settle(&self, account: &Account) -> u64 {
        let empty = BTreeMap::new();
        let found = self.found.get(&account.producer).unwrap_or(&empty);
        let mut acked = 0;
        for (number, place) in read_acks(&account.acks) {
            assert_eq!(found.get(&number), Some(&place), "{}: record {number} was acked there", account.producer);
            acked += 1;
        }
        // Whoever may retry for ever and was flushed has every record acked.
        assert_eq!(acked, account.sent, "{}: acks against records sent", account.producer);
        assert_eq!(found.len() as u64, account.sent, "{}: records found against records sent", account.producer);
        acked
    }
}

fn parse(value: &[u8]) -> (String, u64) {
    let text = std::str::from_utf8(value).expect("the load writes text");
    let mut parts = text.splitn(3, ':');
    let (producer, number) = (parts.next().expect("a producer"), parts.next().expect("a number"));
    let number: u64 = number.parse().expect("a number");
    let padding = parts.next().expect("padding").as_bytes();
    let intact = (0..).zip(padding).all(|(i, byte)| u64::from(*byte) == u64::from(b'a') + (number + i) % 26);
    assert!(intact, "{producer}'s record {number} is damaged");
    (producer.to_owned(), number)
}

fn read_acks(path: &Path) -> Vec<(u64, (i32, i64))> {
    let text = std::fs::read_to_string(path).expect("the acks' file");
    let line = |line: &str| {
        let numbers: Vec<i64> = line.split(' ').map(|number| number.parse().expect("a number")).collect();
        (u64::try_from(numbers[0]).expect("positive"), (i32::try_from(numbers[1]).expect("small"), numbers[2]))
    };
    text.lines().map(line).collect()
}

/// Reads a partition from its start to its end and panics if offsets are not contiguous.
pub fn scan(bootstrap: &str, topic: &str, partition: i32, mut each: impl FnMut(i64, &[u8])) {
    let mut settings = config(bootstrap);
    settings.set("group.id", "unused").set("enable.auto.commit", "false").set("auto.offset.reset", "error");
    let consumer: Closing<BaseConsumer> = settings.create().map(Closing::new).expect("a consumer");
    let (low, high) = watermarks(&consumer, topic, partition);
    let mut assigned = TopicPartitionList::new();
    assigned.add_partition_offset(topic, partition, Offset::Offset(low)).expect("an offset");
    consumer.assign(&assigned).expect("an assignment");
    let mut next = low;
    let mut deadline = Instant::now() + Duration::from_secs(30);
    while next < high {
        assert!(Instant::now() < deadline, "{topic}-{partition} stops at offset {next} of {high}");
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let message = message.expect("a message");
        assert_eq!(message.offset(), next, "{topic}-{partition}: a gap");
        each(next, message.payload().unwrap_or_default());
        next += 1;
        deadline = Instant::now() + Duration::from_secs(30);
    }
}

/// A broker that has just started may answer before it leads its partitions.
fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32) -> (i64, i64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match consumer.fetch_watermarks(topic, partition, Duration::from_secs(10)) {
            Ok(found) => return found,
            Err(error) => assert!(Instant::now() < deadline, "{topic}-{partition} has no watermarks: {error:?}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
