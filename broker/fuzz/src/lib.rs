//! Every decoder of bytes that come from the network, from the disk or from a plugin, each under a target.
//!
//! ```text
//! batches records codecs   produced batches, their records, what they are compressed with
//! requests                 frames: the header, the body of every key and version
//! subscriptions            what consumers put into their subscriptions and assignments
//! group-records            `__consumer_offsets`: keys, values, and a replay of them
//! txn-records              `__transaction_state`: the same
//! partition                a log's directory: segments, indexes, aborted transactions, snapshots, epochs, generations, swaps
//! data-dir                 what all partitions share: meta.properties, checkpoints, partition.metadata
//! metadata                 commands and images as they stand in the raft log and in snapshots
//! journal                  the raft log's file and the snapshot's (only where the broker is built to be fuzzed)
//! topic-files node-files   what an operator writes
//! apply-requests           what is posted to be planned and applied
//! answers                  records as guests see them, and what guests answer
//! ```
//!
//! A target panics where a decoder breaks a promise: it panics itself, takes more memory than its bytes allow, lets its
//! writer make something of what it read that reads otherwise, or says other than kafka-protocol does.
//!
//! Each has seeds, made by the code that writes what it reads. As tests the targets run over these and a bounded number of
//! mutations; `libfuzzer.rs` puts them under libFuzzer.
//!
//! Absent: compiled plugins (`.cwasm`), which are code and as trusted as the broker's own; wasmtime's own decoders; answers of
//! other brokers, to which there is no connection yet.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a target says by a panic what is wrong"
)]

mod cut;
mod disk;
mod facts;
mod files;
mod groups;
mod guests;
mod meter;
mod model;
mod requests;

pub use meter::Counting;

/// A decoder with what must hold of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Reads the bytes; panics where something does not hold.
    run: fn(&[u8]),
    /// Well-formed inputs, to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// What a target may take beside a multiple of its input: a few limits of a mebibyte each, buffers of codecs.
const MEMORY: usize = 64 << 20;

impl Target {
    /// Runs the target and bounds its memory, as far as [`Counting`] counts it.
    ///
    /// # Panics
    /// Where something that must hold does not.
    pub fn run(&self, data: &[u8]) {
        let ((), peak) = meter::peak_of(|| (self.run)(data));
        let limit = MEMORY + data.len() * 256;
        assert!(peak <= limit, "{} bytes for {} bytes of input", peak, data.len());
    }
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "batches", run: model::targets::batches, seeds: model::batches },
    Target { name: "records", run: model::targets::records, seeds: model::records },
    Target { name: "codecs", run: model::targets::codecs, seeds: model::codecs },
    Target { name: "requests", run: requests::run, seeds: requests::seeds },
    Target { name: "subscriptions", run: groups::subscriptions, seeds: groups::subscription_seeds },
    Target { name: "group-records", run: groups::group_records, seeds: groups::group_seeds },
    Target { name: "txn-records", run: groups::txn_records, seeds: groups::txn_seeds },
    Target { name: "partition", run: disk::partition, seeds: disk::partition_seeds },
    Target { name: "data-dir", run: disk::data_dir, seeds: disk::data_dir_seeds },
    Target { name: "metadata", run: facts::metadata, seeds: facts::metadata_seeds },
    #[cfg(fuzzing)]
    Target { name: "journal", run: millrace::cluster::hostile::files, seeds: millrace::cluster::hostile::seeds },
    Target { name: "topic-files", run: files::topics, seeds: files::topic_seeds },
    Target { name: "node-files", run: files::nodes, seeds: files::node_seeds },
    Target { name: "apply-requests", run: files::applies, seeds: files::apply_seeds },
    Target { name: "answers", run: guests::answers, seeds: guests::seeds },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    fn number(name: &str) -> Option<u64> {
        std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
    }

    /// SplitMix64.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % n.max(1) as u64) as usize
        }
    }

    const TELLING: [&[u8]; 7] =
        [&[0], &[0xff], &[0x7f, 0xff, 0xff, 0xff], &[0xff; 4], &[0x80, 0, 0, 0], &[0x80; 10], &[0; 8]];

    fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = dice.below(bytes.len());
        let end = (at + 1 + dice.below(16)).min(bytes.len());
        match dice.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.insert(at, dice.below(256) as u8),
            3 => bytes.iter_mut().skip(at).zip(TELLING[dice.below(7)]).for_each(|(byte, new)| *byte = *new),
            4 => {
                let from = dice.below(other.len());
                let part = other[from..(from + 40).min(other.len())].to_vec();
                drop(bytes.splice(at..end, part));
            }
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << dice.below(8)),
        }
    }

    #[test]
    fn every_seed_passes_its_target_and_every_other() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{} has no seeds", target.name);
            for seed in seeds {
                target.run(&seed);
                TARGETS.iter().for_each(|other| other.run(&seed));
            }
        }
    }

    #[test]
    fn no_mutation_of_a_seed_makes_a_decoder_panic_or_lie() {
        let seed = number("MILLRACE_SEED").unwrap_or(0x5eed);
        let rounds = number("MILLRACE_ROUNDS").unwrap_or(200);
        println!("MILLRACE_SEED={seed} replays this");
        let mut dice = Dice(seed);
        for target in TARGETS {
            let seeds = (target.seeds)();
            for round in 0..rounds {
                let mut bytes = seeds[dice.below(seeds.len())].clone();
                for _ in 0..=dice.below(4) {
                    let other = dice.below(seeds.len());
                    mutate(&mut dice, &mut bytes, &seeds[other]);
                }
                if catch_unwind(|| target.run(&bytes)).is_err() {
                    panic!("MILLRACE_SEED={seed} round {round}: {} failed on {bytes:02x?}", target.name);
                }
            }
        }
    }
}
