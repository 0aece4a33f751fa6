//! Topics by the clients' admin calls.

use std::time::Duration;

use millrace_tests::client::{Client as _, Commands as _, Library};
use millrace_tests::record::Record;
use millrace_tests::{shared, tools};
use serde_json::{Value, json};

/// A topic id in hexadecimal, however the library prints it.
fn id(answer: &Value) -> Option<String> {
    use base64::Engine as _;
    let text = answer["id"].as_str()?;
    let hex = text.replace('-', "");
    if hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(hex);
    }
    let plain = text.trim_end_matches('=').replace('-', "+").replace('_', "/");
    let bytes = base64::prelude::BASE64_STANDARD_NO_PAD.decode(plain).expect("a topic id in base64");
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[test]
fn a_topic_is_created_described_and_deleted_by_every_client() {
    for (library, mut client) in shared::clients() {
        let topic = format!("admin-{}", library.name());
        client.create(&topic, 3, json!({"retention.ms": "123456", "segment.bytes": "2097152"}));
        let described: Vec<Value> = shared::clients()
            .iter_mut()
            .map(|(_, other)| other.must(json!({"op": "describe", "topic": topic})))
            .collect();
        assert!(described.iter().all(|one| one["partitions"] == 3), "{topic}: {described:?}");
        let mut ids: Vec<String> = described.iter().filter_map(id).collect();
        ids.dedup();
        assert!(ids.len() <= 1, "{topic} has one id: {ids:?}");

        let again = client.call(&json!({"op": "create", "topic": topic})).expect_err("the name is taken");
        assert!(plain(&again).contains("exist"), "{topic}: {again}");

        client.must(json!({"op": "delete", "topic": topic}));
        let gone = client.call(&json!({"op": "delete", "topic": topic})).expect_err("it is gone");
        assert!(is(&gone, "unknowntopic", 3), "{topic}: {gone}");
    }
}

#[test]
fn a_topic_created_anew_begins_anew() {
    for (library, mut client) in shared::clients() {
        let topic = format!("anew-{}", library.name());
        for round in 0..3 {
            client.create(&topic, 1, json!({}));
            let record = Record::new(None, Some(format!("round {round}").as_bytes()), 1_700_000_000_000);
            let acks = client.produce(&topic, "none", std::slice::from_ref(&record));
            assert_eq!(acks, [Ok((0, 0))], "{topic}, round {round}");
            let seen = client.consume(&topic, 0, 0, 1);
            assert_eq!(seen.first().map(|seen| &seen.record), Some(&record), "{topic}, round {round}");
            client.must(json!({"op": "delete", "topic": topic}));
            // Metadata follows the controller's word a moment later.
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

#[test]
fn configs_are_described_with_what_was_set_and_what_is_default() {
    for (library, mut client) in shared::clients() {
        let topic = format!("configs-{}", library.name());
        let set = json!({"retention.ms": "123456", "cleanup.policy": "compact", "compression.type": "lz4"});
        client.create(&topic, 1, set.clone());
        let configs = client.must(json!({"op": "configs", "topic": topic}))["configs"].take();
        for (name, value) in set.as_object().expect("a table") {
            assert_eq!(&configs[name], value, "{topic}: {name}");
        }
        for (name, value) in [
            ("segment.bytes", "1073741824"),
            ("max.message.bytes", "1048588"),
            ("message.timestamp.type", "CreateTime"),
            ("min.insync.replicas", "1"),
            ("flush.messages", "9223372036854775807"),
        ] {
            assert_eq!(configs[name], value, "{topic}: {name}");
        }
    }
}

#[test]
fn wrong_topics_are_refused_with_kafkas_errors() {
    for (library, mut client) in shared::clients() {
        let mut refused = |command: Value, word: &str, code: i16| {
            let error = client.call(&command).expect_err("refused");
            assert!(is(&error, word, code), "{}: {command} gave {error}", library.name());
        };
        refused(json!({"op": "create", "topic": "not a name"}), "invalidtopic", 17);
        refused(json!({"op": "create", "topic": "wrong-key", "configs": {"no.such.key": "1"}}), "invalidconfig", 40);
        let soon = json!({"op": "create", "topic": "wrong-value", "configs": {"retention.ms": "soon"}});
        refused(soon, "invalidconfig", 40);
        // The others see to it themselves.
        if matches!(library, Library::Java | Library::Python) {
            refused(json!({"op": "create", "topic": "no-partitions", "partitions": -5}), "invalidpartitions", 37);
        }
        refused(json!({"op": "delete", "topic": "never-was"}), "unknowntopic", 3);
    }
}

/// Whether an error is Kafka's of this name; sarama has words of its own, and tells the code.
fn is(error: &str, name: &str, code: i16) -> bool {
    plain(error).contains(name) || error.ends_with(&format!("({code})"))
}

/// Libraries spell the same error as `TopicAlreadyExists`, `TOPIC_ALREADY_EXISTS` and `TopicExistsException`.
fn plain(error: &str) -> String {
    error.replace(['_', ' '], "").to_lowercase()
}

fn tool(class: &str) -> Option<std::process::Command> {
    let mut command = tools::java()?.tool(class);
    command.args(["--bootstrap-server", &shared::broker().bootstrap()]);
    Some(command)
}

/// What one of Kafka's tools says; `None` without Java.
fn said(class: &str, arguments: &[&str]) -> Option<String> {
    Some(tools::stdout(tool(class)?.args(arguments)))
}

const CONFIGS: &str = "kafka.admin.ConfigCommand";
const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

#[test]
fn the_config_tool_alters_topics_brokers_and_groups() {
    let Some(_) = said(TOPICS, &["--create", "--topic", "admin-altered", "--partitions", "1"]) else { return };
    for (entity, change, of, set, shown) in [
        (
            ["--entity-type", "topics", "--entity-name", "admin-altered"].as_slice(),
            "Completed updating config for topic admin-altered.",
            "Dynamic configs for topic admin-altered are:",
            "retention.ms=123456",
            "retention.ms=123456 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=123456",
        ),
        (
            &["--entity-type", "brokers", "--entity-name", "1"],
            "Completed updating config for broker 1.",
            "Dynamic configs for broker 1 are:",
            "log.segment.delete.delay.ms=61000",
            "synonyms={DYNAMIC_BROKER_CONFIG:log.segment.delete.delay.ms=61000, \
             DEFAULT_CONFIG:log.segment.delete.delay.ms=60000}",
        ),
        (
            &["--entity-type", "brokers", "--entity-default"],
            "Completed updating default config for brokers in the cluster.",
            "Default configs for brokers in the cluster are:",
            "num.io.threads=9",
            "num.io.threads=9 sensitive=false synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:num.io.threads=9}",
        ),
        (
            &["--entity-type", "groups", "--entity-name", "admin-group"],
            "Completed updating config for group admin-group.",
            "Dynamic configs for group admin-group are:",
            "consumer.session.timeout.ms=50000",
            "synonyms={DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000, \
             DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000}",
        ),
    ] {
        let (key, _) = set.split_once('=').expect("a pair");
        let run = |arguments: &[&str]| said(CONFIGS, &[entity, arguments].concat()).expect("Java was there");
        assert_eq!(run(&["--alter", "--add-config", set]).trim(), change);
        let described = run(&["--describe"]);
        assert!(described.starts_with(of) && described.contains(shown), "{described}");
        assert_eq!(run(&["--alter", "--delete-config", key]).trim(), change);
    }
}

#[test]
fn the_acl_tool_hears_that_there_is_no_authorizer() {
    let rule = ["--allow-principal", "User:me", "--operation", "Read", "--topic", "admin-acls", "--force"];
    for how in [&["--list"][..], &[&["--add"], &rule[..]].concat(), &[&["--remove"], &rule[..]].concat()] {
        let Some(mut command) = tool("org.apache.kafka.tools.AclCommand") else { return };
        let output = command.args(how).output().expect("the tool runs");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(said.contains("SecurityDisabledException: No Authorizer is configured"), "{how:?}: {said}");
    }
}

#[test]
fn a_changed_config_is_in_force_for_the_next_batch() {
    let Some(_) = said(TOPICS, &["--create", "--topic", "admin-live", "--partitions", "1"]) else { return };
    let record = Record::new(None, Some(&[b'x'; 5_000]), 1_700_000_000_000);
    let alter = |value: &str| {
        let set = format!("max.message.bytes={value}");
        let topic = ["--entity-type", "topics", "--entity-name", "admin-live"];
        said(CONFIGS, &[&topic[..], &["--alter", "--add-config", &set]].concat());
    };
    alter("4000");
    for (library, mut client) in shared::clients() {
        let refused = client.produce("admin-live", "none", std::slice::from_ref(&record));
        let [Err(error)] = &refused[..] else { panic!("{}: {refused:?}", library.name()) };
        assert!(plain(error).contains("large"), "{}: {error}", library.name());
    }
    alter("100000");
    for (library, mut client) in shared::clients() {
        let acks = client.produce("admin-live", "none", std::slice::from_ref(&record));
        assert!(matches!(acks[..], [Ok(_)]), "{}: {acks:?}", library.name());
    }
}

#[test]
fn the_topic_tool_adds_partitions_that_take_records_at_once() {
    let Some(_) = said(TOPICS, &["--create", "--topic", "admin-grown", "--partitions", "2"]) else { return };
    said(TOPICS, &["--alter", "--topic", "admin-grown", "--partitions", "5"]);
    let described = said(TOPICS, &["--describe", "--topic", "admin-grown"]).expect("Java was there");
    assert!(described.contains("PartitionCount: 5"), "{described}");
    let mut fewer = tool(TOPICS).expect("Java was there");
    let output = fewer.args(["--alter", "--topic", "admin-grown", "--partitions", "3"]).output().expect("java starts");
    let text = tools::everything(&output);
    assert!(text.contains("The topic admin-grown currently has 5 partition(s); 3 would not be an increase."), "{text}");
}

#[test]
fn the_log_dirs_tool_tells_how_much_a_topic_takes() {
    let Some(_) = said(TOPICS, &["--create", "--topic", "admin-sized", "--partitions", "2"]) else { return };
    for (_, mut client) in shared::clients() {
        let record = Record::new(None, Some(&[b'x'; 5_000]), 1_700_000_000_000);
        assert!(client.produce("admin-sized", "none", std::slice::from_ref(&record))[0].is_ok());
    }
    let text = said(LOG_DIRS, &["--describe", "--topic-list", "admin-sized"]).expect("Java was there");
    let line = text.lines().find(|line| line.starts_with('{')).expect("a line of JSON");
    let told: Value = serde_json::from_str(line).expect("JSON");
    let partitions = told["brokers"][0]["logDirs"][0]["partitions"].as_array().expect("partitions");
    let sizes: i64 = partitions.iter().filter_map(|partition| partition["size"].as_i64()).sum();
    assert_eq!(partitions.len(), 2, "{line}");
    assert!(sizes > 5_000, "{line}");
}

#[test]
fn the_group_tool_lists_describes_resets_and_deletes() {
    let Some(_) = said(TOPICS, &["--create", "--topic", "admin-read", "--partitions", "1"]) else { return };
    let mut clients = shared::clients();
    let (_, client) = clients.first_mut().expect("at least one library");
    let records: Vec<Record> =
        (0..5).map(|i| Record::new(None, Some(format!("r{i}").as_bytes()), 1_700_000_000_000)).collect();
    assert!(client.produce("admin-read", "none", &records).iter().all(Result::is_ok));
    let read = said(
        CONSUMER,
        &[
            "--topic",
            "admin-read",
            "--group",
            "admin-readers",
            "--from-beginning",
            "--max-messages",
            "5",
            "--timeout-ms",
            "30000",
        ],
    );
    assert_eq!(read.expect("Java was there").lines().count(), 5);
    let run = |arguments: &[&str]| said(GROUPS, arguments).expect("Java was there");
    assert!(run(&["--list"]).lines().any(|line| line == "admin-readers"));
    let row = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("admin-readers")).expect("a row").to_owned();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let group = ["--group", "admin-readers"];
    let described = row(&run(&[&group[..], &["--describe"]].concat()));
    assert_eq!(described[1..6], ["admin-read", "0", "5", "5", "0"]);
    run(&[&group[..], &["--reset-offsets", "--to-earliest", "--topic", "admin-read", "--execute"]].concat());
    let described = row(&run(&[&group[..], &["--describe"]].concat()));
    assert_eq!(described[1..6], ["admin-read", "0", "0", "5", "5"]);
    assert!(run(&[&group[..], &["--delete"]].concat()).contains("was successful"));
    assert!(!run(&["--list"]).lines().any(|line| line == "admin-readers"));
}
