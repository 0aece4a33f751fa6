//! Which brokers get a topic's replicas.

use millrace_model::NodeId;

/// Stripes replicas over brokers as Kafka does without racks: leaders go round robin from a
/// random broker, and the distance to the followers grows by one with every round, so that
/// the brokers that share a leader's partitions differ.
///
/// `first` is the number of the first partition to place. Empty where `factor` is 0 or more
/// than there are brokers.
pub fn assign_replicas(brokers: &[NodeId], first: usize, count: usize, factor: usize, seed: u64) -> Vec<Vec<NodeId>> {
    let total = brokers.len();
    if factor == 0 || factor > total {
        return Vec::new();
    }
    let width = u64::try_from(total).unwrap_or(u64::MAX);
    let draw = |number: u64| usize::try_from(number % width).unwrap_or(0);
    let (start, shift) = (draw(seed), draw(seed >> 32));
    let pick = |at: usize| brokers.get(at % total).copied();
    (first..first.saturating_add(count))
        .map(|partition| {
            let leader = start + partition;
            // The leader is one of the brokers, so the followers go round the others.
            let round = shift + partition / total;
            let follower = |replica: usize| leader + 1 + (round + replica) % (total - 1);
            (0..factor).filter_map(|replica| pick(if replica == 0 { leader } else { follower(replica - 1) })).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn replicas_are_distinct_and_leaders_are_even(
            total in 1_i32..12, factor in 1_usize..6, count in 1_usize..60, first in 0_usize..20, seed: u64,
        ) {
            let brokers: Vec<_> = (0..total).map(NodeId::new).collect();
            let placed = assign_replicas(&brokers, first, count, factor, seed);
            if factor > brokers.len() {
                prop_assert!(placed.is_empty());
                return Ok(());
            }
            prop_assert_eq!(placed.len(), count);
            let mut leads = vec![0_usize; brokers.len()];
            for replicas in &placed {
                prop_assert_eq!(replicas.len(), factor);
                prop_assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), factor);
                leads[usize::try_from(replicas[0].get()).unwrap()] += 1;
            }
            let (most, least) = (leads.iter().max().unwrap(), leads.iter().min().unwrap());
            prop_assert!(most - least <= 1);
        }
    }

    #[test]
    fn followers_of_one_leader_differ_from_round_to_round() {
        let brokers: Vec<_> = (0..4).map(NodeId::new).collect();
        let placed = assign_replicas(&brokers, 0, 12, 2, 0);
        let of_zero: BTreeSet<_> = placed.iter().filter(|r| r[0] == NodeId::new(0)).map(|r| r[1]).collect();
        assert_eq!(of_zero.len(), 3);
    }
}
