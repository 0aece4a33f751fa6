//! The end of the log, and where its last batches begin, shared between the writer and readers without a lock.
//!
//! A ring of borders between batches. Border `n` says: whatever has this offset or a later one begins at this position
//! of this segment; the newest border is the end of the log. A reader that follows the log closely finds both the batch it wants and the end
//! here, without touching an index.
//!
//! Invariants:
//! - Only the writer pushes; the bytes before a border are in the file before the border is pushed.
//! - The slot of border `n` is overwritten by border `n + SLOTS`, and only after border `n + SLOTS − 1` was made visible.
//!   Hence a reader that read slot `n`, and then sees a newest border before `n + SLOTS − 1`, read it whole.
//! - Borders before `floor` belong to bytes that were cut off.

use millrace_model::Offset;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

const SLOTS: u64 = 64;

/// A place between two batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Border {
    /// No batch before the border has this offset or a later one.
    pub(crate) offset: Offset,
    /// The segment's first offset.
    pub(crate) segment: Offset,
    /// Bytes of the segment before the border.
    pub(crate) position: u64,
}

#[derive(Debug, Default)]
struct Slot {
    offset: AtomicI64,
    /// The offset relative to the segment's first, and the position: both fit into 32 bits in Kafka's formats.
    place: AtomicU64,
}

/// The ring.
#[derive(Debug)]
pub(crate) struct Tail {
    newest: AtomicU64,
    floor: AtomicU64,
    slots: Box<[Slot]>,
}

impl Tail {
    pub(crate) fn new(end: Border) -> Self {
        let tail = Self {
            newest: AtomicU64::new(0),
            floor: AtomicU64::new(1),
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
        };
        tail.push(end);
        tail
    }

    /// Moves the end of the log on. The writer's alone.
    pub(crate) fn push(&self, border: Border) {
        let next = self.newest.load(Ordering::Relaxed) + 1;
        if let Some(slot) = self.slot(next) {
            let relative = u64::from(u32::try_from(border.offset.since(border.segment)).unwrap_or(u32::MAX));
            slot.offset.store(border.offset.get(), Ordering::Release);
            slot.place.store(relative << 32 | (border.position & u64::from(u32::MAX)), Ordering::Release);
        }
        self.newest.store(next, Ordering::Release);
    }

    /// Moves the end of the log back: all earlier borders are forgotten. The writer's alone.
    pub(crate) fn reset(&self, end: Border) {
        self.floor.store(self.newest.load(Ordering::Relaxed) + 1, Ordering::Release);
        self.push(end);
    }

    /// The end of the log.
    pub(crate) fn end(&self) -> Border {
        loop {
            // It fails only where the writer went round the whole ring in the meantime.
            if let Some(border) = self.get(self.newest.load(Ordering::Acquire)) {
                return border;
            }
            std::hint::spin_loop();
        }
    }

    /// The border that `offset` lies behind, and the one after that; `None` where the ring does not reach back so far.
    pub(crate) fn find(&self, offset: Offset) -> Option<(Border, Border)> {
        let newest = self.newest.load(Ordering::Acquire);
        let oldest = newest.saturating_sub(SLOTS - 2).max(self.floor.load(Ordering::Acquire));
        let mut after = self.get(newest)?;
        let mut at = newest;
        while at > oldest {
            at -= 1;
            let border = self.get(at)?;
            if border.offset <= offset && after.offset > offset {
                return Some((border, after));
            }
            after = border;
        }
        None
    }

    fn get(&self, at: u64) -> Option<Border> {
        let slot = self.slot(at)?;
        let offset = Offset::new(slot.offset.load(Ordering::Acquire));
        let place = slot.place.load(Ordering::Acquire);
        let whole = self.newest.load(Ordering::Acquire) < at + SLOTS - 1;
        let relative = i64::try_from(place >> 32).unwrap_or(0);
        whole.then(|| Border { offset, segment: offset.plus(-relative), position: place & u64::from(u32::MAX) })
    }

    fn slot(&self, at: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(at % SLOTS).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    fn border(offset: i64) -> Border {
        let segment = offset / 1000 * 1000;
        Border { offset: Offset::new(offset), segment: Offset::new(segment), position: (offset - segment) as u64 * 7 }
    }

    #[test]
    fn the_newest_borders_are_found_and_older_ones_are_not() {
        let tail = Tail::new(border(0));
        for offset in 1..=200 {
            tail.push(border(offset * 10));
        }
        assert_eq!(tail.end(), border(2000));
        assert_eq!(tail.find(Offset::new(1995)), Some((border(1990), border(2000))));
        assert_eq!(tail.find(Offset::new(1700)), Some((border(1700), border(1710))));
        assert_eq!(tail.find(Offset::new(2000)), None, "the end has nothing behind it");
        assert_eq!(tail.find(Offset::new(100)), None);
        tail.reset(border(1500));
        assert_eq!(tail.end(), border(1500));
        assert_eq!(tail.find(Offset::new(1499)), None, "what was cut off is forgotten");
    }

    #[test]
    fn a_reader_beside_the_writer_sees_only_whole_borders() {
        let tail = Arc::new(Tail::new(border(0)));
        let done = Arc::new(AtomicBool::new(false));
        let reader = std::thread::spawn({
            let (tail, done) = (Arc::clone(&tail), Arc::clone(&done));
            move || {
                let mut last = Offset::ZERO;
                while !done.load(Ordering::Relaxed) {
                    let end = tail.end();
                    assert_eq!(end, border(end.offset.get()));
                    assert!(end.offset >= last);
                    last = end.offset;
                    if let Some((before, after)) = tail.find(end.offset.plus(-50)) {
                        assert_eq!(before, border(before.offset.get()));
                        assert_eq!(after, border(after.offset.get()));
                    }
                }
            }
        });
        for offset in 1..300_000 {
            tail.push(border(offset));
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    }
}
