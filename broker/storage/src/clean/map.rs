//! The last offset of each key in the dirty part of a log, in a bounded table.
//!
//! ```text
//! slot, 24 bytes:  the first 16 bytes of the key's SHA-256, then its offset plus one (0: the slot is free)
//! ```
//!
//! A key is known by its hash alone. Whoever could make two keys meet could make the cleaner drop a record that nothing
//! supersedes, so the hash is one for which nobody can; Kafka takes MD5 for the same slot.
//!
//! Invariant: at least one slot is free, so that every search ends.

use millrace_model::Offset;
use sha2::{Digest, Sha256};

/// Bytes of a slot.
const SLOT: u64 = 24;

type Hash = [u64; 2];

/// The table. It grows no further than it was made.
pub(super) struct OffsetMap {
    slots: Vec<[u64; 3]>,
    len: usize,
    limit: usize,
    latest: Offset,
}

impl std::fmt::Debug for OffsetMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OffsetMap").field("len", &self.len).field("slots", &self.slots.len()).finish_non_exhaustive()
    }
}

impl OffsetMap {
    /// A table of at most `bytes`, filled up to `load`, and no larger than `most` keys need. Nothing before `start` is in it.
    pub(super) fn new(bytes: u64, load: f64, most: u64, start: Offset) -> Self {
        let load = load.clamp(0.1, 0.95);
        let within = (bytes / SLOT).max(16);
        // A quarter of room on top, so that a table that is made to measure is not searched for long.
        let slots = within.min(most.saturating_add(most / 4).saturating_add(16));
        let slots = usize::try_from(slots).unwrap_or(usize::MAX / 32);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a positive count"
        )]
        let limit = (slots as f64 * load) as usize;
        // Zeros come from the kernel page by page: what is not filled is not resident.
        Self { slots: vec![[0; 3]; slots], len: 0, limit: limit.clamp(1, slots - 1), latest: start.plus(-1) }
    }

    /// Notes that `key` was written at `offset`, later than all before. `false` where the table is full.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        if self.len >= self.limit {
            return false;
        }
        let [high, low] = hash(key);
        let (at, known) = self.find([high, low]);
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = [high, low, stored(offset)];
            self.len += usize::from(!known);
        }
        self.note(offset);
        true
    }

    /// Everything up to `offset` has been seen.
    pub(super) fn note(&mut self, offset: Offset) {
        self.latest = self.latest.max(offset);
    }

    /// The last offset of what the table speaks of.
    pub(super) const fn latest(&self) -> Offset {
        self.latest
    }

    /// Keys in it.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether `key` was written after `offset`.
    pub(super) fn supersedes(&self, key: &[u8], offset: Offset) -> bool {
        let (at, known) = self.find(hash(key));
        known && self.slots.get(at).is_some_and(|slot| slot[2] > stored(offset))
    }

    /// The slot of a hash, or the free one where it would go, and whether it is there.
    fn find(&self, [high, low]: Hash) -> (usize, bool) {
        let count = self.slots.len();
        // The hash scaled to the number of slots.
        let wide = u128::from(high) * count as u128;
        let mut at = usize::try_from(wide >> 64).unwrap_or(0);
        loop {
            match self.slots.get(at) {
                Some([_, _, 0]) => return (at, false),
                Some([h, l, _]) if *h == high && *l == low => return (at, true),
                Some(_) => at += 1,
                None => at = 0,
            }
        }
    }
}

fn stored(offset: Offset) -> u64 {
    u64::try_from(offset.get()).unwrap_or(0).saturating_add(1)
}

fn hash(key: &[u8]) -> Hash {
    let digest = Sha256::digest(key);
    let word = |from: usize| {
        let bytes = digest.get(from..from + 8).and_then(|bytes| bytes.first_chunk()).copied();
        u64::from_be_bytes(bytes.unwrap_or_default())
    };
    [word(0), word(8)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_takes_no_more_keys_and_still_knows_all_that_it_took() {
        let mut map = OffsetMap::new(24 * 100, 0.9, u64::MAX / 2, Offset::new(7));
        assert_eq!(map.latest(), Offset::new(6));
        let mut taken = 0_i64;
        while map.put(&taken.to_be_bytes(), Offset::new(7 + taken)) {
            taken += 1;
        }
        assert_eq!((taken, map.len()), (90, 90));
        assert_eq!(map.latest(), Offset::new(96));
        for key in 0..taken {
            let offset = 7 + key;
            assert!(map.supersedes(&key.to_be_bytes(), Offset::new(offset - 1)));
            assert!(!map.supersedes(&key.to_be_bytes(), Offset::new(offset)));
        }
        assert!(!map.supersedes(b"another", Offset::ZERO));
    }

    #[test]
    fn a_key_that_comes_again_takes_no_second_slot() {
        let mut map = OffsetMap::new(1 << 20, 0.9, 10, Offset::ZERO);
        for offset in 0..1000 {
            assert!(map.put(b"the key", Offset::new(offset)));
        }
        assert_eq!(map.len(), 1);
        assert!(map.supersedes(b"the key", Offset::new(998)));
        assert!(map.slots.len() < 100, "no larger than the dirty part of the log can need");
    }
}
