//! Transactions under SIGKILL: what was committed is read once and whole, what was aborted is never read.
//!
//! Producers commit, abort, and now and then take over from themselves in the middle of a transaction, while the broker
//! is killed and started again. One reader of committed records follows all the while, a second one reads everything in
//! the end; both must have the same. A short run is part of the tests; `.ci/campaign txn --seconds N` makes it long.
//! `MILLRACE_SEED` replays the choices (not the scheduling of the processes).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millrace_tests::broker::{Broker, Options};
use millrace_tests::client::{Commands as _, Library};
use millrace_tests::librdkafka::config;
use millrace_tests::patience::Closing;
use millrace_tests::seed::Seed;
use millrace_tests::{segments, session};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaError};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use serde_json::json;

const PARTITIONS: i32 = 3;
/// States of a transaction, as the transaction log has them.
const EMPTY: u64 = 0;
const COMPLETE_COMMIT: u64 = 4;
const COMPLETE_ABORT: u64 = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a producer's transactions, each by its name.
#[derive(Debug, Default)]
struct Outcomes {
    committed: BTreeSet<String>,
    aborted: BTreeSet<String>,
    /// The library gave up before it knew.
    unknown: BTreeSet<String>,
}

/// What a call about a transaction comes to once it has been repeated for as long as that makes sense.
enum Verdict {
    Done,
    MustAbort,
    Lost,
}

fn insist(what: &str, mut call: impl FnMut() -> Result<(), KafkaError>) -> Verdict {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error: RDKafkaError = match call() {
            Ok(()) => return Verdict::Done,
            Err(KafkaError::Transaction(error)) => error,
            // A commit sends what is waiting first. Where the broker is away for long that is not done yet, and nothing else.
            Err(KafkaError::Flush(error)) => {
                assert!(Instant::now() < deadline, "{what}: still {error} after {PATIENCE:?}");
                continue;
            }
            Err(other) => panic!("{what}: {other}"),
        };
        if error.txn_requires_abort() {
            return Verdict::MustAbort;
        }
        if error.is_fatal() || !error.is_retriable() {
            return Verdict::Lost;
        }
        assert!(Instant::now() < deadline, "{what}: still {error:?} after {PATIENCE:?}");
    }
}

/// A thread of its own takes the delivery reports.
type Producer = Closing<ThreadedProducer<DefaultProducerContext>>;

struct Worker {
    bootstrap: String,
    id: String,
    topic: String,
    seed: Seed,
    outcomes: Outcomes,
}

impl Worker {
    /// Whoever had the id before is fenced, and its open transaction aborted.
    fn take_over(&self) -> Producer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let producer: Producer = config(&self.bootstrap)
                .set("transactional.id", &self.id)
                .set("transaction.timeout.ms", "20000")
                .set("message.timeout.ms", "20000")
                .set("linger.ms", "1")
                .create()
                .map(Closing::new)
                .expect("a producer");
            if matches!(insist("init", || producer.init_transactions(Duration::from_secs(5))), Verdict::Done) {
                return producer;
            }
            assert!(Instant::now() < deadline, "{}: no producer id after {PATIENCE:?}", self.id);
        }
    }

    fn run(mut self, stop: &AtomicBool) -> Outcomes {
        let mut producer = self.take_over();
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let name = format!("{}-{number}", self.id);
            if !self.transaction(&producer, &name) {
                producer = self.take_over();
            }
        }
        self.outcomes
    }

    /// Whether the producer can go on.
    fn transaction(&mut self, producer: &Producer, name: &str) -> bool {
        producer.begin_transaction().expect("nothing is open");
        let count = self.seed.between(1, 10);
        for i in 0..count {
            let value = format!("{name} {i} {count}");
            let partition = i32::try_from(i).expect("few") % PARTITIONS;
            let record = BaseRecord::<(), _>::to(&self.topic).partition(partition).payload(&value);
            if producer.send(record).is_err() {
                return self.abort(producer, name);
            }
        }
        match self.seed.between(0, 12) {
            0..3 => self.abort(producer, name),
            // Another instance begins before this one has ended.
            3 => {
                std::thread::sleep(Duration::from_millis(20));
                self.outcomes.aborted.insert(name.to_owned());
                false
            }
            _ => match insist("commit", || producer.commit_transaction(Duration::from_secs(5))) {
                Verdict::Done => self.outcomes.committed.insert(name.to_owned()),
                Verdict::MustAbort => self.abort(producer, name),
                Verdict::Lost => {
                    self.outcomes.unknown.insert(name.to_owned());
                    false
                }
            },
        }
    }

    fn abort(&mut self, producer: &Producer, name: &str) -> bool {
        self.outcomes.aborted.insert(name.to_owned());
        matches!(insist("abort", || producer.abort_transaction(Duration::from_secs(5))), Verdict::Done)
    }
}

/// Reads committed records from the start, until told to stop and at the end of every partition.
fn read(bootstrap: &str, topic: &str, stop: &AtomicBool) -> Vec<String> {
    let consumer: Closing<BaseConsumer> = config(bootstrap)
        .set("group.id", "nobody")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()
        .map(Closing::new)
        .expect("a consumer");
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition, Offset::Offset(0)).expect("an offset");
    }
    consumer.assign(&all).expect("partitions");
    let (mut values, mut ended) = (Vec::new(), BTreeSet::new());
    let (mut deadline, mut sought) = (None, Instant::now());
    while ended.len() < PARTITIONS as usize {
        if stop.load(Ordering::Relaxed) && deadline.is_none() {
            // What was the end before may not be it any more.
            ended.clear();
            deadline = Some(Instant::now() + PATIENCE);
        }
        assert!(deadline.is_none_or(|deadline| Instant::now() < deadline), "an end is not reached: {ended:?}");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                ended.remove(&message.partition());
                values.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
            }
            Some(Err(KafkaError::PartitionEOF(partition))) if deadline.is_some() => drop(ended.insert(partition)),
            Some(Err(_)) | None => {
                if deadline.is_some() && sought.elapsed() > Duration::from_secs(3) {
                    // A seek abandons the fetch that is under way: it must not come again before that could be answered.
                    sought = Instant::now();
                    // The end is told once; who has reached it before is told by going there again.
                    let missing = (0..PARTITIONS).filter(|partition| !ended.contains(partition));
                    for partition in missing.collect::<Vec<_>>() {
                        let position = consumer
                            .position()
                            .ok()
                            .and_then(|list| list.find_partition(topic, partition).and_then(|it| it.offset().to_raw()));
                        let position = Offset::Offset(position.filter(|position| *position >= 0).unwrap_or(0));
                        drop(consumer.seek(topic, partition, position, Duration::from_secs(5)));
                    }
                }
            }
        }
    }
    values
}

/// Every committed transaction is there as a whole and once, no aborted one, and of the others all or nothing.
fn settle(values: &[String], outcomes: &[Outcomes]) -> usize {
    let mut seen: BTreeMap<&str, (BTreeSet<&str>, usize)> = BTreeMap::new();
    for value in values {
        let mut words = value.split(' ');
        let (name, i, count) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let entry = seen.entry(name).or_default();
        entry.1 = count.parse().expect("a count");
        assert!(entry.0.insert(i), "{value} was read twice");
    }
    for (name, (parts, count)) in &seen {
        assert_eq!(parts.len(), *count, "{name} was read in parts");
        let is_aborted = outcomes.iter().any(|of| of.aborted.contains(*name));
        assert!(!is_aborted, "{name} was aborted and read");
        let is_known = outcomes.iter().any(|of| of.committed.contains(*name) || of.unknown.contains(*name));
        assert!(is_known, "nobody wrote {name}");
    }
    for name in outcomes.iter().flat_map(|of| &of.committed) {
        assert!(seen.contains_key(name.as_str()), "{name} was committed and is not there");
    }
    seen.len()
}

#[test]
fn committed_transactions_are_read_once_and_whole_and_aborted_ones_never_though_the_broker_is_killed() {
    let seconds = std::env::var("MILLRACE_TXN_SECONDS").map_or(12, |text| text.parse().expect("a number of seconds"));
    let mut seed = Seed::from_environment("txn");
    let mut broker = Broker::with(Options::default());
    let topic = "txn";
    let mut admin = session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there");
    admin.create(topic, PARTITIONS, json!({"segment.bytes": "1048576"}));
    let (stop_writing, stop_reading) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let workers: Vec<_> = (0..4)
        .map(|n| {
            let worker = Worker {
                bootstrap: broker.bootstrap(),
                id: format!("w{n}"),
                topic: topic.to_owned(),
                seed: Seed::new(seed.number()),
                outcomes: Outcomes::default(),
            };
            let stop = Arc::clone(&stop_writing);
            std::thread::spawn(move || worker.run(&stop))
        })
        .collect();
    let follower = {
        let (bootstrap, stop) = (broker.bootstrap(), Arc::clone(&stop_reading));
        std::thread::spawn(move || read(&bootstrap, topic, &stop))
    };

    let until = Instant::now() + Duration::from_secs(seconds);
    let mut kills = 0;
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(seed.between(300, 4_000)));
        broker.kill();
        kills += 1;
        std::thread::sleep(Duration::from_millis(seed.between(0, 200)));
        broker.restart();
    }
    stop_writing.store(true, Ordering::Relaxed);
    let mut outcomes: Vec<_> = workers.into_iter().map(|worker| worker.join().expect("a worker ends well")).collect();
    // What a worker left open is aborted by the next one with its name.
    for n in 0..4 {
        let (bootstrap, id, topic) = (broker.bootstrap(), format!("w{n}"), topic.to_owned());
        let last = Worker { bootstrap, id, topic, seed: Seed::new(0), outcomes: Outcomes::default() };
        drop(last.take_over());
        outcomes.push(last.outcomes);
    }
    stop_reading.store(true, Ordering::Relaxed);
    let followed = follower.join().expect("the follower ends well");
    let all = read(&broker.bootstrap(), topic, &stop_reading);
    let transactions = settle(&all, &outcomes);
    settle(&followed, &outcomes);
    let set = |values: &[String]| values.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(set(&followed), set(&all), "what was read on the way, and what is read in the end");

    broker.kill();
    broker.restart();
    assert_eq!(set(&read(&broker.bootstrap(), topic, &stop_reading)), set(&all), "after one more kill");
    broker.stop();
    let verdict = segments::check(&broker.data_dir(), topic);
    // Kafka's own tool reads the transaction log: the last thing said of each id is that nothing of it is open.
    for n in 0..4 {
        let Some(said) = segments::transaction(&broker.data_dir(), &format!("w{n}")) else { break };
        let statuses: Vec<_> = said.iter().map(|payload| payload["transactionStatus"].as_u64()).collect();
        assert!(matches!(statuses.last(), Some(Some(EMPTY | COMPLETE_COMMIT | COMPLETE_ABORT))), "w{n}: {statuses:?}");
    }
    let [committed, aborted, unknown] = [
        outcomes.iter().map(|of| of.committed.len()).sum::<usize>(),
        outcomes.iter().map(|of| of.aborted.len()).sum(),
        outcomes.iter().map(|of| of.unknown.len()).sum(),
    ];
    eprintln!(
        "txn: {kills} kills, {committed} committed, {aborted} aborted, {unknown} unknown, {transactions} read, {verdict:?}"
    );
    assert!(kills > 0 && committed > 0 && aborted > 0);
}
