//! Records as a broken disk, another version or an enemy may have left them: a replay leaves out what it cannot read, and
//! whatever it makes of the rest, every request is answered and time goes on.

use super::consumer::Consumer;
use super::*;

type Stored = (Bytes, Option<Bytes>);

/// The records of a classic group, of its offsets, and of a consumer group.
fn lived() -> Vec<Stored> {
    let mut classic = Stage::new();
    let ids = classic.stable(&[&consumer("a"), &fixed("b", "b")]);
    let generation = classic.machine.groups["g"].classic().unwrap().generation;
    for partition in 0..3 {
        classic.commit(&ids[0], generation, partition, 7).unwrap();
    }
    let mut modern = Stage::new();
    modern.facts.create("t0", 3);
    let mut one = Consumer::new("m0", &["t0"]);
    let mut two = Consumer { regex: Some("t.*".into()), ..Consumer::new("m1", &[]) };
    modern.settle(&mut [&mut one, &mut two]);
    modern.leave_consumer_group(&mut two, -1).unwrap();
    let all = classic.log.iter().chain(&modern.log);
    all.map(|record| record.encode().unwrap()).collect()
}

fn mangled(bytes: &Bytes, dice: &mut random::Dice) -> Bytes {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(bytes.len().max(1) as u64) as usize;
        match dice.roll(6) {
            0 => bytes.truncate(at),
            // A number at one of its ends.
            1 | 2 => {
                let ends: [&[u8]; 5] =
                    [&[0x7f, 0xff, 0xff, 0xff], &[0x80, 0, 0, 0], &[0xff; 4], &[0x7f, 0xff], &[0; 8]];
                let end = ends[dice.roll(5) as usize];
                bytes.iter_mut().skip(at).zip(end).for_each(|(byte, with)| *byte = *with);
            }
            3 => bytes.insert(at, dice.roll(256) as u8),
            // Another version.
            4 => bytes.iter_mut().skip(1).take(1).for_each(|byte| *byte = dice.roll(12) as u8),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << dice.roll(8)),
        }
    }
    bytes.into()
}

fn hostile_replay(records: &[Stored], seed: u64) {
    let mut dice = random::Dice(seed);
    let mut stage = Stage::new();
    stage.facts.create("t0", 3);
    for at in 0..40 {
        let (key, _) = &records[dice.roll(records.len() as u64) as usize];
        let (_, value) = &records[dice.roll(records.len() as u64) as usize];
        let key = if dice.roll(4) == 0 { mangled(key, &mut dice) } else { key.clone() };
        let own = records.iter().find(|(other, _)| *other == key).and_then(|(_, value)| value.clone());
        let value = if dice.roll(4) == 0 { value.clone() } else { own };
        let value = value.map(|value| if dice.roll(2) == 0 { mangled(&value, &mut dice) } else { value });
        let producer = if dice.roll(5) == 0 { ProducerId::new(3) } else { ProducerId::NONE };
        if let Ok(record) = GroupRecord::decode(&key, value.as_deref()) {
            stage.machine.apply(record, Offset::new(at), producer, stage.now());
        }
    }
    for step in stage.machine.loaded(stage.now()) {
        stage.take(step);
    }
    stage.machine.end_transaction(ProducerId::new(3), seed.is_multiple_of(2));
    let mut asked = Vec::new();
    for round in 0..6 {
        asked.push(stage.join(&consumer("c"), ""));
        let _ = stage.beat("m0", None, 1);
        let _ = stage.commit("", -1, 0, 5);
        let _ = stage.fetch(0, true);
        let mut member = Consumer { epoch: round % 3, ..Consumer::new("m0", &["t0"]) };
        let _ = stage.go(&mut member);
        let _ = stage.go(&mut Consumer::new("m9", &["t0"]));
        asked.push(stage.ask(Request::Describe(vec!["g".into()])));
        asked.push(stage.ask(Request::DescribeConsumer(vec!["g".into()])));
        asked.push(stage.ask(Request::List { states: Vec::new(), types: Vec::new() }));
        stage.pass(20_000);
    }
    // Longer than any timeout a record can name.
    stage.pass(u64::from(u32::MAX));
    for token in asked {
        assert!(!stage.is_parked(token), "seed {seed}: request {token} is not answered");
    }
}

#[test]
fn records_that_nobody_can_have_meant_neither_stop_a_replay_nor_the_group_after_it() {
    let records = lived();
    if let Some(seed) = std::env::var("MILLRACE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return hostile_replay(&records, seed);
    }
    let seeds = std::env::var("MILLRACE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(100);
    for seed in 0..seeds {
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| hostile_replay(&records, seed))) {
            println!("MILLRACE_SEED={seed} replays it");
            std::panic::resume_unwind(panic);
        }
    }
}
