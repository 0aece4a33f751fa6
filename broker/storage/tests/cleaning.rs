//! Log cleaning, held against a model: what was appended, record by record.
//!
//! `MILLRACE_SEED=n` replays one seed, `MILLRACE_SEEDS=n` runs so many (a campaign).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests stand outside of test functions"
)]

mod common;

use common::{Bench, HandClock, Rng, open, seeds};
use millrace_model::builder::BatchBuilder;
use millrace_model::codec::Compression;
use millrace_model::record::Records;
use millrace_model::record::encode::HeaderSource;
use millrace_model::{Batch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, rewrite};
use millrace_storage::clean::{CleanOptions, Step};
use millrace_storage::io::sim::{Crash, SimDisk};
use millrace_storage::io::{Disk, Open, OsDisk};
use millrace_storage::{
    Cleanup, Compaction, FileCache, Log, LogConfig, LogReader, OpenContext, SequenceCheck, StorageError,
};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const DIR: &str = "/data/t-0";
const EPOCH: LeaderEpoch = LeaderEpoch::new(3);
const FOREVER: Offset = Offset::new(i64::MAX);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    timestamp: i64,
}

type Entries = BTreeMap<i64, Entry>;

/// All data records that a reader sees, by their offsets, which must rise.
fn entries(reader: &LogReader) -> Entries {
    let mut found = Entries::new();
    for batch in batches(reader) {
        if batch.header().attributes.is_control() {
            continue;
        }
        let section = rewrite::plain_records(&batch, 1 << 20).unwrap();
        let mut largest = None;
        for record in Records::new(&section, batch.header().records_count) {
            let record = record.unwrap();
            let offset = batch.header().base_offset.get() + i64::from(record.offset_delta());
            let timestamp = batch.header().base_timestamp.get() + record.timestamp_delta();
            largest = largest.max(Some(timestamp));
            let entry =
                Entry { key: record.key().unwrap().to_vec(), value: record.value().map(<[u8]>::to_vec), timestamp };
            assert!(found.last_key_value().is_none_or(|(last, _)| *last < offset), "offset {offset} comes late");
            found.insert(offset, entry);
        }
        assert!(largest.is_none_or(|largest| largest == batch.header().max_timestamp.get()), "{batch:?}");
    }
    found
}

fn batches(reader: &LogReader) -> Vec<Batch> {
    let mut all = Vec::new();
    let mut next = reader.start_offset();
    while next < reader.end_offset() {
        let bytes = reader.read(next, FOREVER, 3000, true).unwrap().to_bytes().unwrap();
        assert!(!bytes.is_empty(), "nothing at {next} of {}", reader.end_offset());
        for batch in Batch::all(bytes).map_while(Result::ok) {
            batch.check_crc().unwrap();
            assert_eq!(batch.header().leader_epoch, EPOCH);
            next = batch.header().next_offset();
            all.push(batch);
        }
    }
    all
}

struct World {
    rng: Rng,
    disk: SimDisk,
    clock: Arc<HandClock>,
    config: LogConfig,
    log: Option<Log>,
    appended: Entries,
    /// The last batch of each producer as it was sent, and the next sequence.
    producers: BTreeMap<i64, (Batch, i32)>,
    /// How far the log is clean, as it was written down.
    clean: Option<Offset>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let disk = SimDisk::new(rng.next());
        disk.create_dir_all(Path::new(DIR)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let config = LogConfig {
            segment_bytes: 900 + u32::try_from(rng.below(2500)).unwrap(),
            index_interval_bytes: u32::try_from(rng.below(500)).unwrap(),
            segment_index_bytes: 160,
            cleanup: Cleanup { delete: false, compact: true },
            compaction: Compaction {
                min_dirty_ratio: 0.0,
                delete_retention_ms: 300,
                min_lag_ms: if rng.one_in(3) { 50 } else { 0 },
                ..Compaction::default()
            },
            file_delete_delay_ms: 5,
            ..LogConfig::default()
        };
        let clock = Arc::default();
        let mut world = Self {
            rng,
            disk,
            clock,
            config,
            log: None,
            appended: Entries::new(),
            producers: BTreeMap::new(),
            clean: None,
        };
        world.open(OpenContext { fresh: true, ..OpenContext::default() }).unwrap();
        world
    }

    fn open(&mut self, context: OpenContext) -> Result<(), StorageError> {
        let context = OpenContext { files: Arc::new(FileCache::new(2)), ..context };
        let disk = Arc::new(self.disk.clone());
        let log = Log::open(disk, self.clock.clone(), PathBuf::from(DIR), self.config.clone(), context)?;
        self.log = Some(log);
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

    fn append(&mut self) -> Result<(), StorageError> {
        self.pass(3);
        let now = self.now();
        let end = self.log().end_offset().get();
        let mut builder = BatchBuilder::new();
        let producer = i64::try_from(self.rng.below(4)).unwrap();
        let sequence = self.producers.get(&producer).map_or(0, |(_, next)| *next);
        if producer > 0 {
            builder = builder.producer(ProducerId::new(producer), ProducerEpoch::new(0), sequence);
        }
        builder = builder.compression(Compression::ALL[self.rng.below(5) as usize], None);
        let mut fresh = Entries::new();
        for i in 0..=i64::try_from(self.rng.below(5)).unwrap() {
            let key = format!("key {}", self.rng.below(25)).into_bytes();
            let len = self.rng.below(60) as usize;
            let value = (!self.rng.one_in(5)).then(|| vec![self.rng.below(256) as u8; len]);
            let timestamp = now.get() - i64::try_from(self.rng.below(3)).unwrap();
            let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", Some(b"1")), (b"h", None)];
            let headers = HeaderSource::Pairs(if self.rng.one_in(3) { headers } else { &[] });
            builder.append(Timestamp::new(timestamp), Some(&key), value.as_deref(), headers).unwrap();
            fresh.insert(end + i, Entry { key, value, timestamp });
        }
        let batch = builder.build().unwrap();
        let records = batch.header().records_count;
        self.log().append(std::slice::from_ref(&batch), EPOCH)?;
        if producer > 0 {
            self.producers.insert(producer, (batch, sequence + records));
        }
        self.appended.extend(fresh);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        if let Some(task) = self.log().flush_task() {
            let upto = task.run()?;
            self.log().flushed(upto);
        }
        Ok(())
    }

    fn options(&mut self) -> CleanOptions {
        // Room for a few keys only, now and then: a round then ends early.
        let slots = if self.rng.one_in(3) { 16 } else { 1000 };
        CleanOptions { table_bytes: 24 * slots, io_bytes: 700, ..CleanOptions::default() }
    }

    /// One round, with `between` after each step. Returns how far it came.
    fn clean(
        &mut self,
        mut between: impl FnMut(&mut Self) -> Result<(), StorageError>,
    ) -> Result<Option<Offset>, StorageError> {
        let (now, config, clean) = (self.now(), self.config.clone(), self.clean);
        let end = self.log().end_offset();
        let cleanable = self.log().reader().cleanable(&config, clean, end, now)?;
        if !cleanable.is_due(&config.compaction) {
            return Ok(None);
        }
        let options = self.options();
        let mut round = self.log().clean(options, &cleanable, now);
        loop {
            let bytes = 1 + self.rng.below(4000);
            match round.step(bytes)? {
                Step::More => {}
                Step::Swap(cleaned) => {
                    if !self.log().swap_in(cleaned, now)? {
                        round.discard();
                        return Ok(None);
                    }
                }
                Step::Done(upto) => {
                    assert!(upto > cleanable.first_dirty && upto <= cleanable.upto, "{upto} of {cleanable:?}");
                    self.clean = Some(upto);
                    return Ok(Some(upto));
                }
            }
            between(self)?;
        }
    }

    /// Holds all that a reader sees against the model.
    fn check(&mut self) {
        let reader = self.log().reader();
        let found = entries(&reader);
        for (offset, entry) in &found {
            assert_eq!(Some(entry), self.appended.get(offset), "offset {offset}");
        }
        let start = reader.start_offset().get();
        let mut latest = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for (offset, entry) in self.appended.range(start..) {
            latest.insert(&entry.key, (offset, entry));
        }
        for (offset, entry) in &found {
            seen.insert(&entry.key, offset);
        }
        let old = self.now().get() - self.config.compaction.delete_retention_ms;
        for (key, (offset, entry)) in &latest {
            match seen.get(key) {
                Some(last) => assert_eq!(last, offset, "the last record of {}", String::from_utf8_lossy(key)),
                None => assert!(entry.value.is_none() && entry.timestamp <= old, "{entry:?} at {offset} is gone"),
            }
        }
        for (producer, (batch, next)) in self.producers.clone() {
            let outcome = self.log().check_producer(batch.header());
            assert!(matches!(outcome, Ok(SequenceCheck::Duplicate { .. })), "producer {producer}: {outcome:?}");
            let following = common::batch(1, 1).producer(ProducerId::new(producer), ProducerEpoch::new(0), next);
            assert_eq!(self.log().check_producer(following.build().header()), Ok(SequenceCheck::New));
        }
        self.check_lookups(&found);
    }

    fn check_lookups(&mut self, found: &Entries) {
        let reader = self.log().reader();
        for _ in 0..3 {
            let target = self.now().get() - i64::try_from(self.rng.below(400)).unwrap();
            let start = reader.start_offset().get();
            let expected =
                found.iter().find(|(offset, entry)| entry.timestamp >= target && **offset >= start).map(|(o, _)| *o);
            let got = reader.offset_for_timestamp(Timestamp::new(target)).unwrap();
            assert_eq!(got.map(|(offset, _)| offset.get()), expected, "timestamp {target}");
        }
    }

    /// After a round to `upto` that nothing interrupted: each key once, and nothing of what it had to drop.
    fn check_clean(&mut self, upto: Offset) {
        let found = entries(&self.log().reader());
        let mut last = BTreeMap::new();
        for (offset, entry) in self.appended.range(..upto.get()) {
            last.insert(&entry.key, *offset);
        }
        for (offset, entry) in found.range(..upto.get()) {
            assert_eq!(last.get(&entry.key), Some(offset), "a superseded record of {entry:?} is still there");
        }
    }

    fn files(&self, end: &str) -> Vec<String> {
        self.disk.list(Path::new(DIR)).unwrap().into_iter().filter(|name| name.ends_with(end)).collect()
    }
}

#[test]
fn a_cleaned_log_holds_the_last_record_of_each_key_through_appends_restarts_and_killed_processes() {
    seeds(80, |seed| {
        let mut world = World::new(seed);
        let mut rounds = 0;
        for step in 0..60 {
            match world.rng.below(12) {
                0..6 => (0..8).for_each(|_| world.append().unwrap()),
                6..9 => {
                    // Beside a writer.
                    let done = world.clean(|world| if world.rng.one_in(3) { world.append() } else { Ok(()) }).unwrap();
                    if let Some(upto) = done {
                        rounds += 1;
                        world.check_clean(upto);
                    }
                }
                9 => {
                    let now = world.now();
                    let end = world.log().end_offset();
                    world.log().retain(now, end).unwrap();
                    world.pass(100);
                }
                10 => {
                    world.log.take().unwrap().close().unwrap();
                    let clean = OpenContext { clean_shutdown: true, same_boot: true, ..OpenContext::default() };
                    world.open(clean).unwrap();
                }
                _ => {
                    let at = world.disk.operations() + world.rng.below(25);
                    world.disk.crash_at(at);
                    let _ = world.clean(|_| Ok(()));
                    world.log = None;
                    world.disk = world.disk.restart(Crash::Process);
                    world.open(OpenContext { same_boot: true, ..OpenContext::default() }).unwrap();
                    assert_eq!(world.files(".swap").len() + world.files(".cleaned").len(), 0, "{step}");
                }
            }
            world.check();
        }
        assert!(rounds > 0, "no round was due");
    });
}

/// A log of a few segments, on the disk as a whole, of which a part is clean.
fn prepared(seed: u64) -> World {
    let mut world = World::new(seed);
    (0..25).for_each(|_| world.append().unwrap());
    world.clean(|_| Ok(())).unwrap();
    (0..25).for_each(|_| world.append().unwrap());
    world.pass(400);
    world.flush().unwrap();
    world
}

#[test]
fn a_crash_at_any_operation_of_a_round_and_of_the_recovery_after_it_loses_and_revives_nothing() {
    let mut finished = 0_u32;
    for seed in 0..2 {
        for crash in [Crash::Process, Crash::Power] {
            for at in 0.. {
                let mut world = prepared(seed);
                let recovery_point = world.log().recovery_point();
                let first = world.disk.operations();
                world.disk.crash_at(first + at);
                let done = world.clean(|_| Ok(()));
                let before = world.clean;
                let context = OpenContext {
                    same_boot: crash == Crash::Process,
                    recovery_point: Some(recovery_point),
                    ..OpenContext::default()
                };
                let over = done.is_ok() && !world.disk.is_crashed();
                // The recovery is interrupted as well, later each time.
                for again in 0.. {
                    world.log = None;
                    world.disk = world.disk.restart(crash);
                    let first = world.disk.operations();
                    world.disk.crash_at(first + again);
                    if world.open(context.clone()).is_ok() && !world.disk.is_crashed() {
                        break;
                    }
                }
                world.disk.clear_hook();
                finished += u32::from(!over);
                assert_eq!(world.files(".swap").len() + world.files(".cleaned").len(), 0);
                assert_eq!(world.log().end_offset().get(), world.appended.last_key_value().unwrap().0 + 1);
                world.check();
                // The next round starts from what was written down, and comes to the same end.
                world.clean = before;
                for _ in 0..5 {
                    world.append().unwrap();
                }
                while let Some(upto) = world.clean(|_| Ok(())).unwrap() {
                    world.check_clean(upto);
                }
                world.check();
                if over {
                    break;
                }
            }
        }
    }
    assert!(finished > 50, "{finished} crashes");
}

/// Rounds until nothing is dirty.
fn clean_all(log: &mut Log, first_dirty: Option<Offset>, now: Timestamp) -> Offset {
    let stable = log.end_offset();
    let config = log.config().clone();
    let cleanable = log.reader().cleanable(&config, first_dirty, stable, now).unwrap();
    let mut round = log.clean(CleanOptions::default(), &cleanable, now);
    loop {
        match round.step(u64::MAX).unwrap() {
            Step::More => {}
            Step::Swap(cleaned) => assert!(log.swap_in(cleaned, now).unwrap()),
            Step::Done(upto) => return upto,
        }
    }
}

fn compacting() -> LogConfig {
    LogConfig {
        segment_bytes: 400,
        cleanup: Cleanup { delete: false, compact: true },
        compaction: Compaction { delete_retention_ms: 1000, ..Compaction::default() },
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    }
}

fn keyed(key: &[u8], value: Option<&[u8]>) -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    builder.append(Timestamp::new(1_700_000_000_000), Some(key), value, HeaderSource::None).unwrap();
    builder
}

#[test]
fn a_tombstone_gets_a_horizon_in_the_first_round_and_goes_in_the_first_one_after_it() {
    let bench = Bench::new();
    let mut log = bench.open(compacting(), OpenContext { fresh: true, ..OpenContext::default() });
    let now = Timestamp::new(1_700_000_000_000);
    let append = |log: &mut Log, batch: BatchBuilder| log.append(&[batch.build().unwrap()], EPOCH).unwrap();
    append(&mut log, keyed(b"gone", Some(b"value")));
    append(&mut log, keyed(b"gone", None));
    let filler = |log: &mut Log| (0..6).for_each(|_| _ = append(log, keyed(b"filler", Some(&[7; 100]))));
    filler(&mut log);
    clean_all(&mut log, None, now);
    let tombstone = batches(&log.reader()).remove(0);
    assert_eq!(tombstone.header().base_offset, Offset::new(1));
    assert!(tombstone.header().attributes.has_delete_horizon());
    assert_eq!(tombstone.header().base_timestamp, now.plus_ms(1000));
    assert_eq!(tombstone.header().max_timestamp, now, "the record keeps its own time");
    let found = entries(&log.reader());
    assert_eq!((found[&1].value.clone(), found[&1].timestamp), (None, now.get()));
    filler(&mut log);
    clean_all(&mut log, None, now.plus_ms(999));
    assert!(entries(&log.reader()).contains_key(&1));
    filler(&mut log);
    clean_all(&mut log, None, now.plus_ms(1000));
    assert!(!entries(&log.reader()).contains_key(&1));
    assert_eq!(log.start_offset(), Offset::ZERO, "the log begins where it began");
}

fn control(producer: i64, kind: u8) -> Batch {
    let mut builder =
        BatchBuilder::new().producer(ProducerId::new(producer), ProducerEpoch::new(0), -1).transactional().control();
    let at = Timestamp::new(1_700_000_000_000);
    builder.append(at, Some(&[0, 0, 0, kind]), Some(&[0; 6]), HeaderSource::None).unwrap();
    builder.build().unwrap()
}

/// An entry as Kafka writes it.
fn txnindex(producer: i64, first: i64, last: i64) -> Vec<u8> {
    let mut entry = vec![0, 0];
    [producer, first, last, last + 1].iter().for_each(|field| entry.extend_from_slice(&field.to_be_bytes()));
    entry
}

#[test]
fn aborted_records_go_at_once_and_markers_when_nothing_is_left_for_them_to_mark() {
    let bench = Bench::new();
    let config = LogConfig { segment_bytes: 1000, ..compacting() };
    let mut log = bench.open(config, OpenContext { fresh: true, ..OpenContext::default() });
    let now = Timestamp::new(1_700_000_000_000);
    let sent = |producer: i64, sequence, key: &[u8]| {
        let id = ProducerId::new(producer);
        keyed(key, Some(b"v")).producer(id, ProducerEpoch::new(0), sequence).transactional().build().unwrap()
    };
    let plain = |key: &[u8]| keyed(key, Some(&[7; 100])).build().unwrap();
    for batch in [
        plain(b"a"),      // 0: the last one of its key that counts
        sent(1, 0, b"a"), // 1: aborted
        sent(2, 0, b"b"), // 2: committed
        control(1, 0),    // 3
        control(2, 1),    // 4
    ] {
        log.append(&[batch], EPOCH).unwrap();
    }
    let path = bench.dir().join("00000000000000000000.txnindex");
    let entry = txnindex(1, 1, 3);
    OsDisk.open(&path, Open::Create).unwrap().write_all_at(0, &mut [IoSlice::new(&entry)]).unwrap();
    let filler = |log: &mut Log| (0..9).for_each(|_| _ = log.append(&[plain(b"filler")], EPOCH).unwrap());
    filler(&mut log);
    // The producers have gone on since, elsewhere in the log.
    for batch in [sent(1, 1, b"c"), sent(2, 1, b"d"), control(1, 1), control(2, 1)] {
        log.append(&[batch], EPOCH).unwrap();
    }
    filler(&mut log);
    let markers = |log: &Log| -> Vec<i64> {
        let all = batches(&log.reader());
        all.iter().filter(|b| b.header().attributes.is_control()).map(|b| b.header().base_offset.get()).collect()
    };
    clean_all(&mut log, None, now);
    let found: Vec<i64> = entries(&log.reader()).into_keys().filter(|offset| *offset < 5).collect();
    assert_eq!(found, [0, 2], "of the aborted transaction nothing is left");
    assert_eq!(markers(&log)[..2], [3, 4]);
    assert_eq!(std::fs::read(&path).unwrap(), entry, "the cleaned segment still says what was aborted");
    filler(&mut log);
    clean_all(&mut log, None, now);
    assert_eq!(markers(&log)[..2], [3, 4], "the abort marker has a horizon now");
    assert_eq!(std::fs::read(&path).unwrap(), [], "and nothing that it aborts");
    filler(&mut log);
    clean_all(&mut log, None, now.plus_ms(1000));
    assert_eq!(markers(&log)[0], 4, "the commit marker still marks the record at 2");
}

#[test]
fn a_segment_that_is_broken_ends_the_round_and_is_left_as_it_was() {
    let bench = Bench::new();
    let mut log = bench.open(compacting(), OpenContext { fresh: true, ..OpenContext::default() });
    for _ in 0..20 {
        log.append(&[keyed(b"k", Some(&[7; 100])).build().unwrap()], EPOCH).unwrap();
    }
    let path = bench.dir().join("00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let now = Timestamp::new(1_700_000_000_000);
    let cleanable = log.reader().cleanable(&log.config().clone(), None, log.end_offset(), now).unwrap();
    let mut round = log.clean(CleanOptions::default(), &cleanable, now);
    assert!(matches!(round.step(u64::MAX), Err(StorageError::Corrupt { position: 0, .. })));
    round.discard();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(bench.names(".cleaned").len() + bench.names(".swap").len(), 0);
}

#[test]
fn readers_beside_swaps_see_every_key_and_no_error_though_files_go_at_once() {
    let bench = Bench::new();
    let config = LogConfig { segment_bytes: 4000, index_interval_bytes: 200, ..compacting() };
    let mut log = bench.open(config, OpenContext { fresh: true, ..OpenContext::default() });
    const KEYS: i64 = 40;
    let append = |log: &mut Log, key: i64, value: i64| {
        let batch = keyed(&key.to_be_bytes(), Some(&value.to_be_bytes())).build().unwrap();
        log.append(&[batch], EPOCH).unwrap();
    };
    for key in 0..KEYS {
        append(&mut log, key, 0);
    }
    // Bytes that were promised to somebody are those bytes whatever happens.
    let reader = log.reader();
    let slice = reader.read(Offset::ZERO, FOREVER, 1000, true).unwrap();
    let promised = slice.to_bytes().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (reader, done) = (reader.clone(), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut scans = 0;
                while !done.load(Ordering::Relaxed) || scans == 0 {
                    let upto = reader.end_offset().get();
                    let found = entries(&reader);
                    let keys: std::collections::BTreeSet<_> = found.values().map(|entry| entry.key.clone()).collect();
                    assert_eq!(keys.len() as i64, KEYS, "a key is missing among {} records before {upto}", found.len());
                    scans += 1;
                }
                scans
            })
        })
        .collect();
    let now = Timestamp::new(1_700_000_000_000);
    let mut clean = None;
    for round in 1..60 {
        for key in 0..KEYS {
            append(&mut log, key, round);
        }
        clean = Some(clean_all(&mut log, clean, now));
        log.sweep(now).remove();
    }
    done.store(true, Ordering::Relaxed);
    for thread in threads {
        assert!(thread.join().unwrap() > 0);
    }
    assert_eq!(slice.to_bytes().unwrap(), promised);
    assert!(reader.size() < 60 * 1000, "{} bytes are left", reader.size());
    assert_eq!(bench.names(".deleted").len(), 0);
}

/// Fifty million keys through a table of 128 MB, in a process of bounded size. Takes minutes and 4 GB of disk:
/// `.ci/campaign compaction-memory`.
#[test]
#[ignore = "minutes and gigabytes: a campaign"]
fn fifty_million_keys_are_cleaned_in_bounded_memory() {
    let keys = std::env::var("MILLRACE_KEYS").map_or(50_000_000_i64, |text| text.parse().unwrap());
    let bench = Bench::new();
    let config = LogConfig { segment_bytes: 256 << 20, ..compacting() };
    let clock: Arc<HandClock> = bench.clock.clone();
    let mut log = open(Arc::new(OsDisk), clock, bench.dir(), config, OpenContext { fresh: true, ..Default::default() });
    let now = Timestamp::new(1_700_000_000_000);
    // Every fourth key twice.
    for first in (0..keys + keys / 4).step_by(1000) {
        let mut builder = BatchBuilder::new();
        for i in first..first + 1000 {
            builder.append(now, Some(&(i % keys).to_be_bytes()), Some(&i.to_be_bytes()), HeaderSource::None).unwrap();
        }
        log.append(&[builder.build().unwrap()], EPOCH).unwrap();
    }
    let before = (log.reader().size(), resident_kb());
    let (mut clean, mut rounds, mut most) = (None, 0, 0);
    let started = std::time::Instant::now();
    loop {
        let config = log.config().clone();
        let cleanable = log.reader().cleanable(&config, clean, log.end_offset(), now).unwrap();
        if clean == Some(cleanable.upto) {
            break;
        }
        let mut round = log.clean(CleanOptions::default(), &cleanable, now);
        clean = loop {
            match round.step(16 << 20).unwrap() {
                Step::More => most = most.max(resident_kb()),
                Step::Swap(cleaned) => assert!(log.swap_in(cleaned, now).unwrap()),
                Step::Done(upto) => break Some(upto),
            }
        };
        log.sweep(now).remove();
        rounds += 1;
    }
    let reader = log.reader();
    println!(
        "{keys} keys, {} bytes to {} in {rounds} rounds and {:?}; resident {} KiB before, {most} KiB at most",
        before.0,
        reader.size(),
        started.elapsed(),
        before.1,
    );
    let (mut next, mut records) = (reader.start_offset(), 0_i64);
    while next < clean.unwrap() {
        for batch in Batch::all(reader.read(next, FOREVER, 1 << 20, true).unwrap().to_bytes().unwrap()) {
            let Ok(batch) = batch else { break };
            next = batch.header().next_offset();
            records += i64::from(batch.header().records_count);
        }
    }
    assert!((keys..keys + keys / 20).contains(&records), "{records} records");
    // The table, two buffers, what the log itself takes; the page cache is the kernel's.
    assert!(most < (128 << 10) + (64 << 10) + before.1, "{most} KiB resident");
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
