//! Kafka Connect, alone and as a cluster of one worker: lines of a file go into a topic and from there into another file.
//!
//! Alone, a worker keeps its state in a file; in a cluster in three compacted topics that it creates itself, here with
//! exactly-once sources, whose offsets are part of their transactions. Worker and broker are killed; none of the lines is
//! lost, and the topic has each once. A short run is part of the tests; `.ci/campaign connect` kills more often.
//! `MILLRACE_SEED` replays the moments of the kills (not the scheduling of the processes).
//!
//! Once in some thousands of transactions Kafka's own producer (4.3.1) sends EndTxn before the last records that were
//! handed to it: its sender looks for unsent batches, and only then, in another lock, for the request that is next; a
//! commit that comes in between finds the earlier look still counted. Where nothing was written by then, the answer is
//! INVALID_TXN_STATE, on Apache Kafka as here, and the connector's task is dead until somebody restarts it: so does this
//! test. Where the lines were, but not yet their offset, they are committed without it, and come again if the worker is
//! killed just then. The transaction log shows that, so a line may be there twice only as often as it does.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use millrace_tests::application::Application;
use millrace_tests::broker::{Broker, Options};
use millrace_tests::client::{Client, Commands as _, Library, seen};
use millrace_tests::seed::Seed;
use millrace_tests::{ports, rest, segments, session, tools};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(90);
const TOPIC: &str = "lines";

/// So long that a source that takes a line at a time has none left over in its buffer of 1 KiB, which it would keep there
/// until the file grows. A line at a time is a transaction each, with an offset.
fn line(number: usize) -> String {
    format!("line {number:0>995}")
}

/// The two files, and how many lines were written to the first.
struct Files {
    dir: PathBuf,
    lines: usize,
}

impl Files {
    fn new(dir: &Path) -> Self {
        let files = Self { dir: dir.to_path_buf(), lines: 0 };
        File::create(files.source()).expect("a file");
        files
    }

    fn source(&self) -> PathBuf {
        self.dir.join("source")
    }

    fn sink(&self) -> PathBuf {
        self.dir.join("sink")
    }

    fn append(&mut self, count: usize) {
        let mut text = String::new();
        for _ in 0..count {
            writeln!(text, "{}", line(self.lines)).expect("memory");
            self.lines += 1;
        }
        let mut source = File::options().append(true).open(self.source()).expect("the file");
        source.write_all(text.as_bytes()).expect("the disk takes it");
    }

    /// The lines that arrived.
    fn arrived(&self) -> Vec<String> {
        fs::read_to_string(self.sink()).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn expected(&self) -> Vec<String> {
        (0..self.lines).map(line).collect()
    }

    /// Waits until the last line has arrived; then all must have, in order, though some may have come twice: the sink is
    /// a file, which no transaction holds.
    /// What has to be done meanwhile, `help` does.
    fn settle(&self, worker: &mut Application, help: impl Fn()) -> usize {
        let last = line(self.lines - 1);
        worker.wait("the last line arrives", PATIENCE, || {
            help();
            (self.arrived().last() == Some(&last)).then_some(())
        });
        let mut met = BTreeSet::new();
        let arrived = self.arrived();
        let first: Vec<&String> = arrived.iter().filter(|line| met.insert(line.as_str())).collect();
        let is_whole = first.iter().copied().eq(&self.expected());
        let numbers =
            || first.iter().map(|line| line.trim_start_matches(['l', 'i', 'n', 'e', ' ', '0'])).collect::<Vec<_>>();
        assert!(is_whole, "{} lines were to arrive, in order, and first did: {:?}", self.lines, numbers());
        arrived.len()
    }

    fn source_config(&self) -> Value {
        json!({
            "connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "tasks.max": "1",
            "file": self.source(), "topic": TOPIC, "batch.size": "1",
        })
    }

    fn sink_config(&self) -> Value {
        json!({
            "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector", "tasks.max": "1",
            "file": self.sink(), "topics": TOPIC,
        })
    }
}

/// Writes a properties file.
fn properties(dir: &Path, name: &str, settings: &Value) -> PathBuf {
    let file = dir.join(name);
    let lines = settings.as_object().expect("settings").iter();
    let lines = lines.map(|(key, value)| format!("{key}={}\n", value.as_str().expect("a string")));
    fs::write(&file, lines.collect::<String>()).expect("the disk takes it");
    file
}

/// What both kinds of worker are told.
fn worker(bootstrap: &str, port: u16) -> Value {
    json!({
        "bootstrap.servers": bootstrap, "listeners": format!("http://127.0.0.1:{port}"),
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "plugin.discovery": "service_load", "offset.flush.interval.ms": "500",
        "consumer.session.timeout.ms": "6000", "consumer.heartbeat.interval.ms": "1000",
    })
}

fn with(mut settings: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().expect("settings") {
        settings[key] = value.clone();
    }
    settings
}

fn alone(broker: &Broker, files: &Files) -> Option<Command> {
    let mut command = tools::java()?.application("org.apache.kafka.connect.cli.ConnectStandalone");
    let state = json!({"offset.storage.file.filename": files.dir.join("offsets")});
    let settings = with(worker(&broker.bootstrap(), ports::free()), &state);
    command.arg(properties(&files.dir, "worker.properties", &settings));
    for (name, settings) in [("file-source", files.source_config()), ("file-sink", files.sink_config())] {
        command.arg(properties(&files.dir, name, &with(settings, &json!({"name": name}))));
    }
    Some(command)
}

#[test]
fn a_connect_worker_alone_goes_on_where_it_stopped() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut files = Files::new(dir.path());
    files.append(100);
    let Some(command) = alone(&broker, &files) else { return };
    let mut worker = Application::start("the Connect worker", dir.path(), command);
    assert_eq!(files.settle(&mut worker, || {}), 100);
    worker.stop();
    files.append(100);
    worker.restart();
    assert_eq!(files.settle(&mut worker, || {}), 200, "after a stop nothing comes twice");
    worker.stop();
}

/// The three topics of the worker's state, each with settings that let the cleaner come soon.
const STATE: [(&str, &str); 3] =
    [("config", "connect-configs"), ("offset", "connect-offsets"), ("status", "connect-status")];

fn member(broker: &Broker, port: u16, dir: &Path) -> Option<Command> {
    let mut command = tools::java()?.application("org.apache.kafka.connect.cli.ConnectDistributed");
    let mut settings = with(
        worker(&broker.bootstrap(), port),
        &json!({
            "group.id": "connect-cluster", "exactly.once.source.support": "enabled",
            "session.timeout.ms": "6000", "heartbeat.interval.ms": "1000", "scheduled.rebalance.max.delay.ms": "0",
            "offset.storage.partitions": "1", "status.storage.partitions": "1",
        }),
    );
    for (kind, topic) in STATE {
        settings[format!("{kind}.storage.topic")] = json!(topic);
        settings[format!("{kind}.storage.replication.factor")] = json!("1");
        settings[format!("{kind}.storage.segment.ms")] = json!("200");
        settings[format!("{kind}.storage.min.cleanable.dirty.ratio")] = json!("0.01");
    }
    command.arg(properties(dir, "worker.properties", &settings));
    Some(command)
}

/// Creates or changes a connector over the worker's REST.
fn configure(worker: &mut Application, port: u16, name: &str, config: &Value) {
    let path = format!("/connectors/{name}/config");
    worker.wait("the worker takes a connector", PATIENCE, || {
        let (status, answer) = rest::call(port, "PUT", &path, Some(config))?;
        // A worker that has just started is not ready, or in the middle of a rebalance.
        assert!([200, 201, 404, 409, 500, 503].contains(&status), "{name}: {status} {answer}");
        [200, 201].contains(&status).then_some(())
    });
}

/// Waits until a connector and its task run, by what the worker has read from its topics.
fn runs(worker: &mut Application, port: u16, name: &str) {
    let path = format!("/connectors/{name}/status");
    worker.wait("a connector and its task run", PATIENCE, || {
        let (_, answer) = rest::call(port, "GET", &path, None)?;
        let answer: Value = serde_json::from_str(&answer).ok()?;
        let is_running = |of: &Value| of["state"] == "RUNNING";
        (is_running(&answer["connector"]) && is_running(&answer["tasks"][0])).then_some(())
    });
}

/// Restarts a connector's task if it is dead, as an operator would.
fn restart_failed(port: u16, name: &str) {
    let status = rest::call(port, "GET", &format!("/connectors/{name}/status"), None);
    let Some((200, answer)) = status else { return };
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    if answer["tasks"][0]["state"] == "FAILED" {
        eprintln!("connect: the task is dead: {}", answer["tasks"][0]["trace"]);
        rest::call(port, "POST", &format!("/connectors/{name}/restart?includeTasks=true&onlyFailed=true"), None);
    }
}

/// How many transactions of the source were committed with lines and without their offset.
fn torn(broker: &Broker) -> usize {
    const PREPARE_COMMIT: u64 = 2;
    let said = segments::transaction(&broker.data_dir(), "connect-cluster-file-source-0").expect("Java is there");
    let ended = said.iter().filter(|txn| txn["transactionStatus"].as_u64() == Some(PREPARE_COMMIT));
    let topics = |txn: &Value| {
        let partitions = txn["transactionPartitions"].as_array().into_iter().flatten();
        partitions.filter_map(|it| it["topic"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    ended.filter(|txn| topics(txn) == [TOPIC]).count()
}

/// The end of a partition, and how many committed records it has.
fn extent(client: &mut dyn Client, topic: &str) -> (usize, usize) {
    let end = client.must(json!({"op": "times", "topic": topic, "partition": 0, "timestamps": [-1]}));
    let end = end["offsets"][0].as_u64().expect("an end");
    let all = json!({"op": "consume", "topic": topic, "offset": 0, "count": end, "timeout_ms": 1_000,
        "committed": true});
    (usize::try_from(end).expect("few"), seen(&client.must(all)).len())
}

#[test]
fn a_connect_cluster_keeps_its_state_in_compacted_topics_though_worker_and_broker_are_killed() {
    let rounds = std::env::var("MILLRACE_CONNECT_ROUNDS").map_or(1, |text| text.parse().expect("a number of rounds"));
    let mut seed = Seed::from_environment("connect");
    let config = [("log.cleaner.backoff.ms", "50")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut broker = Broker::with(Options { config: config.to_vec(), ..Options::default() });
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut client = session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there");
    client.create(TOPIC, 1, json!({}));
    let mut files = Files::new(dir.path());
    files.append(60);
    let port = ports::free();
    let Some(command) = member(&broker, port, dir.path()) else { return };
    let mut worker = Application::start("the Connect worker", dir.path(), command);
    configure(&mut worker, port, "file-source", &files.source_config());
    configure(&mut worker, port, "file-sink", &files.sink_config());
    let help = || restart_failed(port, "file-source");
    files.settle(&mut worker, help);
    for (_, topic) in STATE {
        let configs = client.must(json!({"op": "configs", "topic": topic}));
        assert_eq!(configs["configs"]["cleanup.policy"], "compact", "{topic}");
    }

    for round in 0..rounds {
        // An offset for every line, all of one key, with a marker each: the cleaner leaves the last ones.
        worker.wait("the offsets are compacted", PATIENCE, || {
            help();
            files.append(10);
            std::thread::sleep(Duration::from_millis(300));
            let (end, found) = extent(&mut *client, "connect-offsets");
            (end > 100 && found < end / 4).then_some(())
        });
        files.append(40);
        // The lines are on their way, most often.
        std::thread::sleep(Duration::from_millis(seed.between(0, 1_500)));
        // The worker first, the broker first, or only one of them.
        match round % 4 {
            0 => {
                broker.kill();
                worker.kill();
                broker.restart();
                files.append(20);
                worker.restart();
            }
            1 => {
                worker.kill();
                files.append(20);
                worker.restart();
            }
            2 => {
                broker.kill();
                files.append(20);
                broker.restart();
            }
            _ => {
                worker.kill();
                broker.kill();
                broker.restart();
                worker.restart();
            }
        }
        files.append(20);
        let arrived = files.settle(&mut worker, help);
        eprintln!("connect: round {} of {rounds}, {} lines, {arrived} arrived", round + 1, files.lines);
    }
    for name in ["file-source", "file-sink"] {
        runs(&mut worker, port, name);
    }
    worker.stop();
    // The source's records and offsets are written in transactions: no line is there twice.
    let (end, _) = extent(&mut *client, TOPIC);
    let lines = seen(&client.must(json!({
        "op": "consume", "topic": TOPIC, "offset": 0, "count": end, "timeout_ms": 5_000, "committed": true,
    })));
    let mut met = BTreeSet::new();
    let lines =
        lines.into_iter().map(|line| String::from_utf8_lossy(&line.record.value.unwrap_or_default()).into_owned());
    let (first, again): (Vec<_>, Vec<_>) = lines.partition(|line| met.insert(line.clone()));
    assert!(first == files.expected(), "{} lines are committed of {}", first.len(), files.lines);
    if !again.is_empty() {
        let torn = torn(&broker);
        eprintln!("connect: {} lines are there twice; {torn} transactions were ended too early", again.len());
        assert!(again.len() <= torn, "{} lines are there twice: {again:?}", again.len());
    }
}
