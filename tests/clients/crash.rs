//! SIGKILL under load: what was acked is there, once, in order, where the ack said.
//!
//! A short run is part of the tests; `.ci/campaign crash --seconds N` makes it long. `MILLRACE_SEED` replays the moments
//! of the kills (not the scheduling of the processes).

use std::time::{Duration, Instant};

use millrace_tests::broker::{Broker, Options};
use millrace_tests::client::{Client, Commands as _, Library};
use millrace_tests::load::{Account, Ledger};
use millrace_tests::seed::Seed;
use millrace_tests::{segments, session};
use serde_json::json;

const PARTITIONS: i32 = 4;

struct Producer {
    client: Box<dyn Client>,
    account: Account,
}

fn producers(broker: &Broker, topic: &str, dir: &std::path::Path) -> Vec<Producer> {
    let mut producers = Vec::new();
    for (library, codec, bytes) in [
        (Library::Librdkafka, "none", 300),
        (Library::Librdkafka, "lz4", 3_000),
        (Library::Java, "zstd", 500),
        (Library::Go, "snappy", 200),
        (Library::Python, "gzip", 100),
    ] {
        let Some(mut client) = session::open(library, &broker.bootstrap()) else { continue };
        let producer = format!("{}-{codec}", library.name());
        let acks = dir.join(&producer);
        client.must(json!({
            "op": "load", "topic": topic, "partitions": PARTITIONS, "producer": producer, "codec": codec,
            "bytes": bytes, "rate": 400, "timeout_ms": 600_000, "path": acks,
        }));
        producers.push(Producer { client, account: Account { producer, sent: 0, acks } });
    }
    producers
}

/// Kills and restarts until the time is over; now and then a broker that has not finished starting. Returns the kills.
fn kill_again_and_again(broker: &mut Broker, seed: &mut Seed, until: Instant) -> u32 {
    let mut kills = 0;
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(seed.between(200, 3_000)));
        broker.kill();
        kills += 1;
        std::thread::sleep(Duration::from_millis(seed.between(0, 200)));
        while seed.between(0, 4) == 0 {
            broker.spawn();
            std::thread::sleep(Duration::from_millis(seed.between(0, 120)));
            broker.kill();
            kills += 1;
        }
        broker.restart();
    }
    kills
}

#[test]
fn a_killed_broker_keeps_every_acked_record_once_and_in_order() {
    let seconds = std::env::var("MILLRACE_CRASH_SECONDS").map_or(15, |text| text.parse().expect("a number of seconds"));
    let mut seed = Seed::from_environment("crash");
    let mut broker = Broker::with(Options::default());
    let topic = "crash";
    let mut admin = session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there");
    // Small segments, so that kills meet rolls. (A denser index would cost DumpLogSegments minutes: it searches the log
    // for every entry.)
    let preallocate = (seed.between(0, 2) == 1).to_string();
    let config = json!({"segment.bytes": "1048576", "index.interval.bytes": "2048", "preallocate": preallocate});
    admin.create(topic, PARTITIONS, config);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut producers = producers(&broker, topic, dir.path());

    let kills = kill_again_and_again(&mut broker, &mut seed, Instant::now() + Duration::from_secs(seconds));

    for producer in &mut producers {
        let done = producer.client.must(json!({"op": "stop"}));
        assert!(done["failed"].is_null(), "{}: {}", producer.account.producer, done["failed"]);
        producer.account.sent = done["sent"].as_u64().expect("a count");
    }
    let settle = |broker: &Broker| -> u64 {
        let ledger = Ledger::read(&broker.bootstrap(), topic, PARTITIONS);
        producers.iter().map(|producer| ledger.settle(&producer.account)).sum()
    };
    let acked = settle(&broker);
    broker.kill();
    broker.restart();
    assert_eq!(settle(&broker), acked, "after one more kill, with nothing under way");
    broker.stop();
    let verdict = segments::check(&broker.data_dir(), topic);
    eprintln!("crash: {kills} kills, {acked} records acked by {} producers, {verdict:?}", producers.len());
    assert!(acked > 0 && kills > 0);
    if let Some(verdict) = verdict {
        assert_eq!(verdict.records as u64, acked, "records that DumpLogSegments finds");
    }
}
