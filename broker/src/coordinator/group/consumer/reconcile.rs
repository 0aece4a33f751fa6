//! The step of one member towards its target.
//!
//! ```text
//!                    has too much                      confirmed that it gave it up
//!   Stable ───────────────────────▶ UnrevokedPartitions ───────────┐
//!     ▲  │                                                         ▼
//!     │  └── others have what it is to get ──▶ UnreleasedPartitions (in the target's epoch already)
//!     └──────────────── all of it is free ────────────┘
//! ```
//! A member keeps its epoch until it has given up what it is not to have, and gets only what nobody owns: so no
//! partition is ever with two members.

use super::group::{ConsumerGroup, ConsumerMember};
use crate::coordinator::group::records::{CurrentValue, Epochs, MemberState, Partitions};
use crate::coordinator::group::types::GroupError;
use millrace_metadata::Image;
use millrace_model::TopicId;
use std::collections::{BTreeMap, BTreeSet};

/// What a member is to be brought to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal<'a> {
    /// The epoch of the targets.
    pub epoch: i32,
    /// The member's.
    pub target: &'a Partitions,
    /// What the member says it has; none where it says nothing.
    pub reported: Option<&'a Partitions>,
    /// The member has just changed what it reads: what it no longer reads goes at once.
    pub has_new_subscription: bool,
}

/// What the member has after this step; the same as before where it cannot move.
///
/// # Errors
/// [`GroupError::FencedMemberEpoch`] for a member in a state that only a newer broker knows.
pub(super) fn step(
    group: &ConsumerGroup,
    image: &Image,
    member: &ConsumerMember,
    goal: Goal<'_>,
) -> Result<CurrentValue, GroupError> {
    let current = &member.current;
    if !goal.has_new_subscription && member.is_reconciled_to(goal.epoch) {
        return Ok(current.clone());
    }
    let reads = |topic: TopicId| image.topic_by_id(topic).is_some_and(|topic| group.reads(member, &topic.name));
    Ok(match current.state {
        MemberState::Stable if current.epoch != goal.epoch => next(group, member, goal, reads, current.epoch),
        MemberState::Stable => narrowed(current, goal, reads),
        MemberState::UnrevokedPartitions if has_any(goal.reported, &current.revoking) => narrowed(current, goal, reads),
        MemberState::UnrevokedPartitions | MemberState::UnreleasedPartitions => {
            next(group, member, goal, reads, current.epoch)
        }
        MemberState::Unknown if goal.reported.is_none_or(|reported| !reported.is_empty()) => {
            return Err(GroupError::FencedMemberEpoch);
        }
        MemberState::Unknown => next(group, member, goal, reads, goal.epoch),
    })
}

/// Takes away the topics that the member reads no longer, and nothing else.
fn narrowed(current: &CurrentValue, goal: Goal<'_>, reads: impl Fn(TopicId) -> bool) -> CurrentValue {
    let mut assigned = current.assigned.clone();
    assigned.retain(|topic, _| reads(*topic));
    if !goal.has_new_subscription || assigned.len() == current.assigned.len() {
        return current.clone();
    }
    let mut revoking = current.revoking.clone();
    for (topic, partitions) in current.assigned.iter().filter(|(topic, _)| !assigned.contains_key(topic)) {
        revoking.entry(*topic).or_default().extend(partitions);
    }
    if has_any(goal.reported, &revoking) {
        let state = MemberState::UnrevokedPartitions;
        return CurrentValue { epoch: current.epoch, previous_epoch: current.epoch, state, assigned, revoking };
    }
    // They are given up already. (A member that has confirmed all it had to give up is not here but in `next`.)
    CurrentValue { previous_epoch: current.epoch, assigned, ..current.clone() }
}

fn next(
    group: &ConsumerGroup,
    member: &ConsumerMember,
    goal: Goal<'_>,
    reads: impl Fn(TopicId) -> bool,
    epoch: i32,
) -> CurrentValue {
    let current = &member.current;
    let nothing = BTreeSet::new();
    let topics: BTreeSet<TopicId> = goal.target.keys().chain(current.assigned.keys()).copied().collect();
    let (mut assigned, mut revoking, mut fresh) = (Epochs::new(), Epochs::new(), Epochs::new());
    let mut waits = false;
    for topic in topics {
        let target = goal.target.get(&topic).filter(|_| reads(topic)).unwrap_or(&nothing);
        let has = current.assigned.get(&topic).cloned().unwrap_or_default();
        let gives_up = current.revoking.get(&topic);
        let (kept, gone): (BTreeMap<i32, i32>, BTreeMap<i32, i32>) =
            has.into_iter().partition(|(partition, _)| target.contains(partition));
        // What this very member was giving up is free: nobody else can have it.
        let is_free = |partition: i32| {
            !group.is_owned(topic, partition) || gives_up.is_some_and(|gives_up| gives_up.contains_key(&partition))
        };
        let (free, taken): (BTreeSet<i32>, BTreeSet<i32>) =
            target.iter().filter(|partition| !kept.contains_key(partition)).partition(|partition| is_free(**partition));
        waits |= !taken.is_empty();
        put(&mut assigned, topic, kept);
        put(&mut revoking, topic, gone);
        put(&mut fresh, topic, free.into_iter().map(|partition| (partition, goal.epoch)).collect());
    }
    if has_any(goal.reported, &revoking) {
        let state = MemberState::UnrevokedPartitions;
        return CurrentValue { epoch, previous_epoch: current.epoch, state, assigned, revoking };
    }
    for (topic, partitions) in fresh {
        assigned.entry(topic).or_default().extend(partitions);
    }
    let state = if waits { MemberState::UnreleasedPartitions } else { MemberState::Stable };
    CurrentValue { epoch: goal.epoch, previous_epoch: current.epoch, state, assigned, revoking: Epochs::new() }
}

fn put(epochs: &mut Epochs, topic: TopicId, partitions: BTreeMap<i32, i32>) {
    if !partitions.is_empty() {
        epochs.insert(topic, partitions);
    }
}

/// Whether the member still has any of these; one that does not say may have all.
fn has_any(reported: Option<&Partitions>, revoking: &Epochs) -> bool {
    if revoking.is_empty() {
        return false;
    }
    let Some(reported) = reported else { return true };
    reported.iter().any(|(topic, partitions)| {
        revoking.get(topic).is_some_and(|gone| partitions.iter().any(|partition| gone.contains_key(partition)))
    })
}
