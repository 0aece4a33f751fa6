//! Random appends, rolls, flushes, truncations and retention on the simulated disk, which fails and crashes at any operation, held against a
//! simple model: a list of batches.
//!
//! `MILLRACE_SEED=n` replays one seed, `MILLRACE_SEEDS=n` runs so many (a campaign).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests stand outside of test functions"
)]

mod common;

use common::{HandClock, Rng, batch, read_all};
use millrace_model::{Batch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use millrace_storage::io::Disk;
use millrace_storage::io::sim::{Crash, SimDisk};
use millrace_storage::{FileCache, Log, LogConfig, OpenContext, SequenceCheck, StorageError};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "/data/t-0";

/// What the log is to hold, from batch to batch.
#[derive(Clone, Debug)]
struct Stored {
    base: i64,
    next: i64,
    epoch: i32,
    batch: Batch,
}

struct World {
    rng: Rng,
    seed: u64,
    disk: SimDisk,
    clock: Arc<HandClock>,
    config: LogConfig,
    log: Option<Log>,
    /// What was acknowledged.
    stored: Vec<Stored>,
    end: i64,
    /// Everything that was ever appended: what was cut off without a sync comes back when the power fails.
    history: Vec<Stored>,
    /// What an operation that did not come back may have added …
    maybe_added: Vec<Stored>,
    /// … or cut away, down to here.
    maybe_cut: Option<i64>,
    synced: i64,
    /// The recovery point that was written down.
    checkpoint: i64,
    start: i64,
    epoch: i32,
    /// The producers that go on, and their next sequences.
    sequences: BTreeMap<i64, i32>,
    next_producer: i64,
    /// Producers below this do not go on.
    retired: i64,
    timestamp: i64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let disk = SimDisk::new(rng.next());
        disk.create_dir_all(Path::new(DIR)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let config = LogConfig {
            segment_bytes: 1500 + u32::try_from(rng.below(3000)).unwrap(),
            index_interval_bytes: u32::try_from(rng.below(600)).unwrap(),
            segment_index_bytes: 200,
            retention_bytes: Some(12_000),
            file_delete_delay_ms: 5,
            preallocate: rng.one_in(2),
            producer_id_expiration_ms: i64::MAX,
            ..LogConfig::default()
        };
        let mut world = Self {
            rng,
            seed,
            disk,
            clock: Arc::default(),
            config,
            log: None,
            stored: Vec::new(),
            history: Vec::new(),
            end: 0,
            maybe_added: Vec::new(),
            maybe_cut: None,
            synced: 0,
            checkpoint: 0,
            start: 0,
            epoch: 0,
            sequences: BTreeMap::new(),
            next_producer: 0,
            retired: 0,
            timestamp: 1_700_000_000_000,
        };
        world.open(OpenContext { fresh: true, ..OpenContext::default() });
        world
    }

    fn open(&mut self, context: OpenContext) {
        if let Err(error) = self.try_open(context) {
            panic!("seed {}: the log cannot be opened: {error}", self.seed);
        }
    }

    fn try_open(&mut self, context: OpenContext) -> Result<(), StorageError> {
        let context = OpenContext {
            recovery_point: Some(Offset::new(self.checkpoint)),
            log_start: Some(Offset::new(self.start)),
            files: Arc::new(FileCache::new(2)),
            ..context
        };
        let disk = Arc::new(self.disk.clone());
        self.log = Some(Log::open(disk, self.clock.clone(), PathBuf::from(DIR), self.config.clone(), context)?);
        Ok(())
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn draft(&mut self) -> Batch {
        let records = i32::try_from(1 + self.rng.below(5)).unwrap();
        let len = usize::try_from(self.rng.below(if self.rng.0 & 7 == 0 { 250 } else { 60 })).unwrap();
        // Mostly forward, sometimes back.
        self.timestamp += i64::try_from(self.rng.below(20)).unwrap() - 5;
        let mut draft = batch(records, len).at(self.timestamp, 1);
        let which = usize::try_from(self.rng.below(4)).unwrap();
        if which > 0 {
            if self.sequences.len() < which {
                self.sequences.insert(self.next_producer, 0);
                self.next_producer += 1;
            }
            let nth = which.min(self.sequences.len()) - 1;
            let (&producer, sequence) = self.sequences.iter_mut().nth(nth).unwrap();
            draft = draft.producer(ProducerId::new(producer), ProducerEpoch::new(0), *sequence);
            *sequence += records;
        }
        draft.build()
    }

    fn append(&mut self) -> Result<(), StorageError> {
        if self.rng.one_in(15) {
            self.epoch += 1;
        }
        let sequences = self.sequences.clone();
        let batches: Vec<_> = (0..=self.rng.below(3)).map(|_| self.draft()).collect();
        let mut next = self.end;
        let mut added = Vec::new();
        for batch in &batches {
            let base = next;
            next += i64::from(batch.header().last_offset_delta) + 1;
            added.push(Stored { base, next, epoch: self.epoch, batch: batch.clone() });
        }
        self.history.extend(added.iter().cloned());
        let epoch = LeaderEpoch::new(self.epoch);
        match self.log().append(&batches, epoch) {
            Ok(appended) => {
                assert_eq!(appended.base_offset.get(), self.end, "seed {}", self.seed);
                assert_eq!(appended.last_offset.get(), next - 1, "seed {}", self.seed);
                self.stored.extend(added);
                self.end = next;
                Ok(())
            }
            Err(error) => {
                self.sequences = sequences;
                self.maybe_added = added;
                Err(error)
            }
        }
    }

    fn truncate(&mut self) -> Result<(), StorageError> {
        let back = i64::try_from(self.rng.below(30)).unwrap();
        let first = self.stored.first().map_or(self.start, |first| first.base);
        let target = (self.end - back).max(first);
        self.maybe_cut = Some(target);
        self.log().truncate_to(Offset::new(target))?;
        self.checkpoint = self.checkpoint.min(self.log().recovery_point().get());
        self.maybe_cut = None;
        self.synced = self.synced.min(target);
        self.synced = self.synced.min(self.log().end_offset().get());
        self.stored.retain(|stored| stored.next <= target);
        let end = self.log().end_offset().get();
        let last = self.stored.last().map_or(0, |last| last.next);
        assert!((last..=target).contains(&end), "seed {}: cut to {target}, ends at {end}", self.seed);
        self.end = end;
        self.start = self.start.min(end);
        self.forget_sequences();
        Ok(())
    }

    /// Producers go on after what is in the log.
    fn forget_sequences(&mut self) {
        let mut sequences = BTreeMap::new();
        for stored in &self.stored {
            let header = stored.batch.header();
            if header.producer_id.get() >= self.retired {
                sequences.insert(header.producer_id.get(), header.last_sequence() + 1);
            }
        }
        // One that left no trace does not come back: the log may still know it.
        self.sequences = sequences;
    }

    fn step(&mut self) -> Result<(), StorageError> {
        self.clock.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match self.rng.below(20) {
            0..12 => self.append(),
            12..15 => {
                if let Some(task) = self.log().flush_task() {
                    let upto = task.run()?;
                    self.log().flushed(upto);
                    self.synced = self.synced.max(upto.get());
                    self.checkpoint = self.log().recovery_point().get();
                }
                Ok(())
            }
            15..17 => self.truncate(),
            17 => {
                let end = Offset::new(self.end);
                // Now and then everything has expired.
                let later = if self.rng.below(4) == 0 { 1_000_000_000_000 } else { 0 };
                let now = Timestamp::new(1_700_000_000_000 + later);
                let kept = self.log().retain(now, end)?;
                self.start = self.start.max(kept.log_start.get());
                let start = self.start;
                self.stored.retain(|stored| stored.next > start);
                Ok(())
            }
            18 => {
                let middle = (self.start + self.end) / 2;
                self.log().advance_start(Offset::new(middle))?;
                self.start = self.start.max(middle);
                Ok(())
            }
            _ => {
                let log = self.log.take().unwrap();
                let upto = log.close()?;
                self.synced = upto.get();
                self.checkpoint = upto.get();
                self.try_open(OpenContext { clean_shutdown: true, same_boot: true, ..OpenContext::default() })
            }
        }
    }

    /// Starts again after a crash, and takes over what is found, as far as it is allowed to be there.
    fn recover(&mut self, crash: Crash) {
        self.log = None;
        self.disk = self.disk.restart(crash);
        self.open(OpenContext { same_boot: crash == Crash::Process, ..OpenContext::default() });
        let seed = self.seed;
        let end = self.log().end_offset().get();
        let mut least = if crash == Crash::Process { self.end } else { self.synced.min(self.end) };
        least = least.min(self.maybe_cut.unwrap_or(least));
        // A cut in the middle of a batch takes the batch, and its end is not written down anywhere.
        let whole = self.stored.iter().map(|stored| stored.next).filter(|next| *next <= least).max();
        let least = whole.unwrap_or(least.min(self.start)).min(least);
        assert!(end >= least, "seed {seed}: {crash:?} left {end}, at least {least} was promised");
        let mut known = self.stored.clone();
        known.append(&mut self.maybe_added);
        known.retain(|stored| stored.next <= end);
        let mixed = crash == Crash::Power && self.take_over(&mut known, least);
        self.stored = known;
        self.end = end;
        self.start = self.log().start_offset().get();
        self.maybe_cut = None;
        self.synced = self.synced.min(end);
        self.checkpoint = self.log().recovery_point().get();
        let latest = self.stored.last().map_or(0, |stored| stored.epoch);
        self.epoch = self.epoch.max(latest);
        self.forget_sequences();
        if mixed {
            self.retired = self.next_producer;
            self.sequences.clear();
        }
    }

    /// After a power loss what lies behind `least` is whatever was there at some time, batch by batch.
    ///
    /// Returns whether batches came back that had been cut off: then those of several times may stand side by side.
    fn take_over(&mut self, known: &mut Vec<Stored>, least: i64) -> bool {
        let seed = self.seed;
        let before = known.clone();
        let mut mixed = false;
        known.retain(|stored| stored.next <= least);
        let reader = self.log().reader();
        let mut next = reader.start_offset().max(Offset::new(known.last().map_or(0, |last| last.next)));
        // What lies before the start and behind `least` cannot be seen, though the log knows its producers.
        mixed |= least < reader.start_offset().get();
        while next < reader.end_offset() {
            let bytes = reader.read(next, Offset::new(i64::MAX), 2000, true).unwrap().to_bytes().unwrap();
            assert!(!bytes.is_empty(), "seed {seed}: nothing at {next}");
            for batch in Batch::all(bytes).map_while(Result::ok) {
                next = batch.header().next_offset();
                let base = batch.header().base_offset.get();
                let same = |stored: &&Stored| stored.base == base && stored.batch.bytes()[16..] == batch.bytes()[16..];
                let stored = self.history.iter().rev().find(same);
                known.push(
                    stored.unwrap_or_else(|| panic!("seed {seed}: the batch at {base} was never stored")).clone(),
                );
                mixed |= !before.iter().any(|stored| same(&stored));
            }
        }
        mixed
    }

    /// Holds all that a reader sees against the model.
    fn check(&mut self) {
        let seed = self.seed;
        let reader = self.log().reader();
        assert_eq!(reader.end_offset().get(), self.end, "seed {seed}");
        assert_eq!(reader.start_offset().get(), self.start, "seed {seed}");
        let start = self.start;
        let expected: Vec<_> = self.stored.iter().filter(|stored| stored.next > start).collect();
        let found: Vec<_> = if expected.is_empty() {
            Vec::new()
        } else {
            // After a cut in the middle of a batch nothing may be left before the end.
            let last = expected.last().unwrap().next;
            let upto = Offset::new(last);
            let mut found = Vec::new();
            let mut next = reader.start_offset();
            while next < upto {
                let bytes = reader.read(next, upto, 2000, true).unwrap().to_bytes().unwrap();
                assert!(!bytes.is_empty(), "seed {seed}: nothing at {next}");
                for batch in Batch::all(bytes).map_while(Result::ok) {
                    next = batch.header().next_offset();
                    found.push(batch);
                }
            }
            found
        };
        let bases = found.iter().map(|batch| batch.header().base_offset.get());
        assert!(bases.eq(expected.iter().map(|stored| stored.base)), "seed {seed}: other batches than stored");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.header().base_offset.get(), expected.base, "seed {seed}");
            assert_eq!(found.header().leader_epoch.get(), expected.epoch, "seed {seed}");
            assert_eq!(found.bytes()[16..], expected.batch.bytes()[16..], "seed {seed}: batch {}", expected.base);
            found.check_crc().unwrap();
        }
        self.check_lookups(&expected.into_iter().cloned().collect::<Vec<_>>());
    }

    fn check_lookups(&mut self, stored: &[Stored]) {
        let seed = self.seed;
        let reader = self.log().reader();
        let start = self.start;
        let records = || {
            stored.iter().flat_map(|stored| {
                let first = stored.batch.header().base_timestamp.get();
                (stored.base..stored.next).zip(first..).filter(|(offset, _)| *offset >= start)
            })
        };
        for _ in 0..3 {
            let target = self.timestamp - i64::try_from(self.rng.below(200)).unwrap();
            let expected = records().find(|(_, timestamp)| *timestamp >= target);
            let found = reader.offset_for_timestamp(Timestamp::new(target)).unwrap();
            assert_eq!(found.map(|(o, t)| (o.get(), t.get())), expected, "seed {seed}: timestamp {target}");
        }
        for pair in stored.windows(2) {
            if pair[0].epoch != pair[1].epoch {
                let (epoch, end) = reader.epoch_end(LeaderEpoch::new(pair[0].epoch));
                assert_eq!((epoch.get(), end.get()), (pair[0].epoch, pair[1].base), "seed {seed}");
            }
        }
        let mut newest = BTreeMap::new();
        for stored in stored.iter().filter(|stored| stored.batch.header().producer_id.is_some()) {
            newest.insert(stored.batch.header().producer_id, stored);
        }
        for stored in newest.values() {
            let header = stored.batch.header();
            let SequenceCheck::Duplicate { base_offset, .. } = self.log().check_producer(header).unwrap() else {
                panic!("seed {seed}: the retry of the batch at {} is not recognised", stored.base);
            };
            assert_eq!(base_offset.get(), stored.base, "seed {seed}");
            if !self.sequences.contains_key(&header.producer_id.get()) {
                continue;
            }
            let next =
                batch(1, 1).producer(header.producer_id, header.producer_epoch, header.last_sequence() + 1).build();
            assert_eq!(self.log().check_producer(next.header()), Ok(SequenceCheck::New), "seed {seed}");
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..6 {
        let at = world.disk.operations() + world.rng.below(120);
        let power = world.rng.one_in(2);
        let fails = world.rng.one_in(3);
        if fails {
            world.disk.fail_at(at, ErrorKind::StorageFull);
        } else {
            world.disk.crash_at(at);
        }
        let mut steps = 0;
        let outcome = loop {
            steps += 1;
            match world.step() {
                Ok(()) if steps == 60 => break Ok(()),
                Ok(()) => {}
                Err(error) => break Err(error),
            }
            if steps % 7 == 0 && !world.disk.is_crashed() {
                world.check();
            }
        };
        world.disk.clear_hook();
        match outcome {
            Err(StorageError::Io { .. }) if fails && !world.disk.is_crashed() && world.log.is_some() => {
                // An append that failed leaves the log as it was, or closed to writers.
                if !world.maybe_added.is_empty() && !world.log().reader().is_failed() {
                    world.maybe_added.clear();
                    world.check();
                    world.append().unwrap();
                    world.check();
                }
            }
            Err(StorageError::Io { .. } | StorageError::Failed { .. }) | Ok(()) => {}
            Err(other) => panic!("seed {seed}: {other}"),
        }
        world.recover(if power { Crash::Power } else { Crash::Process });
        world.check();
        for _ in 0..5 {
            world.append().unwrap();
        }
        world.check();
    }
}

#[test]
fn a_log_keeps_its_promises_through_failures_and_crashes_at_any_operation() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("MILLRACE_SEED") {
        return run(seed);
    }
    for seed in 0..number("MILLRACE_SEEDS").unwrap_or(400) {
        let outcome = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = outcome {
            println!("MILLRACE_SEED={seed} replays it");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_log_whose_disk_is_full_takes_writes_again_once_there_is_room() {
    let mut world = World::new(1);
    for _ in 0..20 {
        world.append().unwrap();
    }
    world.config.preallocate = false;
    let config = world.config.clone();
    world.log().set_config(config);
    world.disk.set_capacity(Some(4000));
    let mut refused = 0;
    for _ in 0..50 {
        refused += u32::from(world.append().is_err());
        world.maybe_added.clear();
    }
    assert!(refused > 10, "{refused} appends were refused");
    world.check();
    world.disk.set_capacity(None);
    for _ in 0..50 {
        world.append().unwrap();
    }
    world.check();
    assert_eq!(read_all(&world.log().reader()).len() as u64, world.log().reader().size());
}
