//! Transactions in a log that is cleaned: what a reader of committed records sees is held against a model, through rounds,
//! restarts, kills, power losses, cuts and deleted records.
//!
//! `MILLRACE_SEED=n` replays one seed, `MILLRACE_SEEDS=n` runs so many (a campaign).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests stand outside of test functions"
)]

mod common;

use common::{Bench, HandClock, Rng, seeds};
use millrace_model::builder::BatchBuilder;
use millrace_model::codec::Compression;
use millrace_model::control::Marker;
use millrace_model::record::Records;
use millrace_model::record::encode::HeaderSource;
use millrace_model::{Batch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, rewrite};
use millrace_storage::clean::{CleanOptions, Step};
use millrace_storage::io::Disk;
use millrace_storage::io::sim::{Crash, SimDisk};
use millrace_storage::{
    Cleanup, Compaction, FileCache, Log, LogConfig, LogReader, OpenContext, SequenceCheck, StorageError,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

const DIR: &str = "/data/t-0";
const EPOCH: LeaderEpoch = LeaderEpoch::new(3);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    timestamp: i64,
}

type Entries = BTreeMap<i64, Entry>;

/// What was appended, one batch after the other.
#[derive(Clone, Debug)]
enum Event {
    Data { base: i64, batch: Batch, entries: Entries },
    Marker { at: i64, producer: i64, epoch: i16, commit: bool },
}

impl Event {
    fn base(&self) -> i64 {
        match self {
            Self::Data { base, .. } | Self::Marker { at: base, .. } => *base,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Counts,
    Aborted,
    Open,
}

/// A producer as the model knows it.
#[derive(Clone, Debug, Default)]
struct Producer {
    epoch: i16,
    next_sequence: i32,
    last: Option<(i64, Batch)>,
    open_since: Option<i64>,
}

/// What follows from the events.
#[derive(Debug, Default)]
struct Facts {
    producers: BTreeMap<i64, Producer>,
    /// Of each data batch, by its first offset.
    fates: BTreeMap<i64, Fate>,
}

impl Facts {
    fn of(events: &[Event]) -> Self {
        let mut facts = Self::default();
        let mut open: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for event in events {
            match event {
                Event::Data { base, batch, .. } => {
                    let header = batch.header();
                    let id = header.producer_id.get();
                    facts.fates.insert(*base, Fate::Counts);
                    if id < 0 {
                        continue;
                    }
                    let producer = facts.producers.entry(id).or_default();
                    producer.epoch = header.producer_epoch.get();
                    producer.next_sequence = header.last_sequence() + 1;
                    producer.last = Some((*base, batch.clone()));
                    if header.attributes.is_transactional() {
                        producer.open_since.get_or_insert(*base);
                        open.entry(id).or_default().push(*base);
                        facts.fates.insert(*base, Fate::Open);
                    }
                }
                Event::Marker { producer: id, epoch, commit, .. } => {
                    let producer = facts.producers.entry(*id).or_default();
                    producer.open_since = None;
                    if *epoch != producer.epoch {
                        (producer.epoch, producer.next_sequence, producer.last) = (*epoch, 0, None);
                    }
                    let fate = if *commit { Fate::Counts } else { Fate::Aborted };
                    facts.fates.extend(open.remove(id).unwrap_or_default().into_iter().map(|base| (base, fate)));
                }
            }
        }
        facts
    }

    fn first_open(&self) -> Option<i64> {
        self.producers.values().filter_map(|producer| producer.open_since).min()
    }
}

struct World {
    rng: Rng,
    disk: SimDisk,
    clock: Arc<HandClock>,
    config: LogConfig,
    log: Option<Log>,
    events: Vec<Event>,
    end: i64,
    start: i64,
    /// How far the log is clean, as it was written down.
    clean: Option<Offset>,
    /// Everything before it survives a power loss.
    synced: i64,
    /// The recovery point that was written down.
    checkpoint: Offset,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let disk = SimDisk::new(rng.next());
        disk.create_dir_all(Path::new(DIR)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let config = LogConfig {
            segment_bytes: 700 + u32::try_from(rng.below(1500)).unwrap(),
            index_interval_bytes: u32::try_from(rng.below(500)).unwrap(),
            segment_index_bytes: 160,
            cleanup: Cleanup { delete: false, compact: true },
            compaction: Compaction {
                min_dirty_ratio: 0.0,
                delete_retention_ms: if rng.one_in(3) { 0 } else { 100 },
                ..Compaction::default()
            },
            retention_ms: None,
            file_delete_delay_ms: 5,
            producer_id_expiration_ms: i64::MAX,
            ..LogConfig::default()
        };
        let mut world = Self {
            rng,
            disk,
            clock: Arc::default(),
            config,
            log: None,
            events: Vec::new(),
            end: 0,
            start: 0,
            clean: None,
            synced: 0,
            checkpoint: Offset::ZERO,
        };
        world.open(OpenContext { fresh: true, ..OpenContext::default() }).unwrap();
        world
    }

    fn open(&mut self, context: OpenContext) -> Result<(), StorageError> {
        let context = OpenContext {
            files: Arc::new(FileCache::new(2)),
            recovery_point: Some(self.checkpoint),
            log_start: Some(Offset::new(self.start)),
            ..context
        };
        let disk = Arc::new(self.disk.clone());
        self.log = Some(Log::open(disk, self.clock.clone(), PathBuf::from(DIR), self.config.clone(), context)?);
        Ok(())
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn now(&self) -> Timestamp {
        Timestamp::new(self.clock.0.load(Ordering::Relaxed))
    }

    fn pass(&self, ms: i64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }

    fn stable(&mut self) -> Offset {
        let end = self.log().end_offset();
        self.log().first_unstable(end).unwrap_or(end)
    }

    /// Something that a client or a coordinator does.
    fn write(&mut self) -> Result<(), StorageError> {
        self.pass(3);
        let facts = Facts::of(&self.events);
        let id = i64::try_from(self.rng.below(6)).unwrap();
        match facts.producers.get(&id).filter(|_| id > 0) {
            Some(producer) if producer.open_since.is_some() && self.rng.one_in(2) => {
                // Half of the producers take a new epoch with each marker (KIP-890).
                let epoch = producer.epoch + i16::from(id % 2 == 0);
                let commit = self.rng.one_in(2);
                self.end_transaction(id, epoch, commit)
            }
            known => {
                let known = known.cloned().unwrap_or_default();
                // The last one writes without transactions.
                self.data(id, &known, id < 5)
            }
        }
    }

    fn end_transaction(&mut self, id: i64, epoch: i16, commit: bool) -> Result<(), StorageError> {
        let marker = Marker {
            producer_id: ProducerId::new(id),
            producer_epoch: ProducerEpoch::new(epoch),
            committed: commit,
            coordinator_epoch: 0,
        };
        let batch = marker.batch(self.now()).unwrap();
        self.log().append(&[batch], EPOCH)?;
        self.events.push(Event::Marker { at: self.end, producer: id, epoch, commit });
        self.end += 1;
        Ok(())
    }

    fn data(&mut self, id: i64, known: &Producer, transactional: bool) -> Result<(), StorageError> {
        let now = self.now().get();
        let mut builder = BatchBuilder::new().compression(Compression::ALL[self.rng.below(5) as usize], None);
        if id > 0 {
            let epoch = ProducerEpoch::new(known.epoch);
            builder = builder.producer(ProducerId::new(id), epoch, known.next_sequence);
            if transactional {
                builder = builder.transactional();
            }
        }
        let mut entries = Entries::new();
        for i in 0..=i64::try_from(self.rng.below(3)).unwrap() {
            let key = format!("key {}", self.rng.below(12)).into_bytes();
            let len = self.rng.below(40) as usize;
            let value = (!self.rng.one_in(5)).then(|| vec![self.rng.below(256) as u8; len]);
            builder.append(Timestamp::new(now), Some(&key), value.as_deref(), HeaderSource::None).unwrap();
            entries.insert(self.end + i, Entry { key, value, timestamp: now });
        }
        let batch = builder.build().unwrap();
        self.log().append(std::slice::from_ref(&batch), EPOCH)?;
        let base = self.end;
        self.end += i64::try_from(entries.len()).unwrap();
        self.events.push(Event::Data { base, batch, entries });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        if let Some(task) = self.log().flush_task() {
            let upto = task.run()?;
            self.log().flushed(upto);
            self.synced = self.synced.max(upto.get());
        }
        Ok(())
    }

    /// One round, as far as it comes. What it takes for decided is on the disk before it begins.
    fn clean(&mut self) -> Result<(), StorageError> {
        self.flush()?;
        let (now, config, clean, stable) = (self.now(), self.config.clone(), self.clean, self.stable());
        let cleanable = self.log().reader().cleanable(&config, clean, stable, now)?;
        if !cleanable.is_due(&config.compaction) {
            return Ok(());
        }
        let slots = if self.rng.one_in(3) { 16 } else { 1000 };
        let options = CleanOptions { table_bytes: 24 * slots, io_bytes: 700, ..CleanOptions::default() };
        let mut round = self.log().clean(options, &cleanable, now);
        loop {
            let bytes = 1 + self.rng.below(4000);
            match round.step(bytes)? {
                Step::More => {}
                Step::Swap(cleaned) => assert!(self.log().swap_in(cleaned, now)?),
                Step::Done(upto) => {
                    self.clean = Some(upto);
                    return Ok(());
                }
            }
        }
    }

    fn committed(&mut self, from: i64) -> Entries {
        let (reader, stable) = (self.log().reader(), self.stable());
        let rng = &mut self.rng;
        committed(&reader, from, stable, || 200 + u32::try_from(rng.below(1500)).unwrap())
    }

    /// Holds the log against the model.
    fn check(&mut self, what: &str) {
        let facts = Facts::of(&self.events);
        assert_eq!(self.log().end_offset().get(), self.end, "{what}");
        assert_eq!(self.log().start_offset().get(), self.start, "{what}");
        assert_eq!(self.stable().get(), facts.first_open().unwrap_or(self.end), "what is stable, {what}");
        let stable = self.stable().get();
        let mut known = Entries::new();
        for event in &self.events {
            if let Event::Data { base, entries, .. } = event
                && facts.fates[base] == Fate::Counts
            {
                known.extend(entries.clone());
            }
        }
        let from = self.start + i64::try_from(self.rng.below(1 + (self.end - self.start).unsigned_abs() / 2)).unwrap();
        for from in [self.start, from] {
            let seen = self.committed(from);
            for (offset, entry) in &seen {
                assert_eq!(known.get(offset), Some(entry), "a reader from {from} sees at {offset}, {what}");
            }
            let mut latest = BTreeMap::new();
            known.range(..stable).for_each(|(offset, entry)| _ = latest.insert(&entry.key, (*offset, entry)));
            let old = self.now().get() - self.config.compaction.delete_retention_ms;
            for (offset, entry) in latest.into_values().filter(|(offset, _)| *offset >= from) {
                let may_go = entry.value.is_none() && entry.timestamp <= old;
                assert!(may_go || seen.contains_key(&offset), "{entry:?} at {offset} is gone from {from} on, {what}");
            }
        }
        self.check_open(&facts, what);
        self.check_producers(&facts, what);
    }

    /// Of open transactions nothing is missing.
    fn check_open(&mut self, facts: &Facts, what: &str) {
        let mut all = Entries::new();
        let reader = self.log().reader();
        for batch in Batch::all(common::read_all(&reader)).map(Result::unwrap) {
            if !batch.header().attributes.is_control() {
                read_into(&batch, self.start, &mut all);
            }
        }
        for event in &self.events {
            if let Event::Data { base, entries, .. } = event
                && facts.fates[base] == Fate::Open
            {
                for (offset, entry) in entries.range(self.start..) {
                    assert_eq!(all.get(offset), Some(entry), "an open transaction's record at {offset}, {what}");
                }
            }
        }
    }

    fn check_producers(&mut self, facts: &Facts, what: &str) {
        let log = self.log();
        let found: BTreeMap<_, _> = log.producers().map(|it| (it.id.get(), it)).collect();
        for (id, producer) in &facts.producers {
            let it = found.get(id).unwrap_or_else(|| panic!("producer {id} is forgotten, {what}"));
            let known = (it.epoch.get(), it.transaction_start.map(Offset::get), it.last_sequence);
            let expected = (producer.epoch, producer.open_since, producer.next_sequence - 1);
            assert_eq!(known, expected, "producer {id}, {what}");
            if let Some((base, batch)) = &producer.last {
                let outcome = log.check_producer(batch.header());
                let Ok(SequenceCheck::Duplicate { base_offset, .. }) = outcome else {
                    panic!("producer {id}'s last batch, sent again: {outcome:?}, {what}");
                };
                assert_eq!(base_offset.get(), *base, "producer {id}, {what}");
            }
        }
        assert_eq!(found.len(), facts.producers.len(), "{what}");
    }

    /// A restart after a crash. After a power loss the log may end earlier, but not before what was synced.
    fn recover(&mut self, crash: Crash, what: &str) {
        self.log = None;
        self.disk = self.disk.restart(crash);
        self.open(OpenContext { same_boot: crash == Crash::Process, ..OpenContext::default() }).unwrap();
        let end = self.log().end_offset().get();
        let least = if crash == Crash::Process { self.end } else { self.synced };
        assert!((least..=self.end).contains(&end), "{least} to {} were written, {end} is left, {what}", self.end);
        self.events.retain(|event| event.base() < end);
        (self.end, self.synced) = (end, self.synced.min(end));
    }

    fn files(&self, end: &str) -> Vec<String> {
        self.disk.list(Path::new(DIR)).unwrap().into_iter().filter(|name| name.ends_with(end)).collect()
    }
}

/// What a consumer of committed records sees from an offset on, by the rules of Kafka's: batch by batch, with the list of
/// aborted transactions that came with the answer.
fn committed(reader: &LogReader, from: i64, stable: Offset, mut most: impl FnMut() -> u32) -> Entries {
    let mut found = Entries::new();
    let mut next = from;
    while next < stable.get() {
        let (slice, mut waiting) = reader.read_committed(Offset::new(next), stable, most(), true).unwrap();
        if slice.is_empty() {
            // What was before `stable` is cleaned away.
            break;
        }
        waiting.sort_by_key(|it| it.first_offset);
        let mut waiting = VecDeque::from(waiting);
        let mut aborted = BTreeSet::new();
        let before = next;
        for batch in Batch::all(slice.to_bytes().unwrap()).map_while(Result::ok) {
            batch.check_crc().unwrap();
            let header = batch.header();
            assert!(header.last_offset().get() >= next, "the batch at {} comes late", header.base_offset);
            next = header.next_offset().get();
            while let Some(begun) = waiting.pop_front_if(|it| it.first_offset <= header.last_offset()) {
                aborted.insert(begun.producer_id);
            }
            if header.attributes.is_control() {
                if Marker::read(header, &batch.records_section()).is_some_and(|marker| !marker.committed) {
                    aborted.remove(&header.producer_id);
                }
                continue;
            }
            if header.attributes.is_transactional() && aborted.contains(&header.producer_id) {
                continue;
            }
            read_into(&batch, from, &mut found);
        }
        assert!(next > before, "nothing comes at {next} of {stable}");
    }
    found
}

fn read_into(batch: &Batch, from: i64, entries: &mut Entries) {
    let section = rewrite::plain_records(batch, 1 << 20).unwrap();
    for record in Records::new(&section, batch.header().records_count) {
        let record = record.unwrap();
        let offset = batch.header().base_offset.get() + i64::from(record.offset_delta());
        let timestamp = batch.header().base_timestamp.get() + record.timestamp_delta();
        if offset >= from {
            let (key, value) = (record.key().unwrap().to_vec(), record.value().map(<[u8]>::to_vec));
            entries.insert(offset, Entry { key, value, timestamp });
        }
    }
}

#[test]
fn committed_records_and_no_others_are_read_from_a_cleaned_log_whatever_happens_to_it() {
    seeds(40, |seed| {
        let mut world = World::new(seed);
        for step in 0..120 {
            let what = format!("seed {seed} step {step}");
            match world.rng.below(24) {
                0..15 => world.write().unwrap(),
                15..18 => world.clean().unwrap(),
                18 => {
                    world.flush().unwrap();
                    // The checkpoint is written now and then only.
                    if world.rng.one_in(2) {
                        world.checkpoint = world.log().recovery_point();
                    }
                }
                19 => {
                    world.pass(150);
                    let now = world.now();
                    world.log().sweep(now).remove();
                }
                20 => {
                    let log = world.log.take().unwrap();
                    world.checkpoint = log.close().unwrap();
                    world.synced = world.end;
                    let context = OpenContext { clean_shutdown: true, same_boot: true, ..OpenContext::default() };
                    world.open(context).unwrap();
                }
                21 => world.recover(Crash::Process, &what),
                22 => {
                    world.recover(Crash::Power, &what);
                    world.checkpoint = world.log().recovery_point();
                }
                _ => {
                    let before = world.start + i64::try_from(world.rng.below(6)).unwrap();
                    let before = before.min(world.end);
                    world.flush().unwrap();
                    world.log().advance_start(Offset::new(before)).unwrap();
                    world.start = before;
                }
            }
            world.check(&what);
        }
    });
}

/// A log on the disk with transactions of all kinds, of which a part is clean.
fn prepared(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..2 {
        (0..30).for_each(|_| world.write().unwrap());
        // Most are decided.
        for (id, producer) in Facts::of(&world.events).producers {
            if producer.open_since.is_some() && !world.rng.one_in(4) {
                world.end_transaction(id, producer.epoch + i16::from(id % 2 == 0), id < 3).unwrap();
            }
        }
        if world.clean.is_none() {
            world.clean().unwrap();
            world.pass(100);
        }
    }
    (0..4).for_each(|_| world.data(0, &Producer::default(), false).unwrap());
    world.pass(400);
    world
}

#[test]
fn a_crash_at_any_operation_of_two_rounds_neither_shows_an_aborted_record_nor_hides_a_committed_one() {
    seeds(1, |seed| {
        let mut crashes = 0_u32;
        for (crash, checkpointed) in [(Crash::Process, false), (Crash::Power, false), (Crash::Power, true)] {
            for at in 0.. {
                let mut world = prepared(seed);
                world.flush().unwrap();
                if checkpointed {
                    world.checkpoint = world.log().recovery_point();
                }
                let what = format!("seed {seed}, {crash:?} at {at}, checkpointed {checkpointed}");
                world.disk.crash_at(world.disk.operations() + at);
                let mut done = world.clean();
                for _ in 0..2 {
                    world.pass(400);
                    done = done.and_then(|()| world.write()).and_then(|()| world.clean());
                }
                let over = done.is_ok() && !world.disk.is_crashed();
                world.recover_unsure(crash, &what);
                assert_eq!(world.files(".swap").len() + world.files(".cleaned").len(), 0, "{what}");
                world.check(&what);
                (0..10).for_each(|_| world.write().unwrap());
                world.clean().unwrap();
                world.check(&what);
                if over {
                    break;
                }
                crashes += 1;
            }
        }
        assert!(crashes > 50, "{crashes} crashes");
    });
}

impl World {
    /// As [`World::recover`], where the last write did not come back. A batch of it that is there is cut off.
    fn recover_unsure(&mut self, crash: Crash, what: &str) {
        let before = self.end;
        self.log = None;
        self.disk = self.disk.restart(crash);
        self.open(OpenContext { same_boot: crash == Crash::Process, ..OpenContext::default() }).unwrap();
        let mut end = self.log().end_offset().get();
        if end > before {
            self.log().truncate_to(Offset::new(before)).unwrap();
            self.checkpoint = self.log().recovery_point();
            end = self.log().end_offset().get();
        }
        let least = if crash == Crash::Process { before } else { self.synced };
        assert!((least..=before).contains(&end), "{least} to {before} were written, {end} is left, {what}");
        self.events.retain(|event| event.base() < end);
        self.end = end;
    }
}

#[test]
fn a_disk_that_is_full_at_any_operation_of_a_round_costs_the_round_and_nothing_else() {
    let (mut refused, mut failed) = (0, 0);
    for seed in 0..2 {
        for at in 0.. {
            let mut world = prepared(seed);
            world.flush().unwrap();
            let what = format!("seed {seed}, full at {at}");
            world.disk.fail_at(world.disk.operations() + at, ErrorKind::StorageFull);
            let done = world.clean();
            world.disk.clear_hook();
            match &done {
                Ok(()) => {}
                Err(StorageError::Io { .. }) => refused += 1,
                Err(other) => panic!("{other}, {what}"),
            }
            if world.log().reader().is_failed() {
                // A swap that was begun is finished by the next start.
                failed += 1;
                world.recover(Crash::Process, &what);
            }
            assert_eq!(world.files(".swap").len() + world.files(".cleaned").len(), 0, "{what}");
            world.check(&what);
            (0..10).for_each(|_| world.write().unwrap());
            world.clean().unwrap();
            world.check(&what);
            if done.is_ok() {
                break;
            }
        }
    }
    assert!(refused > 20 && failed > 0 && failed < refused, "{refused} refused, of them {failed} within a swap");
}

fn compacting() -> LogConfig {
    LogConfig {
        segment_bytes: 600,
        index_interval_bytes: 100,
        cleanup: Cleanup { delete: false, compact: true },
        compaction: Compaction { min_dirty_ratio: 0.0, delete_retention_ms: 0, ..Compaction::default() },
        retention_ms: None,
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    }
}

const TIME: Timestamp = Timestamp::new(1_700_000_000_000);

fn data(producer: i64, sequence: i32, key: &[u8], value: &[u8]) -> Batch {
    let mut builder = BatchBuilder::new();
    if producer > 0 {
        builder = builder.producer(ProducerId::new(producer), ProducerEpoch::new(0), sequence).transactional();
    }
    builder.append(TIME, Some(key), Some(value), HeaderSource::None).unwrap();
    builder.build().unwrap()
}

fn marker(producer: i64, committed: bool) -> Batch {
    let (producer_id, producer_epoch) = (ProducerId::new(producer), ProducerEpoch::new(0));
    Marker { producer_id, producer_epoch, committed, coordinator_epoch: 0 }.batch(TIME).unwrap()
}

/// One round over all that is decided.
fn round(log: &mut Log, clean: Option<Offset>) -> Option<Offset> {
    let end = log.end_offset();
    let stable = log.first_unstable(end).unwrap_or(end);
    let config = log.config().clone();
    let cleanable = log.reader().cleanable(&config, clean, stable, TIME).unwrap();
    let mut round = log.clean(CleanOptions::default(), &cleanable, TIME);
    loop {
        match round.step(u64::MAX).unwrap() {
            Step::More => {}
            Step::Swap(cleaned) => assert!(log.swap_in(cleaned, TIME).unwrap()),
            Step::Done(upto) => return Some(upto),
        }
    }
}

#[test]
fn a_transaction_whose_end_was_cleaned_away_is_not_open_after_a_start_from_a_snapshot_that_says_so() {
    let bench = Bench::new();
    let config = LogConfig { producer_id_expiration_ms: 1000, ..compacting() };
    let mut log = bench.open(config.clone(), OpenContext { fresh: true, ..OpenContext::default() });
    let append = |log: &mut Log, batch: Batch| _ = log.append(&[batch], EPOCH).unwrap();
    let filler = |log: &mut Log| (0..20).for_each(|_| append(log, data(0, 0, b"filler", &[7; 100])));
    append(&mut log, data(1, 0, b"a", b"aborted"));
    filler(&mut log);
    let snapshots = bench.names(".snapshot");
    append(&mut log, marker(1, false));
    filler(&mut log);
    // Its producer is forgotten, so nothing of it has to stay.
    log.retain(TIME.plus_ms(2000), Offset::ZERO).unwrap();
    assert_eq!(log.producers().count(), 0);
    let mut clean = None;
    for _ in 0..4 {
        clean = round(&mut log, clean);
        filler(&mut log);
    }
    let markers = |log: &Log| {
        let all = Batch::all(common::read_all(&log.reader())).map(Result::unwrap);
        all.filter(|batch| batch.header().attributes.is_control()).count()
    };
    assert_eq!(markers(&log), 0, "the marker is gone with what it marked");
    log.close().unwrap();
    for name in bench.names(".snapshot").iter().filter(|name| !snapshots.contains(name)) {
        std::fs::remove_file(bench.dir().join(name)).unwrap();
    }
    let mut log = bench.open(config, OpenContext { same_boot: true, ..OpenContext::default() });
    assert_eq!(log.first_unstable(log.end_offset()), None, "readers of committed records would wait for ever");
    // One that is open stays so.
    append(&mut log, data(2, 0, b"b", b"open"));
    let first = log.end_offset().plus(-1);
    filler(&mut log);
    round(&mut log, None);
    drop(log);
    let mut log = bench.open(compacting(), OpenContext { same_boot: true, ..OpenContext::default() });
    assert_eq!(log.first_unstable(log.end_offset()), Some(first));
}

#[test]
fn readers_of_committed_records_beside_rounds_see_no_aborted_one_though_files_go_at_once() {
    let bench = Bench::new();
    let mut log = bench.open(compacting(), OpenContext { fresh: true, ..OpenContext::default() });
    let (done, stable) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (reader, done, stable) = (log.reader(), Arc::clone(&done), Arc::clone(&stable));
            std::thread::spawn(move || {
                let (mut scans, mut rng) = (0, Rng(1));
                while !done.load(Ordering::Relaxed) || scans == 0 {
                    let upto = stable.load(Ordering::Acquire);
                    let from = i64::try_from(rng.below(1 + upto.unsigned_abs())).unwrap();
                    for (offset, entry) in committed(&reader, from, Offset::new(upto), || 2000) {
                        assert_eq!(entry.value.as_deref(), Some(&b"committed"[..]), "at {offset}");
                    }
                    scans += 1;
                }
                scans
            })
        })
        .collect();
    let (mut clean, mut rng) = (None, Rng(0));
    for sequence in 0..150 {
        for producer in 1..5 {
            let commit = rng.one_in(2);
            let value: &[u8] = if commit { b"committed" } else { b"aborted" };
            let key = [b'k', rng.below(10) as u8];
            log.append(&[data(producer, sequence, &key, value)], EPOCH).unwrap();
            log.append(&[marker(producer, commit)], EPOCH).unwrap();
        }
        stable.store(log.end_offset().get(), Ordering::Release);
        clean = round(&mut log, clean);
        log.sweep(TIME).remove();
    }
    done.store(true, Ordering::Relaxed);
    for thread in threads {
        assert!(thread.join().unwrap() > 0);
    }
}
