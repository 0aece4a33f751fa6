//! Where each leader epoch begins (`leader-epoch-checkpoint`, KIP-101).
//!
//! Both numbers grow from entry to entry. The file is text: the version (0), the number of entries, then an entry a line.

use crate::checkpoint_text;
use millrace_model::{LeaderEpoch, Offset};
use std::fmt::Write;

/// One epoch and its first offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EpochStart {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) start: Offset,
}

/// The epochs of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs(Vec<EpochStart>);

impl Epochs {
    /// The newest epoch.
    pub(crate) fn latest(&self) -> LeaderEpoch {
        self.0.last().map_or(LeaderEpoch::NONE, |last| last.epoch)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes that `epoch` begins at `start`; returns whether that was new. Entries that it contradicts go.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch <= self.latest() || epoch < LeaderEpoch::new(0) {
            return false;
        }
        self.0.retain(|entry| entry.start < start);
        self.0.push(EpochStart { epoch, start });
        true
    }

    /// Forgets epochs that begin at `end` or later. Returns whether any did.
    pub(crate) fn cut_end(&mut self, end: Offset) -> bool {
        let before = self.0.len();
        self.0.retain(|entry| entry.start < end);
        before != self.0.len()
    }

    /// Forgets epochs that end before `start`; the one that `start` is in begins there now.
    pub(crate) fn cut_start(&mut self, start: Offset) -> bool {
        let within = self.0.partition_point(|entry| entry.start <= start);
        let Some(from) = within.checked_sub(1) else { return false };
        self.0.drain(..from);
        match self.0.first_mut() {
            Some(first) if first.start < start => {
                first.start = start;
                true
            }
            _ => from > 0,
        }
    }

    /// The largest epoch not above `epoch` and the offset where it ends; (−1, −1) where that is not known.
    pub(crate) fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> (LeaderEpoch, Offset) {
        let unknown = (LeaderEpoch::NONE, Offset::new(-1));
        if epoch < LeaderEpoch::new(0) {
            return unknown;
        }
        if epoch == self.latest() {
            return (epoch, log_end);
        }
        let above = self.0.partition_point(|entry| entry.epoch <= epoch);
        let Some(next) = self.0.get(above) else { return unknown };
        match above.checked_sub(1).and_then(|below| self.0.get(below)) {
            Some(below) => (below.epoch, next.start),
            // Older than all that is left: it ended where the oldest one begins.
            None => (epoch, next.start),
        }
    }

    /// The file's text.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("0\n{}\n", self.0.len());
        for entry in &self.0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{} {}", entry.epoch, entry.start);
        }
        text
    }

    /// The epochs in a file's text; `None` if it is not such a text.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut entries: Vec<EpochStart> = Vec::new();
        for line in checkpoint_text::lines(text)? {
            let (epoch, start) = line.split_once(' ')?;
            let entry =
                EpochStart { epoch: LeaderEpoch::new(epoch.parse().ok()?), start: Offset::new(start.parse().ok()?) };
            if entries.last().is_some_and(|last| entry.epoch <= last.epoch || entry.start < last.start) {
                return None;
            }
            entries.push(entry);
        }
        Some(Self(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> Epochs {
        let mut epochs = Epochs::default();
        for &(epoch, start) in entries {
            assert!(epochs.assign(LeaderEpoch::new(epoch), Offset::new(start)));
        }
        epochs
    }

    fn end(epochs: &Epochs, epoch: i32) -> (i32, i64) {
        let (epoch, end) = epochs.end_of(LeaderEpoch::new(epoch), Offset::new(100));
        (epoch.get(), end.get())
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let epochs = epochs(&[(2, 10), (4, 30), (7, 50)]);
        assert_eq!(end(&epochs, 2), (2, 30));
        assert_eq!(end(&epochs, 3), (2, 30), "an epoch without records: the one before it");
        assert_eq!(end(&epochs, 7), (7, 100), "the newest ends with the log");
        assert_eq!(end(&epochs, 1), (1, 10), "older than all");
        assert_eq!(end(&epochs, 8), (-1, -1), "newer than all");
        assert_eq!(end(&epochs, -1), (-1, -1));
    }

    #[test]
    fn an_epoch_that_begins_at_the_same_offset_replaces_the_one_that_wrote_nothing() {
        assert_eq!(epochs(&[(2, 10), (4, 30), (7, 30)]), epochs(&[(2, 10), (7, 30)]));
    }

    #[test]
    fn cutting_keeps_the_epoch_that_the_border_is_in() {
        let mut cut = epochs(&[(2, 10), (4, 30), (7, 50)]);
        assert!(cut.cut_start(Offset::new(40)));
        assert_eq!(cut, epochs(&[(4, 40), (7, 50)]));
        assert!(cut.cut_end(Offset::new(50)));
        assert_eq!(cut, epochs(&[(4, 40)]));
        assert!(!cut.cut_start(Offset::new(3)));
    }

    #[test]
    fn the_text_reads_back_and_broken_texts_are_refused() {
        let written = epochs(&[(2, 10), (4, 30)]);
        assert_eq!(written.to_text(), "0\n2\n2 10\n4 30\n");
        assert_eq!(Epochs::from_text(&written.to_text()), Some(written));
        for broken in ["", "0\n1\n1 7", "1\n0\n", "0\n2\n1 1\n", "0\n1\n1\n", "0\n2\n4 30\n2 10\n", "0\n1\nx 1\n"] {
            assert_eq!(Epochs::from_text(broken), None, "{broken:?}");
        }
    }
}
