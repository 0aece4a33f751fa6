//! Fetch sessions (KIP-227): a reader names its partitions once, and then only what changes.
//!
//! A session belongs to the connection that made it: there is no table of sessions that all readers would have to pass
//! through, and it ends with the connection. A reader that comes back over another one is told that its session is not
//! found and names its partitions again, as when Kafka has evicted it. The number of sessions is bounded by
//! `max.incremental.fetch.session.cache.slots`; beyond it readers do without.
//!
//! Order: partitions are answered in the order of the session, and those that had records go to its end, so that a
//! limited answer gives every partition its turn.

use millrace_model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_protocol::messages::TopicName;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A partition that is read.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The topic; nil where it is named and was not found.
    pub(super) topic: TopicId,
    /// Its name; empty where it is given by its id.
    pub(super) name: TopicName,
    pub(super) partition: PartitionId,
    /// Where to read on.
    pub(super) offset: Offset,
    pub(super) max_bytes: u32,
    /// The leader's epoch as the reader knows it; negative where it does not.
    pub(super) leader_epoch: i32,
    /// The epoch of the last record read; negative where it is not known.
    pub(super) last_epoch: LeaderEpoch,
    /// What the reader was told last: the high watermark and the log's start.
    pub(super) told: Option<(Offset, Offset)>,
}

impl Entry {
    fn is_same(&self, other: &Self) -> bool {
        self.partition == other.partition && self.topic == other.topic && self.name == other.name
    }
}

/// Counts one session for as long as it lives.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a reader reads.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// 0 for a reader without a session.
    pub(super) id: i32,
    /// The epoch of the next request.
    pub(super) epoch: i32,
    /// Whether topics are given by id.
    pub(super) by_id: bool,
    pub(super) entries: Vec<Entry>,
    place: Option<Place>,
}

impl Session {
    /// The partitions of a reader that wants no session.
    pub(super) fn once(by_id: bool, entries: Vec<Entry>) -> Self {
        Self { by_id, entries, ..Self::default() }
    }

    /// Makes it a session proper if there is a place for it.
    pub(super) fn keep(&mut self, id: i32, open: &Arc<AtomicUsize>, places: usize) {
        if open.fetch_add(1, Ordering::Relaxed) < places {
            self.place = Some(Place(Arc::clone(open)));
            self.id = id;
            self.epoch = 1;
        } else {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether it outlives the request.
    pub(super) const fn is_kept(&self) -> bool {
        self.place.is_some()
    }

    /// Moves on to the next request. After the last number comes 1: 0 begins a session.
    pub(super) const fn advance(&mut self) {
        self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
    }

    /// Adds partitions, or changes where they are read.
    pub(super) fn update(&mut self, changed: Vec<Entry>) {
        let known: BTreeMap<_, usize> = if changed.len() > 8 { self.places() } else { BTreeMap::new() };
        for entry in changed {
            let at = if known.is_empty() {
                self.entries.iter().position(|it| it.is_same(&entry))
            } else {
                known.get(&key(&entry)).copied()
            };
            match at.and_then(|at| self.entries.get_mut(at)) {
                Some(old) => *old = Entry { told: old.told, ..entry },
                None => self.entries.push(entry),
            }
        }
    }

    fn places(&self) -> BTreeMap<(TopicId, TopicName, PartitionId), usize> {
        self.entries.iter().enumerate().map(|(at, entry)| (key(entry), at)).collect()
    }

    /// Takes partitions off.
    pub(super) fn forget(&mut self, gone: &[(TopicId, TopicName, PartitionId)]) {
        if gone.is_empty() {
            return;
        }
        let gone: std::collections::BTreeSet<_> = gone.iter().collect();
        self.entries.retain(|entry| !gone.contains(&key(entry)));
    }

    /// Puts the partitions for which this holds behind the others.
    pub(super) fn rotate(&mut self, had_records: &[bool]) {
        let mut turn = had_records.iter();
        let (later, mut first): (Vec<_>, Vec<_>) =
            self.entries.drain(..).partition(|_| turn.next().copied().unwrap_or(false));
        first.extend(later);
        self.entries = first;
    }
}

fn key(entry: &Entry) -> (TopicId, TopicName, PartitionId) {
    (entry.topic, entry.name.clone(), entry.partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(partition: i32, offset: i64) -> Entry {
        Entry {
            topic: TopicId::NIL,
            name: TopicName::default(),
            partition: PartitionId::new(partition),
            offset: Offset::new(offset),
            max_bytes: 1,
            leader_epoch: -1,
            last_epoch: LeaderEpoch::NONE,
            told: None,
        }
    }

    fn order(session: &Session) -> Vec<i32> {
        session.entries.iter().map(|entry| entry.partition.get()).collect()
    }

    #[test]
    fn partitions_that_had_records_go_to_the_end() {
        let mut session = Session::once(true, (0..5).map(|p| entry(p, 0)).collect());
        session.rotate(&[true, false, true, false, false]);
        assert_eq!(order(&session), [1, 3, 4, 0, 2]);
    }

    #[test]
    fn an_update_changes_what_is_there_and_adds_what_is_not() {
        for many in [0, 20] {
            let mut session = Session::once(true, (0..5).map(|p| entry(p, 0)).collect());
            session
                .update([entry(3, 7), entry(9, 1)].into_iter().chain((100..100 + many).map(|p| entry(p, 0))).collect());
            assert_eq!(&order(&session)[..6], [0, 1, 2, 3, 4, 9]);
            assert_eq!(session.entries[3].offset, Offset::new(7));
        }
    }

    #[test]
    fn forgotten_partitions_are_gone() {
        let mut session = Session::once(true, (0..5).map(|p| entry(p, 0)).collect());
        let gone = |p| (TopicId::NIL, TopicName::default(), PartitionId::new(p));
        session.forget(&[gone(0), gone(4), gone(77)]);
        assert_eq!(order(&session), [1, 2, 3]);
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let open = Arc::new(AtomicUsize::new(0));
        let mut first = Session::default();
        first.keep(5, &open, 1);
        let mut second = Session::default();
        second.keep(6, &open, 1);
        assert!(first.is_kept() && !second.is_kept());
        drop(first);
        second.keep(6, &open, 1);
        assert_eq!((second.id, second.is_kept()), (6, true));
    }

    #[test]
    fn epochs_wrap_to_one() {
        let mut session = Session { epoch: i32::MAX, ..Session::default() };
        session.advance();
        assert_eq!(session.epoch, 1);
    }
}
