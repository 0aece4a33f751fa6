//! What storage's tests share.
#![allow(dead_code, reason = "each test uses a part of it")]

use bytes::Bytes;
use millrace_model::builder::BatchBuilder;
use millrace_model::record::encode::HeaderSource;
use millrace_model::{Batch, Clock, Offset, ProducerEpoch, ProducerId, Timestamp};
use millrace_storage::io::{Disk, OsDisk};
use millrace_storage::{Log, LogConfig, LogReader, OpenContext};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A clock that stands still unless it is told to move.
#[derive(Debug)]
pub struct HandClock(pub AtomicI64);

impl Default for HandClock {
    fn default() -> Self {
        Self(AtomicI64::new(1_700_000_000_000))
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::new(self.0.load(Ordering::Relaxed))
    }

    fn monotonic_ns(&self) -> u64 {
        0
    }
}

/// A directory for one log, removed in the end.
#[derive(Debug)]
pub struct Bench {
    pub root: tempfile::TempDir,
    pub clock: Arc<HandClock>,
}

impl Bench {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("t-0")).unwrap();
        Self { root, clock: Arc::default() }
    }

    pub fn dir(&self) -> PathBuf {
        self.root.path().join("t-0")
    }

    pub fn open(&self, config: LogConfig, context: OpenContext) -> Log {
        open(Arc::new(OsDisk), self.clock.clone(), self.dir(), config, context)
    }

    /// Names in the log's directory that end so.
    pub fn names(&self, end: &str) -> Vec<String> {
        OsDisk.list(&self.dir()).unwrap().into_iter().filter(|name| name.ends_with(end)).collect()
    }
}

pub fn open(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, dir: PathBuf, config: LogConfig, context: OpenContext) -> Log {
    Log::open(disk, clock, dir, config, context).unwrap()
}

/// A batch to be.
pub struct Draft {
    records: i32,
    value_len: usize,
    producer: Option<(ProducerId, ProducerEpoch, i32)>,
    first: i64,
    step: i64,
}

pub fn batch(records: i32, value_len: usize) -> Draft {
    Draft { records, value_len, producer: None, first: 1_700_000_000_000, step: 1 }
}

impl Draft {
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, sequence: i32) -> Self {
        self.producer = Some((id, epoch, sequence));
        self
    }

    /// The first record's timestamp, and from each record to the next.
    pub fn at(mut self, first: i64, step: i64) -> Self {
        (self.first, self.step) = (first, step);
        self
    }

    pub fn build(self) -> Batch {
        let mut builder = BatchBuilder::new();
        if let Some((id, epoch, sequence)) = self.producer {
            builder = builder.producer(id, epoch, sequence);
        }
        let value = vec![b'v'; self.value_len];
        for i in 0..self.records {
            let timestamp = Timestamp::new(self.first + i64::from(i) * self.step);
            builder.append(timestamp, None, Some(&value), HeaderSource::Pairs(&[])).unwrap();
        }
        builder.build().unwrap()
    }
}

/// The offsets of the whole batches in `bytes`; all of them must have their right checksums.
pub fn offsets(bytes: &Bytes) -> Vec<i64> {
    let mut offsets = Vec::new();
    for batch in Batch::all(bytes.clone()) {
        let Ok(batch) = batch else { break };
        batch.check_crc().unwrap();
        let header = batch.header();
        offsets.extend((0..=i64::from(header.last_offset_delta)).map(|delta| header.base_offset.get() + delta));
    }
    offsets
}

/// All bytes of a log, read as a client reads them: from offset to offset.
pub fn read_all(reader: &LogReader) -> Bytes {
    let mut all = Vec::new();
    let mut next = reader.start_offset();
    while next < reader.end_offset() {
        let bytes = reader.read(next, Offset::new(i64::MAX), 10_000, true).unwrap().to_bytes().unwrap();
        let mut progressed = false;
        for batch in Batch::all(bytes) {
            let Ok(batch) = batch else { break };
            assert!(batch.header().last_offset() >= next, "the same batch twice");
            next = batch.header().next_offset();
            all.extend_from_slice(batch.bytes());
            progressed = true;
        }
        assert!(progressed, "no whole batch at {next} of {}", reader.end_offset());
    }
    all.into()
}

/// Numbers that follow from a seed.
#[derive(Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Runs a test with each of so many seeds, or as `MILLRACE_SEED` and `MILLRACE_SEEDS` say; names the seed that fails.
pub fn seeds(default: u64, run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("MILLRACE_SEED") {
        return run(seed);
    }
    for seed in 0..number("MILLRACE_SEEDS").unwrap_or(default) {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            println!("MILLRACE_SEED={seed} replays it");
            std::panic::resume_unwind(panic);
        }
    }
}
