//! One log on the machine's own disk: what is appended is read, across rolls and restarts.

mod common;

use common::{Bench, batch, offsets, read_all};
use millrace_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use millrace_storage::{Log, LogConfig, OpenContext, ReadError, SequenceCheck};

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
    assert_eq!(reader.read(Offset::new(7), Offset::new(1000), 10, false).unwrap().len(), 10);
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
