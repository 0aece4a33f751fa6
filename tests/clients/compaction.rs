//! A compacted topic under load, with SIGKILL now and then: it holds each key's last record, as the model does.
//!
//! A short run is part of the tests; `.ci/campaign compaction --seconds N` makes it long. `MILLRACE_SEED` replays the keys
//! and the moments of the kills (not the scheduling of the processes).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millrace_tests::broker::{Broker, Options};
use millrace_tests::client::{Commands as _, Library, seen as records};
use millrace_tests::record::{Record, Seen};
use millrace_tests::seed::Seed;
use millrace_tests::{segments, session};
use serde_json::json;

const KEYS: u64 = 300;
const BATCH: usize = 100;
/// So many that most of them can go, however slowly the machine lets them come.
const LEAST: usize = 2_500;

fn eager_cleaner() -> Options {
    let config = [("log.cleaner.backoff.ms", "50"), ("log.retention.check.interval.ms", "1000")];
    let config = config.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Options { config: config.to_vec(), ..Options::default() }
}

/// What was acked: every record by its offset.
type Model = BTreeMap<i64, Record>;

/// Produces until the time is over and there are enough, in order, every record acked; killed brokers come back meanwhile.
fn load(bootstrap: String, topic: &'static str, mut seed: Seed, until: Instant) -> Model {
    let mut client = session::open(Library::Librdkafka, &bootstrap).expect("always there");
    let mut model = Model::new();
    for codec in ["none", "lz4", "zstd", "snappy", "gzip"].into_iter().cycle() {
        let records: Vec<Record> = (0..BATCH)
            .map(|_| {
                let key = format!("key {}", seed.between(0, KEYS));
                let length = usize::try_from(seed.between(500, 4_000)).expect("a small number");
                let value = (seed.between(0, 10) > 0).then(|| seed.noise(length));
                let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
                Record::new(Some(key.as_bytes()), value.as_deref(), i64::try_from(now).expect("a time"))
            })
            .collect();
        let acks = client.produce(topic, codec, &records);
        for (record, ack) in records.into_iter().zip(acks) {
            let (_, offset) = ack.expect("a record is acked, however often the broker is killed");
            assert!(model.insert(offset, record).is_none(), "offset {offset} was given twice");
        }
        if Instant::now() >= until && model.len() >= LEAST {
            return model;
        }
    }
    unreachable!("the codecs go round")
}

/// All records of partition 0.
fn read(bootstrap: &str, topic: &str) -> Vec<Seen> {
    let mut client = session::open(Library::Librdkafka, bootstrap).expect("always there");
    let end = client.must(json!({"op": "times", "topic": topic, "partition": 0, "timestamps": [-1]}));
    let end = end["offsets"][0].as_i64().expect("an end");
    let mut found: Vec<Seen> = Vec::new();
    // The last record says that the end is reached: the active segment is not compacted.
    while found.last().is_none_or(|last| last.offset + 1 < end) {
        let from = found.last().map_or(0, |last| last.offset + 1);
        // How many there are nobody knows, with gaps between them: the last ones are waited for in vain.
        let more = records(&client.must(json!({
            "op": "consume", "topic": topic, "partition": 0, "offset": from, "count": 2000, "timeout_ms": 2000,
        })));
        assert!(!more.is_empty(), "nothing comes from {from} on, before {end}");
        found.extend(more);
    }
    found
}

/// Holds what a consumer sees against what was acked.
fn compare(found: &[Seen], model: &Model) {
    let mut latest = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for (offset, record) in model {
        latest.insert(&record.key, *offset);
    }
    for one in found {
        let acked = model.get(&one.offset).unwrap_or_else(|| panic!("offset {} was never acked", one.offset));
        assert_eq!(&one.record, acked, "offset {}", one.offset);
        seen.insert(&one.record.key, one.offset);
    }
    for (key, offset) in latest {
        match seen.get(key) {
            Some(last) => assert_eq!(*last, offset, "the last record of {key:?}"),
            None => assert!(model[&offset].value.is_none(), "the record of {key:?} at {offset} is gone"),
        }
    }
}

#[test]
fn a_compacted_topic_holds_each_keys_last_record_however_often_the_broker_is_killed() {
    let seconds = std::env::var("MILLRACE_COMPACTION_SECONDS").map_or(8, |text| text.parse().expect("a number"));
    let mut seed = Seed::from_environment("compaction");
    let mut broker = Broker::with(eager_cleaner());
    let topic = "compacted";
    let mut admin = session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there");
    let configs = json!({
        "cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "500", "file.delete.delay.ms": "100", "index.interval.bytes": "2048",
    });
    admin.create(topic, 1, configs);
    let until = Instant::now() + Duration::from_secs(seconds);
    let (bootstrap, keys) = (broker.bootstrap(), Seed::new(seed.number()));
    let producer = std::thread::spawn(move || load(bootstrap, topic, keys, until));
    let mut kills = 0;
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(seed.between(300, 2_500)));
        broker.kill();
        kills += 1;
        broker.restart();
    }
    let model = producer.join().expect("the producer comes to its end");

    // Two segments and the active one are left in the end, or a little more.
    let patience = Instant::now() + Duration::from_secs(60);
    let found = loop {
        let found = read(&broker.bootstrap(), topic);
        compare(&found, &model);
        if found.len() < model.len() / 2 || Instant::now() > patience {
            break found;
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    assert!(found.len() < model.len() / 2, "{} of {} records are left", found.len(), model.len());
    broker.kill();
    broker.restart();
    compare(&read(&broker.bootstrap(), topic), &model);
    broker.stop();
    let verdict = segments::check_compacted(&broker.data_dir(), topic);
    eprintln!("compaction: {kills} kills, {} records acked, {} left, {verdict:?}", model.len(), found.len());
    assert!(kills > 0);
}

#[test]
fn a_compacted_topic_refuses_a_record_without_a_key_and_names_it() {
    let broker = Broker::start();
    let mut client = session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there");
    client.create("keyed", 1, json!({"cleanup.policy": "compact"}));
    let acks = client.produce("keyed", "none", &[Record::new(None, Some(b"v"), 1_700_000_000_000)]);
    let error = acks[0].as_ref().expect_err("a record without a key");
    assert!(error.contains("InvalidRecord"), "{error}");
    let acks = client.produce("keyed", "none", &[Record::new(Some(b"k"), Some(b"v"), 1_700_000_000_000)]);
    assert_eq!(acks, [Ok((0, 0))]);
}
