//! The deadlines of one shard's groups: one queue for all, no task and no timer of the runtime per member.
//!
//! A deadline is known by what it is about; setting it again moves it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use crate::coordinator::runtime::machine::Tick;

/// What a deadline is about; there is at most one for each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A member's session, or an id that was handed out and has not joined.
    Session(Arc<str>, String),
    /// The end of a group's join phase.
    Join(Arc<str>),
    /// The end of a group's sync phase.
    Sync(Arc<str>),
    /// A member of a consumer group has to give partitions up.
    Revocation(Arc<str>, String),
    /// A member of the classic protocol has to join a consumer group again.
    Rejoin(Arc<str>, String),
    /// A member of the classic protocol that joined a consumer group has to sync.
    MemberSync(Arc<str>, String),
    /// The search for expired offsets.
    Expiry,
}

/// What to do when the deadline is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The member has been silent.
    Session,
    /// The delay of a first rebalance is over, or goes on where members have come meanwhile.
    InitialJoin {
        /// How long the delay was.
        delay_ms: i32,
        /// How much longer it may go on.
        remaining_ms: i32,
    },
    /// Whoever has not rejoined is out.
    Join,
    /// Whoever has not synced is out.
    Sync {
        /// The generation it is about.
        generation: i32,
    },
    /// The member still has what it was to give up.
    Revocation {
        /// The epoch it is still in then.
        epoch: i32,
    },
    /// Look for expired offsets.
    Expiry,
}

/// The deadlines of one shard.
#[derive(Debug, Default)]
pub struct Timers {
    deadlines: BTreeMap<Key, (Tick, Due)>,
    queue: BTreeSet<(Tick, Key)>,
}

impl Timers {
    /// Sets or moves a deadline.
    pub fn set(&mut self, key: Key, at: Tick, due: Due) {
        if let Some((before, _)) = self.deadlines.insert(key.clone(), (at, due)) {
            self.queue.remove(&(before, key.clone()));
        }
        self.queue.insert((at, key));
    }

    /// Sets a deadline unless there is one.
    pub fn set_if_absent(&mut self, key: Key, at: Tick, due: Due) {
        if !self.deadlines.contains_key(&key) {
            self.set(key, at, due);
        }
    }

    /// Drops a deadline.
    pub fn cancel(&mut self, key: &Key) {
        if let Some((at, _)) = self.deadlines.remove(key) {
            self.queue.remove(&(at, key.clone()));
        }
    }

    /// Drops the deadlines of the group's phases. Those of sessions find nobody and do nothing.
    pub fn cancel_phases(&mut self, group: &Arc<str>) {
        self.cancel(&Key::Join(Arc::clone(group)));
        self.cancel(&Key::Sync(Arc::clone(group)));
    }

    /// Drops the deadlines of a member of a consumer group.
    pub fn cancel_member(&mut self, group: &Arc<str>, member: &str) {
        for make in [Key::Session, Key::Revocation, Key::Rejoin, Key::MemberSync] {
            self.cancel(&make(Arc::clone(group), member.to_owned()));
        }
    }

    /// When the next deadline is.
    pub fn next(&self) -> Option<Tick> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes a deadline that has been reached.
    pub fn pop(&mut self, now: Tick) -> Option<(Key, Due)> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.queue.pop_first()?;
        let (_, due) = self.deadlines.remove(&key)?;
        Some((key, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_set_again_moves_and_a_cancelled_one_is_gone() {
        let group: Arc<str> = "g".into();
        let mut timers = Timers::default();
        let session = Key::Session(Arc::clone(&group), "m".into());
        timers.set(session.clone(), 10, Due::Session);
        timers.set(Key::Join(Arc::clone(&group)), 20, Due::Join);
        timers.set(Key::Expiry, 25, Due::Expiry);
        timers.set(session.clone(), 30, Due::Session);
        assert_eq!(timers.next(), Some(20));
        timers.cancel_phases(&group);
        assert_eq!(timers.pop(24), None);
        assert_eq!(timers.pop(30), Some((Key::Expiry, Due::Expiry)));
        assert_eq!(timers.pop(30), Some((session, Due::Session)));
        assert_eq!(timers.next(), None);
    }
}
