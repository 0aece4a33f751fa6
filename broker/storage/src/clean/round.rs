//! A round: the table of keys, then the segments, in steps that its owner may space out.
//!
//! Invariant: between two steps nothing is half done but the `.cleaned` files of one group.

use super::filter::{Filter, Kept, LastOfProducers, unfold};
use super::map::OffsetMap;
use super::read::Batches;
use super::transactions::{self, Marker, Transactions};
use super::write::Output;
use super::{CleanOptions, CleanStats, Cleanable, Step, parts, plan};
use crate::index::{INDEX_ENTRY, TIME_ENTRY};
use crate::reader::{LogReader, Shared};
use crate::segment::{Kind, Segment};
use crate::{LogConfig, StorageError};
use millrace_model::record::Records;
use millrace_model::{Offset, Timestamp};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One round of cleaning over one log.
#[derive(Debug)]
pub struct Round {
    shared: Arc<Shared>,
    config: LogConfig,
    options: CleanOptions,
    now: Timestamp,
    producers: LastOfProducers,
    first_dirty: Offset,
    upto: Offset,
    /// All sealed segments before `upto`.
    segments: Vec<Arc<Segment>>,
    map: OffsetMap,
    phase: Phase,
    stats: CleanStats,
}

#[derive(Debug)]
enum Phase {
    Index {
        next: usize,
        batches: Option<Batches>,
        transactions: Transactions,
    },
    Rewrite {
        groups: VecDeque<Vec<Arc<Segment>>>,
        current: Option<Box<Rewrite>>,
        transactions: Transactions,
    },
    /// While a step runs, and after the last one.
    Over,
}

/// A group being written.
#[derive(Debug)]
struct Rewrite {
    sources: Vec<Arc<Segment>>,
    /// The source after the one that is read.
    next: usize,
    batches: Batches,
    output: Output,
    changed: bool,
}

impl Round {
    /// A round over what `cleanable` found. Made by [`crate::Log::clean`].
    pub(crate) fn new(
        reader: &LogReader,
        config: LogConfig,
        options: CleanOptions,
        cleanable: &Cleanable,
        producers: LastOfProducers,
        now: Timestamp,
    ) -> Self {
        let Cleanable { first_dirty, upto, .. } = *cleanable;
        let shared = Arc::clone(&reader.shared);
        let all = shared.segments.load_full();
        let sealed = all.iter().take(all.len().saturating_sub(1));
        let segments: Vec<_> = sealed.filter(|segment| segment.base < upto).cloned().collect();
        Self {
            shared,
            config,
            options,
            now,
            producers,
            first_dirty,
            upto,
            segments,
            map: OffsetMap::new(0, options.table_load, 0, first_dirty),
            phase: Phase::Index { next: usize::MAX, batches: None, transactions: Transactions::default() },
            stats: CleanStats::default(),
        }
    }

    /// What was done so far.
    pub const fn stats(&self) -> &CleanStats {
        &self.stats
    }

    /// Goes on for about `bytes` bytes of reading, or to the next event. On a thread that may wait.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] where a segment cannot be read, or as the disk says; [`StorageError::Failed`] where the log has failed
    /// or was deleted. The round is over then.
    pub fn step(&mut self, bytes: u64) -> Result<Step, StorageError> {
        let until = self.stats.bytes_read.saturating_add(bytes.max(1));
        loop {
            if self.shared.failed.load(Ordering::Acquire) {
                return Err(self.shared.failed());
            }
            let event = match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Index { next: usize::MAX, .. } => self.begin()?,
                Phase::Index { next, batches, transactions } => self.index(next, batches, transactions, until)?,
                Phase::Rewrite { groups, current, transactions } => {
                    self.rewrite(groups, current, transactions, until)?
                }
                Phase::Over => return Err(self.shared.failed()),
            };
            if let Some(event) = event {
                return Ok(event);
            }
            if self.stats.bytes_read >= until {
                return Ok(Step::More);
            }
        }
    }

    /// Removes what was written and is not wanted any more. Call it where a round is given up.
    pub fn discard(self) {
        if let Phase::Rewrite { current: Some(rewrite), .. } = self.phase {
            rewrite.output.discard();
        }
    }

    /// Makes the table and looks up what was aborted in the dirty part.
    fn begin(&mut self) -> Result<Option<Step>, StorageError> {
        let most = u64::try_from(self.upto.since(self.first_dirty)).unwrap_or(0);
        let CleanOptions { table_bytes, table_load, .. } = self.options;
        self.map = OffsetMap::new(table_bytes, table_load, most, self.first_dirty);
        let transactions = self.transactions(self.first_dirty, self.upto)?;
        let next = self.segments.partition_point(|segment| segment.base <= self.first_dirty).saturating_sub(1);
        self.phase = Phase::Index { next, batches: None, transactions };
        Ok(None)
    }

    fn transactions(&self, from: Offset, upto: Offset) -> Result<Transactions, StorageError> {
        // A transaction's entry is in the segment that has its marker, which may be any of the later ones.
        let segments = self.shared.segments.load_full();
        let skip = segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        let later = segments.get(skip..).unwrap_or_default();
        Ok(Transactions::new(transactions::aborted(&self.shared.dir, later, from, upto)?))
    }

    fn index(
        &mut self,
        next: usize,
        batches: Option<Batches>,
        mut transactions: Transactions,
        until: u64,
    ) -> Result<Option<Step>, StorageError> {
        let Some(mut batches) = batches else {
            let Some(segment) = self.segments.get(next).cloned() else {
                self.map.note(self.upto.plus(-1));
                return self.end_of_index();
            };
            let found = segment.find(self.first_dirty, segment.size(), self.shared.access())?;
            let from = found.map_or(segment.size(), |(position, _)| position);
            let batches = Some(self.batches(&segment, from)?);
            self.phase = Phase::Index { next: next + 1, batches, transactions };
            return Ok(None);
        };
        while self.stats.bytes_read < until {
            match self.index_batch(&mut batches, &mut transactions)? {
                Indexed::Batch => {}
                Indexed::End => {
                    self.phase = Phase::Index { next, batches: None, transactions };
                    return Ok(None);
                }
                Indexed::Full => return self.end_of_index(),
            }
        }
        self.phase = Phase::Index { next, batches: Some(batches), transactions };
        Ok(None)
    }

    fn index_batch(&mut self, batches: &mut Batches, transactions: &mut Transactions) -> Result<Indexed, StorageError> {
        let position = batches.position();
        let Some((header, bytes)) = batches.next()? else { return Ok(Indexed::End) };
        self.stats.bytes_read += bytes.len() as u64;
        let mut unfolded = Vec::new();
        let mut full = false;
        let mut read = || -> Result<(), String> {
            let control = header.attributes.is_control();
            if !control && transactions.is_aborted(&header) {
                return Ok(());
            }
            let section = unfold(&header, bytes, self.options.unfolded_bytes, &mut unfolded)
                .map_err(|error| error.to_string())?;
            let mut records = Records::new(section, header.records_count);
            if control {
                let record = records.next().transpose().map_err(|error| error.to_string())?;
                transactions.marker(&header, record.map(|record| Marker::of(record.key())));
                return Ok(());
            }
            for record in records {
                let record = record.map_err(|error| error.to_string())?;
                let offset = header.base_offset.plus(record.offset_delta().into());
                if let Some(key) = record.key()
                    && offset >= self.first_dirty
                    && !self.map.put(key, offset)
                {
                    full = true;
                    return Ok(());
                }
            }
            Ok(())
        };
        let outcome = read();
        outcome.map_err(|reason| batches.corrupt_at(position, reason))?;
        if full {
            return Ok(Indexed::Full);
        }
        self.map.note(header.last_offset());
        Ok(Indexed::Batch)
    }

    /// Chooses the groups.
    fn end_of_index(&mut self) -> Result<Option<Step>, StorageError> {
        let end = self.map.latest().next();
        self.stats.keys = self.map.len();
        self.segments.retain(|segment| segment.base < end);
        let mut parts = parts(&self.shared, &self.segments, None)?;
        for (part, segment) in parts.iter_mut().zip(&self.segments) {
            part.index_bytes = u64::from(segment.index_entries(self.shared.access())?) * INDEX_ENTRY;
            part.time_index_bytes = u64::from(segment.time_entries(self.shared.access())?) * TIME_ENTRY;
        }
        let LogConfig { segment_bytes, segment_index_bytes, .. } = self.config;
        let ranges = plan::groups(&parts, self.upto, segment_bytes, segment_index_bytes);
        let groups = ranges.into_iter().filter_map(|range| self.segments.get(range).map(<[_]>::to_vec));
        let groups = groups.filter(|group| group.iter().any(|segment| segment.size() > 0)).collect();
        let first = self.segments.first().map_or(end, |first| first.base);
        let transactions = self.transactions(first, self.upto)?;
        self.phase = Phase::Rewrite { groups, current: None, transactions };
        Ok(None)
    }

    fn rewrite(
        &mut self,
        mut groups: VecDeque<Vec<Arc<Segment>>>,
        current: Option<Box<Rewrite>>,
        mut transactions: Transactions,
        until: u64,
    ) -> Result<Option<Step>, StorageError> {
        let mut rewrite = match current {
            Some(rewrite) => rewrite,
            None => match groups.pop_front() {
                Some(sources) => self.begin_group(sources)?,
                None => {
                    // The names are in place before it is written down how far the log is clean.
                    let dir = &self.shared.dir;
                    dir.disk.sync_dir(&dir.path).map_err(StorageError::io("sync", &dir.path))?;
                    return Ok(Some(Step::Done(self.map.latest().next())));
                }
            },
        };
        while self.stats.bytes_read < until {
            let done = if !rewrite.batches.is_over() {
                self.rewrite_batch(&mut rewrite, &mut transactions)
            } else if let Some(source) = rewrite.sources.get(rewrite.next).cloned() {
                rewrite.next += 1;
                self.batches(&source, 0).map(|batches| rewrite.batches = batches)
            } else {
                self.phase = Phase::Rewrite { groups, current: None, transactions };
                return self.end_group(rewrite);
            };
            if let Err(error) = done {
                rewrite.output.discard();
                return Err(error);
            }
        }
        self.phase = Phase::Rewrite { groups, current: Some(rewrite), transactions };
        Ok(None)
    }

    fn begin_group(&self, sources: Vec<Arc<Segment>>) -> Result<Box<Rewrite>, StorageError> {
        let first = sources.first().ok_or_else(|| self.shared.failed())?;
        let batches = self.batches(first, 0)?;
        let interval = self.config.index_interval_bytes;
        let output = Output::new(Arc::clone(&self.shared), first.base, interval, self.options.io_bytes)?;
        Ok(Box::new(Rewrite { changed: sources.len() > 1, sources, next: 1, batches, output }))
    }

    fn rewrite_batch(&mut self, rewrite: &mut Rewrite, transactions: &mut Transactions) -> Result<(), StorageError> {
        let filter = Filter {
            map: &self.map,
            producers: &self.producers,
            now: self.now,
            delete_retention_ms: self.config.compaction.delete_retention_ms,
            unfolded_limit: self.options.unfolded_bytes,
        };
        let position = rewrite.batches.position();
        let nothing_after =
            rewrite.sources.get(rewrite.next..).unwrap_or_default().iter().all(|source| source.size() == 0);
        let (filtered, len, last) = {
            let end = rewrite.batches.end();
            let Some((header, bytes)) = rewrite.batches.next()? else { return Ok(()) };
            let last = nothing_after && position + bytes.len() as u64 == end;
            let filtered = filter.batch(&header, bytes, transactions, last);
            if let Ok((Kept::AsItIs, _)) = &filtered {
                rewrite.output.batch(&header, bytes)?;
                self.stats.bytes_written += bytes.len() as u64;
            }
            (filtered, bytes.len() as u64, last)
        };
        debug_assert!(!last || !matches!(filtered, Ok((Kept::Gone, _))), "the last batch says where the segment ends");
        self.stats.bytes_read += len;
        let (kept, entry) = filtered.map_err(|error| rewrite.batches.corrupt_at(position, error.to_string()))?;
        rewrite.changed |= !matches!(kept, Kept::AsItIs);
        if let Kept::Changed(batch) = kept {
            rewrite.output.batch(batch.header(), batch.bytes())?;
            self.stats.bytes_written += batch.bytes().len() as u64;
        }
        if let Some(entry) = entry {
            rewrite.output.aborted(&entry.encode());
        }
        Ok(())
    }

    fn end_group(&mut self, rewrite: Box<Rewrite>) -> Result<Option<Step>, StorageError> {
        let before: u64 = rewrite.sources.iter().map(|source| source.size()).sum();
        self.stats.bytes_before += before;
        self.stats.bytes_after += rewrite.output.size();
        if !rewrite.changed {
            rewrite.output.discard();
            return Ok(None);
        }
        rewrite.output.finish(rewrite.sources).map(|cleaned| Some(Step::Swap(cleaned)))
    }

    fn batches(&self, segment: &Arc<Segment>, from: u64) -> Result<Batches, StorageError> {
        let file = segment.read_file(Kind::Log, self.shared.access())?;
        Ok(Batches::new(file, segment.path(Kind::Log), from, segment.size(), self.options.io_bytes))
    }
}

/// What came of indexing a batch.
enum Indexed {
    Batch,
    End,
    Full,
}
