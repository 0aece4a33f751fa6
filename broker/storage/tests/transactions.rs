//! Transactions of one log: what is stable and what was aborted, across rolls, restarts, kills and cuts, held against a
//! model.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests stand outside of test functions"
)]

mod common;

use common::{Bench, Rng};
use millrace_model::builder::BatchBuilder;
use millrace_model::control::Marker;
use millrace_model::record::encode::HeaderSource;
use millrace_model::{Batch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use millrace_storage::{AbortedTransaction, Log, LogConfig, LogReader, OpenContext};
use std::collections::BTreeMap;

const EPOCH: LeaderEpoch = LeaderEpoch::new(0);
const TIME: Timestamp = Timestamp::new(1_700_000_000_000);

fn small() -> LogConfig {
    LogConfig { segment_bytes: 2048, index_interval_bytes: 256, ..LogConfig::default() }
}

fn data(producer: i64, sequence: i32) -> Batch {
    let mut builder =
        BatchBuilder::new().producer(ProducerId::new(producer), ProducerEpoch::new(0), sequence).transactional();
    for _ in 0..2 {
        builder.append(TIME, None, Some(&[b'v'; 40]), HeaderSource::None).unwrap();
    }
    builder.build().unwrap()
}

fn marker(producer: i64, committed: bool) -> Batch {
    let (producer_id, producer_epoch) = (ProducerId::new(producer), ProducerEpoch::new(0));
    Marker { producer_id, producer_epoch, committed, coordinator_epoch: 0 }.batch(TIME).unwrap()
}

/// What the log should say.
#[derive(Clone, Debug, Default)]
struct Model {
    end: i64,
    open: BTreeMap<i64, i64>,
    aborted: Vec<(i64, i64, i64)>,
    sequences: BTreeMap<i64, i32>,
}

impl Model {
    fn write(&mut self, log: &mut Log, producer: i64) {
        let sequence = self.sequences.entry(producer).or_default();
        log.append(&[data(producer, *sequence)], EPOCH).unwrap();
        *sequence += 2;
        self.open.entry(producer).or_insert(self.end);
        self.end += 2;
    }

    fn end(&mut self, log: &mut Log, producer: i64, commit: bool) {
        log.append(&[marker(producer, commit)], EPOCH).unwrap();
        if let Some(first) = self.open.remove(&producer)
            && !commit
        {
            self.aborted.push((producer, first, self.end));
        }
        self.end += 1;
    }

    fn hold_against(&self, log: &mut Log, what: &str) {
        assert_eq!(log.end_offset().get(), self.end, "{what}");
        let unstable = log.first_unstable(log.end_offset()).map(Offset::get);
        assert_eq!(unstable, self.open.values().min().copied(), "{what}");
        let reader = log.reader();
        assert_eq!(all(&reader), self.aborted, "{what}");
        // A reader that goes from batch to batch is told of all that it needs and of nothing that was over before.
        let mut at = 0;
        while at < self.end {
            let (slice, told) = reader.read_committed(Offset::new(at), Offset::new(self.end), 500, true).unwrap();
            let bytes = slice.to_bytes().unwrap();
            let last = Batch::all(bytes).map_while(Result::ok).last().unwrap().header().last_offset().get();
            for &(producer, first, end) in &self.aborted {
                let is_told = told.iter().any(|it| facts(it) == (producer, first, end));
                assert!(is_told || end < at || first > last, "{what}: {producer} aborted {first} to {end}, read {at}");
                assert!(!is_told || end >= at, "{what}: {producer} aborted {first} to {end}, read {at}");
            }
            at = last + 1;
        }
    }
}

fn facts(aborted: &AbortedTransaction) -> (i64, i64, i64) {
    (aborted.producer_id.get(), aborted.first_offset.get(), aborted.last_offset.get())
}

fn all(reader: &LogReader) -> Vec<(i64, i64, i64)> {
    let mut found = Vec::new();
    reader
        .visit_aborted(reader.start_offset(), |aborted| {
            found.push(facts(&aborted));
            true
        })
        .unwrap();
    found
}

#[test]
fn the_log_says_of_its_transactions_what_the_model_says_whatever_happens_to_it() {
    for seed in 0..40 {
        let mut rng = Rng(seed);
        let bench = Bench::new();
        let mut log = bench.open(small(), OpenContext::default());
        let mut model = Model::default();
        let mut earlier: Vec<Model> = vec![model.clone()];
        for step in 0..150 {
            let what = format!("seed {seed} step {step}");
            let producer = i64::try_from(rng.below(5)).unwrap();
            match rng.below(20) {
                0..=10 => model.write(&mut log, producer),
                11..=15 => model.end(&mut log, producer, rng.below(2) == 0),
                16 => {
                    log.close().unwrap();
                    log = bench.open(small(), OpenContext { clean_shutdown: true, ..OpenContext::default() });
                    model.hold_against(&mut log, &what);
                }
                17 => {
                    drop(log);
                    log = bench.open(small(), OpenContext { same_boot: true, ..OpenContext::default() });
                    model.hold_against(&mut log, &what);
                }
                18 => {
                    drop(log);
                    log = bench.open(small(), OpenContext::default());
                    model.hold_against(&mut log, &what);
                }
                _ => {
                    let at = usize::try_from(rng.below(earlier.len() as u64)).unwrap();
                    earlier.truncate(at + 1);
                    model = earlier[at].clone();
                    log.truncate_to(Offset::new(model.end)).unwrap();
                    model.hold_against(&mut log, &what);
                }
            }
            earlier.push(model.clone());
        }
        model.hold_against(&mut log, &format!("seed {seed}"));
    }
}

#[test]
fn an_index_that_lost_its_end_is_made_whole_from_the_log() {
    let bench = Bench::new();
    let mut log = bench.open(LogConfig::default(), OpenContext::default());
    let mut model = Model::default();
    for _ in 0..3 {
        model.write(&mut log, 1);
        model.end(&mut log, 1, false);
    }
    drop(log);
    let index = bench.dir().join(&bench.names(".txnindex")[0]);
    let bytes = std::fs::read(&index).unwrap();
    assert_eq!(bytes.len(), 3 * 34);
    for lost in [1, 34, 40, 102] {
        let mut left = bytes[..bytes.len() - lost].to_vec();
        left.resize(left.len().next_multiple_of(34), 0xee);
        std::fs::write(&index, left).unwrap();
        let mut log = bench.open(LogConfig::default(), OpenContext::default());
        model.hold_against(&mut log, &format!("{lost} bytes lost"));
        drop(log);
        assert_eq!(std::fs::read(&index).unwrap(), bytes);
    }
}
