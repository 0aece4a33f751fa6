//! Kafka's own command line tools, as users run them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use millrace_tests::client::{Commands as _, Library};
use millrace_tests::record::Record;
use millrace_tests::{shared, tools};
use serde_json::json;

fn tool(class: &str) -> Option<Command> {
    let mut command = tools::java()?.tool(class);
    command.args(["--bootstrap-server", &shared::broker().bootstrap()]);
    Some(command)
}

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

#[test]
fn the_console_consumer_reads_what_the_console_producer_writes() {
    let Some(mut topics) = tool(TOPICS) else { return };
    let created = tools::stdout(topics.args([
        "--create",
        "--topic",
        "console",
        "--partitions",
        "1",
        "--config",
        "retention.ms=1000000000",
    ]));
    assert_eq!(created.trim(), "Created topic console.");

    let mut producer = tool(PRODUCER).expect("found before");
    producer.args(["--topic", "console", "--command-property", "compression.type=zstd"]);
    producer.args(["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"]);
    let mut child = producer.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("java starts");
    let lines: String = (0..500).map(|i| format!("k{i}:v{i}\n")).collect();
    child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("the producer reads");
    let output = child.wait_with_output().expect("the producer ends");
    assert!(output.status.success(), "{}", tools::everything(&output));

    let mut consumer = tool(CONSUMER).expect("found before");
    consumer.args(["--topic", "console", "--from-beginning", "--max-messages", "500", "--timeout-ms", "30000"]);
    consumer.args(["--formatter-property", "print.key=true", "--formatter-property", "key.separator=:"]);
    assert_eq!(tools::stdout(&mut consumer), lines);
}

#[test]
fn the_topic_tool_lists_describes_and_deletes() {
    let Some(mut topics) = tool(TOPICS) else { return };
    tools::stdout(topics.args([
        "--create",
        "--topic",
        "console-topics",
        "--partitions",
        "2",
        "--config",
        "segment.bytes=2000000",
    ]));
    let list = tools::stdout(tool(TOPICS).expect("found before").arg("--list"));
    assert!(list.lines().any(|line| line == "console-topics"), "{list}");
    let described =
        tools::stdout(tool(TOPICS).expect("found before").args(["--describe", "--topic", "console-topics"]));
    for part in
        ["PartitionCount: 2", "ReplicationFactor: 1", "segment.bytes=2000000", "Partition: 1", "Leader: 1", "Isr: 1"]
    {
        assert!(described.contains(part), "{part} in {described}");
    }
    tools::stdout(tool(TOPICS).expect("found before").args(["--delete", "--topic", "console-topics"]));
    let list = tools::stdout(tool(TOPICS).expect("found before").arg("--list"));
    assert!(!list.lines().any(|line| line == "console-topics"), "{list}");
}

#[test]
fn the_config_tool_describes_a_topic() {
    let Some(mut configs) = tool("kafka.admin.ConfigCommand") else { return };
    shared::client(Library::Librdkafka).expect("always there").create(
        "console-configs",
        1,
        json!({"retention.ms": "77"}),
    );
    let text = tools::stdout(configs.args([
        "--entity-type",
        "topics",
        "--entity-name",
        "console-configs",
        "--describe",
        "--all",
    ]));
    let line =
        text.lines().find(|line| line.trim_start().starts_with("retention.ms=")).expect("retention.ms is listed");
    assert!(line.contains("retention.ms=77") && line.contains("DYNAMIC_TOPIC_CONFIG:retention.ms=77"), "{line}");
    assert!(text.contains("max.message.bytes=1048588"), "{text}");
}

#[test]
fn the_offset_tool_finds_ends_and_times() {
    let Some(mut offsets) = tool("org.apache.kafka.tools.GetOffsetShell") else { return };
    let mut client = shared::client(Library::Librdkafka).expect("always there");
    client.create("console-offsets", 2, json!({}));
    let records: Vec<Record> = (0..10).map(|i| Record::new(None, Some(b"x"), 1_700_000_000_000 + i).on(1)).collect();
    client.produce("console-offsets", "none", &records);
    let text = tools::stdout(offsets.args(["--topic", "console-offsets"]));
    assert_eq!(text, "console-offsets:0:0\nconsole-offsets:1:10\n");
    let mut offsets = tool("org.apache.kafka.tools.GetOffsetShell").expect("found before");
    let text = tools::stdout(offsets.args(["--topic-partitions", "console-offsets:1", "--time", "1700000000004"]));
    assert_eq!(text, "console-offsets:1:4\n");
}

#[test]
fn the_performance_tools_run() {
    let Some(java) = tools::java() else { return };
    let bootstrap = shared::broker().bootstrap();
    shared::client(Library::Librdkafka).expect("always there").create("console-perf", 2, json!({}));
    let mut produce = java.tool("org.apache.kafka.tools.ProducerPerformance");
    produce.args(["--topic", "console-perf", "--num-records", "20000", "--record-size", "200", "--throughput", "-1"]);
    let text = tools::stdout(produce.args(["--bootstrap-server", &bootstrap]));
    assert!(text.contains("20000 records sent"), "{text}");
    let mut consume = java.tool("org.apache.kafka.tools.ConsumerPerformance");
    consume.args(["--topic", "console-perf", "--num-records", "20000", "--bootstrap-server", &bootstrap]);
    let text = tools::stdout(&mut consume);
    let row = text.lines().last().expect("a row of figures");
    assert_eq!(row.split(", ").nth(4), Some("20000"), "{text}");
}

#[test]
fn the_api_version_tool_understands_the_broker() {
    let Some(mut versions) = tool("org.apache.kafka.tools.BrokerApiVersionsCommand") else { return };
    let text = tools::stdout(&mut versions);
    for api in ["Produce(0)", "Fetch(1)", "ListOffsets(2)", "Metadata(3)", "InitProducerId(22)"] {
        assert!(text.lines().any(|line| line.contains(api) && line.contains("usable")), "{api} in {text}");
    }
}

#[test]
fn the_console_consumer_in_a_consumer_group_is_described_by_the_group_tool() {
    let Some(client) = millrace_tests::shared::client(Library::Librdkafka) else { return };
    let Some(mut consumer) = tool(CONSUMER) else { return };
    let mut client = client;
    client.create("console-group", 2, json!({}));
    let records: Vec<Record> =
        (0..20).map(|i| Record::new(None, Some(format!("v{i}").as_bytes()), 1_000 + i)).collect();
    assert!(client.produce("console-group", "none", &records).iter().all(Result::is_ok));
    consumer.args(["--topic", "console-group", "--group", "console-group", "--from-beginning"]);
    consumer.args(["--max-messages", "20", "--timeout-ms", "30000"]);
    consumer.args(["--command-property", "group.protocol=consumer"]);
    assert_eq!(tools::stdout(&mut consumer).lines().count(), 20);
    let groups = |args: &[&str]| {
        let mut command = tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand").expect("found before");
        tools::stdout(command.args(args))
    };
    let listed = groups(&["--list", "--type"]);
    let line = listed.lines().find(|line| line.starts_with("console-group")).unwrap_or_default();
    assert!(line.to_lowercase().contains("consumer"), "{listed}");
    let state = groups(&["--describe", "--group", "console-group", "--state"]);
    assert!(state.contains("uniform") && state.contains("Empty"), "{state}");
    let offsets = groups(&["--describe", "--group", "console-group"]);
    assert!(offsets.contains("console-group"), "{offsets}");
    groups(&["--delete", "--group", "console-group"]);
    assert!(!groups(&["--list"]).lines().any(|line| line == "console-group"));
}
