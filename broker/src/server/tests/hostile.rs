//! Bytes that no client sends, to a node that must go on serving everybody else.

use super::node::Node;
use super::records::{batch, produce};
use crate::server::Options;
use crate::server::api::TABLE;
use bytes::{BufMut, BytesMut};
use millrace_protocol::messages::MetadataRequest;
use millrace_protocol::shapes::shape_of;
use millrace_protocol::wire::put_varint;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5eed);
    println!("SEED={seed} replays this");
    seed
}

fn rounds() -> u64 {
    std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

async fn is_well(node: &Node) {
    let mut client = node.client().await;
    let answer = client.ask(&MetadataRequest::default().with_topics(Some(Vec::new()))).await.unwrap();
    assert_eq!(answer.brokers.len(), 1);
}

/// Sends bytes and waits until the broker answers, hangs up, or has nothing to say for a moment.
async fn poke(node: &Node, bytes: &[u8]) {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let _sent = stream.write_all(bytes).await;
    let mut answer = [0; 512];
    let _said = tokio::time::timeout(Duration::from_millis(3), stream.read(&mut answer)).await;
}

fn frame(key: i16, version: i16, flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i16(key);
    out.put_i16(version);
    out.put_i32(77);
    out.put_i16(4);
    out.put_slice(b"evil");
    if flexible {
        put_varint(&mut out, 0);
    }
    out.put_slice(body);
    let size = i32::try_from(out.len() - 4).unwrap();
    out[..4].copy_from_slice(&size.to_be_bytes());
    out.to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_its_own_connection_only() {
    let node = Node::start().await;
    let mut dice = Dice(seed());
    for _ in 0..rounds() {
        let garbage: Vec<u8> = (0..dice.below(300)).map(|_| dice.below(256) as u8).collect();
        poke(&node, &garbage).await;
    }
    is_well(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_requests_harm_nobody() {
    let node = Node::start().await;
    let mut dice = Dice(seed());
    for _ in 0..rounds() {
        let api = TABLE[dice.below(TABLE.len() as u64) as usize];
        let versions = api.key.understood();
        let version = versions.min + dice.below((versions.max - versions.min + 1) as u64) as i16;
        let mut body = shape_of(api.key).unwrap().example(version, &mut |n| dice.below(n));
        for _ in 0..dice.below(4) {
            let at = dice.below(body.len().max(1) as u64) as usize;
            match (dice.below(3), body.get_mut(at)) {
                (0, Some(byte)) => *byte = dice.below(256) as u8,
                (1, Some(_)) => body.truncate(at),
                _ => body.insert(at.min(body.len()), dice.below(256) as u8),
            }
        }
        poke(&node, &frame(api.key.code(), version, api.key.is_flexible(version), &body)).await;
    }
    is_well(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_batches_are_refused_or_stored_and_never_break_the_partition() {
    let node = Node::start().await;
    let mut dice = Dice(seed());
    let mut client = node.client().await;
    let named = millrace_protocol::messages::metadata_request::MetadataRequestTopic::default()
        .with_name(Some(super::records::name("target")));
    let made = client
        .ask(&MetadataRequest::default().with_topics(Some(vec![named])).with_allow_auto_topic_creation(true))
        .await
        .unwrap();
    let id = made.topics[0].topic_id;
    for _ in 0..rounds() {
        let mut records = batch(&["one", "two", "three"]).to_vec();
        for _ in 0..=dice.below(2) {
            let at = dice.below(records.len() as u64) as usize;
            records[at] = dice.below(256) as u8;
        }
        if dice.below(2) == 0 {
            // With a checksum that is right for the wrong bytes.
            let sum = millrace_model::batch::crc(&records[21..]);
            records[17..21].copy_from_slice(&sum.to_be_bytes());
        }
        let answer = client.ask(&produce("target", id, 0, records.into())).await.unwrap();
        let code = answer.responses[0].partition_responses[0].error_code;
        // -1 is what Kafka says of records that do not unfold.
        assert!([-1, 0, 2, 10, 32, 45, 47, 53, 76, 87].contains(&code), "error {code}");
    }
    let answer = client.ask(&produce("target", id, 0, batch(&["fine"]))).await.unwrap();
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_keys_and_versions_end_the_connection() {
    let node = Node::start().await;
    for (key, version) in [(999, 0), (-1, 0), (4, 0), (3, 99), (0, 0), (0, 2), (1, 3)] {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(&frame(key, version, false, &[0; 20])).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 8])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "key {key} version {version}: {ended:?}");
    }
    is_well(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let node = Node::start().await;
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.write_all(&frame(18, 99, false, &[1, 2, 3])).await.unwrap();
    let mut answer = [0; 20];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [0, 0, 0, 16, 0, 0, 0, 77, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_drip_or_keep_silent_hold_nobody_up() {
    let options = Options { max_idle: Some(Duration::from_millis(1500)), ..Options::default() };
    let node = Node::with(&[], options, Default::default()).await;
    let whole = frame(3, 1, false, &[0, 0, 0, 0]);
    let mut slow = Vec::new();
    for at in 0..200 {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(&whole[..at % whole.len()]).await.unwrap();
        slow.push(stream);
    }
    is_well(&node).await;
    // What never ends is ended.
    for stream in &mut slow {
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 8])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    }
}
