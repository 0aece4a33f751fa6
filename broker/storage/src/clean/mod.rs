//! Log cleaning: of the records of one key only the last one stays.
//!
//! A [`Round`] first goes through the dirty part and notes each key's last offset, as far as its table reaches; then it goes
//! through all segments before that point and writes them anew, group by group, without what is superseded. It runs beside
//! the writer and the readers, in steps as long as its owner wants them; only [`crate::Log::swap_in`] takes the writer's turn, for
//! a few renames.
//!
//! ```text
//!   clean            first dirty      last offset in the table      upto        active segment
//!   |----------------|----------------|-----------------------------|-----------|
//!   rewritten        read into the table, then rewritten            next round  not touched
//! ```
//!
//! Invariants:
//! - Nothing at or behind the last stable offset is read or changed, nor is the active segment.
//! - A group's last batch stays, if only as an empty header: it says how far the segment reaches, so that a swap that a crash
//!   interrupted is finished for exactly the segments that it was for. (Kafka keeps only the last batch of a round.)
//! - The records are under the same offsets before and after; a reader in the middle goes on where it was.
//! - Memory: the table, and two buffers that grow to the largest batch and its records.

mod filter;
mod map;
mod plan;
mod read;
mod round;
mod transactions;
mod write;

pub(crate) use filter::{LastOfProducers, LastWritten};
pub use plan::Cleanable;
pub use round::Round;
pub use write::Cleaned;
pub(crate) use write::{EXTENSIONS, SWAP, remove};

use crate::reader::{LogReader, Shared};
use crate::segment::Segment;
use crate::{LogConfig, StorageError};
use millrace_model::{Offset, Timestamp};
use plan::Part;
use std::sync::Arc;

/// What all rounds of a node share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleanOptions {
    /// `log.cleaner.dedupe.buffer.size`: bytes of the table of keys, 24 for each.
    pub table_bytes: u64,
    /// `log.cleaner.io.buffer.load.factor`: how full the table gets.
    pub table_load: f64,
    /// `log.cleaner.io.buffer.size`: bytes read, and written, at a time.
    pub io_bytes: usize,
    /// What one batch may unfold to.
    pub unfolded_bytes: usize,
}

impl Default for CleanOptions {
    fn default() -> Self {
        Self { table_bytes: 128 << 20, table_load: 0.9, io_bytes: 512 << 10, unfolded_bytes: 128 << 20 }
    }
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanStats {
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Bytes of the segments before, and after.
    pub bytes_before: u64,
    /// See `bytes_before`.
    pub bytes_after: u64,
    /// Keys in the table.
    pub keys: usize,
}

/// What a step came to.
#[derive(Debug)]
pub enum Step {
    /// There is more to do.
    More,
    /// A group is written: hand it to [`crate::Log::swap_in`], then go on.
    Swap(Cleaned),
    /// The round is over, and everything before this offset is clean. It may be written down.
    Done(Offset),
}

impl LogReader {
    /// What a round would find now. `first_dirty` is what the last one returned; nothing from `stable` on (the last stable
    /// offset) is touched.
    ///
    /// # Errors
    /// As the disk says.
    pub fn cleanable(
        &self,
        config: &LogConfig,
        first_dirty: Option<Offset>,
        stable: Offset,
        now: Timestamp,
    ) -> Result<Cleanable, StorageError> {
        let segments = self.shared.segments.load_full();
        let start = self.start_offset();
        // One that lies outside of the log is from another time: everything counts as dirty.
        let known = first_dirty.filter(|offset| (start..=self.end_offset()).contains(offset));
        let first_dirty = known.unwrap_or(start);
        let active = segments.last().map_or(start, |active| active.base);
        let sealed = segments.get(..segments.len().saturating_sub(1)).unwrap_or_default();
        let lags = config.compaction.min_lag_ms > 0 || config.compaction.max_lag_ms < i64::MAX;
        let parts = parts(&self.shared, sealed, lags.then_some(first_dirty))?;
        Ok(plan::dirty_part(&parts, active, first_dirty, stable, &config.compaction, now))
    }
}

/// What is chosen by. Timestamps are looked up from the segment that holds `times_from` on, and indexes nowhere: their sizes are
/// asked of the segments that are cleaned only.
fn parts(shared: &Shared, segments: &[Arc<Segment>], times_from: Option<Offset>) -> Result<Vec<Part>, StorageError> {
    let from = times_from.map(|offset| segments.partition_point(|segment| segment.base <= offset).saturating_sub(1));
    let mut parts = Vec::with_capacity(segments.len());
    for (i, segment) in segments.iter().enumerate() {
        let (mut newest, mut first) = (Timestamp::NONE, Timestamp::NONE);
        if from.is_some_and(|from| i >= from) {
            newest = segment.max_timestamp(shared.access())?.map_or(newest, |max| max.timestamp);
            first = segment.first_timestamp(shared.access())?.unwrap_or(first);
        }
        parts.push(Part {
            base: segment.base,
            size: segment.size(),
            index_bytes: 0,
            time_index_bytes: 0,
            newest,
            first,
        });
    }
    Ok(parts)
}
