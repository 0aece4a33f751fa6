//! kcat, as users run it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use millrace_tests::client::{CODECS, Commands as _, Library};
use millrace_tests::{shared, tools};
use serde_json::{Value, json};

fn kcat(mode: &str) -> Option<Command> {
    let mut command = Command::new(tools::kcat()?);
    command.args(["-q", "-b", &shared::broker().bootstrap(), mode]);
    Some(command)
}

fn feed(command: &mut Command, input: &str) {
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kcat starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("kcat reads");
    let output = child.wait_with_output().expect("kcat ends");
    assert!(output.status.success(), "{command:?}: {}", tools::everything(&output));
}

#[test]
fn kcat_reads_what_kcat_writes_with_every_codec() {
    for codec in CODECS {
        let Some(mut produce) = kcat("-P") else { return };
        let topic = format!("kcat-{codec}");
        shared::client(Library::Librdkafka).expect("always there").create(&topic, 1, json!({}));
        let lines: String = (0..1000).map(|i| format!("key{i}:value {i}\n")).collect();
        feed(
            produce.args(["-t", &topic, "-K:", "-z", codec, "-H", "h=1", "-H", "h=2", "-X", "enable.idempotence=true"]),
            &lines,
        );
        let mut consume = kcat("-C").expect("found before");
        let text = tools::stdout(consume.args(["-t", &topic, "-o", "beginning", "-e", "-J"]));
        let seen: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(seen.len(), 1000, "{topic}");
        for (index, record) in seen.iter().enumerate() {
            assert_eq!(record["offset"], index, "{topic}");
            assert_eq!(record["key"], format!("key{index}"), "{topic}");
            assert_eq!(record["payload"], format!("value {index}"), "{topic}");
            assert_eq!(record["headers"], json!(["h", "1", "h", "2"]), "{topic}");
        }
    }
}

#[test]
fn kcat_lists_brokers_and_topics() {
    let Some(mut list) = kcat("-L") else { return };
    shared::client(Library::Librdkafka).expect("always there").create("kcat-list", 3, json!({}));
    let metadata: Value = serde_json::from_str(&tools::stdout(list.arg("-J"))).expect("JSON");
    assert_eq!(metadata["brokers"][0]["name"], shared::broker().bootstrap());
    let topics = metadata["topics"].as_array().expect("topics");
    let topic = topics.iter().find(|topic| topic["topic"] == "kcat-list").expect("the topic is listed");
    assert_eq!(topic["partitions"].as_array().map(Vec::len), Some(3));
}

#[test]
fn kcat_finds_offsets_by_timestamp() {
    let Some(mut query) = kcat("-Q") else { return };
    let mut client = shared::client(Library::Librdkafka).expect("always there");
    client.create("kcat-query", 1, json!({}));
    let record = |at| millrace_tests::record::Record::new(None, Some(b"x"), at);
    client.produce("kcat-query", "none", &[record(1_700_000_000_000), record(1_700_000_000_100)]);
    let answer = tools::stdout(query.args(["-t", "kcat-query:0:1700000000050"]));
    assert_eq!(answer.trim(), "kcat-query [0] offset 1");
}

#[test]
fn a_kcat_group_consumer_reads_and_commits() {
    let topic = "kcat-group";
    let Some(mut produce) = kcat("-P") else { return };
    shared::client(Library::Librdkafka).expect("always there").create(topic, 1, json!({}));
    for round in ["one", "two"] {
        feed(produce.args(["-t", topic]), &format!("{round}\n"));
        produce = kcat("-P").expect("found before");
        let mut consume = Command::new(tools::kcat().expect("found before"));
        consume.args(["-q", "-b", &shared::broker().bootstrap(), "-X", "auto.offset.reset=earliest"]);
        // Each round gets its own line only: the first was committed.
        let text = tools::stdout(consume.args(["-c", "1", "-G", "kcat-members", topic]));
        assert_eq!(text, format!("{round}\n"));
    }
}
