//! One log on the machine's own disk: what is appended is read, across rolls and restarts.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests stand outside of test functions"
)]

mod common;

use common::{Bench, batch, offsets, read_all};
use millrace_model::{Clock as _, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use millrace_storage::io::Disk;
use millrace_storage::io::sim::SimDisk;
use millrace_storage::{Log, LogConfig, OpenContext, ReadError, SequenceCheck};
use std::path::Path;
use std::sync::Arc;

const EPOCH: LeaderEpoch = LeaderEpoch::new(0);

fn small() -> LogConfig {
    LogConfig { segment_bytes: 4096, index_interval_bytes: 512, ..LogConfig::default() }
}

#[test]
fn what_is_appended_is_read_across_segments_and_after_a_restart() {
    let bench = Bench::new();
    let mut log = bench.open(small(), OpenContext::default());
    for i in 0..100 {
        let appended = log.append(&[batch(3, 100).build(), batch(2, 50).build()], EPOCH).unwrap();
        assert_eq!(appended.base_offset, Offset::new(i * 5));
        assert_eq!(appended.last_offset, Offset::new(i * 5 + 4));
    }
    let reader = log.reader();
    let before = read_all(&reader);
    assert_eq!(offsets(&before), (0..500).collect::<Vec<_>>());
    log.close().unwrap();
    for context in [
        OpenContext { clean_shutdown: true, ..OpenContext::default() },
        OpenContext { same_boot: true, ..OpenContext::default() },
        OpenContext::default(),
    ] {
        let log = bench.open(small(), context);
        assert_eq!(log.recovered().cut_bytes, 0);
        assert_eq!(read_all(&log.reader()), before);
        assert_eq!(log.reader().epoch_end(EPOCH), (EPOCH, Offset::new(500)));
    }
}

#[test]
fn reads_begin_with_the_batch_that_holds_the_offset_and_stop_at_the_limit() {
    let bench = Bench::new();
    let mut log = bench.open(small(), OpenContext::default());
    for _ in 0..200 {
        log.append(&[batch(5, 40).build()], EPOCH).unwrap();
    }
    let reader = log.reader();
    for from in 0..1000 {
        for upto in [from, from + 1, from + 4, from + 5, from + 23, 990, 1000, 2000] {
            let slice = reader.read(Offset::new(from), Offset::new(upto), 1 << 20, true).unwrap();
            let got = offsets(&slice.to_bytes().unwrap());
            let last_whole = upto.min(1000) / 5 * 5;
            if last_whole > from {
                assert_eq!(got.first(), Some(&(from / 5 * 5)), "from {from} up to {upto}");
                assert!(*got.last().unwrap() < last_whole);
            } else {
                assert_eq!(got, Vec::<i64>::new(), "from {from} up to {upto}");
            }
        }
    }
    let one = reader.read(Offset::new(7), Offset::new(1000), 1, true).unwrap();
    assert_eq!(
        offsets(&one.to_bytes().unwrap()),
        (5..10).collect::<Vec<_>>(),
        "one whole batch though it is too large"
    );
    assert!(reader.read(Offset::new(7), Offset::new(1000), 10, false).unwrap().is_empty());
    let batch_len = one.len();
    for from in 0..1000 {
        let all = reader.read(Offset::new(from), Offset::new(1000), 1 << 20, false).unwrap().len();
        for max in [batch_len, batch_len + 1, 3 * batch_len - 1, 3 * batch_len, 30 * batch_len + 7, all] {
            let slice = reader.read(Offset::new(from), Offset::new(1000), max, false).unwrap();
            assert_eq!(slice.len(), (max / batch_len * batch_len).min(all), "from {from}, at most {max} bytes");
        }
    }
    assert!(reader.read(Offset::new(1000), Offset::new(1000), 1, true).unwrap().is_empty());
    assert!(matches!(reader.read(Offset::new(1001), Offset::new(2000), 1, true), Err(ReadError::OutOfRange { .. })));
}

#[test]
fn a_retried_batch_is_recognised_though_four_came_after_it_and_the_broker_restarted() {
    let bench = Bench::new();
    let mut log = bench.open(small(), OpenContext::default());
    let produced = |sequence| batch(3, 20).producer(ProducerId::new(7), ProducerEpoch::new(0), sequence).build();
    for i in 0..6 {
        let batch = produced(i * 3);
        assert_eq!(log.check_producer(batch.header()), Ok(SequenceCheck::New));
        log.append(&[batch], EPOCH).unwrap();
    }
    let check = |log: &Log| {
        for i in 1..6 {
            let SequenceCheck::Duplicate { base_offset, .. } = log.check_producer(produced(i * 3).header()).unwrap()
            else {
                panic!("batch {i} is not recognised");
            };
            assert_eq!(base_offset, Offset::new(i64::from(i) * 3));
        }
        assert!(log.check_producer(produced(0).header()).is_err(), "six batches ago");
        assert!(log.check_producer(produced(21).header()).is_err(), "a gap");
        assert_eq!(log.check_producer(produced(18).header()), Ok(SequenceCheck::New));
    };
    check(&log);
    drop(log);
    let log = bench.open(small(), OpenContext { same_boot: true, ..OpenContext::default() });
    check(&log);
    log.close().unwrap();
    check(&bench.open(small(), OpenContext { clean_shutdown: true, ..OpenContext::default() }));
}

#[test]
fn timestamps_lead_to_the_first_record_that_is_not_older() {
    let bench = Bench::new();
    let mut log = bench.open(small(), OpenContext::default());
    for i in 0..200 {
        log.append(&[batch(4, 60).at(1000 + i * 10, 2).build()], EPOCH).unwrap();
    }
    let reader = log.reader();
    let at = |t| reader.offset_for_timestamp(Timestamp::new(t)).unwrap().map(|(o, t)| (o.get(), t.get()));
    assert_eq!(at(0), Some((0, 1000)));
    assert_eq!(at(1000), Some((0, 1000)));
    assert_eq!(at(1003), Some((2, 1004)));
    assert_eq!(at(1007), Some((4, 1010)));
    for i in 0..200 {
        assert_eq!(at(1000 + i * 10 + 6), Some((i * 4 + 3, 1006 + i * 10)));
    }
    assert_eq!(at(1000 + 1997), None);
    assert_eq!(reader.max_timestamp().unwrap(), Some((Offset::new(799), Timestamp::new(2996))));
    log.advance_start(Offset::new(401)).unwrap();
    assert_eq!(at(0), Some((401, 2002)));
}

#[test]
fn retention_renames_then_removes_and_readers_keep_what_they_have_open() {
    let bench = Bench::new();
    let config = LogConfig { retention_bytes: Some(10_000), file_delete_delay_ms: 1000, ..small() };
    let mut log = bench.open(config, OpenContext::default());
    for _ in 0..100 {
        log.append(&[batch(3, 100).build()], EPOCH).unwrap();
    }
    let reader = log.reader();
    let held = reader.read(Offset::ZERO, Offset::new(300), 1 << 20, true).unwrap();
    let before = held.to_bytes().unwrap();
    let now = Timestamp::new(1_700_000_000_000);
    let kept = log.retain(now, Offset::new(300)).unwrap();
    assert!(kept.segments > 3 && kept.log_start > Offset::ZERO);
    assert!(reader.size() >= 10_000 && reader.size() < 14_096);
    assert!(matches!(reader.read(Offset::ZERO, Offset::new(300), 1, true), Err(ReadError::OutOfRange { .. })));
    assert_eq!(held.to_bytes().unwrap(), before, "the slice outlives its segment");
    assert_eq!(bench.names(".deleted").len(), kept.segments * 3);
    assert!(log.sweep(now.plus_ms(999)).is_empty());
    log.sweep(now.plus_ms(1000)).remove();
    assert_eq!(bench.names(".deleted"), Vec::<String>::new());
    assert_eq!(held.to_bytes().unwrap(), before, "even once its file has no name");
    let left = offsets(&read_all(&reader));
    assert_eq!(left, (kept.log_start.get()..300).collect::<Vec<_>>());
}

#[test]
fn a_log_of_which_everything_has_expired_goes_on_where_it_ended() {
    for contexts in [OpenContext::default(), OpenContext { same_boot: true, ..OpenContext::default() }] {
        let bench = Bench::new();
        let config = LogConfig { retention_ms: Some(1000), ..small() };
        let mut log = bench.open(config.clone(), OpenContext::default());
        for _ in 0..100 {
            log.append(&[batch(3, 100).build()], EPOCH).unwrap();
        }
        let now = bench.clock.now().plus_ms(1_000_000);
        assert_eq!(log.retain(now, Offset::new(300)).unwrap().log_start, Offset::new(300));
        // The process dies, and no checkpoint was written.
        drop(log);
        let mut log = bench.open(config, contexts);
        assert_eq!((log.start_offset(), log.end_offset()), (Offset::new(300), Offset::new(300)));
        let appended = log.append(&[batch(3, 100).build()], EPOCH).unwrap();
        assert_eq!(appended.base_offset, Offset::new(300));
    }
}

#[test]
fn missing_and_damaged_indexes_are_built_anew() {
    let bench = Bench::new();
    let mut log = bench.open(small(), OpenContext::default());
    for i in 0..200 {
        log.append(&[batch(3, 100).at(1000 + i * 3, 1).build()], EPOCH).unwrap();
    }
    let before = read_all(&log.reader());
    log.close().unwrap();
    for (i, name) in bench.names("index").into_iter().enumerate() {
        let path = bench.dir().join(name);
        match i % 3 {
            0 => std::fs::remove_file(path).unwrap(),
            1 => std::fs::write(path, [0xff; 24]).unwrap(),
            _ => std::fs::write(path, [0x11; 48]).unwrap(),
        }
    }
    for context in [OpenContext { clean_shutdown: true, ..OpenContext::default() }, OpenContext::default()] {
        let log = bench.open(small(), context);
        let reader = log.reader();
        assert_eq!(read_all(&reader), before);
        for from in (0..600).step_by(7) {
            let slice = reader.read(Offset::new(from), Offset::new(600), 1, true).unwrap();
            assert_eq!(offsets(&slice.to_bytes().unwrap()).first(), Some(&(from / 3 * 3)));
        }
        drop(log);
    }
    // A time index that cannot be told from a right one may lead to a later record, so only what was checked in full is exact.
    let reader = bench.open(small(), OpenContext::default()).reader();
    assert_eq!(reader.max_timestamp().unwrap(), Some((Offset::new(599), Timestamp::new(1599))));
}

#[test]
fn an_untouched_partition_has_no_files_and_a_deleted_one_leaves_its_name() {
    let bench = Bench::new();
    let log = bench.open(small(), OpenContext { fresh: true, ..OpenContext::default() });
    log.close().unwrap();
    assert_eq!(bench.names(""), Vec::<String>::new());
    let mut log = bench.open(small(), OpenContext::default());
    log.append(&[batch(1, 10).build()], EPOCH).unwrap();
    assert_eq!(bench.names(""), ["00000000000000000000.log"], "an append makes one file");
    let reader = log.reader();
    let deleted = log.delete().unwrap();
    assert!(!bench.dir().exists() && deleted.path().exists());
    assert!(deleted.path().to_string_lossy().ends_with("-delete"));
    assert!(reader.is_failed());
    deleted.remove().unwrap();
}

#[test]
fn a_segment_is_closed_when_its_records_span_too_much_time() {
    let bench = Bench::new();
    let config = LogConfig { segment_ms: 1000, ..LogConfig::default() };
    let mut log = bench.open(config.clone(), OpenContext::default());
    assert!(!log.append(&[batch(1, 10).at(5000, 0).build()], EPOCH).unwrap().rolled);
    assert!(!log.append(&[batch(1, 10).at(6000, 0).build()], EPOCH).unwrap().rolled);
    drop(log);
    let mut log = bench.open(config, OpenContext { same_boot: true, ..OpenContext::default() });
    assert!(
        log.append(&[batch(1, 10).at(6001, 0).build()], EPOCH).unwrap().rolled,
        "the first timestamp is read from the file"
    );
    assert_eq!(bench.names(".log").len(), 2);
}

#[test]
fn segments_roll_earlier_by_a_part_of_the_jitter_each() {
    let ages = |jitter: i64| {
        let bench = Bench::new();
        let config = LogConfig { segment_ms: 1000, segment_jitter_ms: jitter, ..LogConfig::default() };
        let mut log = bench.open(config, OpenContext::default());
        let (mut began, mut ages) = (0, Vec::new());
        for at in 0..20_000 {
            if log.append(&[batch(1, 10).at(at, 0).build()], EPOCH).unwrap().rolled {
                ages.push(at - began);
                began = at;
            }
        }
        ages
    };
    assert!(ages(0).iter().all(|age| *age == 1001));
    let some = ages(600);
    assert!(some.iter().all(|age| (402..=1001).contains(age)), "{some:?}");
    assert!(some.iter().any(|age| *age != some[0]), "{some:?}");
}

fn lengths(bench: &Bench) -> Vec<u64> {
    let length = |name: String| std::fs::metadata(bench.dir().join(name)).unwrap().len();
    bench.names(".log").into_iter().map(length).collect()
}

#[test]
fn a_segment_that_is_allocated_ahead_is_cut_when_it_is_closed() {
    let bench = Bench::new();
    let config = LogConfig { preallocate: true, ..small() };
    let mut log = bench.open(config.clone(), OpenContext::default());
    for i in 0..40 {
        log.append(&[batch(3, 100).build()], EPOCH).unwrap();
        let lengths = lengths(&bench);
        let (last, sealed) = lengths.split_last().unwrap();
        assert_eq!(*last, 4096, "after {i} batches");
        assert!(sealed.iter().all(|length| *length < 4096), "{sealed:?} after {i} batches");
    }
    let before = read_all(&log.reader());
    assert_eq!(log.reader().size(), before.len() as u64, "zeros count for nothing");
    log.close().unwrap();
    assert_eq!(lengths(&bench).iter().sum::<u64>(), before.len() as u64);
    let mut log = bench.open(config, OpenContext { clean_shutdown: true, ..OpenContext::default() });
    assert_eq!(read_all(&log.reader()), before);
    for _ in 0..20 {
        let rolled = log.append(&[batch(3, 100).build()], EPOCH).unwrap().rolled;
        let is_full = *lengths(&bench).last().unwrap() == 4096;
        assert!(is_full || !rolled, "a new segment is allocated");
    }
}

#[test]
fn zeros_behind_a_log_whose_process_or_machine_died_are_cut_off_and_nothing_else() {
    for context in [OpenContext { same_boot: true, ..OpenContext::default() }, OpenContext::default()] {
        let bench = Bench::new();
        let config = LogConfig { preallocate: true, ..small() };
        let mut log = bench.open(config.clone(), OpenContext::default());
        for _ in 0..40 {
            log.append(&[batch(3, 100).build()], EPOCH).unwrap();
        }
        let before = read_all(&log.reader());
        drop(log);
        if !context.same_boot {
            // That a segment was cut may be lost, though what came after it is not.
            let first = bench.dir().join(&bench.names(".log")[0]);
            std::fs::OpenOptions::new().write(true).open(first).unwrap().set_len(4096).unwrap();
        }
        let mut log = bench.open(config, context.clone());
        assert_eq!(read_all(&log.reader()), before);
        assert_eq!(log.recovered().cut_bytes, 0, "nothing was torn");
        assert_eq!(lengths(&bench).iter().sum::<u64>(), before.len() as u64);
        assert_eq!(log.append(&[batch(3, 100).build()], EPOCH).unwrap().base_offset, Offset::new(120));
    }
}

#[test]
fn a_few_open_files_serve_many_segments() {
    let bench = Bench::new();
    let context =
        OpenContext { files: std::sync::Arc::new(millrace_storage::FileCache::new(2)), ..OpenContext::default() };
    let mut log = bench.open(small(), context);
    for _ in 0..500 {
        log.append(&[batch(3, 100).build()], EPOCH).unwrap();
    }
    read_all(&log.reader());
    let dir = bench.dir();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let ours = open.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|path| path.starts_with(&dir))).count();
    assert!(bench.names(".log").len() > 40);
    assert!(ours <= 3 * 3, "{ours} files are open");
}

#[test]
fn what_was_written_just_now_is_hot_and_warming_reads_it() {
    let bench = Bench::new();
    let mut log = bench.open(LogConfig::default(), OpenContext::default());
    for _ in 0..50 {
        log.append(&[batch(10, 5000).build()], EPOCH).unwrap();
    }
    let reader = log.reader();
    for from in [0, 490] {
        let slice = reader.read(Offset::new(from), Offset::new(500), 1 << 20, true).unwrap();
        assert!(slice.is_hot());
        slice.warm().unwrap();
        assert!(slice.file().unwrap().as_fd().is_some());
    }
}

#[test]
fn a_reader_that_must_not_wait_says_what_is_cold_and_finds_it_once_it_was_read_in() {
    let (disk, clock) = (SimDisk::new(1), Arc::new(common::HandClock::default()));
    disk.create_dir(Path::new("/t-0")).unwrap();
    let mut log = common::open(Arc::new(disk.clone()), clock, "/t-0".into(), small(), OpenContext::default());
    for _ in 0..200 {
        log.append(&[batch(5, 40).build()], EPOCH).unwrap();
    }
    let (reader, end) = (log.reader(), Offset::new(1000));
    let hurried = reader.without_waiting();
    // The newest batches are known without a look at any file.
    disk.drop_cached(Path::new("/t-0"));
    assert!(!hurried.read(Offset::new(995), end, 1 << 20, true).unwrap().is_empty());
    for from in (0..600).step_by(7).map(Offset::new) {
        disk.drop_cached(Path::new("/t-0"));
        let waited = disk.waits();
        assert!(matches!(hurried.read(from, end, 1000, true), Err(ReadError::Cold)), "{from}");
        assert!(matches!(hurried.read_committed(from, end, 1000, true), Err(ReadError::Cold)), "{from}");
        assert_eq!(disk.waits(), waited, "{from}");
        let slice = reader.read(from, end, 1000, true).unwrap();
        assert!(disk.waits() > waited, "{from}");
        let again = hurried.read(from, end, 1000, true).unwrap();
        assert_eq!((again.position(), again.len()), (slice.position(), slice.len()), "{from}");
    }
}
