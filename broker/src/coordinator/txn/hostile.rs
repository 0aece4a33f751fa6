//! Records as a broken disk, another version or an enemy may have left them: whatever a replay makes of them, every request
//! is answered, and time goes on.

use super::machine::{Pending, Reply, Request, TxnMachine};
use super::records::{Txn, TxnRecord};
use super::{AddPartitions, EndTxn, InitProducer, ListTxns, ProducerIdentity, TxnOptions, TxnState, TxnVersion};
use crate::coordinator::runtime::machine::{Machine, Now, Step, Token};
use millrace_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn extreme<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len() as u64) as usize]
    }
}

/// A value of the right form with numbers that no coordinator writes.
fn odd(dice: &mut Dice) -> Txn {
    const LONG: [i64; 6] = [i64::MIN, -2, -1, 0, 1_700_000_000_000, i64::MAX];
    const SHORT: [i16; 6] = [i16::MIN, -1, 0, i16::MAX - 2, i16::MAX - 1, i16::MAX];
    Txn {
        producer_id: ProducerId::new(dice.extreme(&LONG)),
        producer_epoch: ProducerEpoch::new(dice.extreme(&SHORT)),
        previous_id: ProducerId::new(dice.extreme(&LONG)),
        next_id: ProducerId::new(dice.extreme(&LONG)),
        last_epoch: ProducerEpoch::NONE,
        timeout_ms: dice.extreme(&[i32::MIN, -1, 0, 1000, i32::MAX]),
        state: dice.extreme(&TxnState::ALL),
        partitions: if dice.roll(2) == 0 { Default::default() } else { [("t".into(), i32::MIN)].into() },
        started: Timestamp::new(dice.extreme(&LONG)),
        updated: Timestamp::new(dice.extreme(&LONG)),
        version: dice.extreme(&[TxnVersion::V0, TxnVersion::V2]),
    }
}

/// Follows a step to its end and returns how many answers there were.
fn settle(machine: &mut TxnMachine, mut step: Step<Reply, Pending>, now: Now) -> usize {
    let mut answers = 0;
    for _ in 0..10 {
        answers += step.replies.len();
        let Some(pending) = step.pending else {
            machine.take_work();
            return answers;
        };
        step = machine.conclude(pending, Ok(Offset::ZERO), now);
    }
    panic!("one request leads to record after record");
}

fn hostile_replay(seed: u64) {
    let mut dice = Dice(seed);
    let mut machine = TxnMachine::new(TxnOptions::default());
    let mut now = Now { wall: Timestamp::new(1_700_000_000_000), tick: 0 };
    let mut producers = vec![ProducerIdentity { id: ProducerId::new(1), epoch: ProducerEpoch::new(0) }];
    for n in 0..20 {
        let txn = odd(&mut dice);
        producers.push(ProducerIdentity { id: txn.producer_id, epoch: txn.producer_epoch });
        let (key, value) = TxnRecord { id: format!("id{}", n % 5).into(), value: Some(txn) }.encode();
        let (mut key, mut value) = (key.to_vec(), value.unwrap().to_vec());
        if dice.roll(3) == 0 {
            let at = dice.roll(value.len() as u64) as usize;
            value[at] = dice.roll(256) as u8;
        }
        if dice.roll(8) == 0 {
            key.truncate(dice.roll(6) as usize);
        }
        let _ = machine.replay((&key, Some(&value)), Offset::new(n), None, now);
    }
    for step in machine.loaded(LeaderEpoch::new(0), now) {
        settle(&mut machine, step, now);
    }
    for n in 0..60 {
        let id = format!("id{}", dice.roll(6)).into();
        let producer = dice.extreme(&producers);
        let (version, fresh) = (TxnVersion::V2, (dice.roll(2) == 0).then_some(ProducerId::new(1000 + n)));
        let request = match dice.roll(6) {
            0 | 1 => Request::Init(InitProducer {
                id,
                timeout_ms: 1000,
                expected: (dice.roll(2) == 0).then_some(producer),
                fresh,
            }),
            2 => Request::Add(AddPartitions { id, producer, partitions: [("t".into(), 0)].into(), version }),
            3 => Request::End(EndTxn { id, producer, commit: dice.roll(2) == 0, version, fresh }),
            4 => Request::MarkersWritten { id, producer },
            _ => Request::Describe(id),
        };
        let shown = format!("{request:?}");
        let step = machine.handle(Token(1), request, now);
        assert_eq!(settle(&mut machine, step, now), 1, "seed {seed}: {shown}");
        now = Now { wall: now.wall.plus_ms(20_000), tick: now.tick + 20_000 };
        for _ in 0..4 {
            let Some(step) = machine.expire(now) else { break };
            settle(&mut machine, step, now);
        }
    }
    let all = Request::List(ListTxns { states: Vec::new(), producers: Vec::new(), longer_than_ms: 0 });
    let step = machine.handle(Token(1), all, now);
    assert_eq!(settle(&mut machine, step, now), 1, "seed {seed}");
}

#[test]
fn records_that_nobody_can_have_meant_neither_stop_a_replay_nor_the_transactions_after_it() {
    if let Some(seed) = std::env::var("MILLRACE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return hostile_replay(seed);
    }
    let seeds = std::env::var("MILLRACE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1000);
    for seed in 0..seeds {
        if let Err(panic) = std::panic::catch_unwind(|| hostile_replay(seed)) {
            println!("MILLRACE_SEED={seed} replays it");
            std::panic::resume_unwind(panic);
        }
    }
}
