//! Bytes from the network against the decoders: what honest clients send is read to the last byte in every version, and
//! nothing that a hostile one sends takes more memory than its bytes allow.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Message, Request};
use millrace_protocol::shape::decoded_limit;
use millrace_protocol::shapes::shape_of;
use millrace_protocol::{ApiKey as Key, decode};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: all work is the system allocator's; the counters are plain cells of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.get() + layout.size() as isize;
        NOW.set(now);
        PEAK.set(PEAK.get().max(now));
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.set(NOW.get() - layout.size() as isize);
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.get();
    PEAK.set(before);
    let result = work();
    (result, usize::try_from(PEAK.get() - before).unwrap_or(0))
}

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Calls the macro for every request that has a shape.
macro_rules! requests {
    ($each:ident) => {
        $each!(ProduceRequest);
        $each!(FetchRequest);
        $each!(ListOffsetsRequest);
        $each!(MetadataRequest);
        $each!(OffsetCommitRequest);
        $each!(OffsetFetchRequest);
        $each!(FindCoordinatorRequest);
        $each!(JoinGroupRequest);
        $each!(HeartbeatRequest);
        $each!(LeaveGroupRequest);
        $each!(SyncGroupRequest);
        $each!(DescribeGroupsRequest);
        $each!(ListGroupsRequest);
        $each!(ApiVersionsRequest);
        $each!(CreateTopicsRequest);
        $each!(DeleteTopicsRequest);
        $each!(DeleteRecordsRequest);
        $each!(InitProducerIdRequest);
        $each!(OffsetForLeaderEpochRequest);
        $each!(DescribeConfigsRequest);
        $each!(AlterConfigsRequest);
        $each!(IncrementalAlterConfigsRequest);
        $each!(CreatePartitionsRequest);
        $each!(DeleteGroupsRequest);
        $each!(OffsetDeleteRequest);
        $each!(DescribeClusterRequest);
        $each!(ConsumerGroupHeartbeatRequest);
        $each!(ConsumerGroupDescribeRequest);
        $each!(DescribeTopicPartitionsRequest);
    };
}

fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5eed);
    println!("SEED={seed} replays this");
    seed
}

fn valid<T: Request>(dice: &mut Dice, version: i16) -> Vec<u8> {
    let shape = shape_of(Key::from_code(T::KEY).unwrap()).unwrap();
    shape.example(version, &mut |n| dice.below(n))
}

#[test]
fn every_shape_is_the_layout_that_kafka_protocol_reads() {
    let mut dice = Dice(seed());
    macro_rules! check {
        ($request:ty) => {
            let key = Key::from_code(<$request>::KEY).unwrap();
            for version in key.understood().min..=key.understood().max {
                for _ in 0..50 {
                    let body = valid::<$request>(&mut dice, version);
                    if key.layout_version(version) <= <$request as Message>::VERSIONS.max {
                        let mut left = Bytes::from(body.clone());
                        let read = <$request>::decode(&mut left, key.layout_version(version));
                        assert!(read.is_ok(), "{key} v{version}: {read:?} of {body:?}");
                        assert!(left.is_empty(), "{key} v{version}: {} bytes were not read of {body:?}", left.len());
                    }
                    let ours = decode::<$request>(body.clone().into(), version);
                    assert!(ours.is_ok(), "{key} v{version}: {ours:?} of {body:?}");
                }
            }
        };
    }
    requests!(check);
}

#[test]
fn a_mutated_request_takes_no_more_memory_than_its_bytes_allow() {
    let mut dice = Dice(seed());
    let rounds: u64 = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    macro_rules! check {
        ($request:ty) => {
            let key = Key::from_code(<$request>::KEY).unwrap();
            for version in key.understood().min..=key.understood().max {
                for _ in 0..rounds {
                    let mut body = valid::<$request>(&mut dice, version);
                    for _ in 0..=dice.below(4) {
                        mutate(&mut body, &mut dice);
                    }
                    let bytes = Bytes::from(body);
                    let limit = decoded_limit(bytes.len()) + 1024;
                    let (_, peak) = peak_of(|| drop(decode::<$request>(bytes.clone(), version)));
                    assert!(peak <= limit, "{key} v{version}: {peak} bytes for {:?}", &bytes[..]);
                }
            }
        };
    }
    requests!(check);
}

#[test]
fn bytes_without_meaning_are_refused_within_bounds() {
    let mut dice = Dice(seed());
    macro_rules! check {
        ($request:ty) => {
            let key = Key::from_code(<$request>::KEY).unwrap();
            for version in key.understood().min..=key.understood().max {
                for fill in [0x00, 0x01, 0x7f, 0xff] {
                    let bytes = Bytes::from(vec![fill; 1 + dice.below(4000) as usize]);
                    let (_, peak) = peak_of(|| drop(decode::<$request>(bytes.clone(), version)));
                    assert!(peak <= decoded_limit(bytes.len()) + 1024, "{key} v{version}: {peak} bytes for {fill}s");
                }
            }
        };
    }
    requests!(check);
}

#[test]
fn every_truncation_of_a_request_is_refused_or_read_without_harm() {
    let mut dice = Dice(seed());
    macro_rules! check {
        ($request:ty) => {
            let key = Key::from_code(<$request>::KEY).unwrap();
            let version = key.understood().max;
            let body = Bytes::from(valid::<$request>(&mut dice, version));
            for end in 0..body.len() {
                let cut = decode::<$request>(body.slice(..end), version);
                assert!(cut.is_err(), "{key} v{version} was read from {end} of {} bytes", body.len());
            }
        };
    }
    requests!(check);
}

fn mutate(body: &mut Vec<u8>, dice: &mut Dice) {
    if body.is_empty() {
        body.push(dice.next() as u8);
        return;
    }
    let at = dice.below(body.len() as u64) as usize;
    match dice.below(5) {
        0 => body[at] = dice.next() as u8,
        1 => body[at] ^= 1 << dice.below(8),
        2 => body.truncate(at),
        3 => body.insert(at, dice.next() as u8),
        _ => {
            let hostile = [[0x7f, 0xff, 0xff, 0xff], [0xff; 4], [0xff, 0xff, 0xff, 0x0f], [0, 0xff, 0xff, 0xff]];
            let picked = hostile[dice.below(4) as usize];
            for (offset, byte) in picked.into_iter().enumerate() {
                if let Some(place) = body.get_mut(at + offset) {
                    *place = byte;
                }
            }
        }
    }
}
