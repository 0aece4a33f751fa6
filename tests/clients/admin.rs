//! Topics by the clients' admin calls.

use std::time::Duration;

use millrace_tests::client::{Client as _, Commands as _, Library};
use millrace_tests::record::Record;
use millrace_tests::shared;
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
        assert!(plain(&gone).contains("unknowntopic"), "{topic}: {gone}");
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
        let mut refused = |command: Value, word: &str| {
            let error = client.call(&command).expect_err("refused");
            assert!(plain(&error).contains(word), "{}: {command} gave {error}", library.name());
        };
        refused(json!({"op": "create", "topic": "not a name"}), "invalidtopic");
        refused(json!({"op": "create", "topic": "wrong-key", "configs": {"no.such.key": "1"}}), "invalidconfig");
        refused(json!({"op": "create", "topic": "wrong-value", "configs": {"retention.ms": "soon"}}), "invalidconfig");
        // The others see to it themselves.
        if matches!(library, Library::Java | Library::Python) {
            refused(json!({"op": "create", "topic": "no-partitions", "partitions": -5}), "invalidpartitions");
        }
        refused(json!({"op": "delete", "topic": "never-was"}), "unknowntopic");
    }
}

/// Libraries spell the same error as `TopicAlreadyExists`, `TOPIC_ALREADY_EXISTS` and `TopicExistsException`.
fn plain(error: &str) -> String {
    error.replace(['_', ' '], "").to_lowercase()
}
