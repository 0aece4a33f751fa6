//! Records near and beyond the limits.

use millrace_tests::client::Commands as _;
use millrace_tests::record::Record;
use millrace_tests::seed::Seed;
use millrace_tests::shared;
use serde_json::json;

const AT: i64 = 1_700_000_000_000;

#[test]
fn records_of_900_kb_pass_with_every_codec() {
    for (writer, mut client) in shared::clients() {
        let topic = format!("large-{}", writer.name());
        client.create(&topic, 1, json!({}));
        let mut noise = Seed::new(11);
        let mut written = Vec::new();
        for codec in writer.codecs() {
            let record = Record::new(Some(codec.as_bytes()), Some(&noise.noise(900_000)), AT);
            let acks = client.produce(&topic, codec, std::slice::from_ref(&record));
            assert!(acks.iter().all(Result::is_ok), "{topic}, {codec}: {acks:?}");
            written.push(record);
        }
        for (reader, mut client) in shared::clients() {
            if !reader.reads_all_of(writer) {
                continue;
            }
            let seen = client.consume(&topic, 0, 0, written.len());
            let same = seen.iter().map(|seen| &seen.record).eq(&written);
            assert!(same, "{topic} read by {}: {} records, or other bytes", reader.name(), seen.len());
        }
    }
}

#[test]
fn a_topic_can_allow_records_of_eight_megabytes() {
    for (writer, mut client) in shared::clients() {
        let topic = format!("huge-{}", writer.name());
        client.create(&topic, 1, json!({"max.message.bytes": "8500000"}));
        let records = [Record::new(None, Some(&Seed::new(13).noise(8_000_000)), AT)];
        let acks = client.produce(&topic, "none", &records);
        assert!(acks.iter().all(Result::is_ok), "{topic}: {acks:?}");
        // Larger than what a consumer asks for at once: it still gets the whole first batch.
        let seen = client.consume(&topic, 0, 0, 1);
        assert!(seen.iter().map(|seen| &seen.record).eq(&records), "{topic}: read back differently");
    }
}

/// The limit is on the batch as it arrives: 61 bytes of header, and here 8 to 10 around the value.
#[test]
fn max_message_bytes_is_exact() {
    for (writer, mut client) in shared::clients() {
        let topic = format!("limit-{}", writer.name());
        client.create(&topic, 1, json!({"max.message.bytes": "5000"}));
        // A record of this value: length 2, attributes 1, deltas 2, null key 1, value length 2, no headers 1.
        let overhead = 61 + 9;
        let fits = Record::new(None, Some(&vec![b'x'; 5000 - overhead]), AT);
        let exceeds = Record::new(None, Some(&vec![b'x'; 5000 - overhead + 1]), AT);
        let acks = client.produce(&topic, "none", &[fits]);
        assert_eq!(acks, [Ok((0, 0))], "{topic}");
        let acks = client.produce(&topic, "none", &[exceeds]);
        let words = acks[0].as_ref().expect_err("one byte too many").replace(['_', ' '], "").to_lowercase();
        assert!(words.contains("toolarge"), "{topic}: {words}");
        // Nothing of it was stored, and the next one follows.
        let acks = client.produce(&topic, "none", &[Record::new(None, Some(b"small"), AT)]);
        assert_eq!(acks, [Ok((0, 1))], "{topic}");
    }
}
