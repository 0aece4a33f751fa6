//! Which producers may write to a partition within a transaction (KIP-890).
//!
//! A transaction's first batch on a partition is appended only after its coordinator has said that the partition is part of
//! the transaction. Between the question and the append the transaction may end; a batch that came after its own marker
//! would stay undecided for ever. So whoever asks takes a guard, a marker makes the guard worthless, and the batch is
//! appended only with a guard that is still good.
//!
//! A batch that was refused for the moment comes again, and those that the producer sent behind it must not come to the log
//! before it: where the partition knows nothing of the producer yet, no sequence would tell.

use millrace_model::{ProducerEpoch, ProducerId};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The right to append a transaction's first batch, once its coordinator has agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard(u64);

/// What a transactional batch needs before it is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The transaction has begun on this partition.
    Open,
    /// Its coordinator is to be asked.
    Verify(Guard),
}

/// Of so many producers at most is it remembered which batch is to come again.
const MOST_POSTPONED: usize = 10_000;

#[derive(Debug, Default)]
struct Entries {
    /// Transactions that have begun here, by their producers.
    open: BTreeMap<ProducerId, ProducerEpoch>,
    /// Transactions that somebody asks about. An older one of the producer may be open still.
    asked: BTreeMap<ProducerId, (ProducerEpoch, Guard)>,
    /// The lowest sequences that were refused for the moment.
    postponed: BTreeMap<ProducerId, (ProducerEpoch, i32)>,
    guards: u64,
}

/// The transactions that are open on a partition, or about to be.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<Entries>);

impl Gate {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a batch of this producer needs.
    pub(super) fn admission(&self, id: ProducerId, epoch: ProducerEpoch) -> Admission {
        let mut entries = self.entries();
        if entries.open.get(&id) == Some(&epoch) {
            return Admission::Open;
        }
        // Requests that wait for the same answer share the guard.
        if let Some((known, guard)) = entries.asked.get(&id)
            && *known == epoch
        {
            return Admission::Verify(*guard);
        }
        entries.guards += 1;
        let guard = Guard(entries.guards);
        entries.asked.insert(id, (epoch, guard));
        Admission::Verify(guard)
    }

    /// Nothing comes of the question.
    pub(super) fn abandon(&self, id: ProducerId, guard: Guard) {
        let mut entries = self.entries();
        if entries.asked.get(&id).is_some_and(|(_, known)| *known == guard) {
            entries.asked.remove(&id);
        }
    }

    /// Nothing comes of the question now, and the batch will come again.
    pub(super) fn postpone(&self, id: ProducerId, guard: Guard, epoch: ProducerEpoch, sequence: i32) {
        self.abandon(id, guard);
        let mut entries = self.entries();
        let (known, lowest) = entries.postponed.entry(id).or_insert((epoch, sequence));
        if *known < epoch || *known == epoch && sequence < *lowest {
            (*known, *lowest) = (epoch, sequence);
        }
        if entries.postponed.len() > MOST_POSTPONED {
            entries.postponed.pop_first();
        }
    }

    /// The sequence that the producer's first batch here must not be beyond.
    pub(super) fn postponed(&self, id: ProducerId, epoch: ProducerEpoch) -> Option<i32> {
        self.entries().postponed.get(&id).filter(|(known, _)| *known == epoch).map(|(_, lowest)| *lowest)
    }

    /// Whether a batch may be appended; it then begins, or goes on with, its transaction.
    pub(super) fn admits(&self, id: ProducerId, epoch: ProducerEpoch, guard: Option<Guard>) -> bool {
        let entries = self.entries();
        let agreed = || guard.is_some_and(|guard| entries.asked.get(&id) == Some(&(epoch, guard)));
        entries.open.get(&id) == Some(&epoch) || agreed()
    }

    /// The transaction is open.
    pub(super) fn opened(&self, id: ProducerId, epoch: ProducerEpoch) {
        let mut entries = self.entries();
        if entries.open.insert(id, epoch) != Some(epoch) {
            entries.asked.remove(&id);
            entries.postponed.remove(&id);
        }
    }

    /// The transaction has ended; guards given out before for it are worth nothing. A `strict` marker has an epoch of which
    /// nothing can be written before the next transaction: who asks with that epoch asks about the next one.
    pub(super) fn ended(&self, id: ProducerId, epoch: ProducerEpoch, strict: bool) {
        let mut entries = self.entries();
        entries.open.remove(&id);
        entries.postponed.remove(&id);
        if entries.asked.get(&id).is_some_and(|(asked, _)| *asked < epoch || !strict) {
            entries.asked.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ProducerId = ProducerId::new(4);
    const EPOCH: ProducerEpoch = ProducerEpoch::new(1);

    #[test]
    fn a_guard_is_worth_nothing_once_the_transaction_has_ended() {
        let gate = Gate::default();
        let Admission::Verify(guard) = gate.admission(ID, EPOCH) else { panic!() };
        assert!(gate.admits(ID, EPOCH, Some(guard)));
        assert!(!gate.admits(ID, EPOCH, None));
        gate.ended(ID, EPOCH, false);
        assert!(!gate.admits(ID, EPOCH, Some(guard)));
        let Admission::Verify(fresh) = gate.admission(ID, EPOCH) else { panic!() };
        assert_ne!(fresh, guard);
        assert!(!gate.admits(ID, EPOCH, Some(guard)));
        gate.opened(ID, EPOCH);
        assert_eq!(gate.admission(ID, EPOCH), Admission::Open);
        assert!(gate.admits(ID, EPOCH, None));
        assert!(!gate.admits(ID, ProducerEpoch::new(2), None), "another epoch is another transaction");
    }

    #[test]
    fn the_next_transaction_is_asked_about_while_the_last_one_is_being_ended() {
        let gate = Gate::default();
        let next = ProducerEpoch::new(2);
        gate.opened(ID, EPOCH);
        let Admission::Verify(early) = gate.admission(ID, next) else { panic!() };
        gate.ended(ID, next, true);
        assert!(gate.admits(ID, next, Some(early)), "the marker says that the question is about the next transaction");
        gate.opened(ID, next);
        gate.ended(ID, ProducerEpoch::new(3), true);
        assert!(!gate.admits(ID, next, Some(early)), "it is over now");
    }

    #[test]
    fn a_batch_that_is_to_come_again_is_waited_for() {
        let gate = Gate::default();
        let Admission::Verify(guard) = gate.admission(ID, EPOCH) else { panic!() };
        gate.postpone(ID, guard, EPOCH, 7);
        gate.postpone(ID, guard, EPOCH, 5);
        gate.postpone(ID, guard, EPOCH, 9);
        assert_eq!(gate.postponed(ID, EPOCH), Some(5));
        assert_eq!(gate.postponed(ID, ProducerEpoch::new(2)), None);
        gate.opened(ID, EPOCH);
        assert_eq!(gate.postponed(ID, EPOCH), None);
        for id in 0..20_000 {
            gate.postpone(ProducerId::new(id), guard, EPOCH, 0);
        }
        assert!(gate.entries().postponed.len() <= MOST_POSTPONED);
    }

    #[test]
    fn who_asks_in_vain_leaves_nothing_behind() {
        let gate = Gate::default();
        let Admission::Verify(guard) = gate.admission(ID, EPOCH) else { panic!() };
        assert_eq!(gate.admission(ID, EPOCH), Admission::Verify(guard), "a second batch shares the question");
        gate.abandon(ID, guard);
        assert!(gate.entries().asked.is_empty());
        gate.opened(ID, EPOCH);
        gate.abandon(ID, guard);
        assert!(gate.admits(ID, EPOCH, None));
    }
}
