//! Which part of a log is dirty, whether it is worth a round, and which segments become one: chosen here, purely.

use crate::config::Compaction;
use millrace_model::{Offset, Timestamp};
use std::ops::Range;

/// Segments of a group at most. The writer waits while the files of all of them get other names.
const MOST: usize = 32;

/// What the choice looks at, of one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) base: Offset,
    pub(super) size: u64,
    pub(super) index_bytes: u64,
    pub(super) time_index_bytes: u64,
    /// The largest timestamp.
    pub(super) newest: Timestamp,
    /// The first batch's timestamp.
    pub(super) first: Timestamp,
}

/// What a round over a log would find. Chosen by [`crate::LogReader::cleanable`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cleanable {
    /// Records before it were cleaned by an earlier round.
    pub first_dirty: Offset,
    /// Records from here on are not cleaned: the first offset of a segment.
    pub upto: Offset,
    /// The share of dirty bytes in what lies before `upto`.
    pub dirty_ratio: f64,
    /// Dirty bytes.
    pub bytes: u64,
    /// A record has waited for longer than `max.compaction.lag.ms`.
    pub overdue: bool,
}

impl Cleanable {
    /// Whether it is worth a round.
    pub fn is_due(&self, compaction: &Compaction) -> bool {
        self.bytes > 0 && (self.overdue || self.dirty_ratio > compaction.min_dirty_ratio)
    }
}

/// The dirty part of the sealed segments `parts`, behind which the active segment begins at `active`. Nothing from `stable`
/// on is cleaned, nor what `min.compaction.lag.ms` protects.
pub(super) fn dirty_part(
    parts: &[Part],
    active: Offset,
    first_dirty: Offset,
    stable: Offset,
    compaction: &Compaction,
    now: Timestamp,
) -> Cleanable {
    let ends = || parts.iter().skip(1).map(|next| next.base).chain([active]);
    // The segment that holds the first dirty offset.
    let dirty_from = ends().position(|end| end > first_dirty).unwrap_or(parts.len());
    let too_young =
        |part: &Part| compaction.min_lag_ms > 0 && part.newest > now.plus_ms(compaction.min_lag_ms.saturating_neg());
    // The first segment that must stay as it is.
    let bound = parts
        .iter()
        .zip(ends())
        .enumerate()
        .find(|(i, (part, end))| *end > stable || (*i >= dirty_from && too_young(part)))
        .map_or(active, |(_, (part, _))| part.base);
    let sum = |wanted: &dyn Fn(usize, &Part) -> bool| -> u64 {
        parts.iter().enumerate().filter(|(i, part)| wanted(*i, part)).map(|(_, part)| part.size).sum()
    };
    let clean = sum(&|_, part| part.base < first_dirty);
    let bytes = sum(&|i, part| i >= dirty_from && part.base < bound);
    let oldest = parts.get(dirty_from..).unwrap_or_default().iter().map(|part| part.first);
    let oldest = oldest.filter(|first| *first > Timestamp::new(0)).min();
    let total = clean + bytes;
    #[expect(clippy::cast_precision_loss, reason = "a ratio of sizes")]
    let dirty_ratio = if total == 0 { 0.0 } else { bytes as f64 / total as f64 };
    Cleanable {
        first_dirty,
        upto: bound.max(first_dirty),
        dirty_ratio,
        bytes,
        overdue: oldest.is_some_and(|oldest| now.since(oldest) > compaction.max_lag_ms),
    }
}

/// Ranges of segments that become one each: not too many, together no larger than a segment may be, nor their indexes, nor
/// their offsets too far apart. `end` is where the last one ends.
pub(super) fn groups(parts: &[Part], end: Offset, segment_bytes: u32, index_bytes: u32) -> Vec<Range<usize>> {
    let (segment_bytes, index_bytes) = (u64::from(segment_bytes), u64::from(index_bytes));
    let mut groups = Vec::new();
    let mut from = 0;
    let mut sums = (0_u64, 0_u64, 0_u64);
    for (i, part) in parts.iter().enumerate() {
        let grown = (sums.0 + part.size, sums.1 + part.index_bytes, sums.2 + part.time_index_bytes);
        let ends_at = parts.get(i + 1).map_or(end, |next| next.base).plus(-1);
        let first = parts.get(from).map_or(part.base, |first| first.base);
        let fits = i - from < MOST
            && grown.0 <= segment_bytes
            && grown.1 <= index_bytes
            && grown.2 <= index_bytes
            && (part.size == 0 || ends_at.since(first) <= i32::MAX.into());
        if i > from && !fits {
            groups.push(from..i);
            from = i;
            sums = (part.size, part.index_bytes, part.time_index_bytes);
        } else {
            sums = grown;
        }
    }
    if from < parts.len() {
        groups.push(from..parts.len());
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of 100 bytes and 10 offsets; the newest record of segment i has timestamp (i + 1) × 1000.
    fn parts(count: i64) -> Vec<Part> {
        (0..count)
            .map(|i| Part {
                base: Offset::new(i * 10),
                size: 100,
                index_bytes: 8,
                time_index_bytes: 12,
                newest: Timestamp::new((i + 1) * 1000),
                first: Timestamp::new(i * 1000 + 1),
            })
            .collect()
    }

    fn chosen(first_dirty: i64, stable: i64, compaction: &Compaction, now: i64) -> Cleanable {
        let (active, first_dirty, stable) = (Offset::new(40), Offset::new(first_dirty), Offset::new(stable));
        dirty_part(&parts(4), active, first_dirty, stable, compaction, Timestamp::new(now))
    }

    #[test]
    fn the_dirty_part_ends_before_the_active_segment_the_stable_offset_and_young_records() {
        let defaults = Compaction::default();
        let all = chosen(0, 100, &defaults, 10_000);
        assert_eq!((all.upto.get(), all.bytes, all.dirty_ratio, all.overdue), (40, 400, 1.0, false));
        assert_eq!(chosen(0, 39, &defaults, 10_000).upto.get(), 30, "a segment is cleaned as a whole or not at all");
        assert_eq!(chosen(0, 40, &defaults, 10_000).upto.get(), 40);
        let half = chosen(20, 100, &defaults, 10_000);
        assert_eq!((half.bytes, half.dirty_ratio, half.is_due(&defaults)), (200, 0.5, false), "more than the ratio");
        let lagging = Compaction { min_lag_ms: 7500, ..defaults.clone() };
        assert_eq!(chosen(0, 100, &lagging, 10_000).upto.get(), 20, "the third segment's newest record is 7000 old");
        let hurried = Compaction { max_lag_ms: 7900, ..defaults };
        assert!(chosen(20, 100, &hurried, 10_000).is_due(&hurried), "a record is 7999 old");
        assert!(!chosen(30, 100, &hurried, 10_000).is_due(&hurried));
        let none = chosen(40, 100, &hurried, 10_000);
        assert_eq!((none.upto.get(), none.bytes, none.overdue), (40, 0, false), "nothing is dirty");
    }

    #[test]
    fn groups_are_as_large_as_one_segment_may_be() {
        let ranges = |segment, index| groups(&parts(5), Offset::new(50), segment, index);
        assert_eq!(ranges(1000, 1000).first(), Some(&(0..5)));
        assert_eq!(ranges(250, 1000), [0..2, 2..4, 4..5]);
        assert_eq!(ranges(1000, 36), [0..3, 3..5], "by the larger of the indexes");
        assert_eq!(ranges(10, 10), [0..1, 1..2, 2..3, 3..4, 4..5], "one that is too large stands alone");
        let mut far = parts(3);
        far[2].base = Offset::new(i64::from(i32::MAX));
        assert_eq!(groups(&far, far[2].base.plus(5), 1000, 1000), [0..2, 2..3]);
        assert_eq!(groups(&parts(70), Offset::new(700), 1 << 20, 1 << 20), [0..32, 32..64, 64..70], "not too many");
    }
}
