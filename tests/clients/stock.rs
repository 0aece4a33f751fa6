//! What a broker's CPU pays for producers as people run them, idempotent and with acks=all: Java's perf tool and
//! librdkafka, beside Apache Kafka. A benchmark: it prints a table and judges nothing but that every record was acked.
//!
//! `.ci/campaign stock` runs it. Each round gives both brokers every load, in turn, the first broker by turns; a round
//! before the first warms the JVM up and is not counted. Seconds are user and system time of the broker's process.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millrace_tests::broker::{Broker, Kind, Options};
use millrace_tests::client::{Client, Commands as _, Library};
use millrace_tests::librdkafka::{Context, Reports, config};
use millrace_tests::seed::Seed;
use millrace_tests::{session, tools};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use serde_json::json;

struct Load {
    name: &'static str,
    record: usize,
    batch: u32,
    codec: &'static str,
    /// Values, before compression.
    bytes: u64,
}

const LOADS: [Load; 3] = [
    Load { name: "1 KB in 64 KB", record: 1000, batch: 64 << 10, codec: "none", bytes: 1_000_000_000 },
    Load { name: "100 B in 16 KB", record: 100, batch: 16 << 10, codec: "none", bytes: 333_000_000 },
    Load { name: "lz4 in 1 MB", record: 1000, batch: 1 << 20, codec: "lz4", bytes: 1_000_000_000 },
];

/// Produces with one client: bootstrap address, topic, load.
type Drive = fn(&str, &str, &Load);

const CLIENTS: [(&str, Drive); 2] = [("perf tool", by_perf_tool), ("librdkafka", by_librdkafka)];

fn by_perf_tool(bootstrap: &str, topic: &str, load: &Load) {
    let java = tools::java().expect("the comparison needs Java");
    let mut tool = java.class(&["-Xmx512m"], "org.apache.kafka.tools.ProducerPerformance");
    tool.args(["--topic", topic, "--throughput", "-1", "--record-size", &load.record.to_string()]);
    tool.args(["--num-records", &records(load).to_string(), "--producer-props"]);
    tool.arg(format!("bootstrap.servers={bootstrap}")).args(["acks=all", "enable.idempotence=true", "linger.ms=5"]);
    tool.arg(format!("batch.size={}", load.batch)).arg(format!("compression.type={}", load.codec));
    tool.args(["max.request.size=4194304", "buffer.memory=67108864"]);
    tools::stdout(&mut tool);
}

#[derive(Default)]
struct Count {
    acked: AtomicU64,
    failed: AtomicU64,
}

impl Reports for Count {
    fn report(&self, _index: u64, ack: Result<(i32, i64), String>) {
        let count = if ack.is_ok() { &self.acked } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn by_librdkafka(bootstrap: &str, topic: &str, load: &Load) {
    let count = Arc::new(Count::default());
    let mut config = config(bootstrap);
    config.set("enable.idempotence", "true").set("acks", "all").set("linger.ms", "5");
    config.set("batch.size", load.batch.to_string()).set("batch.num.messages", "1000000");
    config.set("message.max.bytes", "4194304").set("compression.codec", load.codec);
    config.set("queue.buffering.max.kbytes", "65536").set("queue.buffering.max.messages", "1000000");
    let producer: ThreadedProducer<Context<Count>> =
        config.create_with_context(Context(Arc::clone(&count))).expect("a producer");
    // Letters, as the perf tool sends: lz4 makes about 0.6 of them.
    let mut seed = Seed::new(1);
    let values: Vec<Vec<u8>> =
        (0..97).map(|_| (0..load.record).map(|_| b'A' + (seed.number() % 26) as u8).collect()).collect();
    for (index, value) in (0..records(load)).zip(values.iter().cycle()) {
        let mut record = BaseRecord::<(), _, _>::with_opaque_to(topic, Box::new(index)).payload(value);
        while let Err((error, back)) = producer.send(record) {
            assert!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), "{error}");
            std::thread::sleep(Duration::from_millis(1));
            record = back;
        }
    }
    producer.flush(Duration::from_secs(120)).expect("everything is sent");
    assert_eq!(count.failed.load(Ordering::Relaxed), 0);
    assert_eq!(count.acked.load(Ordering::Relaxed), records(load));
}

const fn records(load: &Load) -> u64 {
    load.bytes / load.record as u64
}

/// User and system seconds of a process so far.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the broker runs");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("ticks")).sum();
    // What /proc counts in is fixed at a hundredth of a second, whatever the kernel ticks by.
    ticks as f64 / 100.0
}

struct Judged {
    broker: Broker,
    admin: Box<dyn Client>,
    /// By client and load, one figure a round.
    seconds: Vec<Vec<f64>>,
}

impl Judged {
    fn start(kind: Kind) -> Self {
        let broker = Broker::of(kind, Options::default());
        let admin = session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there");
        Self { broker, admin, seconds: vec![Vec::new(); CLIENTS.len() * LOADS.len()] }
    }

    fn measure(&mut self, round: usize, at: usize) {
        let (client, load) = (CLIENTS[at / LOADS.len()].1, &LOADS[at % LOADS.len()]);
        let topic = format!("stock-{round}-{at}");
        self.admin.create(&topic, 8, json!({}));
        let pid = self.broker.pid().expect("it runs");
        let before = cpu_seconds(pid);
        client(&self.broker.bootstrap(), &topic, load);
        let spent = (cpu_seconds(pid) - before) / load.bytes as f64 * 1e9;
        self.admin.must(json!({"op": "delete", "topic": topic}));
        if round > 0 {
            self.seconds[at].push(spent);
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
#[ignore = "a benchmark: .ci/campaign stock"]
fn the_cpu_that_stock_producers_cost_beside_kafka() {
    let rounds = std::env::var("MILLRACE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
    let mut brokers = [Judged::start(Kind::Kafka), Judged::start(Kind::Millrace)];
    for round in 0..=rounds {
        for at in 0..CLIENTS.len() * LOADS.len() {
            let first = round % 2;
            brokers[first].measure(round, at);
            brokers[1 - first].measure(round, at);
        }
        eprintln!("round {round} of {rounds} is over");
    }
    let version = Command::new("uname").arg("-r").output().map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
    eprintln!("broker CPU-seconds per GB of values, medians of {rounds} rounds, Linux {}", version.unwrap_or_default());
    eprintln!("| client | load | Kafka | Millrace | ratio |\n|---|---|--:|--:|--:|");
    for at in 0..CLIENTS.len() * LOADS.len() {
        let [kafka, ours] = [0, 1].map(|it| median(brokers[it].seconds[at].clone()));
        let (client, load) = (CLIENTS[at / LOADS.len()].0, LOADS[at % LOADS.len()].name);
        eprintln!("| {client} | {load} | {kafka:.2} | {ours:.2} | {:.2} |", ours / kafka);
    }
}
