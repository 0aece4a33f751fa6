//! One segment: its log file and the two sparse indexes beside it.
//!
//! The indexes' layout is `index`'s. Kafka maps them; here they are searched with a few positioned reads, which cost about
//! as much as the page faults of a fresh mapping, leave nothing resident, and cannot fault where a file is cut.
//!
//! Invariants:
//! - Only the writer changes a segment, and only until it is sealed. `size` counts whole batches only.
//! - An index entry is written after the batch that it points to. Entries not yet written cost a longer walk, no more.
//! - Files are opened when they are needed; [`FileCache`] bounds how many sealed segments stay open.

use crate::StorageError;
use crate::index::{
    INDEX_ENTRY, IndexBuilder, MaxTimestamp, TIME_ENTRY, padded, parse_index, parse_time, partition_point,
};
use crate::io::{Disk, DiskFile, Open, Resident, with_suffix};
use crate::walk::{HEADER_ONLY, LOOKUP, SCAN, Step, Walk};
use millrace_model::batch::crc;
use millrace_model::{BatchHeader, Offset, Timestamp};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

const NOT_COUNTED: u32 = u32::MAX;
const NOT_READ: i64 = i64::MIN;
/// What the name of a file that is to go ends in.
const DELETED: &str = ".deleted";
/// Index entries that one read brings in.
const PAGE_ENTRIES: u32 = 512;

/// A partition's directory on its disk.
#[derive(Debug)]
pub(crate) struct Dir {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
}

impl Dir {
    pub(crate) fn file(&self, base: Offset, extension: &str) -> PathBuf {
        self.path.join(format!("{:020}.{extension}", base.get()))
    }
}

/// Locks a mutex whose holders never leave it half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which of a segment's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Log,
    Index,
    TimeIndex,
    /// Aborted transactions (see `transactions`); there only where there is one.
    Aborted,
}

impl Kind {
    /// What every segment has.
    pub(crate) const ALL: [Self; 3] = [Self::Log, Self::Index, Self::TimeIndex];

    pub(crate) const fn extension(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Index => "index",
            Self::TimeIndex => "timeindex",
            Self::Aborted => "txnindex",
        }
    }
}

#[derive(Debug, Default)]
struct Files {
    log: Option<Arc<dyn DiskFile>>,
    index: Option<Arc<dyn DiskFile>>,
    time_index: Option<Arc<dyn DiskFile>>,
    aborted: Option<Arc<dyn DiskFile>>,
}

impl Files {
    fn slot(&mut self, kind: Kind) -> &mut Option<Arc<dyn DiskFile>> {
        match kind {
            Kind::Log => &mut self.log,
            Kind::Index => &mut self.index,
            Kind::TimeIndex => &mut self.time_index,
            Kind::Aborted => &mut self.aborted,
        }
    }
}

/// One segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: Offset,
    dir: Arc<Dir>,
    files: Mutex<Files>,
    size: AtomicU64,
    index_entries: AtomicU32,
    time_entries: AtomicU32,
    aborted_entries: AtomicU32,
    max_timestamp: Mutex<Option<MaxTimestamp>>,
    sealed: AtomicBool,
    synced: AtomicBool,
    cached: AtomicBool,
    /// The files have their `.deleted` names; another segment may have the old ones.
    retired: AtomicBool,
    /// Written by the cleaner, in place of others.
    cleaned: bool,
    first_timestamp: AtomicI64,
    rebuilding: Mutex<bool>,
}

impl Segment {
    pub(crate) fn new(dir: Arc<Dir>, base: Offset, size: u64, sealed: bool) -> Self {
        Self {
            base,
            dir,
            files: Mutex::default(),
            size: AtomicU64::new(size),
            index_entries: AtomicU32::new(NOT_COUNTED),
            time_entries: AtomicU32::new(NOT_COUNTED),
            aborted_entries: AtomicU32::new(NOT_COUNTED),
            max_timestamp: Mutex::new(None),
            sealed: AtomicBool::new(sealed),
            synced: AtomicBool::new(false),
            cached: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            cleaned: false,
            first_timestamp: AtomicI64::new(NOT_READ),
            rebuilding: Mutex::new(false),
        }
    }

    /// A segment that the cleaner has written and synced.
    pub(crate) fn cleaned(dir: Arc<Dir>, base: Offset, size: u64) -> Self {
        Self { cleaned: true, synced: AtomicBool::new(true), ..Self::new(dir, base, size, true) }
    }

    /// Whether the cleaner has written it. Then it never was the active one.
    pub(crate) const fn is_cleaned(&self) -> bool {
        self.cleaned
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// Tells readers how many entries the index files have, and what the largest timestamp is.
    pub(crate) fn set_indexed(&self, index_entries: u32, time_entries: u32) {
        self.time_entries.store(time_entries, Ordering::Release);
        self.index_entries.store(index_entries, Ordering::Release);
    }

    pub(crate) fn set_max_timestamp(&self, max: MaxTimestamp) {
        *lock(&self.max_timestamp) = Some(max);
    }

    /// How many aborted transactions are in the index, once that has been counted.
    pub(crate) fn aborted_entries(&self) -> Option<u32> {
        Some(self.aborted_entries.load(Ordering::Acquire)).filter(|entries| *entries != NOT_COUNTED)
    }

    /// Notes what was counted, unless it is known by now; returns what is known.
    pub(crate) fn found_aborted_entries(&self, entries: u32) -> u32 {
        let noted = self.aborted_entries.compare_exchange(NOT_COUNTED, entries, Ordering::AcqRel, Ordering::Acquire);
        noted.map_or_else(|known| known, |_| entries)
    }

    pub(crate) fn set_aborted_entries(&self, entries: u32) {
        self.aborted_entries.store(entries, Ordering::Release);
    }

    /// A number that follows from the partition and the first offset, everywhere the same.
    pub(crate) fn draw(&self) -> u32 {
        let name = crc(self.dir.path.file_name().unwrap_or_default().as_encoded_bytes());
        let mut bytes = self.base.get().to_be_bytes();
        for (byte, of_name) in bytes.iter_mut().zip(name.to_be_bytes()) {
            *byte ^= of_name;
        }
        crc(&bytes)
    }

    pub(crate) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// All files of the sealed segment survive a power loss.
    pub(crate) fn set_synced(&self) {
        self.synced.store(true, Ordering::Release);
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    pub(crate) fn path(&self, kind: Kind) -> PathBuf {
        let path = self.dir.file(self.base, kind.extension());
        if self.retired.load(Ordering::Acquire) { with_suffix(&path, DELETED) } else { path }
    }

    /// Renames the files to `.deleted` and returns their new names. Who still reads the segment goes on with these.
    pub(crate) fn retire(&self) -> Result<Vec<PathBuf>, StorageError> {
        // Nobody opens or rebuilds a file between the renaming and the note of it.
        let _rebuilding = lock(&self.rebuilding);
        let mut files = lock(&self.files);
        *files = Files::default();
        self.cached.store(false, Ordering::Release);
        let mut renamed = Vec::new();
        for extension in Kind::ALL.map(Kind::extension).into_iter().chain(["txnindex"]) {
            let path = self.dir.file(self.base, extension);
            let deleted = with_suffix(&path, DELETED);
            match self.dir.disk.rename(&path, &deleted) {
                Ok(()) => renamed.push(deleted),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StorageError::io("rename", path)(error)),
            }
        }
        self.retired.store(true, Ordering::Release);
        Ok(renamed)
    }

    /// One of the files, opened if it is not, as `how` says.
    pub(crate) fn open(self: &Arc<Self>, kind: Kind, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = lock(&self.files);
        let slot = files.slot(kind);
        if let Some(file) = slot {
            return Ok(Arc::clone(file));
        }
        let file = self.dir.disk.open(&self.path(kind), how)?;
        *slot = Some(Arc::clone(&file));
        Ok(file)
    }

    /// The file for a reader; a sealed segment's counts against the cache.
    pub(crate) fn read_file(
        self: &Arc<Self>,
        kind: Kind,
        access: Access<'_>,
    ) -> Result<Arc<dyn DiskFile>, StorageError> {
        if !access.waits {
            let open = lock(&self.files).slot(kind).clone();
            return open.map(|file| Arc::new(Resident::new(file)) as _).ok_or_else(|| self.would_wait(kind));
        }
        if self.sealed.load(Ordering::Acquire) && !self.cached.swap(true, Ordering::AcqRel) {
            access.cache.admit(self);
        }
        self.open(kind, Open::Write).map_err(StorageError::io("open", self.path(kind)))
    }

    fn would_wait(&self, kind: Kind) -> StorageError {
        StorageError::io("read", self.path(kind))(io::ErrorKind::WouldBlock.into())
    }

    /// Lets go of the open files. Whoever reads from one of them keeps it.
    pub(crate) fn release_files(&self) {
        *lock(&self.files) = Files::default();
        self.cached.store(false, Ordering::Release);
    }

    /// The first batch whose last offset is `target` or later: its position and header. `None` at the end of `upto` bytes.
    pub(crate) fn find(
        self: &Arc<Self>,
        target: Offset,
        upto: u64,
        access: Access<'_>,
    ) -> Result<Option<(u64, BatchHeader)>, StorageError> {
        match self.find_once(target, upto, access) {
            Err(StorageError::Corrupt { .. }) if !access.waits => Err(self.would_wait(Kind::Index)),
            Err(StorageError::Corrupt { reason, .. }) if self.sealed.load(Ordering::Acquire) => {
                tracing::warn!(path = %self.path(Kind::Index).display(), %reason, "index does not fit its log and is built anew");
                self.rebuild(access)?;
                self.find_once(target, upto, access)
            }
            other => other,
        }
    }

    fn find_once(
        self: &Arc<Self>,
        target: Offset,
        upto: u64,
        access: Access<'_>,
    ) -> Result<Option<(u64, BatchHeader)>, StorageError> {
        let from = self.index_floor(target, upto, access)?;
        let (file, path) = (self.read_file(Kind::Log, access)?, self.path(Kind::Log));
        let mut walk = Walk::new(&*file, &path, from, upto, self.base, LOOKUP, false);
        loop {
            let position = walk.position();
            match walk.step()? {
                Step::Batch(header) if header.last_offset() >= target => return Ok(Some((position, header))),
                Step::Batch(_) => {}
                Step::End => return Ok(None),
                Step::Torn(reason) => return Err(StorageError::Corrupt { path, position, reason }),
            }
        }
    }

    /// A position from which a walk reaches the batch that holds `target`.
    fn index_floor(self: &Arc<Self>, target: Offset, upto: u64, access: Access<'_>) -> Result<u64, StorageError> {
        if target <= self.base {
            return Ok(0);
        }
        let target = target.since(self.base);
        self.indexed(access, |relative, position| i64::from(relative) <= target && u64::from(position) < upto)
    }

    /// The position that the last index entry names for whose offset and position `holds`, the segment's beginning otherwise.
    fn indexed(self: &Arc<Self>, access: Access<'_>, holds: impl Fn(i32, u32) -> bool) -> Result<u64, StorageError> {
        let found = self.search(Kind::Index, self.index_entries(access)?, access, |entry| {
            let (relative, position) = parse_index(entry);
            holds(relative, position)
        })?;
        Ok(found.map_or(0, |entry| u64::from(parse_index(&entry).1)))
    }

    /// The last border between batches at or before `position`, where batches up to `upto` are there; `position` itself where that
    /// cannot be said.
    pub(crate) fn border_before(
        self: &Arc<Self>,
        position: u64,
        upto: u64,
        access: Access<'_>,
    ) -> Result<u64, StorageError> {
        let from = self.indexed(access, |_, begins| u64::from(begins) <= position)?;
        let (file, path) = (self.read_file(Kind::Log, access)?, self.path(Kind::Log));
        let mut walk = Walk::new(&*file, &path, from, upto, self.base, LOOKUP, false);
        loop {
            let border = walk.position();
            match walk.step()? {
                Step::Batch(_) if walk.position() <= position => {}
                Step::Batch(_) | Step::End => return Ok(border),
                // The index does not fit: whoever looks for an offset finds out and mends it.
                Step::Torn(_) => return Ok(position),
            }
        }
    }

    /// An offset behind those of all batches that begin before `position`; `None` where the index names no batch from there on.
    pub(crate) fn offset_from(
        self: &Arc<Self>,
        position: u64,
        access: Access<'_>,
    ) -> Result<Option<Offset>, StorageError> {
        let entries = self.index_entries(access)?;
        if entries == 0 {
            return Ok(None);
        }
        let file = self.read_file(Kind::Index, access)?;
        let before = |at| Ok(u64::from(parse_index(&self.entry(&*file, Kind::Index, at)?).1) < position);
        let at = partition_point(entries, before)?;
        if at == entries {
            return Ok(None);
        }
        Ok(Some(self.base.plus(parse_index(&self.entry(&*file, Kind::Index, at)?).0.into())))
    }

    /// The offset behind which the first record with `target` or a later timestamp is.
    pub(crate) fn time_floor(self: &Arc<Self>, target: Timestamp, access: Access<'_>) -> Result<Offset, StorageError> {
        let entries = self.time_entries(access)?;
        let found = self.search(Kind::TimeIndex, entries, access, |entry| parse_time(entry).0 <= target)?;
        Ok(found.map_or(self.base, |entry| self.base.plus(parse_time(&entry).1.into())))
    }

    /// The largest timestamp; `None` where no record has one.
    pub(crate) fn max_timestamp(self: &Arc<Self>, access: Access<'_>) -> Result<Option<MaxTimestamp>, StorageError> {
        if let Some(max) = *lock(&self.max_timestamp) {
            return Ok((max.timestamp > Timestamp::NONE).then_some(max));
        }
        let max = match self.last_entry(Kind::TimeIndex, self.time_entries(access)?, access)? {
            Some(entry) => {
                let (timestamp, relative) = parse_time(&entry);
                MaxTimestamp { timestamp, offset: self.base.plus(relative.into()) }
            }
            None => MaxTimestamp { timestamp: Timestamp::NONE, offset: self.base },
        };
        self.set_max_timestamp(max);
        Ok((max.timestamp > Timestamp::NONE).then_some(max))
    }

    /// The first batch's largest timestamp; `None` where there is no batch.
    pub(crate) fn first_timestamp(self: &Arc<Self>, access: Access<'_>) -> Result<Option<Timestamp>, StorageError> {
        let known = self.first_timestamp.load(Ordering::Relaxed);
        if known != NOT_READ {
            return Ok(Some(Timestamp::new(known)));
        }
        let (file, path) = (self.read_file(Kind::Log, access)?, self.path(Kind::Log));
        let position = 0;
        let mut walk = Walk::new(&*file, &path, position, self.size(), self.base, HEADER_ONLY, false);
        match walk.step()? {
            Step::Batch(header) => {
                self.first_timestamp.store(header.max_timestamp.get(), Ordering::Relaxed);
                Ok(Some(header.max_timestamp))
            }
            Step::End => Ok(None),
            Step::Torn(reason) => Err(StorageError::Corrupt { path, position, reason }),
        }
    }

    /// When the log file was last written.
    pub(crate) fn modified(&self) -> Result<Timestamp, StorageError> {
        let path = self.path(Kind::Log);
        let stat = self.dir.disk.stat(&path).map_err(StorageError::io("stat", path))?;
        Ok(Timestamp::new(stat.modified_ms))
    }

    pub(crate) fn index_entries(self: &Arc<Self>, access: Access<'_>) -> Result<u32, StorageError> {
        self.entries(Kind::Index, access)
    }

    pub(crate) fn time_entries(self: &Arc<Self>, access: Access<'_>) -> Result<u32, StorageError> {
        self.entries(Kind::TimeIndex, access)
    }

    /// The last of so many entries.
    pub(crate) fn last_entry(
        self: &Arc<Self>,
        kind: Kind,
        entries: u32,
        access: Access<'_>,
    ) -> Result<Option<[u8; 12]>, StorageError> {
        let Some(last) = entries.checked_sub(1) else { return Ok(None) };
        Ok(Some(self.entry(&*self.read_file(kind, access)?, kind, last)?))
    }

    /// Counts the entries of an index file for which `holds`, which holds for a prefix of them, and reads the last of them. `None` where
    /// there is none or no file.
    pub(crate) fn last_entry_where(
        self: &Arc<Self>,
        kind: Kind,
        access: Access<'_>,
        holds: impl Fn(&[u8; 12]) -> bool,
    ) -> Result<Option<(u32, [u8; 12])>, StorageError> {
        let path = self.path(kind);
        let file = match self.open(kind, Open::Write) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::io("open", path)(error)),
        };
        let len = file.len().map_err(StorageError::io("stat", &path))?;
        let slots = u32::try_from(len / entry_len(kind)).unwrap_or(NOT_COUNTED - 1);
        // Kafka extends the files of the active segment with zeros, which stay after a crash. No real entry is all zeros.
        let entries = partition_point(slots, |at| {
            let entry = self.entry(&*file, kind, at)?;
            Ok(entry.iter().any(|byte| *byte != 0) && holds(&entry))
        })?;
        Ok(self.last_entry(kind, entries, access)?.map(|entry| (entries, entry)))
    }

    fn entries(self: &Arc<Self>, kind: Kind, access: Access<'_>) -> Result<u32, StorageError> {
        let counted = match kind {
            Kind::TimeIndex => &self.time_entries,
            _ => &self.index_entries,
        };
        match counted.load(Ordering::Acquire) {
            NOT_COUNTED if !access.waits => return Err(self.would_wait(kind)),
            NOT_COUNTED => {}
            known => return Ok(known),
        }
        match self.count(kind, access) {
            Ok(Some(entries)) => counted.store(entries, Ordering::Release),
            Ok(None) => self.rebuild(access)?,
            Err(error) => return Err(error),
        }
        Ok(match counted.load(Ordering::Acquire) {
            NOT_COUNTED => 0,
            known => known,
        })
    }

    /// Counts the entries of an index file; `None` where the file is missing or cannot be right.
    pub(crate) fn count(self: &Arc<Self>, kind: Kind, access: Access<'_>) -> Result<Option<u32>, StorageError> {
        let path = self.path(kind);
        let file = match self.open(kind, Open::Write) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::io("open", path)(error)),
        };
        let len = file.len().map_err(StorageError::io("stat", &path))?;
        let slots = u32::try_from(len / entry_len(kind)).unwrap_or(NOT_COUNTED - 1);
        // Kafka extends the files of the active segment with zeros, which stay after a crash. No real entry is all zeros.
        let filled = partition_point(slots, |at| Ok(self.entry(&*file, kind, at)?.iter().any(|byte| *byte != 0)))?;
        let Some(last) = self.last_entry(kind, filled, access)? else { return Ok(Some(0)) };
        let sane = match kind {
            Kind::TimeIndex => parse_time(&last).0 >= Timestamp::new(0),
            _ => parse_index(&last).0 >= 0 && u64::from(parse_index(&last).1) < self.size(),
        };
        Ok(sane.then_some(filled))
    }

    /// The last of the first `entries` entries for which `holds`, which holds for a prefix of them.
    fn search(
        self: &Arc<Self>,
        kind: Kind,
        entries: u32,
        access: Access<'_>,
        holds: impl Fn(&[u8; 12]) -> bool,
    ) -> Result<Option<[u8; 12]>, StorageError> {
        if entries == 0 {
            return Ok(None);
        }
        let file = self.read_file(kind, access)?;
        let pages = entries.div_ceil(PAGE_ENTRIES);
        // The last page whose first entry holds; then one read for all of that page.
        let page = partition_point(pages, |page| Ok(holds(&self.entry(&*file, kind, page * PAGE_ENTRIES)?)))?;
        let Some(page) = page.checked_sub(1) else { return Ok(None) };
        let len = entry_len(kind);
        let first = page * PAGE_ENTRIES;
        let count = PAGE_ENTRIES.min(entries - first);
        let mut bytes = [0; PAGE_ENTRIES as usize * TIME_ENTRY as usize];
        let want = usize::try_from(u64::from(count) * len).unwrap_or(0);
        let into = bytes.get_mut(..want).unwrap_or_default();
        let read = file.read_at(u64::from(first) * len, into).map_err(StorageError::io("read", self.path(kind)))?;
        let whole = into.get(..read).unwrap_or_default().chunks_exact(usize::try_from(len).unwrap_or(1));
        Ok(whole.map(padded).take_while(|entry| holds(entry)).last())
    }

    fn entry(&self, file: &dyn DiskFile, kind: Kind, at: u32) -> Result<[u8; 12], StorageError> {
        let mut entry = [0; 12];
        let len = entry_len(kind);
        let into = entry.get_mut(..usize::try_from(len).unwrap_or(0)).unwrap_or_default();
        file.read_at(u64::from(at) * len, into).map_err(StorageError::io("read", self.path(kind)))?;
        Ok(entry)
    }

    /// Builds both indexes of a sealed segment from its log.
    fn rebuild(self: &Arc<Self>, access: Access<'_>) -> Result<(), StorageError> {
        let mut done = lock(&self.rebuilding);
        // Another reader may have done it while this one waited; a second failure is not the index's.
        if std::mem::replace(&mut *done, true) || !self.sealed.load(Ordering::Acquire) {
            return Ok(());
        }
        let (file, path) = (self.read_file(Kind::Log, access)?, self.path(Kind::Log));
        let mut walk = Walk::new(&*file, &path, 0, self.size(), self.base, SCAN, false);
        let mut builder = IndexBuilder::new(self.base, 4096);
        loop {
            let position = walk.position();
            match walk.step()? {
                Step::Batch(header) => builder.batch(&header, header.base_offset, position),
                Step::End => break,
                Step::Torn(reason) => return Err(StorageError::Corrupt { path, position, reason }),
            }
        }
        builder.finish();
        for (kind, bytes) in [(Kind::TimeIndex, &builder.time), (Kind::Index, &builder.index)] {
            let path = self.path(kind);
            self.dir.disk.replace(&path, bytes).map_err(StorageError::io("write", &path))?;
        }
        {
            let mut files = lock(&self.files);
            files.index = None;
            files.time_index = None;
        }
        self.set_max_timestamp(builder.max);
        self.set_indexed(builder.index_entries, builder.time_entries);
        Ok(())
    }
}

fn entry_len(kind: Kind) -> u64 {
    if kind == Kind::TimeIndex { TIME_ENTRY } else { INDEX_ENTRY }
}

/// How a lookup gets at files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access<'a> {
    pub(crate) cache: &'a FileCache,
    /// Whether it may wait for the disk. Where it may not, it fails with [`io::ErrorKind::WouldBlock`].
    pub(crate) waits: bool,
}

/// Bounds how many sealed segments of a node keep their files open: the longest open go first.
#[derive(Debug)]
pub struct FileCache {
    capacity: usize,
    open: Mutex<VecDeque<Weak<Segment>>>,
}

impl Default for FileCache {
    fn default() -> Self {
        Self::new(512)
    }
}

impl FileCache {
    /// A cache of the files of so many segments (up to three each).
    pub fn new(capacity: usize) -> Self {
        Self { capacity, open: Mutex::default() }
    }

    /// A sealed segment has open files, or is about to.
    pub(crate) fn admit(&self, segment: &Arc<Segment>) {
        let evicted: Vec<_> = {
            let mut open = lock(&self.open);
            open.push_back(Arc::downgrade(segment));
            let excess = open.len().saturating_sub(self.capacity);
            open.drain(..excess).collect()
        };
        for segment in evicted.iter().filter_map(Weak::upgrade) {
            segment.release_files();
        }
    }
}
