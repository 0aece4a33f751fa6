//! A Spring Boot application with listeners, retry topics and transactions: what came where.
//!
//! The application is `java-spring/Orders.java`. Whatever begins with "bad" always fails there, with "twice" once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millrace_tests::application::Application;
use millrace_tests::broker::Broker;
use millrace_tests::client::{Commands as _, Library};
use millrace_tests::librdkafka::config;
use millrace_tests::patience::Closing;
use millrace_tests::record::Record;
use millrace_tests::{session, tools};
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);
const INPUTS: [&str; 3] = ["orders", "payments", "transfers"];
const OUTPUTS: [&str; 6] = ["shipped", "lost", "receipts", "ledger", "debits", "credits"];
const GOOD: [&str; 8] = ["good-0", "good-1", "good-2", "twice-3", "good-4", "good-6", "good-7", "good-8"];

fn start(broker: &Broker, dir: &std::path::Path) -> Option<Application> {
    let mut command = tools::spring()?.application("shop.Orders");
    let settings = [
        "spring.main.banner-mode=off",
        "logging.level.root=warn",
        "logging.level.org.apache.kafka=error",
        "spring.kafka.consumer.auto-offset-reset=earliest",
        "spring.kafka.consumer.isolation-level=read_committed",
        "spring.kafka.consumer.properties.heartbeat.interval.ms=500",
        "spring.kafka.producer.transaction-id-prefix=orders-",
    ];
    command.args(settings.map(|setting| format!("--{setting}")));
    command.arg(format!("--spring.kafka.bootstrap-servers={}", broker.bootstrap()));
    Some(Application::start("the Spring application", dir, command))
}

/// The keys and values of a topic of one partition, up to its end as this level of isolation has it.
fn read(bootstrap: &str, topic: &str, isolation: &str) -> Vec<(String, String)> {
    let consumer: Closing<BaseConsumer> = config(bootstrap)
        .set("group.id", "nobody")
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()
        .map(Closing::new)
        .expect("a consumer");
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(topic, 0, Offset::Offset(0)).expect("an offset");
    consumer.assign(&all).expect("a partition");
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let (mut found, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    loop {
        assert!(Instant::now() < deadline, "{topic} has no end");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => found.push((text(message.key()), text(message.payload()))),
            Some(Err(KafkaError::PartitionEOF(_))) => return found,
            Some(Err(error)) => panic!("{topic}: {error}"),
            None => {}
        }
    }
}

fn committed(broker: &Broker, topic: &str) -> Vec<(String, String)> {
    read(&broker.bootstrap(), topic, "read_committed")
}

fn values(broker: &Broker, topic: &str) -> Vec<String> {
    committed(broker, topic).into_iter().map(|(_, value)| value).collect()
}

/// How often each value was written, aborted or not.
fn written(broker: &Broker, topic: &str) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for (_, value) in read(&broker.bootstrap(), topic, "read_uncommitted") {
        *times.entry(value).or_default() += 1;
    }
    times
}

#[test]
fn a_spring_boot_application_retries_by_topics_and_commits_what_it_read_and_wrote_together() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut client = session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there");
    for topic in INPUTS.iter().chain(&OUTPUTS) {
        client.create(topic, 1, json!({}));
    }
    client.create("payments-dlt", 1, json!({}));
    let mut all = GOOD.to_vec();
    all.insert(5, "bad-5");
    let records: Vec<Record> =
        all.iter().map(|name| Record::new(Some(b"key"), Some(name.as_bytes()), 1_700_000_000_000)).collect();
    for topic in INPUTS {
        assert!(client.produce(topic, "none", &records).iter().all(Result::is_ok));
    }
    let Some(mut application) = start(&broker, dir.path()) else { return };
    application.wait("everything is handled", PATIENCE, || {
        let ends = [("shipped", 8), ("lost", 1), ("ledger", 8), ("payments-dlt", 1), ("credits", 8)];
        ends.iter().all(|(topic, count)| committed(&broker, topic).len() >= *count).then_some(())
    });
    application.stop();

    // The topic that an order came from in the end.
    let mut shipped: Vec<(String, String)> = committed(&broker, "shipped");
    shipped.sort_by_key(|(_, order)| order.split_once('-').map(|(_, number)| number.to_owned()));
    let from = |order: &&str| if order.starts_with("twice") { "orders-retry-200" } else { "orders" };
    let expected: Vec<_> = GOOD.iter().map(|order| (from(order).to_owned(), (*order).to_owned())).collect();
    assert_eq!(shipped, expected);
    assert_eq!(committed(&broker, "lost"), [("orders-dlt".to_owned(), "bad-5".to_owned())]);
    assert_eq!(values(&broker, "orders-retry-200"), ["twice-3", "bad-5"]);
    assert_eq!(values(&broker, "orders-retry-400"), ["bad-5"]);

    for topic in ["receipts", "ledger"] {
        assert_eq!(values(&broker, topic), GOOD, "{topic}");
        let times = written(&broker, topic);
        assert_eq!((times["good-0"], times["twice-3"], times["bad-5"]), (1, 2, 3), "{topic}: {times:?}");
    }
    assert_eq!(values(&broker, "payments-dlt"), ["bad-5"]);
    for topic in ["debits", "credits"] {
        assert_eq!(values(&broker, topic), GOOD, "{topic}");
        assert_eq!(written(&broker, topic)["bad-5"], 1, "{topic}: written and aborted");
    }
    // What was read is committed: with the payments, by their transactions.
    for topic in INPUTS {
        client.must(json!({"op": "join", "member": topic, "group": topic, "topic": topic}));
        let committed = client.must(json!({"op": "committed", "member": topic, "topic": topic, "partition": 0}));
        assert_eq!(committed["offset"], all.len(), "group {topic}");
    }
}
