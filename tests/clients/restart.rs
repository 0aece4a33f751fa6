//! What a broker remembers from one start to the next.

use millrace_tests::broker::{Broker, Options, skipped_on_kafka};
use millrace_tests::client::{Commands as _, Library, seen};
use millrace_tests::record::Record;
use millrace_tests::{segments, session};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

const AT: i64 = 1_700_000_000_000;

fn topics_records_groups_and_configs_survive(how: fn(&mut Broker)) {
    let mut broker = Broker::start();
    let mut client = session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there");
    client.create("kept", 2, json!({"retention.ms": "-1", "max.message.bytes": "3000000"}));
    client.create("dropped", 1, json!({}));
    let records: Vec<Record> = (0..500).map(|i| Record::new(None, Some(format!("v{i}").as_bytes()), AT + i)).collect();
    assert!(client.produce("kept", "lz4", &records).iter().all(Result::is_ok));
    client.must(json!({"op": "join", "member": "m", "group": "keepers", "topic": "kept"}));
    let (mut got, deadline) = (0, Instant::now() + Duration::from_secs(60));
    while got < 500 {
        assert!(Instant::now() < deadline, "{got} of 500 records came to the member");
        got += seen(&client.must(json!({"op": "poll", "member": "m", "timeout_ms": 1000}))).len();
    }
    client.must(json!({"op": "commit", "member": "m"}));
    client.must(json!({"op": "leave", "member": "m"}));
    client.must(json!({"op": "delete", "topic": "dropped"}));

    how(&mut broker);
    broker.restart();

    let mut client = session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there");
    assert_eq!(client.must(json!({"op": "describe", "topic": "kept"}))["partitions"], 2);
    client.call(&json!({"op": "describe", "topic": "dropped"})).expect_err("a deleted topic stays deleted");
    let configs = client.must(json!({"op": "configs", "topic": "kept"}))["configs"].take();
    assert_eq!((&configs["retention.ms"], &configs["max.message.bytes"]), (&json!("-1"), &json!("3000000")));
    let read = client.consume("kept", 0, 0, 500);
    assert!(read.iter().map(|seen| &seen.record).eq(&records), "{} records, or others", read.len());
    client.must(json!({"op": "join", "member": "n", "group": "keepers", "topic": "kept"}));
    let committed = client.must(json!({"op": "committed", "member": "n", "topic": "kept", "partition": 0}));
    assert_eq!(committed["offset"], 500);
    assert_eq!(client.produce("kept", "none", &[Record::new(None, Some(b"next"), AT)]), [Ok((0, 500))]);
    client.must(json!({"op": "leave", "member": "n"}));
    broker.stop();
    segments::check(&broker.data_dir(), "kept");
    segments::check(&broker.data_dir(), "__consumer_offsets");
}

#[test]
fn a_stopped_broker_comes_back_with_everything() {
    topics_records_groups_and_configs_survive(Broker::stop);
}

#[test]
fn a_killed_broker_comes_back_with_everything() {
    topics_records_groups_and_configs_survive(Broker::kill);
}

#[test]
fn a_broker_whose_terminal_is_closed_ends_in_order() {
    let mut broker = Broker::start();
    broker.hang_up();
    assert!(broker.data_dir().join(".kafka_cleanshutdown").exists());
}

#[test]
fn a_broker_whose_log_lies_on_a_full_disk_goes_on() {
    if skipped_on_kafka("where Kafka logs to is log4j's affair") {
        return;
    }
    let mut broker = Broker::with(Options { log: Some("/dev/full".into()), ..Options::default() });
    for _ in 0..3 {
        // Each such connection is worth a line.
        let mut stranger = std::net::TcpStream::connect(broker.bootstrap()).expect("the broker listens");
        stranger.write_all(&(-1_i32).to_be_bytes()).expect("it takes four bytes");
        assert_eq!(stranger.read(&mut [0; 1]).expect("it hangs up in order"), 0);
    }
    let mut client = session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there");
    client.create("kept", 1, json!({}));
    assert_eq!(client.produce("kept", "none", &[Record::new(None, Some(b"a"), AT)]), [Ok((0, 0))]);
    broker.kill();
    broker.restart();
    let mut client = session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there");
    assert_eq!(client.consume("kept", 0, 0, 1).len(), 1);
    broker.stop();
}
