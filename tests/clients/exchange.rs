//! What one client writes, every client reads, byte for byte.

use millrace_tests::client::{Commands as _, Library};
use millrace_tests::record::Record;
use millrace_tests::seed::Seed;
use millrace_tests::shared;
use serde_json::json;

/// Records that are easy to get wrong.
fn corpus(writer: Library) -> Vec<Record> {
    let mut noise = Seed::new(7);
    let base = 1_700_000_000_000;
    let every_byte: Vec<u8> = (0..=255).collect();
    let repeated = Record::new(Some(b"repeated"), Some(b"headers"), base + 3)
        .header("trace", Some(b"first"))
        .header("other", Some(b""))
        .header("trace", Some(b"second"))
        .header("trace", Some(b"first"));
    let mut records = vec![
        Record::new(Some(b"key"), Some(b"value"), base),
        Record::new(None, Some(b"no key"), base + 1),
        Record::new(Some(b"tombstone"), None, base + 2),
        repeated,
        Record::new(None, None, base + 4),
        Record::new(Some(b""), Some(b""), base + 5),
        Record::new(Some(&every_byte), Some(&every_byte), base + 6).header("bytes", Some(&every_byte)),
        Record::new(Some("\u{9375}".as_bytes()), Some("\u{5024}".as_bytes()), base + 7)
            .header("\u{540d}\u{1f9ea}", Some(b"x")),
        Record::new(Some(b"earlier"), Some(b"than the one before"), base - 1_000_000),
        Record::new(Some(b"first"), Some(b"millisecond"), 1),
        Record::new(Some(b"noise"), Some(&noise.noise(10_000)), base + 10),
        Record::new(Some(b"runs"), Some(&b"abcdefgh".repeat(5_000)), base + 11),
        Record::new(Some(b"null"), Some(b"header"), base + 12).header("null", None).header("null", Some(b"")),
    ];
    let many =
        (0..200).map(|i| Record::new(Some(format!("k{i}").as_bytes()), Some(&vec![b'v'; i]), base + 100 + i as i64));
    records.extend(many);
    records.retain(|record| writer.writes(record));
    records.iter().map(|record| writer.shows(record)).collect()
}

fn every_client_reads_what(writer: Library) {
    let Some(mut client) = shared::client(writer) else { return };
    let records = corpus(writer);
    for codec in writer.codecs() {
        let topic = format!("exchange-{}-{codec}", writer.name());
        client.create(&topic, 1, json!({}));
        let acks = client.produce(&topic, codec, &records);
        for (index, ack) in acks.into_iter().enumerate() {
            assert_eq!(ack, Ok((0, index as i64)), "{topic}: the ack of record {index}");
        }
        for (reader, mut client) in shared::clients() {
            if !reader.codecs().contains(codec) {
                continue;
            }
            let seen = client.consume(&topic, 0, 0, records.len());
            assert_eq!(seen.len(), records.len(), "{topic} read by {}", reader.name());
            for (index, (seen, written)) in seen.iter().zip(&records).enumerate() {
                assert_eq!(seen.record, reader.shows(written), "{topic} read by {}, record {index}", reader.name());
                assert_eq!(seen.offset, index as i64, "{topic}, {}", reader.name());
                assert_ne!(seen.append_time, Some(true), "{topic}, {}", reader.name());
            }
        }
    }
}

#[test]
fn every_client_reads_what_librdkafka_writes_with_every_codec() {
    every_client_reads_what(Library::Librdkafka);
}

#[test]
fn every_client_reads_what_java_writes_with_every_codec() {
    every_client_reads_what(Library::Java);
}

#[test]
fn every_client_reads_what_go_writes_with_every_codec() {
    every_client_reads_what(Library::Go);
}

#[test]
fn every_client_reads_what_python_writes_with_every_codec() {
    every_client_reads_what(Library::Python);
}

#[test]
fn every_client_reads_what_sarama_writes_with_every_codec() {
    every_client_reads_what(Library::Sarama);
}

#[test]
fn every_client_reads_what_kafkajs_writes_with_every_codec() {
    every_client_reads_what(Library::Kafkajs);
}

#[test]
fn every_client_reads_what_aiokafka_writes_with_every_codec() {
    every_client_reads_what(Library::Aiokafka);
}

#[test]
fn a_topic_codec_recompresses_and_loses_nothing() {
    for (writer, mut client) in shared::clients() {
        for (produced, stored) in
            [("none", "zstd"), ("gzip", "lz4"), ("zstd", "uncompressed"), ("snappy", "gzip"), ("lz4", "snappy")]
        {
            if writer == Library::Kafkajs {
                continue;
            }
            let topic = format!("recompress-{}-{produced}-{stored}", writer.name());
            let records = corpus(writer);
            client.create(&topic, 1, json!({"compression.type": stored}));
            assert!(client.produce(&topic, produced, &records).iter().all(Result::is_ok), "{topic}");
            let seen = client.consume(&topic, 0, 0, records.len());
            assert!(seen.iter().map(|seen| &seen.record).eq(&records), "{topic}: read back differently");
        }
    }
}

#[test]
fn plain_producers_work_beside_idempotent_ones() {
    for (writer, mut client) in shared::clients() {
        let topic = format!("plain-{}", writer.name());
        client.create(&topic, 1, json!({}));
        for idempotent in [false, true, false, true] {
            let record = Record::new(None, Some(b"x"), 1_700_000_000_000).to_json();
            client.must(json!({"op": "produce", "topic": topic, "idempotent": idempotent, "records": [record]}));
        }
        let offsets: Vec<i64> = client.consume(&topic, 0, 0, 4).iter().map(|seen| seen.offset).collect();
        assert_eq!(offsets, [0, 1, 2, 3], "{topic}");
    }
}
