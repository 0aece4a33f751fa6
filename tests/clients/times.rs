//! Timestamps: who sets them, and finding records by them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_tests::client::{Commands as _, Library};
use millrace_tests::record::Record;
use millrace_tests::{session, shared};
use serde_json::json;

const AT: i64 = 1_700_000_000_000;

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292,000,000")
}

#[test]
fn log_append_time_replaces_the_producers_timestamps() {
    for (writer, mut client) in shared::clients() {
        let topic = format!("append-time-{}", writer.name());
        client.create(&topic, 1, json!({"message.timestamp.type": "LogAppendTime"}));
        for codec in writer.codecs() {
            let records = [Record::new(Some(b"a"), None, AT), Record::new(Some(b"b"), None, AT + 5)];
            let before = now();
            let acks = client.produce(&topic, codec, &records);
            let after = now();
            let first = acks[0].clone().expect("an ack").1;
            for (reader, mut client) in shared::clients() {
                if !reader.codecs().contains(codec) {
                    continue;
                }
                let seen = client.consume(&topic, 0, first, 2);
                assert_eq!(seen.len(), 2, "{topic}, {codec}, read by {}", reader.name());
                for seen in seen {
                    assert_ne!(seen.append_time, Some(false), "{topic}, {codec}, read by {}", reader.name());
                    let at = seen.record.timestamp;
                    assert!((before..=after).contains(&at), "{topic}, {codec}: {at} not in {before}..={after}");
                }
            }
        }
    }
}

#[test]
fn offsets_are_found_by_timestamp() {
    let Some(mut writer) = shared::client(Library::Librdkafka) else { return };
    let topic = "by-timestamp";
    writer.create(topic, 2, json!({}));
    // Several batches, the second with the greatest timestamp in its middle.
    for times in [[0, 10, 20], [30, 900, 40], [50, 60, 70]] {
        let records: Vec<Record> = times.iter().map(|time| Record::new(None, Some(b"x"), AT + time).on(1)).collect();
        assert!(writer.produce(topic, "gzip", &records).iter().all(Result::is_ok));
    }
    for (library, mut client) in shared::clients() {
        let asked = [-2, -1, 0, AT, AT + 1, AT + 10, AT + 35, AT + 41, AT + 900, AT + 901];
        let answer = client.must(json!({"op": "times", "topic": topic, "partition": 1, "timestamps": asked}));
        let expected = json!([0, 9, 0, 0, 1, 1, 4, 4, 4, null]);
        assert_eq!(answer["offsets"], expected, "{}", library.name());
        let empty = client.must(json!({"op": "times", "topic": topic, "partition": 0, "timestamps": [-2, -1, AT]}));
        assert_eq!(empty["offsets"], json!([0, 0, null]), "{}: an empty partition", library.name());
        // The others have no way to ask for the greatest timestamp.
        if matches!(library, Library::Java | Library::Go | Library::Python) {
            let answer = client.must(json!({"op": "times", "topic": topic, "partition": 1, "timestamps": [-3]}));
            assert_eq!(answer["offsets"], json!([4]), "{}: the greatest timestamp", library.name());
        }
    }
}

/// A consumer that waits at the end gets a record when it is written, not when its wait is over.
#[test]
fn a_waiting_consumer_is_woken_by_a_new_record() {
    let Some(mut writer) = shared::client(Library::Librdkafka) else { return };
    for (library, mut client) in shared::clients() {
        let topic = format!("long-poll-{}", library.name());
        client.create(&topic, 1, json!({}));
        if library == Library::Librdkafka {
            // The shared client would wait for itself.
            let mut other = session::open(library, &shared::broker().bootstrap()).expect("always there");
            wakes(&mut writer, &topic, move |topic| other.consume(topic, 0, 0, 1));
        } else {
            wakes(&mut writer, &topic, move |topic| client.consume(topic, 0, 0, 1));
        }
    }
}

fn wakes<W, R>(writer: &mut W, topic: &str, mut read: R)
where
    W: millrace_tests::client::Commands,
    R: FnMut(&str) -> Vec<millrace_tests::record::Seen> + Send,
{
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read(topic));
        std::thread::sleep(Duration::from_millis(1500));
        let sent = now();
        assert_eq!(writer.produce(topic, "none", &[Record::new(None, Some(b"wake"), sent)]), [Ok((0, 0))]);
        let seen = reader.join().expect("the reader does not panic");
        assert_eq!(seen.len(), 1, "{topic}");
        let took = now() - sent;
        assert!(took < 5_000, "{topic}: {took} ms from the record to the reader");
    });
}
