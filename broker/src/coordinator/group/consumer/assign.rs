//! The assignors of the coordinator: from members, topics and what they were to have before to what they shall have.
//!
//! Both give every partition of every topic that somebody reads to exactly one of its readers. Racks are not looked at,
//! as in Kafka's.

use crate::coordinator::group::records::Partitions;
use millrace_model::TopicId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A topic to be shared out, and the places of its readers among the [`Seat`]s, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The topic.
    pub topic: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
    /// Its readers.
    pub readers: Vec<usize>,
}

/// A member that gets partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its id.
    pub member: Arc<str>,
    /// Its instance id, if it is static.
    pub instance: Option<String>,
    /// What it was to have before.
    pub before: Arc<Partitions>,
}

/// The assignors by name, in the order in which an error lists them.
pub const ASSIGNORS: [&str; 2] = ["uniform", "range"];

/// Shares the topics out; the answer has a place for every seat.
pub fn assign(assignor: &str, seats: &[Seat], shares: &[Share]) -> Vec<Partitions> {
    match assignor {
        "range" => range(seats, shares),
        _ => uniform(seats, shares),
    }
}

/// Neighbouring partitions of each topic go to one member, the same numbers of all topics to the same member. Static
/// members come first, by instance id, so that a restart does not move partitions.
fn range(seats: &[Seat], shares: &[Share]) -> Vec<Partitions> {
    let mut given = vec![Partitions::new(); seats.len()];
    for share in shares {
        let mut readers: Vec<(usize, &Seat)> =
            share.readers.iter().filter_map(|place| Some((*place, seats.get(*place)?))).collect();
        readers.sort_by_key(|(_, seat)| (seat.instance.is_none(), &seat.instance, &seat.member));
        let count = i32::try_from(readers.len()).unwrap_or(i32::MAX);
        let (each, mut extra) = (
            share.partitions.checked_div(count).unwrap_or_default(),
            share.partitions.checked_rem(count).unwrap_or_default(),
        );
        let mut from = 0;
        for (place, _) in readers {
            let upto = from + each + i32::from(extra > 0);
            extra -= i32::from(extra > 0);
            if from < upto
                && let Some(partitions) = given.get_mut(place)
            {
                partitions.insert(share.topic, (from..upto).collect());
            }
            from = upto;
        }
    }
    given
}

/// Members get as many partitions as each other, as far as what they read allows, and keep what they were to have as far
/// as that allows.
fn uniform(seats: &[Seat], shares: &[Share]) -> Vec<Partitions> {
    let mut table = Table { given: vec![Partitions::new(); seats.len()], load: vec![0; seats.len()] };
    let total: usize = shares.iter().map(|share| usize::try_from(share.partitions).unwrap_or_default()).sum();
    let everybody_reads_all = shares.iter().all(|share| share.readers.len() == seats.len());
    let quota = total.checked_div(seats.len()).unwrap_or_default();
    let mut extra = if everybody_reads_all { total.checked_rem(seats.len()).unwrap_or_default() } else { 0 };
    let mut taken: BTreeMap<TopicId, BTreeSet<i32>> = BTreeMap::new();
    for share in shares {
        let taken = taken.entry(share.topic).or_default();
        for place in &share.readers {
            let Some(before) = seats.get(*place).and_then(|seat| seat.before.get(&share.topic)) else { continue };
            for partition in before.range(0..share.partitions) {
                // Where all read the same, nobody keeps more than its share; otherwise moves come afterwards.
                let load = table.load(*place);
                let keeps = !everybody_reads_all || load < quota || load == quota && extra > 0;
                if keeps && taken.insert(*partition) {
                    extra -= usize::from(everybody_reads_all && load == quota);
                    table.give(*place, share.topic, *partition);
                }
            }
        }
    }
    // Topics with few readers leave the least choice: they come first.
    let mut order: Vec<&Share> = shares.iter().collect();
    order.sort_by_key(|share| share.readers.len());
    for share in order {
        let taken = taken.remove(&share.topic).unwrap_or_default();
        let mut queue: BTreeSet<(usize, usize)> =
            share.readers.iter().map(|place| (table.load(*place), *place)).collect();
        for partition in (0..share.partitions).filter(|partition| !taken.contains(partition)) {
            let Some((load, place)) = queue.pop_first() else { break };
            table.give(place, share.topic, partition);
            queue.insert((load + 1, place));
        }
    }
    if !everybody_reads_all {
        table.balance(shares);
    }
    table.given
}

struct Table {
    given: Vec<Partitions>,
    load: Vec<usize>,
}

impl Table {
    fn load(&self, place: usize) -> usize {
        self.load.get(place).copied().unwrap_or_default()
    }

    fn give(&mut self, place: usize, topic: TopicId, partition: i32) {
        if let (Some(given), Some(load)) = (self.given.get_mut(place), self.load.get_mut(place)) {
            given.entry(topic).or_default().insert(partition);
            *load += 1;
        }
    }

    fn take(&mut self, place: usize, topic: TopicId) -> Option<i32> {
        let given = self.given.get_mut(place)?;
        let partitions = given.get_mut(&topic)?;
        let partition = partitions.pop_last()?;
        if partitions.is_empty() {
            given.remove(&topic);
        }
        if let Some(load) = self.load.get_mut(place) {
            *load -= 1;
        }
        Some(partition)
    }

    /// Moves partitions from readers of a topic with many to readers with few. Each move makes the loads more even, so
    /// there is an end.
    fn balance(&mut self, shares: &[Share]) {
        loop {
            let mut moved = false;
            for share in shares {
                loop {
                    let has =
                        |place: &usize| self.given.get(*place).is_some_and(|given| given.contains_key(&share.topic));
                    let most = share.readers.iter().copied().filter(has).max_by_key(|place| self.load(*place));
                    let least = share.readers.iter().copied().min_by_key(|place| self.load(*place));
                    let (Some(most), Some(least)) = (most, least) else { break };
                    if self.load(most) < self.load(least) + 2 {
                        break;
                    }
                    let Some(partition) = self.take(most, share.topic) else { break };
                    self.give(least, share.topic, partition);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn topic(number: u128) -> TopicId {
        TopicId::new(Uuid::from_u128(number))
    }

    fn seat(member: &str, before: &[(u128, &[i32])]) -> Seat {
        let before = before.iter().map(|(number, partitions)| (topic(*number), partitions.iter().copied().collect()));
        Seat { member: member.into(), instance: None, before: Arc::new(before.collect()) }
    }

    fn share(number: u128, partitions: i32, readers: &[usize]) -> Share {
        Share { topic: topic(number), partitions, readers: readers.to_vec() }
    }

    fn counts(given: &[Partitions]) -> Vec<usize> {
        given.iter().map(|partitions| partitions.values().map(BTreeSet::len).sum()).collect()
    }

    fn roll(state: &mut u64, sides: u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % sides
    }

    #[test]
    fn range_gives_neighbours_and_the_same_numbers_of_all_topics_with_static_members_first() {
        let mut seats = [seat("a", &[]), seat("b", &[]), seat("z", &[])];
        seats[2].instance = Some("one".into());
        let given = assign("range", &seats, &[share(1, 4, &[0, 1, 2]), share(2, 4, &[0, 1, 2])]);
        for number in [1, 2] {
            assert_eq!(given[2][&topic(number)], [0, 1].into());
            assert_eq!(given[0][&topic(number)], [2].into());
            assert_eq!(given[1][&topic(number)], [3].into());
        }
    }

    #[test]
    fn uniform_moves_no_more_than_it_must_when_a_member_comes_and_when_it_goes() {
        let before = [seat("a", &[(1, &[0, 1, 2])]), seat("b", &[(1, &[3, 4, 5])]), seat("c", &[])];
        let given = assign("uniform", &before, &[share(1, 6, &[0, 1, 2])]);
        assert_eq!(counts(&given), [2, 2, 2]);
        assert_eq!((&given[0][&topic(1)], &given[1][&topic(1)]), (&[0, 1].into(), &[3, 4].into()));
        let before = [seat("a", &[(1, &[0, 1])]), seat("b", &[(1, &[3, 4])])];
        let given = assign("uniform", &before, &[share(1, 6, &[0, 1])]);
        assert_eq!(counts(&given), [3, 3]);
        assert!(given[0][&topic(1)].is_superset(&[0, 1].into()) && given[1][&topic(1)].is_superset(&[3, 4].into()));
    }

    #[test]
    fn uniform_evens_out_members_that_read_different_topics() {
        // Only the first member reads the second topic, so the other has all of the first.
        let before = [seat("a", &[(1, &[0, 1, 2])]), seat("b", &[])];
        let given = assign("uniform", &before, &[share(1, 3, &[0, 1]), share(2, 3, &[0])]);
        assert_eq!(counts(&given), [3, 3]);
        assert_eq!(given[0].keys().copied().collect::<Vec<_>>(), [topic(2)]);
    }

    #[test]
    fn every_partition_has_exactly_one_reader_whatever_was_before() {
        for seed in 0..300 {
            let mut dice = seed;
            let members = roll(&mut dice, 6) as usize + 1;
            let same = roll(&mut dice, 2) == 0;
            let shares: Vec<Share> = (1..=roll(&mut dice, 5) + 1)
                .map(|number| {
                    let readers: Vec<usize> =
                        (0..members).filter(|place| same || *place == 0 || roll(&mut dice, 2) == 0).collect();
                    share(number.into(), roll(&mut dice, 9) as i32 + 1, &readers)
                })
                .collect();
            let mut seats: Vec<Seat> = (0..members).map(|n| seat(&format!("m{n}"), &[])).collect();
            for assignor in ["range", "uniform", "uniform", "range", "uniform"] {
                let given = assign(assignor, &seats, &shares);
                for share in &shares {
                    for partition in 0..share.partitions {
                        let has =
                            |place: &usize| given[*place].get(&share.topic).is_some_and(|p| p.contains(&partition));
                        let owners = (0..members).filter(has).collect::<Vec<_>>();
                        assert_eq!(owners.len(), 1, "seed {seed}: {assignor} gave {share:?}-{partition} to {owners:?}");
                        assert!(share.readers.contains(&owners[0]), "seed {seed}");
                    }
                }
                let counts = counts(&given);
                if assignor == "uniform" && same {
                    assert!(
                        counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1,
                        "seed {seed}: {counts:?}"
                    );
                }
                for (seat, given) in seats.iter_mut().zip(given) {
                    seat.before = Arc::new(given);
                }
            }
        }
    }
}
