//! A log's directory with files that are damaged, cut, swapped, missing or somebody else's: it opens or says why not, never
//! shows a record that was not written, and what can be built anew from the log is.
//!
//! `MILLRACE_SEED=n` replays one seed, `MILLRACE_SEEDS=n` runs so many (a campaign).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests stand outside of test functions"
)]

mod common;

use common::{HandClock, Rng, batch};
use millrace_model::control::Marker;
use millrace_model::{Batch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use millrace_storage::io::sim::{Crash, SimDisk};
use millrace_storage::io::{Disk, Open};
use millrace_storage::{Log, LogConfig, OpenContext};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "/data/t-0";
const EPOCH: LeaderEpoch = LeaderEpoch::new(3);

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1200,
        index_interval_bytes: 150,
        retention_ms: None,
        producer_id_expiration_ms: i64::MAX,
        ..LogConfig::default()
    }
}

fn open(disk: &SimDisk, context: OpenContext) -> Result<Log, millrace_storage::StorageError> {
    let clock: Arc<HandClock> = Arc::default();
    Log::open(Arc::new(disk.clone()), clock, PathBuf::from(DIR), config(), context)
}

/// A log of some segments with transactions; its batches by their first offsets.
fn written(disk: &SimDisk, rng: &mut Rng) -> BTreeMap<i64, Batch> {
    disk.create_dir_all(Path::new(DIR)).unwrap();
    let mut log = open(disk, OpenContext { fresh: true, ..OpenContext::default() }).unwrap();
    let (mut stored, mut sequence) = (BTreeMap::new(), 0);
    let id = ProducerId::new(4);
    for n in 0..60 {
        let next = if n % 7 == 6 {
            let epoch = ProducerEpoch::new(0);
            let marker = Marker { producer_id: id, producer_epoch: epoch, committed: n % 2 == 0, coordinator_epoch: 0 };
            marker.batch(Timestamp::new(1_700_000_000_000)).unwrap()
        } else if n % 3 == 0 {
            let records = 1 + i32::try_from(rng.below(3)).unwrap();
            sequence += records;
            batch(records, 30).producer(id, ProducerEpoch::new(0), sequence - records).build()
        } else {
            batch(1 + i32::try_from(rng.below(3)).unwrap(), 50).build()
        };
        let at = log.append(std::slice::from_ref(&next), EPOCH).unwrap().base_offset;
        stored.insert(at.get(), next);
    }
    if rng.below(2) == 0 {
        log.close().unwrap();
    } else if let Some(task) = log.flush_task() {
        task.run().unwrap();
    }
    stored
}

/// Damages one file, or brings one in. Returns whether it is part of the records' own bytes.
fn damage(disk: &SimDisk, rng: &mut Rng) -> bool {
    let names = disk.list(Path::new(DIR)).unwrap();
    let name = &names[rng.below(names.len() as u64) as usize];
    let path = Path::new(DIR).join(name);
    if disk.stat(&path).unwrap().is_dir {
        return false;
    }
    let file = disk.open(&path, Open::Write).unwrap();
    let len = file.len().unwrap();
    let noise: Vec<u8> = (0..1 + rng.below(60)).map(|_| rng.below(256) as u8).collect();
    match rng.below(7) {
        0 => disk.corrupt(&path, rng.below(len.max(1)) as usize, 1 << rng.below(8)),
        1 => file.set_len(rng.below(len.max(1))).unwrap(),
        2 => file.set_len(len + rng.below(300)).unwrap(),
        3 => file.write_all_at(rng.below(len + 1), &mut [IoSlice::new(&noise)]).unwrap(),
        4 => {
            let other = Path::new(DIR).join(&names[rng.below(names.len() as u64) as usize]);
            let aside = Path::new("/data/aside");
            disk.rename(&path, aside).unwrap();
            if disk.stat(&other).is_ok() {
                disk.rename(&other, &path).unwrap();
            }
            disk.rename(aside, &other).unwrap();
            return name.ends_with(".log") || other.extension().is_some_and(|it| it == "log");
        }
        5 => disk.remove_file(&path).unwrap(),
        _ => {
            let foreign = [
                "notes.txt",
                "+0000000000000000007.log",
                "-0000000000000000007.log",
                "7.log.swap",
                "+0000000000000000007.log.swap",
                "99999999999999999999.log",
                "00000000000000000007.index.swap",
                "00000000000000000007.log.cleaned",
                "00000000000000000007.snapshot",
                ".log",
            ];
            let name = foreign[rng.below(foreign.len() as u64) as usize];
            let file = disk.open(&Path::new(DIR).join(name), Open::Create).unwrap();
            file.write_all_at(0, &mut [IoSlice::new(&noise)]).unwrap();
            return false;
        }
    }
    name.ends_with(".log")
}

/// Reads what can be read; each batch that is whole was written so. Returns how many there were.
fn read(log: &Log, stored: &BTreeMap<i64, Batch>, what: &str) -> usize {
    let reader = log.reader();
    let (mut next, mut count) = (reader.start_offset(), 0);
    while next < reader.end_offset() {
        // Damage may hide what was aborted, which shows here as an error, but must not hide the records.
        let _ = reader.read_committed(next, reader.end_offset(), 5000, true);
        let Ok(slice) = reader.read(next, reader.end_offset(), 5000, true) else { break };
        let before = next;
        for batch in Batch::all(slice.to_bytes().unwrap()).map_while(Result::ok) {
            next = next.max(batch.header().next_offset());
            if batch.check_crc().is_ok() {
                // No checksum covers what the broker assigns: offset, length and epoch.
                let base = batch.header().base_offset;
                let known = stored.values().any(|stored| stored.bytes()[16..] == batch.bytes()[16..]);
                assert!(known, "the batch at {base} was never written, {what}");
                count += 1;
            }
        }
        if next == before {
            break;
        }
    }
    let _ = reader.offset_for_timestamp(Timestamp::new(1_700_000_000_001));
    let _ = reader.max_timestamp();
    count
}

fn run(seed: u64) {
    let mut rng = Rng(seed);
    let disk = SimDisk::new(seed);
    let stored = written(&disk, &mut rng);
    let in_records = (0..=rng.below(3)).fold(false, |hit, _| damage(&disk, &mut rng) || hit);
    let context = [
        OpenContext::default(),
        OpenContext { same_boot: true, ..OpenContext::default() },
        OpenContext { clean_shutdown: true, same_boot: true, ..OpenContext::default() },
    ][rng.below(3) as usize]
        .clone();
    let (what, believed) = (format!("seed {seed}"), context.same_boot);
    let disk = disk.restart(Crash::Process);
    let mut log = match open(&disk, context) {
        Ok(log) => log,
        Err(error) => return assert!(in_records || believed, "{what}: {error}"),
    };
    let found = read(&log, &stored, &what);
    if !in_records && !believed {
        assert_eq!(found, stored.len(), "nothing that matters was damaged, {what}");
    }
    if log.append(&[batch(1, 10).build()], EPOCH).is_ok() {
        let _ = log.first_unstable(log.end_offset());
        let last = log.end_offset().plus(-1);
        let slice = log.reader().read(last, Offset::new(i64::MAX), 1000, true).unwrap();
        let batch = Batch::all(slice.to_bytes().unwrap()).next().unwrap().unwrap();
        assert_eq!(batch.header().last_offset(), last, "{what}");
    }
}

#[test]
fn a_damaged_directory_opens_or_says_why_and_shows_no_record_that_was_not_written() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("MILLRACE_SEED") {
        return run(seed);
    }
    for seed in 0..number("MILLRACE_SEEDS").unwrap_or(1500) {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            println!("MILLRACE_SEED={seed} replays it");
            std::panic::resume_unwind(panic);
        }
    }
}

/// A message as Kafka wrote it before there were batches (v0 or v1).
fn old_message(offset: i64, magic: u8, value: &[u8]) -> Vec<u8> {
    let mut body = vec![magic, 0];
    if magic == 1 {
        body.extend(1_400_000_000_000_i64.to_be_bytes());
    }
    body.extend((-1_i32).to_be_bytes());
    body.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
    body.extend(value);
    let crc = crc32fast::hash(&body);
    let size = i32::try_from(body.len() + 4).unwrap();
    [&offset.to_be_bytes()[..], &size.to_be_bytes(), &crc.to_be_bytes(), &body].concat()
}

#[test]
fn messages_of_the_formats_before_batches_are_refused_and_never_cut_off() {
    let clean = OpenContext { clean_shutdown: true, foreign: true, ..OpenContext::default() };
    let same_boot = OpenContext { same_boot: true, ..OpenContext::default() };
    for (magic, long) in [(0, false), (1, false), (1, true)] {
        for context in [clean.clone(), same_boot.clone(), OpenContext::default()] {
            let disk = SimDisk::new(1);
            disk.create_dir_all(Path::new(DIR)).unwrap();
            let value = vec![b'v'; if long { 70_000 } else { 40 }];
            let mut bytes: Vec<u8> = (0..3).flat_map(|offset| old_message(offset, magic, &value)).collect();
            // Since the upgrade batches follow.
            let (first, name) = (bytes.clone(), Path::new(DIR).join("00000000000000000000.log"));
            bytes.extend_from_slice(&batch(3, 50).build().into_bytes());
            disk.replace(&name, &bytes).unwrap();
            let refused = open(&disk, context.clone()).map(drop).unwrap_err().to_string();
            assert!(refused.contains(&format!("byte 0: messages of format v{magic}")), "{refused}");
            assert_eq!(disk.read(&name, u64::MAX).unwrap(), bytes, "{context:?}");
            // What is damaged is no message, and a crash may have left it.
            let mut torn = first.clone();
            torn.truncate(first.len() / 3 - 1);
            disk.replace(&name, &torn).unwrap();
            assert_eq!(open(&disk, context).unwrap().recovered().cut_bytes, torn.len() as u64);
        }
    }
}
