//! Millrace on a directory that Apache Kafka wrote: everything that was there is there, and goes on.

use std::time::{Duration, Instant};

use millrace_tests::broker::{Broker, Kind, Options};
use millrace_tests::client::{Client, Commands as _, Library, seen};
use millrace_tests::record::{Record, Seen};
use millrace_tests::{segments, session, tools};
use serde_json::{Value, json};

/// In 2023: by the default retention such records go with the first look at them.
const AT: i64 = 1_700_000_000_000;
const GROUP: &str = "movers";

fn records(from: usize, count: usize, length: usize) -> Vec<Record> {
    let one = |number: usize| {
        let value = format!("{number} ").repeat(length);
        Record::new(Some(format!("k{}", number % 7).as_bytes()), Some(value.as_bytes()), AT + number as i64)
    };
    (from..from + count).map(one).collect()
}

fn open(broker: &Broker) -> Box<dyn Client> {
    session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there")
}

fn produce(client: &mut dyn Client, topic: &str, codec: &str, written: &mut Vec<Record>, more: Vec<Record>) {
    for (index, ack) in client.produce(topic, codec, &more).into_iter().enumerate() {
        assert_eq!(ack, Ok((0, (written.len() + index) as i64)), "{topic}, {codec}");
    }
    written.extend(more);
}

/// A producer whose batches carry a producer id and the sequence 0.
fn produce_in_sequence(client: &mut dyn Client, topic: &str, written: &mut Vec<Record>) {
    let record = Record::new(None, Some(format!("idempotent {}", written.len()).as_bytes()), AT);
    let answer =
        client.must(json!({"op": "produce", "topic": topic, "idempotent": true, "records": [record.to_json()]}));
    assert_eq!(answer["acks"][0]["offset"], written.len(), "taken for one that was there: {answer}");
    written.push(record);
}

fn consume_and_commit(client: &mut dyn Client, member: &str, topic: &str, count: usize) {
    client.must(json!({"op": "join", "member": member, "group": GROUP, "topic": topic}));
    let (mut got, deadline): (Vec<Seen>, _) = (Vec::new(), Instant::now() + Duration::from_secs(60));
    while got.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records came to the member", got.len());
        got.extend(seen(&client.must(json!({"op": "poll", "member": member, "timeout_ms": 1000}))));
    }
    assert_eq!(got.len(), count);
    client.must(json!({"op": "commit", "member": member}));
    client.must(json!({"op": "leave", "member": member}));
}

fn configs(client: &mut dyn Client, topic: &str) -> Value {
    client.must(json!({"op": "configs", "topic": topic}))["configs"].take()
}

fn check(client: &mut dyn Client, topic: &str, written: &[Record]) {
    let read = client.consume(topic, 0, 0, written.len());
    assert!(read.iter().map(|seen| &seen.record).eq(written), "{topic}: {} records of {}", read.len(), written.len());
}

#[test]
fn what_kafka_wrote_is_there_with_its_configs_and_its_groups_and_nothing_of_it_goes() {
    if tools::java().is_none() {
        return;
    }
    let mut broker = Broker::of(Kind::Kafka, Options::default());
    let mut client = open(&broker);
    client.create("forever", 1, json!({"retention.ms": "-1", "segment.bytes": "1048576"}));
    client.create(
        "newest",
        1,
        json!({
            "cleanup.policy": "compact", "max.message.bytes": "3000000", "min.cleanable.dirty.ratio": "0.9",
        }),
    );
    client.must(json!({"op": "create", "topic": "dropped", "partitions": 1}));
    client.must(json!({"op": "delete", "topic": "dropped"}));
    let (mut forever, mut newest) = (Vec::new(), Vec::new());
    produce_in_sequence(&mut *client, "forever", &mut forever);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd", "none"] {
        let more = records(forever.len(), 100, 4_000);
        produce(&mut *client, "forever", codec, &mut forever, more);
    }
    produce(&mut *client, "newest", "lz4", &mut newest, records(0, 50, 10));
    consume_and_commit(&mut *client, "first", "forever", forever.len());
    drop(client);

    // The partitions' leaders are of a later epoch now, and so are the records and the commits.
    broker.stop();
    broker.restart();
    let mut client = open(&broker);
    let committed = forever.len();
    produce(&mut *client, "forever", "none", &mut forever, records(committed, 10, 10));
    consume_and_commit(&mut *client, "second", "forever", 10);
    let before = [configs(&mut *client, "forever"), configs(&mut *client, "newest")];
    drop(client);
    broker.stop();
    let segments = segments::files(&broker.data_dir().join("forever-0"), &["log"]);
    assert!(segments.len() > 2, "there is nothing that retention could take: {segments:?}");

    broker.hand_over(&[("log.retention.check.interval.ms", "200")]);
    // Wherever the first starts are killed, the next goes on.
    for wait in [30, 60, 100, 150, 250] {
        broker.spawn();
        std::thread::sleep(Duration::from_millis(wait));
        broker.kill();
    }
    broker.restart();
    let mut client = open(&broker);
    check(&mut *client, "forever", &forever);
    check(&mut *client, "newest", &newest);
    client.call(&json!({"op": "describe", "topic": "dropped"})).expect_err("what Kafka deleted stays deleted");
    for (topic, before) in ["forever", "newest"].into_iter().zip(&before) {
        let after = configs(&mut *client, topic);
        for key in ["retention.ms", "retention.bytes", "cleanup.policy", "segment.bytes", "max.message.bytes"] {
            assert_eq!(after[key], before[key], "{topic}: {key}");
        }
    }
    client.must(json!({"op": "join", "member": "third", "group": GROUP, "topic": "forever"}));
    let place = client.must(json!({"op": "committed", "member": "third", "topic": "forever", "partition": 0}));
    assert_eq!(place["offset"], forever.len());
    client.must(json!({"op": "leave", "member": "third"}));
    produce_in_sequence(&mut *client, "forever", &mut forever);
    // From the committed offset on, whose leader epoch is Kafka's.
    consume_and_commit(&mut *client, "fourth", "forever", 1);
    std::thread::sleep(Duration::from_secs(1));
    check(&mut *client, "forever", &forever);
    drop(client);

    broker.kill();
    broker.restart();
    let mut client = open(&broker);
    check(&mut *client, "forever", &forever);
    check(&mut *client, "newest", &newest);
    broker.stop();
    segments::check(&broker.data_dir(), "forever");
    let gone = std::fs::read_dir(broker.data_dir()).expect("it is there");
    let gone: Vec<_> = gone.filter_map(Result::ok).map(|entry| entry.file_name()).collect();
    assert!(!gone.iter().any(|name| name.to_string_lossy().ends_with("-stray")), "{gone:?}");
}
