//! Every decoder against mutated bytes, for a bounded time.
//!
//! `MILLRACE_SEED=n` replays a run, `MILLRACE_ROUNDS=n` makes it longer; a
//! failure prints the seed, the round and the bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod targets;

use millrace_model::record::encode::HeaderSource;
use millrace_model::{BatchBuilder, Compression, Random, SystemRandom, Timestamp};
use std::panic::catch_unwind;

/// A small generator (xorshift64*), so that a seed is all there is to a run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}

/// Well-formed inputs of all targets, to start from.
fn corpus() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new().compression(codec, None);
        for i in 0..20i64 {
            let pairs = [(&b"h"[..], Some(&b"1"[..])), (b"h", None)];
            let value = b"value ".repeat(i as usize * 7);
            builder.append(Timestamp::new(i), Some(b"key"), Some(&value), HeaderSource::Pairs(&pairs)).unwrap();
        }
        let batch = builder.build().unwrap();
        let records = batch.records_section();
        all.push(batch.bytes().to_vec());
        all.push([&20i32.to_be_bytes()[..], &records].concat());
        all.push([&[codec.id() as u8][..], &records].concat());
    }
    let fixtures = format!("{}/tests/fixtures", env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = std::fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "batch")) {
        let batch = std::fs::read(path).unwrap();
        if batch.len() < 8000 {
            all.push([&[batch[22] & 7][..], &batch[61..]].concat());
            all.push(batch);
        }
    }
    all
}

const TELLING: [&[u8]; 10] = [
    &[0],
    &[0xff],
    &[0x80],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff; 4],
    &[0x80, 0, 0, 0],
    &[0xfe, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80; 10],
    &[0; 8],
];

fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    let len = bytes.len();
    if len == 0 {
        bytes.push(dice.next() as u8);
        return;
    }
    // Half of the time near the front, where the headers are.
    let at = if dice.below(2) == 0 { dice.below(len) } else { dice.below(len.min(80)) };
    let end = (at + 1 + dice.below(40)).min(len);
    match dice.below(8) {
        0 => bytes[at] ^= 1 << dice.below(8),
        1 => bytes[at] = dice.next() as u8,
        2 => {
            let new = TELLING[dice.below(TELLING.len())];
            let end = (at + new.len()).min(len);
            bytes[at..end].copy_from_slice(&new[..end - at]);
        }
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..end)),
        5 => {
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
        6 => bytes[at..end].fill(dice.next() as u8),
        _ => {
            let other = &others[dice.below(others.len())];
            let from = dice.below(other.len());
            let part = other[from..(from + 200).min(other.len())].to_vec();
            bytes.splice(at..end, part);
        }
    }
}

#[test]
fn no_mutation_of_good_bytes_makes_a_decoder_panic_or_lie() {
    let seed = number("MILLRACE_SEED").unwrap_or_else(|| SystemRandom.u64()) | 1;
    let rounds = number("MILLRACE_ROUNDS").unwrap_or(4000);
    println!("MILLRACE_SEED={seed}");
    let corpus = corpus();
    let mut dice = Dice(seed);
    for round in 0..rounds {
        let mut bytes = corpus[dice.below(corpus.len())].clone();
        for _ in 0..1 + dice.below(5) {
            mutate(&mut dice, &mut bytes, &corpus);
        }
        for (name, target) in targets::ALL {
            if catch_unwind(|| target(&bytes)).is_err() {
                panic!("MILLRACE_SEED={seed} round {round}: {name} failed on {bytes:02x?}");
            }
        }
    }
}

#[test]
fn the_well_formed_inputs_pass_every_target() {
    for bytes in corpus() {
        for (_, target) in targets::ALL {
            target(&bytes);
        }
    }
}
