//! Classic groups under random members, and appends that fail at random.

use super::*;

/// SplitMix64: enough to vary a test, and the same everywhere.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// What a restart must bring back: groups between rebalances, and all offsets.
fn durable(machine: &GroupMachine) -> BTreeMap<Arc<str>, String> {
    let settled = machine.groups.iter().map(|(id, group)| {
        let classic = group.classic().unwrap();
        let membership = match classic.state() {
            State::Stable => format!("{:?}", classic.to_record(|_, member| member.assignment.clone()).members),
            _ => "unsettled".into(),
        };
        let offsets: Vec<_> = group.offsets.all().collect();
        (Arc::clone(id), format!("{} {membership} {offsets:?}", classic.protocol.clone().unwrap_or_default()))
    });
    settled.filter(|(_, told)| !told.contains("unsettled []")).collect()
}

/// Members that do what members do, at random, with appends that fail at random.
fn random_life(seed: u64) {
    let mut dice = Dice(seed);
    let mut stage =
        Stage::with(GroupOptions { initial_rebalance_delay_ms: 500, max_size: 4, ..GroupOptions::default() });
    let mut people: Vec<(Who, String, i32, Option<u64>)> = (0..6)
        .map(|n| {
            let name = format!("c{n}");
            let who = if n < 2 { fixed(&name, &name) } else { Who { twice: n % 2 == 0, ..consumer(&name) } };
            (who, String::new(), 0, None)
        })
        .collect();
    for _ in 0..400 {
        stage.append_fails = (dice.roll(20) == 0).then_some(GroupError::NotAvailable);
        let n = dice.roll(people.len() as u64) as usize;
        let (who, mut id, mut generation, mut parked) = people[n].clone();
        if let Some(token) = parked
            && let Some(reply) = stage.replies.get(&token)
        {
            parked = None;
            match reply {
                Reply::Join(Ok(joined)) => (id, generation) = (joined.member_id.clone(), joined.generation),
                Reply::Join(Err(refused)) if refused.error == GroupError::MemberIdRequired => {
                    id = refused.member_id.clone()
                }
                Reply::Join(Err(_)) | Reply::Sync(Err(_)) => id = String::new(),
                _ => {}
            }
        }
        let choice = dice.roll(9);
        if parked.is_none() {
            match choice {
                0..=2 => parked = Some(stage.join(&who, &id)),
                3 | 4 if !id.is_empty() => {
                    let ids: Vec<String> =
                        people.iter().map(|(_, id, ..)| id.clone()).filter(|id| !id.is_empty()).collect();
                    let given: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), id.as_str())).collect();
                    parked = Some(stage.sync(&id, generation, &given));
                }
                5 => drop(stage.beat(&id, None, generation)),
                6 => drop(stage.commit(&id, generation, dice.roll(3) as i32, dice.roll(1_000) as i64)),
                7 if !id.is_empty() && dice.roll(3) == 0 => {
                    let instance = who.instance.clone();
                    stage.append_fails = None;
                    stage.leave(&[(&id, instance.as_deref())]);
                    id = String::new();
                }
                _ => stage.pass(dice.roll(4_000)),
            }
        }
        people[n] = (who, id, generation, parked);
        // Where the record of the emptied group could not be stored, the last generation comes back and times out.
        let stored = stage.log.iter().rev().find_map(|record| match record {
            GroupRecord::Group { value, .. } => Some(value.as_ref().is_none_or(|value| value.members.is_empty())),
            _ => None,
        });
        let empty = stage.state() == Some(State::Empty) && stored == Some(true);
        if stage.state() == Some(State::Stable) || empty {
            assert_eq!(durable(&stage.machine), durable(&stage.restarted().machine), "seed {seed}");
        }
    }
    // Whatever is still parked is answered in time, and nothing is ever answered twice (see `take`).
    stage.append_fails = None;
    stage.pass(3_600_000);
    for (_, _, _, parked) in people {
        assert!(parked.is_none_or(|token| !stage.is_parked(token)), "seed {seed}: a request was never answered");
    }
}

#[test]
fn a_replay_gives_the_same_groups_after_any_life_and_every_request_is_answered_once() {
    if let Some(seed) = std::env::var("MILLRACE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return random_life(seed);
    }
    for seed in 0..200 {
        // Printed only where the test fails: `MILLRACE_SEED=<seed>` replays it.
        println!("seed {seed}");
        random_life(seed);
    }
}
