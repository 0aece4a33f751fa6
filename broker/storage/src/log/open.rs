//! Opening a log, and how much of what is found is believed.
//!
//! | how the node ended | believed | looked at |
//! |---|---|---|
//! | in order | everything | the batches after the last index entry, their headers |
//! | the process died | what an index entry points behind: the page cache outlives a process | the batches after the last index entry, whole; headers after the newest snapshot |
//! | the machine died, or nobody knows | what lies before the recovery point | every byte from the recovery point's segment on, whose indexes are built anew |

use super::{Active, INDEX_WAITING, Log};
use crate::epochs::Epochs;
use crate::index::{INDEX_ENTRY, IndexBuilder, MaxTimestamp, TIME_ENTRY, parse_index, parse_time};
use crate::io::{Disk, DiskFile, Open};
use crate::legacy;
use crate::log::flush::EPOCHS_FILE;
use crate::producers::Producers;
use crate::reader::Shared;
use crate::segment::{Dir, FileCache, Kind, Segment};
use crate::tail::{Border, Tail};
use crate::transactions::AbortedTransaction;
use crate::walk::{SCAN, Step, Walk};
use crate::{LogConfig, StorageError};
use arc_swap::ArcSwap;
use millrace_model::batch::HEADER_LEN;
use millrace_model::control::Marker;
use millrace_model::{BatchHeader, Clock, Offset, Timestamp};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

/// A snapshot with a million producers of five batches each takes 230 MB.
const SNAPSHOT_LIMIT: u64 = 1 << 30;
const EPOCHS_LIMIT: u64 = 64 << 20;

/// What is known about a log before its files are looked at.
#[derive(Clone, Debug, Default)]
pub struct OpenContext {
    /// The directory was made just now: there is nothing in it to look at.
    pub fresh: bool,
    /// The node was shut down in order.
    pub clean_shutdown: bool,
    /// The machine has not been restarted since: what was written is there, synced or not.
    pub same_boot: bool,
    /// What lies before is known to be synced.
    pub recovery_point: Option<Offset>,
    /// The first offset, where records were deleted within a segment.
    pub log_start: Option<Offset>,
    /// Nobody but Kafka may have written the log so far, whose cleaner leaves holes between segments. Ours leaves none.
    pub foreign: bool,
    /// Bounds the open files of all logs that share it.
    pub files: Arc<FileCache>,
}

/// What opening a log had to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes of torn batches that were cut off, with all that came after them.
    pub cut_bytes: u64,
    /// Segments whose every byte was checked.
    pub checked_segments: usize,
    /// Log bytes that were gone through for the producers' state.
    pub replayed_bytes: u64,
}

/// What a walk through a segment found.
struct Scanned {
    index: IndexBuilder,
    /// Entries that are in the files already.
    written: (u32, u32),
    size: u64,
    end: Offset,
    rest: Rest,
}

/// What a segment's file has behind its last whole batch.
enum Rest {
    Nothing,
    /// Zeros, as far as one looks: room that was allocated, or that the file system made and did not come to fill.
    Zeros,
    Torn(String),
}

/// The names in a log's directory, sorted out.
#[derive(Default)]
struct Names {
    segments: Vec<Offset>,
    snapshots: Vec<Offset>,
    leftovers: Vec<String>,
    /// Segments that the cleaner has written and that are not in place yet.
    swaps: Vec<Offset>,
}

impl Names {
    fn sort_out(names: Vec<String>) -> Self {
        let mut sorted = Self::default();
        for name in names {
            let Some((stem, extension)) = name.rsplit_once('.') else { continue };
            let offset = base_offset(stem);
            match (extension, offset) {
                ("log", Some(offset)) => sorted.segments.push(offset),
                ("snapshot", Some(offset)) => sorted.snapshots.push(offset),
                ("deleted" | "tmp" | "cleaned", _) => sorted.leftovers.push(name),
                ("swap", _) => {
                    sorted.swaps.extend(stem.strip_suffix(".log").and_then(base_offset));
                    // The files of those are renamed before what is left over is removed.
                    sorted.leftovers.push(name);
                }
                _ => {}
            }
        }
        sorted.segments.sort_unstable();
        sorted.snapshots.sort_unstable();
        sorted
    }
}

/// The offset that a file is called after. Nothing else is a file of the log, whatever else a number may be written like.
fn base_offset(stem: &str) -> Option<Offset> {
    let digits = stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit());
    stem.parse().ok().filter(|_| digits).map(Offset::new)
}

impl Log {
    /// Opens the log in `dir`, which exists, and recovers it as far as `context` says that it needs.
    ///
    /// # Errors
    /// As the disk says, and [`StorageError::Corrupt`] for a log that holds messages of a format from before record batches.
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        dir: PathBuf,
        config: LogConfig,
        context: OpenContext,
    ) -> Result<Self, StorageError> {
        let dir = Arc::new(Dir { disk, path: dir });
        let list = || dir.disk.list(&dir.path).map(Names::sort_out).map_err(StorageError::io("list", &dir.path));
        let mut names = if context.fresh { Names::default() } else { list()? };
        if !names.swaps.is_empty() {
            super::swap::finish(&dir, &names.swaps, &names.segments)?;
            names = list()?;
        }
        for name in &names.leftovers {
            let path = dir.path.join(name);
            if let Err(error) = dir.disk.remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "leftover file cannot be removed");
            }
        }
        let mut log = Self::without_files(dir, clock, config, &context);
        if !names.segments.is_empty() {
            log.snapshots = names.snapshots;
            log.load(&names.segments, &context)?;
        }
        Ok(log)
    }

    /// A log that has no segments yet.
    fn without_files(dir: Arc<Dir>, clock: Arc<dyn Clock>, config: LogConfig, context: &OpenContext) -> Self {
        let start = context.log_start.unwrap_or(Offset::ZERO);
        let segment = Arc::new(Segment::new(Arc::clone(&dir), start, 0, false));
        let active = Active::new(Arc::clone(&segment), config.index_interval_bytes, clock.now());
        let shared = Shared {
            dir,
            cache: Arc::clone(&context.files),
            segments: ArcSwap::from_pointee(vec![segment]),
            tail: Tail::new(Border { offset: start, segment: start, position: 0 }),
            start: AtomicI64::new(start.get()),
            epochs: ArcSwap::default(),
            failed: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
            clock,
            config,
            active,
            end: start,
            producers: Producers::default(),
            epochs: Epochs::default(),
            epochs_changed: false,
            epochs_unsynced: false,
            since_snapshot: 0,
            batches_since_snapshot: 0,
            snapshots: Vec::new(),
            recovery_point: start,
            unsynced: Vec::new(),
            aborted_unsynced: false,
            dir_unsynced: false,
            deleted: VecDeque::new(),
            recovered: Recovered::default(),
        }
    }

    fn load(&mut self, bases: &[Offset], context: &OpenContext) -> Result<(), StorageError> {
        let dir = Arc::clone(&self.shared.dir);
        let mut segments = Vec::with_capacity(bases.len());
        for (i, base) in bases.iter().enumerate() {
            let path = dir.file(*base, "log");
            let stat = dir.disk.stat(&path).map_err(StorageError::io("stat", path))?;
            segments.push(Arc::new(Segment::new(Arc::clone(&dir), *base, stat.len, i + 1 < bases.len())));
        }
        let believed = context.clean_shutdown || context.same_boot;
        if !believed {
            self.check_segments(&mut segments, context)?;
        }
        let first = bases.first().copied().unwrap_or(Offset::ZERO);
        let Some(last) = segments.last().cloned() else { return Ok(()) };
        self.active = Active::new(Arc::clone(&last), self.config.index_interval_bytes, self.clock.now());
        self.active.size = last.size();
        // What was checked just now has its indexes anew, and needs no second look.
        self.end = if last.size() > 0 {
            self.resume_active(context.same_boot && !context.clean_shutdown)?
        } else {
            self.begin_indexes()?
        };
        let start = context.log_start.unwrap_or(first).max(first);
        let base = self.active.base();
        let border = Border { offset: self.end, segment: base, position: self.active.size };
        self.shared.segments.store(Arc::new(segments));
        self.shared.tail.reset(border);
        self.shared.start.store(start.get(), std::sync::atomic::Ordering::Release);
        if start > self.end {
            return self.restart_at(start);
        }
        self.recovery_point = if context.clean_shutdown {
            self.end
        } else {
            context.recovery_point.unwrap_or(first).clamp(first, self.end)
        };
        if !context.clean_shutdown {
            // The process that died may have left any of it unsynced.
            self.note_unsynced();
            self.dir_unsynced = true;
            self.aborted_unsynced = true;
            self.epochs_unsynced = true;
        }
        self.load_epochs()?;
        let end = self.end;
        let known_until = if believed { end } else { self.recovery_point };
        self.remove_snapshots(|offset| offset > known_until)?;
        self.load_producers(believed)?;
        if self.epochs.cut_end(end) {
            self.show_epochs();
        }
        self.producers.expire(self.clock.now(), self.config.producer_id_expiration_ms);
        Ok(())
    }

    fn note_unsynced(&mut self) {
        // A segment that ends at the recovery point may have been sealed after the sync: its indexes were not part of that.
        let segments = self.shared.segments.load();
        let point = self.recovery_point;
        self.unsynced = segments
            .iter()
            .zip(segments.iter().skip(1))
            .filter(|(_, next)| next.base >= point)
            .map(|(segment, _)| Arc::clone(segment))
            .collect();
    }

    /// Checks every byte of the segments that reach beyond the recovery point; the log ends where a batch is torn.
    fn check_segments(&mut self, segments: &mut Vec<Arc<Segment>>, context: &OpenContext) -> Result<(), StorageError> {
        let point = context.recovery_point;
        // Where it is not known who left what, a hole in a compacted log is taken for the cleaner's.
        let may_have_holes = self.config.cleanup.compact && (context.foreign || point.is_none());
        let disk = Arc::clone(&self.shared.dir.disk);
        let mut at = 0;
        while let Some(segment) = segments.get(at).cloned() {
            at += 1;
            let next = segments.get(at).map(|next| next.base);
            if next.is_some_and(|next| point.is_some_and(|point| next < point)) {
                continue;
            }
            self.recovered.checked_segments += 1;
            let mut scanned = self.scan(&segment, false, true)?;
            let torn = matches!(scanned.rest, Rest::Torn(_));
            self.cut_rest(&segment, &scanned)?;
            scanned.index.finish();
            for (kind, bytes) in [(Kind::TimeIndex, &scanned.index.time), (Kind::Index, &scanned.index.index)] {
                segment.release_files();
                let path = segment.path(kind);
                disk.replace(&path, bytes).map_err(StorageError::io("write", path))?;
            }
            // The end of a segment can be lost between two batches as well, and one that was cut off can come back.
            let misfit = next.is_some_and(|next| {
                let hole = scanned.end < next && point.is_none_or(|point| point < next);
                scanned.end > next || (hole && !may_have_holes)
            });
            if torn || misfit {
                for later in segments.drain(at..).rev() {
                    self.recovered.cut_bytes += later.size();
                    let path = later.path(Kind::Log);
                    tracing::warn!(path = %path.display(), "segment does not fit behind the one before it and is removed");
                    for kind in Kind::ALL.into_iter().chain([Kind::Aborted]) {
                        match disk.remove_file(&later.path(kind)) {
                            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                                return Err(StorageError::io("remove", later.path(kind))(error));
                            }
                            _ => {}
                        }
                    }
                }
                let unsealed = Segment::new(Arc::clone(&self.shared.dir), segment.base, scanned.size, false);
                if let Some(last) = segments.last_mut() {
                    *last = Arc::new(unsealed);
                }
            }
        }
        Ok(())
    }

    /// Goes on where the active segment's indexes end. Returns the log's end. With `check`, checksums of what lies behind the
    /// last index entry are compared.
    pub(super) fn resume_active(&mut self, check: bool) -> Result<Offset, StorageError> {
        let segment = Arc::clone(&self.active.segment);
        let scanned = self.scan(&segment, true, check)?;
        self.cut_rest(&segment, &scanned)?;
        segment.set_indexed(scanned.written.0, scanned.written.1);
        segment.set_max_timestamp(scanned.index.max);
        self.active.size = scanned.size;
        self.active.index = scanned.index;
        self.active.file =
            Some(segment.open(Kind::Log, Open::Write).map_err(StorageError::io("open", segment.path(Kind::Log)))?);
        if self.active.index.index.len() >= INDEX_WAITING
            && let Err(error) = self.write_index()
        {
            tracing::warn!(%error, "index entries wait for the disk");
        }
        Ok(scanned.end)
    }

    /// An empty segment has empty indexes, whatever a log that was cut back left in them. Returns the log's end.
    pub(super) fn begin_indexes(&self) -> Result<Offset, StorageError> {
        for kind in [Kind::Index, Kind::TimeIndex] {
            self.trim(&self.active.segment, kind, 0)?;
        }
        Ok(self.active.base())
    }

    fn cut_rest(&mut self, segment: &Arc<Segment>, scanned: &Scanned) -> Result<(), StorageError> {
        let path = segment.path(Kind::Log);
        let bytes = segment.size() - scanned.size;
        let position = scanned.size;
        match &scanned.rest {
            Rest::Nothing => return Ok(()),
            Rest::Zeros if self.config.preallocate => {
                tracing::info!(path = %path.display(), position, bytes, "what was allocated behind the log's end is given back");
            }
            Rest::Zeros => {
                tracing::warn!(path = %path.display(), position, bytes, "zeros behind the log's end are cut off")
            }
            Rest::Torn(reason) => {
                tracing::warn!(path = %path.display(), position, bytes, %reason, "torn end of the log is cut off");
                self.recovered.cut_bytes += bytes;
            }
        }
        let file = segment.open(Kind::Log, Open::Write).map_err(StorageError::io("open", &path))?;
        file.set_len(scanned.size).map_err(StorageError::io("cut", path))?;
        segment.set_size(scanned.size);
        Ok(())
    }

    /// Walks through a segment, from its last index entry if `indexed`, else from its first byte.
    fn scan(&self, segment: &Arc<Segment>, indexed: bool, check: bool) -> Result<Scanned, StorageError> {
        let path = segment.path(Kind::Log);
        let file = segment.open(Kind::Log, Open::Write).map_err(StorageError::io("open", &path))?;
        let mut index = IndexBuilder::new(segment.base, self.config.index_interval_bytes);
        let mut from = 0;
        let mut end = segment.base;
        let mut written = (0, 0);
        let size = segment.size();
        if indexed && let Some(last) = self.last_indexed(segment, &mut index)? {
            let mut probe = Walk::new(&*file, &path, last.1, size, segment.base, SCAN, check);
            match probe.step()? {
                Step::Batch(header) if header.last_offset() == last.0 => {
                    index.rewalk(&header);
                    written = (index.index_entries, index.time_entries);
                    from = probe.position();
                    end = header.next_offset();
                }
                _ => index = IndexBuilder::new(segment.base, self.config.index_interval_bytes),
            }
        }
        if indexed {
            self.trim(segment, Kind::Index, u64::from(written.0) * INDEX_ENTRY)?;
            self.trim(segment, Kind::TimeIndex, u64::from(written.1) * TIME_ENTRY)?;
        }
        let mut walk = Walk::new(&*file, &path, from, size, end, SCAN, check);
        let rest = loop {
            let position = walk.position();
            match walk.step()? {
                Step::Batch(header) => {
                    index.batch(&header, header.base_offset, position);
                    end = header.next_offset();
                }
                Step::End => break Rest::Nothing,
                Step::Torn(_) if is_zero(&*file, &path, position, size)? => break Rest::Zeros,
                Step::Torn(reason) => {
                    refuse_legacy(&*file, &path, position, size)?;
                    break Rest::Torn(reason);
                }
            }
        };
        Ok(Scanned { index, written, size: walk.position(), end, rest })
    }

    /// The last index entry that can be right (last offset and position of a batch), and the state of the time index as of then.
    fn last_indexed(
        &self,
        segment: &Arc<Segment>,
        index: &mut IndexBuilder,
    ) -> Result<Option<(Offset, u64)>, StorageError> {
        let access = self.shared.access();
        let Some((entries, entry)) = segment.last_entry_where(Kind::Index, access, |entry| {
            let (relative, position) = parse_index(entry);
            relative >= 0 && u64::from(position) < segment.size()
        })?
        else {
            return Ok(None);
        };
        let (relative, position) = parse_index(&entry);
        let times = segment.last_entry_where(Kind::TimeIndex, access, |entry| {
            (0..=relative).contains(&parse_time(entry).1) && parse_time(entry).0 >= Timestamp::new(0)
        })?;
        let max = times.map(|(_, entry)| {
            let (timestamp, relative) = parse_time(&entry);
            MaxTimestamp { timestamp, offset: segment.base.plus(relative.into()) }
        });
        index.resume(entries, times.map_or(0, |(entries, _)| entries), max);
        Ok(Some((segment.base.plus(relative.into()), position.into())))
    }

    /// Cuts an index file to what is in use of it.
    fn trim(&self, segment: &Arc<Segment>, kind: Kind, len: u64) -> Result<(), StorageError> {
        let path = segment.path(kind);
        match segment.open(kind, Open::Write) {
            Ok(file) if file.len().map_err(StorageError::io("stat", &path))? > len => {
                file.set_len(len).map_err(StorageError::io("cut", path))
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StorageError::io("open", path)(error)),
        }
    }

    fn load_epochs(&mut self) -> Result<(), StorageError> {
        let path = self.shared.dir.path.join(EPOCHS_FILE);
        match self.shared.dir.disk.read(&path, EPOCHS_LIMIT) {
            Ok(bytes) => match std::str::from_utf8(&bytes).ok().and_then(Epochs::from_text) {
                Some(epochs) => self.epochs = epochs,
                None => {
                    tracing::warn!(path = %path.display(), "leader epochs cannot be read and are gathered from the log")
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StorageError::io("read", path)(error)),
        }
        self.shared.epochs.store(Arc::new(self.epochs.clone()));
        Ok(())
    }

    /// Reads the newest snapshot that is whole, then goes through the headers of what came after it, for producers and leader epochs; through
    /// all of them where no epochs are known from before.
    /// Where the files are not `believed`, the indexes of aborted transactions are built anew from there on.
    pub(super) fn load_producers(&mut self, believed: bool) -> Result<(), StorageError> {
        self.producers = Producers::default();
        let mut from = None;
        while let Some(&offset) = self.snapshots.last() {
            let path = self.shared.dir.file(offset, "snapshot");
            let read = self.shared.dir.disk.read(&path, SNAPSHOT_LIMIT).map_err(|error| error.to_string());
            match read.and_then(|bytes| Producers::decode(&bytes)) {
                Ok(producers) => {
                    self.producers = producers;
                    from = Some(offset);
                    break;
                }
                Err(reason) => {
                    tracing::warn!(path = %path.display(), %reason, "snapshot of the producers' state is not usable");
                    self.remove_snapshots(|other| other == offset)?;
                }
            }
        }
        let segments = self.shared.segments.load_full();
        let first = segments.first().map_or(self.end, |segment| segment.base);
        let from = from.unwrap_or(first);
        let believed = if believed { self.end } else { from };
        let skip = segments.partition_point(|segment| segment.base <= believed).saturating_sub(1);
        for segment in segments.iter().skip(skip) {
            segment.trim_aborted(believed, self.shared.access())?;
        }
        // The epochs were written before the snapshot was; what they say of later offsets may have been cut off since.
        let before = self.epochs.clone();
        self.epochs.cut_end(from);
        let walk_from = if self.epochs.is_empty() { first } else { from };
        let skip = segments.partition_point(|segment| segment.base <= walk_from).saturating_sub(1);
        for segment in segments.iter().skip(skip) {
            self.replay(segment, walk_from, from)?;
        }
        if self.epochs != before {
            self.show_epochs();
        }
        self.end_cleaned_transactions(&segments, from)
    }

    /// A snapshot from before `from` may speak of a transaction as open whose end the cleaner has taken away since. It took
    /// its records before that, and of an open one it takes none: the first batch says which it is.
    fn end_cleaned_transactions(&mut self, segments: &[Arc<Segment>], from: Offset) -> Result<(), StorageError> {
        let shared = Arc::clone(&self.shared);
        let open: Vec<_> = self.producers.open_transactions().filter(|(_, first)| *first < from).collect();
        for (id, first) in open {
            let place = segments.partition_point(|segment| segment.base <= first).checked_sub(1);
            // What retention took away cannot be asked.
            let Some(segment) = place.and_then(|place| segments.get(place)) else { continue };
            let found = segment.find(first, self.size_of(segment), shared.access())?.map(|(_, header)| header);
            let is_there = found.is_some_and(|header| {
                header.base_offset == first && header.producer_id == id && header.attributes.is_transactional()
            });
            if !is_there {
                tracing::info!(path = %self.shared.dir.path.display(), producer = %id, %first, "a transaction was over before the log was cleaned");
                self.producers.forget_transaction(id);
            }
        }
        Ok(())
    }

    fn size_of(&self, segment: &Segment) -> u64 {
        if segment.base == self.active.base() { self.active.size } else { segment.size() }
    }

    fn restore_aborted(&mut self, segment: &Arc<Segment>, entry: &AbortedTransaction) -> Result<(), StorageError> {
        if segment.has_aborted(entry.last_offset, self.shared.access())? {
            return Ok(());
        }
        segment.push_aborted(entry)?;
        if segment.base == self.active.base() {
            self.aborted_unsynced = true;
        } else if self.unsynced.iter().all(|other| other.base != segment.base) {
            self.unsynced.push(Arc::clone(segment));
        }
        Ok(())
    }

    fn replay(&mut self, segment: &Arc<Segment>, walk_from: Offset, from: Offset) -> Result<(), StorageError> {
        let shared = Arc::clone(&self.shared);
        let size = self.size_of(segment);
        if size == 0 || walk_from >= self.end {
            return Ok(());
        }
        let Some((position, _)) = segment.find(walk_from, size, shared.access())? else { return Ok(()) };
        let (file, path) = (segment.read_file(Kind::Log, shared.access())?, segment.path(Kind::Log));
        self.recovered.replayed_bytes += size - position;
        let mut walk = Walk::new(&*file, &path, position, size, segment.base, SCAN, false);
        loop {
            let position = walk.position();
            match walk.step()? {
                Step::Batch(header) => {
                    self.epochs.assign(header.leader_epoch, header.base_offset);
                    if header.base_offset >= from {
                        let marker = read_marker(&header, &*file, &path, position)?;
                        let aborted = marker.as_ref().and_then(|it| self.producers.aborted_by(it, header.base_offset));
                        if let Some(aborted) = aborted {
                            self.restore_aborted(segment, &aborted)?;
                        }
                        self.producers.update(&header, header.base_offset, marker.as_ref());
                    }
                }
                Step::End => return Ok(()),
                Step::Torn(reason) => return Err(StorageError::Corrupt { path, position, reason }),
            }
        }
    }
}

/// Whether there are zeros where a batch's header would be. How far they go is not looked at: whoever wrote behind them wrote
/// to nowhere.
fn is_zero(file: &dyn DiskFile, path: &Path, position: u64, size: u64) -> Result<bool, StorageError> {
    let mut header = [0; HEADER_LEN];
    let len = usize::try_from(size.saturating_sub(position)).unwrap_or(HEADER_LEN).min(HEADER_LEN);
    let into = header.get_mut(..len).unwrap_or_default();
    file.read_at(position, into).map_err(StorageError::io("read", path))?;
    Ok(header.iter().all(|byte| *byte == 0))
}

/// An error where what is no batch is a message of a format from before there were any: it is nobody's torn end.
fn refuse_legacy(file: &dyn DiskFile, path: &Path, position: u64, size: u64) -> Result<(), StorageError> {
    let Some(magic) = legacy::format_at(file, path, position, size)? else { return Ok(()) };
    let reason =
        format!("messages of format v{magic}, which Kafka before 0.11 wrote, are not read; the log is left as it is");
    Err(StorageError::Corrupt { path: path.to_path_buf(), position, reason })
}

/// What a control batch at a position says.
fn read_marker(
    header: &BatchHeader,
    file: &dyn DiskFile,
    path: &Path,
    position: u64,
) -> Result<Option<Marker>, StorageError> {
    // A transaction marker has 78 bytes; another control record is none of ours.
    const LONGEST: usize = 4096;
    if !header.attributes.is_control() || header.total_len() > LONGEST {
        return Ok(None);
    }
    let mut batch = vec![0; header.total_len()];
    let read = file.read_at(position, &mut batch).map_err(StorageError::io("read", path))?;
    Ok(Marker::read(header, batch.get(HEADER_LEN..read).unwrap_or_default()))
}
