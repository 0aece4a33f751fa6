//! Plugins that do their worst inside a broker process: their own topic is told so, by the attachment's policy; everybody
//! else's is served as before.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millrace_tests::broker::{Broker, Options, skipped_on_kafka};
use millrace_tests::client::{Commands as _, Library};
use millrace_tests::session;
use tempfile::TempDir;

use super::guests::{guest, plugin};
use super::probe::batch::Raw;
use super::probe::topics::name;
use super::probe::{answer, frame};

/// Kafka's INVALID_RECORD.
const INVALID_RECORD: i16 = 87;
/// The version of Produce that is spoken here: the first with `record_errors` in flexible form.
const VERSION: i16 = 9;

/// Words that the guest obeys, and what its fault is called. The last two spoil a call as a whole.
const FAULTS: [(&str, &str); 8] = [
    ("trap", "the plugin trapped"),
    ("panic out of cheese", "out of cheese"),
    ("overflow", "the plugin's stack overflowed"),
    ("allocate 64", "needs more memory than its limit of 4194304 bytes"),
    ("huge 40", "needs more memory than its limit of 4194304 bytes"),
    ("wrong-count", "verdicts for"),
    ("wild-span", "outside the"),
    ("loop", "ran longer than its limit of 20ms"),
];

fn topic_file(dir: &Path, topic: &str, plugin: &str) {
    let text = format!("[topic]\nname = \"{topic}\"\npartitions = 2\n{plugin}");
    std::fs::write(dir.join(format!("{topic}.toml")), text).expect("a topic file");
}

fn attached(policy: &str) -> String {
    format!(
        "[[plugin]]\npath = \"dynamic.wasm\"\nstage = \"produce\"\non-fault = \"{policy}\"\nlimits = {{ memory = \"4MiB\" }}\n"
    )
}

/// A broker with the guest on a topic for each policy, a topic with an honest plugin and one without any.
fn start() -> Option<(Broker, TempDir)> {
    if skipped_on_kafka("it has no plugins") {
        return None;
    }
    let topics = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(topics.path().join("dynamic.wasm"), guest("dynamic")).expect("the guest");
    std::fs::write(topics.path().join("mask.wasm"), plugin("mask-fields")).expect("the plugin");
    for policy in ["reject", "drop", "pass"] {
        topic_file(topics.path(), policy, &attached(policy));
    }
    let honest = "[[plugin]]\npath = \"mask.wasm\"\nstage = \"produce\"\nconfig = { fields = [\"email\"] }\n";
    topic_file(topics.path(), "honest", honest);
    topic_file(topics.path(), "plain", "");
    let options = Options { topics: Some(topics.path().to_owned()), ..Options::default() };
    Some((Broker::with(options), topics))
}

/// What a producer is told of one batch.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    error: i16,
    message: String,
    records: Vec<(i32, String)>,
}

fn produce(port: u16, topic: &str, partition: i32, values: &[&'static str]) -> Told {
    let records = Raw { values: values.to_vec(), ..Raw::default() }.bytes();
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    let frame = frame(&request, VERSION).expect("the version can say it");
    let mut response = answer::<ProduceRequest>(port, &frame, VERSION).expect("an answer");
    let told = response.responses.remove(0).partition_responses.remove(0);
    let text =
        |text: Option<kafka_protocol::protocol::StrBytes>| text.map_or_else(String::new, |text| text.to_string());
    Told {
        error: told.error_code,
        message: text(told.error_message),
        records: told
            .record_errors
            .into_iter()
            .map(|record| (record.batch_index, text(record.batch_index_error_message)))
            .collect(),
    }
}

/// Offsets and values of a topic's first partition.
fn stored(broker: &Broker, topic: &str, count: usize) -> Vec<(i64, String)> {
    let mut client = session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there");
    let seen = client.consume(topic, 0, 0, count);
    let value = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap_or_default()).expect("text");
    seen.into_iter().map(|seen| (seen.offset, value(seen.record.value))).collect()
}

#[test]
fn whatever_a_guest_does_ends_as_the_policy_says_and_the_broker_stays_up() {
    let Some((mut broker, _topics)) = start() else { return };
    let (port, pid) = (broker.port(), broker.pid());
    let (mut dropped, mut passed) = (Vec::new(), Vec::new());
    for (round, (word, reason)) in (0..).zip(FAULTS) {
        let values = ["keep", word, "upper b"];
        let of_the_call = word == "loop";

        let told = produce(port, "reject", 0, &values);
        assert_eq!(told.error, INVALID_RECORD, "{word}: {told:?}");
        assert!(told.message.contains("dynamic@") && told.message.contains(reason), "{word}: {told:?}");
        let culprits: Vec<i32> = told.records.iter().map(|record| record.0).collect();
        assert_eq!(culprits, if of_the_call { vec![] } else { vec![1] }, "{word}: {told:?}");
        assert!(told.records.iter().all(|record| record.1.contains(reason)), "{word}: {told:?}");

        assert_eq!(produce(port, "drop", 0, &values).error, 0, "{word}");
        assert_eq!(produce(port, "pass", 0, &values).error, 0, "{word}");
        let kept = |index: i64, value: &str| (round * 3 + index, value.to_owned());
        if of_the_call {
            passed.extend([kept(0, "keep"), kept(1, word), kept(2, "upper b")]);
        } else {
            dropped.extend([kept(0, "keep"), kept(2, "UPPER B")]);
            passed.extend([kept(0, "keep"), kept(1, word), kept(2, "UPPER B")]);
        }
        for others in ["honest", "plain"] {
            assert_eq!(produce(port, others, 0, &["{\"email\":\"a\"}"]).error, 0, "{others} after {word}");
        }
    }
    // The topics themselves are not harmed either.
    for topic in ["reject", "drop", "pass"] {
        assert_eq!(produce(port, topic, 0, &["upper c"]).error, 0, "{topic}");
    }
    let rounds = FAULTS.len() as i64;
    dropped.push((rounds * 3, "UPPER C".to_owned()));
    passed.push((rounds * 3, "UPPER C".to_owned()));
    assert_eq!(stored(&broker, "reject", 1), [(0, "UPPER C".to_owned())]);
    assert_eq!(stored(&broker, "drop", dropped.len()), dropped);
    assert_eq!(stored(&broker, "pass", passed.len()), passed);
    let masked: Vec<_> = (0..rounds).map(|offset| (offset, "{\"email\":\"***\"}".to_owned())).collect();
    assert_eq!(stored(&broker, "honest", masked.len()), masked);
    assert_eq!(broker.pid(), pid);
    broker.stop();
}

#[test]
fn a_storm_of_faults_is_a_line_a_second_that_names_plugin_topic_and_reason() {
    let Some((broker, _topics)) = start() else { return };
    let began = Instant::now();
    for _ in 0..40 {
        assert_eq!(produce(broker.port(), "reject", 0, &["trap"]).error, INVALID_RECORD);
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).expect("few");
    let log = broker.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("plugin failed")).collect();
    assert!((1..=seconds + 2).contains(&lines.len()), "{} lines in {seconds} seconds", lines.len());
    for word in ["dynamic@", "reject", "the plugin trapped"] {
        assert!(lines[0].contains(word), "{word}: {}", lines[0]);
    }
}

/// Produces to a topic again and again; returns how long each batch took.
fn pace(port: u16, topic: &str, value: &'static str, batches: usize) -> Vec<Duration> {
    let one = |_| {
        let began = Instant::now();
        let told = produce(port, topic, 0, &[value; 10]);
        assert_eq!(told.error, 0, "{topic}: {told:?}");
        std::thread::sleep(Duration::from_millis(2));
        began.elapsed() - Duration::from_millis(2)
    };
    let mut took: Vec<Duration> = (0..batches).map(one).collect();
    took.sort();
    took
}

#[test]
fn topics_with_guests_that_loop_do_not_hold_up_others() {
    let Some((broker, _topics)) = start() else { return };
    let port = broker.port();
    let running = AtomicBool::new(true);
    let others = [("plain", "record"), ("honest", "{\"id\":1,\"email\":\"a@b\"}")];
    let alone = others.map(|(topic, value)| pace(port, topic, value, 100));
    let (beside, looped) = std::thread::scope(|scope| {
        let running = &running;
        // Two topics, two partitions of each: as many loops as there are threads for guests on two processors.
        let loops = [("reject", 0), ("reject", 1), ("drop", 0), ("drop", 1)].map(|(topic, partition)| {
            scope.spawn(move || {
                let mut count = 0;
                while running.load(Ordering::Relaxed) {
                    let expected = if topic == "reject" { INVALID_RECORD } else { 0 };
                    assert_eq!(produce(port, topic, partition, &["loop"]).error, expected);
                    count += 1;
                }
                count
            })
        });
        std::thread::sleep(Duration::from_millis(200));
        let beside = others.map(|(topic, value)| pace(port, topic, value, 100));
        running.store(false, Ordering::Relaxed);
        (beside, loops.map(|handle| handle.join().expect("no panic")))
    });
    for ((topic, _), (alone, beside)) in others.iter().zip(alone.iter().zip(&beside)) {
        eprintln!(
            "{topic}: median {:?} alone, {:?} beside; worst {:?} and {:?}",
            alone[50], beside[50], alone[99], beside[99]
        );
    }
    assert!(looped.iter().all(|&count: &i32| count > 0), "{looped:?}");
    // A guest burns 20 ms a batch, four at once on two processors take twice that and more. Who runs no plugin waits for
    // nobody; who runs one waits for a thread, and not behind all the loops.
    assert!(beside[0][50] < Duration::from_millis(60), "plain: {:?}", beside[0][50]);
    assert!(beside[1][50] < Duration::from_millis(250), "honest: {:?}", beside[1][50]);
    let metrics = metrics(broker.http());
    let faults =
        metrics.lines().find(|line| line.starts_with("millrace_plugin_faults_total") && line.contains("reject"));
    let faults = faults.unwrap_or_else(|| panic!("no faults in {metrics}"));
    assert!(faults.contains("kind=\"time\"") && !faults.ends_with(" 0"), "{faults}");
}

/// The text of `/metrics`.
fn metrics(port: u16) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("the HTTP port");
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
