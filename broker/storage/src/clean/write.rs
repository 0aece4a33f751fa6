//! The segment that takes the place of a group of segments, while it is written.
//!
//! ```text
//! <base>.log.cleaned, .index.cleaned, …   being written; nothing anybody relies on
//! <base>.log.swap, …                      whole and synced; the log file is renamed last, and decides
//! <base>.log, …                           in place
//! ```
//!
//! Names and order are Kafka's: either of the two finishes what the other began.

use crate::StorageError;
use crate::index::IndexBuilder;
use crate::io::{DiskFile, Open, with_suffix};
use crate::reader::Shared;
use crate::segment::Segment;
use millrace_model::{BatchHeader, Offset};
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) const CLEANED: &str = ".cleaned";
pub(crate) const SWAP: &str = ".swap";
/// All files of a segment, the log file last: whoever renames them one by one has then renamed the others.
pub(crate) const EXTENSIONS: [&str; 4] = ["timeindex", "index", "txnindex", "log"];
/// Positions in an index are 31 bits in Kafka.
const MOST: u64 = i32::MAX as u64;

/// A whole segment under its `.swap` names, and the segments whose place it takes. See [`crate::Log::swap_in`].
#[derive(Debug)]
pub struct Cleaned {
    pub(crate) sources: Vec<Arc<Segment>>,
    pub(crate) segment: Arc<Segment>,
}

/// The files being written.
#[derive(Debug)]
pub(super) struct Output {
    shared: Arc<Shared>,
    base: Offset,
    file: Arc<dyn DiskFile>,
    /// Bytes in the file; what is in the buffer follows.
    written: u64,
    buffer: Vec<u8>,
    buffer_limit: usize,
    index: IndexBuilder,
    aborted: Vec<u8>,
}

impl Output {
    pub(super) fn new(
        shared: Arc<Shared>,
        base: Offset,
        interval: u32,
        buffer_limit: usize,
    ) -> Result<Self, StorageError> {
        let path = with_suffix(&shared.dir.file(base, "log"), CLEANED);
        let file = shared.dir.disk.open(&path, Open::Truncate).map_err(StorageError::io("create", path))?;
        let index = IndexBuilder::new(base, interval);
        Ok(Self { shared, base, file, written: 0, buffer: Vec::new(), buffer_limit, index, aborted: Vec::new() })
    }

    /// Appends a batch as it stands.
    pub(super) fn batch(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<(), StorageError> {
        let position = self.written + self.buffer.len() as u64;
        let end = position + bytes.len() as u64;
        if end > MOST {
            return Err(StorageError::TooLarge { bytes: end, segment_bytes: MOST });
        }
        self.index.batch(header, header.base_offset, position);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= self.buffer_limit { self.flush() } else { Ok(()) }
    }

    /// Appends an entry to the transaction index.
    pub(super) fn aborted(&mut self, entry: &[u8]) {
        self.aborted.extend_from_slice(entry);
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.file
            .write_all_at(self.written, &mut [IoSlice::new(&self.buffer)])
            .map_err(StorageError::io("write", self.path("log", CLEANED)))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn path(&self, extension: &str, suffix: &str) -> PathBuf {
        with_suffix(&self.shared.dir.file(self.base, extension), suffix)
    }

    /// Writes what is left, syncs all files and gives them their `.swap` names. Nothing of them stays where that fails: not on
    /// a disk that is full, nor for a start that would take an old segment for the one to put in place.
    pub(super) fn finish(mut self, sources: Vec<Arc<Segment>>) -> Result<Cleaned, StorageError> {
        self.complete(&sources).inspect_err(|_| {
            remove(&self.shared, self.base, SWAP);
            remove(&self.shared, self.base, CLEANED);
        })?;
        let index = &self.index;
        let segment = Segment::cleaned(Arc::clone(&self.shared.dir), self.base, self.written);
        segment.set_indexed(index.index_entries, index.time_entries);
        segment.set_max_timestamp(index.max);
        Ok(Cleaned { sources, segment: Arc::new(segment) })
    }

    fn complete(&mut self, sources: &[Arc<Segment>]) -> Result<(), StorageError> {
        self.flush()?;
        self.file.sync_data().map_err(StorageError::io("sync", self.path("log", CLEANED)))?;
        self.index.finish();
        let transactional = sources.iter().any(|source| self.has_transactions(source));
        let mut extensions = vec!["timeindex", "index"];
        self.write("timeindex", &self.index.time)?;
        self.write("index", &self.index.index)?;
        if transactional {
            // Also where it is empty: it takes the place of one that is not.
            self.write("txnindex", &self.aborted)?;
            extensions.push("txnindex");
        }
        extensions.push("log");
        let disk = &self.shared.dir.disk;
        for extension in extensions {
            let from = self.path(extension, CLEANED);
            disk.rename(&from, &self.path(extension, SWAP)).map_err(StorageError::io("rename", from))?;
        }
        // After this the swap happens, whatever happens to the machine.
        let dir = &self.shared.dir.path;
        disk.sync_dir(dir).map_err(StorageError::io("sync", dir))
    }

    fn has_transactions(&self, source: &Segment) -> bool {
        self.shared.dir.disk.stat(&self.shared.dir.file(source.base, "txnindex")).is_ok()
    }

    fn write(&self, extension: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let path = self.path(extension, CLEANED);
        let file = self.shared.dir.disk.open(&path, Open::Truncate).map_err(StorageError::io("create", &path))?;
        file.write_all_at(0, &mut [IoSlice::new(bytes)]).map_err(StorageError::io("write", &path))?;
        file.sync_data().map_err(StorageError::io("sync", path))
    }

    /// Removes what was written.
    pub(super) fn discard(self) {
        remove(&self.shared, self.base, CLEANED);
    }
}

/// Removes the files of a cleaned segment that is not wanted, the log file first: without it the others mean nothing.
pub(crate) fn remove(shared: &Shared, base: Offset, suffix: &str) {
    for extension in EXTENSIONS.iter().rev() {
        let path = with_suffix(&shared.dir.file(base, extension), suffix);
        match shared.dir.disk.remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "leftover file cannot be removed");
            }
            _ => {}
        }
    }
}
