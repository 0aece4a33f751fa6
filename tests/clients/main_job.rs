//! The main job: real records by kcat through `mask-fields`, the broker killed on the way, and every record read back
//! masked by other clients: none missing, none twice, in order.
//!
//! Kafka as the referee has no plugins; there the records come back as they were sent.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use millrace_tests::broker::{Broker, Kind, Options};
use millrace_tests::client::{Commands as _, Library};
use millrace_tests::seed::Seed;
use millrace_tests::{flights, load, segments, session, tools};
use serde_json::json;

const PARTITIONS: i32 = 3;

const TOPIC_FILE: &str = r#"
[topic]
name = "flights"
partitions = 3

[topic.config]
"segment.bytes" = 4194304

[[plugin]]
use = "mask-fields@1"
stage = "produce"
on-fault = "reject"
config = { fields = ["tailnum"] }
"#;

/// The values of each key in the order in which they were written or read.
type ByKey = BTreeMap<String, Vec<String>>;

/// What must be stored for a line that was sent.
fn stored(kind: Kind, line: &str) -> String {
    let tail = flights::field(line, "tailnum");
    if kind == Kind::Kafka || tail == "null" {
        return line.to_owned();
    }
    line.replace(&format!("\"tailnum\":{tail}"), "\"tailnum\":\"***\"")
}

fn expected(kind: Kind, lines: &[String]) -> ByKey {
    let mut expected = ByKey::new();
    for line in lines {
        expected.entry(flights::field(line, "carrier").to_owned()).or_default().push(stored(kind, line));
    }
    expected
}

/// `-E`, because kcat would give up when its only broker is gone for a moment. What it complains of goes to a file: it
/// would block on a pipe that nobody reads.
fn kcat(broker: &Broker, complaints: &Path) -> Option<Child> {
    let complaints = std::fs::File::create(complaints).expect("a file for complaints");
    let mut command = Command::new(tools::kcat()?);
    command.args(["-P", "-b", &broker.bootstrap(), "-t", "flights", "-K", "\t", "-z", "lz4", "-E"]);
    command.args(["-X", "enable.idempotence=true", "-X", "message.timeout.ms=600000"]);
    command.args(["-X", "queue.buffering.max.messages=20000", "-X", "reconnect.backoff.max.ms=200"]);
    Some(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(complaints).spawn().expect("kcat starts"))
}

/// Feeds kcat and kills the broker now and then; the pauses leave records in every state when a kill comes.
fn produce_through_kills(broker: &mut Broker, lines: &[String], seed: &mut Seed, complaints: &Path) {
    let mut kcat = kcat(broker, complaints).expect("found before");
    let mut stdin = kcat.stdin.take().expect("a pipe");
    let chunks = lines.len().div_ceil(40).max(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for chunk in lines.chunks(chunks) {
                let text: String =
                    chunk.iter().map(|line| format!("{}\t{line}\n", flights::field(line, "carrier"))).collect();
                stdin.write_all(text.as_bytes()).expect("kcat reads");
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(seed.between(300, 1_300)));
            broker.kill();
            std::thread::sleep(Duration::from_millis(seed.between(0, 300)));
            broker.restart();
        }
    });
    let status = kcat.wait().expect("kcat ends");
    let said = std::fs::read_to_string(complaints).expect("its complaints");
    let refused: Vec<&str> = said.lines().filter(|line| line.contains("Delivery failed")).take(3).collect();
    assert!(status.success() && refused.is_empty(), "kcat ended with {status}: {refused:?}");
}

fn read_by_librdkafka(broker: &Broker) -> ByKey {
    let mut found = ByKey::new();
    for partition in 0..PARTITIONS {
        load::scan(&broker.bootstrap(), "flights", partition, |_, value| {
            let line = std::str::from_utf8(value).expect("JSON");
            found.entry(flights::field(line, "carrier").to_owned()).or_default().push(line.to_owned());
        });
    }
    found
}

fn read_by_console_consumer(broker: &Broker, count: usize) -> Option<ByKey> {
    let mut consumer = tools::java()?.tool("org.apache.kafka.tools.consumer.ConsoleConsumer");
    consumer.args(["--bootstrap-server", &broker.bootstrap(), "--topic", "flights", "--from-beginning"]);
    consumer.args(["--formatter-property", "print.key=true", "--timeout-ms", "10000"]);
    // One more than there may be: a record too many must show.
    let text = tools::stdout(consumer.args(["--max-messages", &(count + 1).to_string()]));
    let mut found = ByKey::new();
    for line in text.lines() {
        let (key, value) = line.split_once('\t').expect("a key and a value");
        found.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    Some(found)
}

fn read_by(library: Library, broker: &Broker) -> Option<ByKey> {
    let mut client = session::open(library, &broker.bootstrap())?;
    let mut found = ByKey::new();
    for partition in 0..PARTITIONS {
        let asked = json!({"op": "times", "topic": "flights", "partition": partition, "timestamps": [-1]});
        let end = client.must(asked)["offsets"][0].as_i64().expect("an end");
        let mut next = 0;
        while next < end {
            let count = usize::try_from((end - next).min(10_000)).expect("a small number");
            for seen in client.consume("flights", partition, next, count) {
                let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.expect("not null")).expect("UTF-8");
                assert_eq!(seen.offset, next, "{}: a gap in partition {partition}", library.name());
                found.entry(text(seen.record.key)).or_default().push(text(seen.record.value));
                next += 1;
            }
        }
    }
    Some(found)
}

fn assert_same(reader: &str, found: &ByKey, expected: &ByKey) {
    let keys = |map: &ByKey| map.iter().map(|(key, values)| (key.clone(), values.len())).collect::<Vec<_>>();
    assert_eq!(keys(found), keys(expected), "{reader}: records by key");
    for (key, values) in expected {
        for (index, (found, expected)) in found[key].iter().zip(values).enumerate() {
            assert_eq!(found, expected, "{reader}: record {index} of {key}");
        }
    }
}

fn start(topics: &Path) -> Broker {
    std::fs::write(topics.join("flights.toml"), TOPIC_FILE).expect("a topic file");
    match Kind::from_environment() {
        Kind::Millrace => Broker::with(Options { topics: Some(topics.to_path_buf()), ..Options::default() }),
        Kind::Kafka => {
            let broker = Broker::start();
            let mut client = session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there");
            client.create("flights", PARTITIONS, json!({"segment.bytes": "4194304"}));
            broker
        }
    }
}

#[test]
fn real_records_are_masked_before_the_ack_and_survive_kills() {
    let Some(_) = tools::kcat() else { return };
    let topics = tempfile::tempdir().expect("a temporary directory");
    let mut broker = start(topics.path());
    let mut seed = Seed::from_environment("main job");
    let lines = flights::lines();
    let complaints = tempfile::NamedTempFile::new().expect("a temporary file");
    produce_through_kills(&mut broker, &lines, &mut seed, complaints.path());

    let expected = expected(broker.kind(), &lines);
    assert_same("librdkafka", &read_by_librdkafka(&broker), &expected);
    let mut readers = vec!["librdkafka"];
    if let Some(found) = read_by(Library::Go, &broker) {
        assert_same("franz-go", &found, &expected);
        readers.push("franz-go");
    }
    if let Some(found) = read_by_console_consumer(&broker, lines.len()) {
        assert_same("the console consumer", &found, &expected);
        readers.push("the console consumer");
    }
    broker.stop();
    let verdict = segments::check(&broker.data_dir(), "flights");
    eprintln!("main job: {} records by kcat, read by {}; {verdict:?}", lines.len(), readers.join(", "));
    if let Some(verdict) = verdict {
        assert_eq!(verdict.records, lines.len(), "records that DumpLogSegments finds");
    }
}
