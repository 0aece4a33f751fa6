//! The single writer's side of one partition's log.
//!
//! Invariants:
//! - A batch is shown to readers only when all of its bytes are in the file. A write that fails is cut off again; where even that
//!   fails the log takes no more writes.
//! - Order on disk: log bytes, then time-index entries, then index entries; leader epochs before a snapshot. So after the death of the
//!   process whatever is found describes bytes that are there, and what is missing is found again by a short walk from the last index entry (at most
//!   [`INDEX_EVERY`] bytes and one append) and from the newest snapshot (at most [`SNAPSHOT_EVERY`] bytes and one append).
//! - Files come into being with the first byte that goes into them: a partition nothing was written to is an empty directory.
//! - Only the active segment's file may be longer than what is in it, by zeros (`preallocate`). It is cut before the next segment's file is
//!   made, so that a process that dies leaves at most one such file, the last one.

mod flush;
mod maintain;
mod open;
mod swap;

pub(crate) use flush::EPOCHS_FILE;
pub use flush::FlushTask;
pub use maintain::{DeletedDir, DeletedFiles, Retained};
pub use open::{OpenContext, Recovered};

use crate::epochs::Epochs;
use crate::index::{INDEX_ENTRY, IndexBuilder, TIME_ENTRY};
use crate::io::{DiskFile, Open};
use crate::producers::{ProducerFacts, Producers, SequenceCheck};
use crate::reader::{LogReader, Shared};
use crate::segment::{Kind, Segment};
use crate::tail::Border;
use crate::transactions::AbortedTransaction;
use crate::walk::{HEADER_ONLY, Step, Walk};
use crate::{LogConfig, ProducerError, StorageError};
use millrace_model::batch::ASSIGNED_LEN;
use millrace_model::control::Marker;
use millrace_model::{Batch, BatchError, BatchHeader, Clock, LeaderEpoch, Offset, Timestamp};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Index entries are written when so many log bytes have come since the last time …
const INDEX_EVERY: u64 = 256 << 10;
/// … or so many of them wait.
const INDEX_WAITING: usize = 16 * INDEX_ENTRY as usize;
/// Log bytes between two snapshots of the producers' state …
const SNAPSHOT_EVERY: u64 = 16 << 20;
/// … or batches: where they are small, the next start has more of them to look at.
const SNAPSHOT_BATCHES: u32 = 4096;
/// Batches of one append whose slices stand on the stack.
const ON_STACK: usize = 8;

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The first record's offset.
    pub base_offset: Offset,
    /// The last record's offset.
    pub last_offset: Offset,
    /// Bytes written.
    pub bytes: u64,
    /// A segment was closed: its files want a flush soon (see [`Log::flush_task`]).
    pub rolled: bool,
}

/// The segment that is written to.
#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    file: Option<Arc<dyn DiskFile>>,
    size: u64,
    index: IndexBuilder,
    /// Log bytes since index entries were last written.
    since_index: u64,
    /// The first batch's timestamp: what `segment.ms` counts from.
    first_timestamp: Option<Timestamp>,
    created: Timestamp,
    /// What decides how much of `segment.jitter.ms` is taken off: differs between partitions and segments, so that those that
    /// began together do not roll together, and is the same after a restart.
    drawn: u32,
}

impl Active {
    fn new(segment: Arc<Segment>, interval: u32, now: Timestamp) -> Self {
        let index = IndexBuilder::new(segment.base, interval);
        segment.set_indexed(0, 0);
        let drawn = segment.draw();
        Self { segment, file: None, size: 0, index, since_index: 0, first_timestamp: None, created: now, drawn }
    }

    fn base(&self) -> Offset {
        self.segment.base
    }
}

/// The single writer's side of one partition's log.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    config: LogConfig,
    active: Active,
    end: Offset,
    producers: Producers,
    epochs: Epochs,
    /// Epochs that are not in the checkpoint file.
    epochs_changed: bool,
    /// Epochs whose checkpoint file is not synced.
    epochs_unsynced: bool,
    /// Log bytes since the newest snapshot.
    since_snapshot: u64,
    batches_since_snapshot: u32,
    /// The snapshots in the directory, oldest first.
    snapshots: Vec<Offset>,
    recovery_point: Offset,
    /// Sealed segments of which a file may be unsynced.
    unsynced: Vec<Arc<Segment>>,
    /// The active segment's index of aborted transactions may be unsynced.
    aborted_unsynced: bool,
    /// Names came or went since the directory was synced.
    dir_unsynced: bool,
    /// Renamed files and when they are due to go.
    deleted: VecDeque<(Timestamp, PathBuf)>,
    recovered: Recovered,
}

impl Log {
    /// A reader, independent of the writer.
    pub fn reader(&self) -> LogReader {
        LogReader { shared: Arc::clone(&self.shared), waits: true }
    }

    /// The settings.
    pub const fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings from here on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.active.index.interval = config.index_interval_bytes;
        self.config = config;
    }

    /// What opening the log had to do.
    pub const fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// The offset after the last.
    pub const fn end_offset(&self) -> Offset {
        self.end
    }

    /// The first offset.
    pub fn start_offset(&self) -> Offset {
        self.shared.start()
    }

    /// Holds an idempotent producer's batch (as produced) against what the producer wrote before.
    ///
    /// # Errors
    /// Where the producer is fenced or the batch does not follow its last one.
    pub fn check_producer(&self, header: &BatchHeader) -> Result<SequenceCheck, ProducerError> {
        self.producers.check(header)
    }

    /// Holds a batch of a coordinator's, part of a transaction or the end of one, against what its producer wrote before.
    /// A `strict` marker has an epoch that no record of its producer has yet (KIP-890).
    ///
    /// # Errors
    /// Where the producer, or the coordinator, is fenced.
    pub fn check_coordinators(&self, batch: &Batch, strict: bool) -> Result<(), ProducerError> {
        self.producers.check_coordinators(batch.header(), marker(batch).as_ref(), strict)
    }

    /// The first offset that belongs to a transaction that is open, or whose marker is not before `committed`. What lies
    /// before is decided.
    pub fn first_unstable(&mut self, committed: Offset) -> Option<Offset> {
        self.producers.first_unstable(committed)
    }

    /// The producers that the log remembers.
    pub fn producers(&self) -> impl Iterator<Item = ProducerFacts> {
        self.producers.facts()
    }

    /// Notes that the leader epoch `epoch` begins at the log's end.
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch) {
        if self.epochs.assign(epoch, self.end) {
            self.show_epochs();
        }
    }

    /// Appends batches under offsets that follow the log's last, in one write. All or nothing.
    ///
    /// # Errors
    /// As the disk says; the log is then as it was before, or refuses further writes.
    pub fn append(&mut self, batches: &[Batch], epoch: LeaderEpoch) -> Result<Appended, StorageError> {
        let base_offset = self.end;
        let mut bytes = 0_u64;
        let mut last_offset = self.end.plus(-1);
        let mut largest = Timestamp::NONE;
        for batch in batches {
            let header = batch.header();
            bytes += batch.bytes().len() as u64;
            last_offset = last_offset.next().plus(header.last_offset_delta.into());
            largest = largest.max(header.max_timestamp);
        }
        if batches.is_empty() {
            return Err(BatchError::Short { have: 0, need: millrace_model::batch::HEADER_LEN }.into());
        }
        if self.shared.failed.load(Ordering::Acquire) {
            return Err(self.shared.failed());
        }
        self.begin_epoch(epoch);
        let rolled = self.must_roll(bytes, largest, last_offset);
        let has_markers = batches.len() > 1 && batches.iter().any(|batch| batch.header().attributes.is_control());
        if has_markers || bytes > self.config.segment_bytes.into() || last_offset.since(base_offset) > i32::MAX.into() {
            self.append_piecewise(batches)?;
        } else {
            if rolled {
                self.roll()?;
            }
            self.write(batches, bytes)?;
        }
        self.snapshot_if_due();
        Ok(Appended { base_offset, last_offset, bytes, rolled })
    }

    /// Batches that do not fit into one segment together go batch by batch, and so do those with a marker among them, whose
    /// meaning depends on what stands before it; a failure takes all of them back.
    fn append_piecewise(&mut self, batches: &[Batch]) -> Result<(), StorageError> {
        let before = self.end;
        let segment_bytes = self.config.segment_bytes.into();
        if let Some(batch) = batches.iter().find(|batch| batch.bytes().len() as u64 > segment_bytes) {
            return Err(StorageError::TooLarge { bytes: batch.bytes().len() as u64, segment_bytes });
        }
        for batch in batches {
            let header = batch.header();
            let bytes = batch.bytes().len() as u64;
            let last_offset = self.end.plus(header.last_offset_delta.into());
            let rolled = if self.must_roll(bytes, header.max_timestamp, last_offset) { self.roll() } else { Ok(()) };
            if let Err(error) = rolled.and_then(|()| self.write(std::slice::from_ref(batch), bytes)) {
                if let Err(undo) = self.truncate_to(before) {
                    tracing::error!(path = %self.shared.dir.path.display(), error = %undo, "log cannot be cut back after a failed append");
                    self.fail();
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes batches that fit into the active segment, then shows them.
    fn write(&mut self, batches: &[Batch], bytes: u64) -> Result<(), StorageError> {
        let epoch = self.epochs.latest();
        let file = self.active_file()?;
        let marker = batches.first().and_then(marker);
        let aborted = marker.as_ref().and_then(|marker| self.producers.aborted_by(marker, self.end));
        if let Some(aborted) = &aborted {
            self.write_aborted(aborted)?;
        }
        let position = self.active.size;
        let written = if batches.len() <= ON_STACK {
            let mut assigned = [[0; ASSIGNED_LEN]; ON_STACK];
            let mut slices = [IoSlice::new(&[]); 2 * ON_STACK];
            gather(batches, self.end, epoch, &mut assigned, &mut slices);
            file.write_all_at(position, slices.get_mut(..2 * batches.len()).unwrap_or_default())
        } else {
            let mut assigned = vec![[0; ASSIGNED_LEN]; batches.len()];
            let mut slices = vec![IoSlice::new(&[]); 2 * batches.len()];
            gather(batches, self.end, epoch, &mut assigned, &mut slices);
            file.write_all_at(position, &mut slices)
        };
        if let Err(error) = written {
            self.cut_failed_write(&*file);
            if aborted.is_some() {
                self.cut_aborted();
            }
            return Err(StorageError::io("write", self.active.segment.path(Kind::Log))(error));
        }
        self.note_written(batches, marker.as_ref());
        self.active.since_index += bytes;
        self.since_snapshot += bytes;
        self.batches_since_snapshot =
            self.batches_since_snapshot.saturating_add(u32::try_from(batches.len()).unwrap_or(u32::MAX));
        if self.active.since_index >= INDEX_EVERY || self.active.index.index.len() >= INDEX_WAITING {
            // The entries stay and are tried again: a missing one only makes a walk longer.
            if let Err(error) = self.write_index() {
                tracing::warn!(%error, "index entries wait for the disk");
            }
        }
        Ok(())
    }

    fn note_written(&mut self, batches: &[Batch], marker: Option<&Marker>) {
        let active = &mut self.active;
        for batch in batches {
            let header = batch.header();
            active.index.batch(header, self.end, active.size);
            active.first_timestamp.get_or_insert(header.max_timestamp);
            self.producers.update(header, self.end, marker);
            self.end = self.end.plus(header.last_offset_delta.into()).next();
            active.size += batch.bytes().len() as u64;
            active.segment.set_size(active.size);
            self.shared.tail.push(Border { offset: self.end, segment: active.segment.base, position: active.size });
        }
        active.segment.set_max_timestamp(active.index.max);
    }

    fn cut_failed_write(&mut self, file: &dyn DiskFile) {
        if let Err(error) = file.set_len(self.active.size) {
            let path = self.active.segment.path(Kind::Log);
            tracing::error!(path = %path.display(), %error, "a failed write cannot be cut off: the log takes no more writes");
            self.fail();
        }
    }

    fn write_aborted(&mut self, aborted: &AbortedTransaction) -> Result<(), StorageError> {
        self.dir_unsynced |= self.active.segment.aborted_entries().is_none_or(|entries| entries == 0);
        self.aborted_unsynced = true;
        self.active.segment.push_aborted(aborted).inspect_err(|_| self.cut_aborted())
    }

    /// Takes back the entry of a marker that did not get into the log.
    fn cut_aborted(&self) {
        if let Err(error) = self.active.segment.trim_aborted(self.end, self.shared.access()) {
            let path = self.active.segment.path(Kind::Aborted);
            tracing::error!(path = %path.display(), %error, "an entry cannot be cut off: the log takes no more writes");
            self.fail();
        }
    }

    fn fail(&self) {
        self.shared.failed.store(true, Ordering::Release);
    }

    /// The active segment's log file, made with the first write.
    fn active_file(&mut self) -> Result<Arc<dyn DiskFile>, StorageError> {
        if let Some(file) = &self.active.file {
            return Ok(Arc::clone(file));
        }
        let file = self
            .active
            .segment
            .open(Kind::Log, Open::Create)
            .map_err(StorageError::io("create", self.active.segment.path(Kind::Log)))?;
        if self.active.size == 0 {
            self.dir_unsynced = true;
            if self.config.preallocate {
                self.allocate(&*file)?;
            }
        }
        self.active.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn allocate(&self, file: &dyn DiskFile) -> Result<(), StorageError> {
        let path = self.active.segment.path(Kind::Log);
        file.allocate(self.config.segment_bytes.into()).map_err(|error| {
            // A part of it may have been found; the next append tries anew.
            if let Err(error) = file.set_len(0) {
                tracing::warn!(path = %path.display(), %error, "a file that was allocated in part stays as it is");
            }
            StorageError::io("allocate", path)(error)
        })
    }

    /// Cuts off what was allocated for the active segment and not used; returns whether there was any.
    fn give_back(&self) -> Result<bool, StorageError> {
        let Some(file) = &self.active.file else { return Ok(false) };
        let path = self.active.segment.path(Kind::Log);
        if file.len().map_err(StorageError::io("stat", &path))? <= self.active.size {
            return Ok(false);
        }
        file.set_len(self.active.size).map_err(StorageError::io("cut", path))?;
        Ok(true)
    }

    /// Kafka's rule, in its order: size, age, full index, offsets too far from the segment's first.
    fn must_roll(&mut self, bytes: u64, largest: Timestamp, last_offset: Offset) -> bool {
        if self.active.size == 0 {
            return last_offset.since(self.active.base()) > i32::MAX.into() && self.end > self.active.base();
        }
        self.active.size + bytes > self.config.segment_bytes.into()
            || self.waited(largest) > self.roll_age()
            || u64::from(self.active.index.index_entries) >= u64::from(self.config.segment_index_bytes) / INDEX_ENTRY
            || u64::from(self.active.index.time_entries) + 1 >= u64::from(self.config.segment_index_bytes) / TIME_ENTRY
            || last_offset.since(self.active.base()) > i32::MAX.into()
    }

    /// The age at which the active segment rolls.
    fn roll_age(&self) -> i64 {
        let most = self.config.segment_jitter_ms.min(self.config.segment_ms);
        let taken_off = i64::from(self.active.drawn).checked_rem(most).unwrap_or(0);
        self.config.segment_ms - if most > 0 { taken_off } else { 0 }
    }

    /// For how long the active segment has been filling, by its records' timestamps where they have any.
    fn waited(&mut self, largest: Timestamp) -> i64 {
        if self.active.first_timestamp.is_none() {
            self.active.first_timestamp = Some(self.first_timestamp().unwrap_or(Timestamp::NONE));
        }
        match self.active.first_timestamp {
            Some(first) if first >= Timestamp::new(0) => largest.since(first),
            _ => self.clock.now().since(self.active.created),
        }
    }

    fn first_timestamp(&self) -> Option<Timestamp> {
        let (file, path) = (self.active.file.as_ref()?, self.active.segment.path(Kind::Log));
        let mut walk = Walk::new(&**file, &path, 0, self.active.size, self.active.base(), HEADER_ONLY, false);
        match walk.step().ok()? {
            Step::Batch(header) => Some(header.max_timestamp),
            Step::End | Step::Torn(_) => None,
        }
    }

    /// Closes the active segment and begins the next one at the log's end.
    fn roll(&mut self) -> Result<(), StorageError> {
        if self.active.size > 0 {
            self.finish_index()?;
            self.give_back()?;
            if let Err(error) = self.snapshot() {
                tracing::warn!(%error, "snapshot of the producers' state cannot be written");
            }
            let sealed = Arc::clone(&self.active.segment);
            sealed.seal();
            sealed.release_files();
            self.unsynced.push(sealed);
        }
        self.begin_segment(self.end);
        Ok(())
    }

    /// Puts a new, empty active segment behind the others (in place of one that is empty).
    fn begin_segment(&mut self, base: Offset) {
        let segment = Arc::new(Segment::new(Arc::clone(&self.shared.dir), base, 0, false));
        let mut list = Vec::clone(&self.shared.segments.load());
        list.retain(|other| other.base < base && other.size() > 0);
        list.push(Arc::clone(&segment));
        self.active = Active::new(segment, self.config.index_interval_bytes, self.clock.now());
        self.shared.segments.store(Arc::new(list));
        self.shared.tail.push(Border { offset: base, segment: base, position: 0 });
    }

    /// Writes what is left of the active segment's indexes. Both files are there afterwards.
    fn finish_index(&mut self) -> Result<(), StorageError> {
        self.active.index.finish();
        self.write_index()?;
        for kind in [Kind::TimeIndex, Kind::Index] {
            let segment = &self.active.segment;
            segment.open(kind, Open::Create).map_err(StorageError::io("create", segment.path(kind)))?;
        }
        Ok(())
    }

    fn write_index(&mut self) -> Result<(), StorageError> {
        let (segment, index) = (&self.active.segment, &mut self.active.index);
        for (kind, entries, len, waiting) in [
            (Kind::TimeIndex, index.time_entries, TIME_ENTRY, &mut index.time),
            (Kind::Index, index.index_entries, INDEX_ENTRY, &mut index.index),
        ] {
            if waiting.is_empty() {
                continue;
            }
            let file = segment.open(kind, Open::Create).map_err(StorageError::io("create", segment.path(kind)))?;
            let position = u64::from(entries) * len - waiting.len() as u64;
            file.write_all_at(position, &mut [IoSlice::new(waiting)])
                .map_err(StorageError::io("write", segment.path(kind)))?;
            waiting.clear();
        }
        segment.set_indexed(index.index_entries, index.time_entries);
        self.active.since_index = 0;
        Ok(())
    }

    fn show_epochs(&mut self) {
        self.epochs_changed = true;
        self.epochs_unsynced = true;
        self.shared.epochs.store(Arc::new(self.epochs.clone()));
    }
}

/// What a control batch says; nothing for any other, nor for one that is no transaction marker.
fn marker(batch: &Batch) -> Option<Marker> {
    let header = batch.header();
    header.attributes.is_control().then(|| Marker::read(header, &batch.records_section())).flatten()
}

/// Lays out batches for one vectored write: the bytes that the broker assigns, then the rest as it came.
fn gather<'a>(
    batches: &'a [Batch],
    mut next: Offset,
    epoch: LeaderEpoch,
    assigned: &'a mut [[u8; ASSIGNED_LEN]],
    slices: &mut [IoSlice<'a>],
) {
    let fields = batches.iter().zip(assigned.iter_mut());
    for (batch, assigned) in fields {
        let header = batch.header();
        *assigned = BatchHeader::assigned(next, header.batch_length, epoch);
        next = next.plus(header.last_offset_delta.into()).next();
    }
    let parts = batches.iter().zip(&*assigned).flat_map(|(batch, assigned)| {
        [IoSlice::new(assigned), IoSlice::new(batch.bytes().get(ASSIGNED_LEN..).unwrap_or_default())]
    });
    for (slice, part) in slices.iter_mut().zip(parts) {
        *slice = part;
    }
}
