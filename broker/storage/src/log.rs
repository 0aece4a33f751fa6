//! The shapes of the log, ahead of their contents: every call answers `StorageError::Io` "unsupported" for now.

use crate::io::{Disk, DiskFile};
use crate::{LogConfig, ProducerError, ReadError, StorageError};
use bytes::Bytes;
use millrace_model::{Batch, BatchHeader, Clock, LeaderEpoch, Offset, Timestamp};
use std::path::PathBuf;
use std::sync::Arc;

fn unsupported<T>() -> Result<T, StorageError> {
    Err(StorageError::io("use", "")(std::io::ErrorKind::Unsupported.into()))
}

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
}

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

/// What a batch's sequence numbers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceCheck {
    /// It is to be appended.
    New,
    /// It is in the log already: this is where.
    Duplicate {
        /// The first record's offset.
        base_offset: Offset,
        /// The last record's offset.
        last_offset: Offset,
        /// The batch's largest timestamp.
        timestamp: Timestamp,
    },
}

/// What a round of retention did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Segments that went.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The first offset now.
    pub log_start: Offset,
}

/// The directory of a deleted log under its new name; remove it after `file.delete.delay.ms`.
#[derive(Debug)]
pub struct DeletedDir {}

impl DeletedDir {
    /// Removes the directory.
    ///
    /// # Errors
    /// As the disk says.
    pub fn remove(self) -> Result<(), StorageError> {
        unsupported()
    }
}

/// The syncing of all that was written before the task was made. Runs on any thread.
#[derive(Debug)]
pub struct FlushTask {}

impl FlushTask {
    /// Everything before this offset will be synced.
    pub fn upto(&self) -> Offset {
        Offset::ZERO
    }

    /// Syncs. Hand the offset to [`Log::flushed`]. After a failure the log takes no more writes: what the kernel could
    /// not write it forgets.
    ///
    /// # Errors
    /// As the disk says.
    pub fn run(self) -> Result<Offset, StorageError> {
        unsupported()
    }
}

/// The single writer's side of one partition's log.
#[derive(Debug)]
pub struct Log {
    reader: LogReader,
}

impl Log {
    /// Opens the log in `dir`, which exists, and recovers it as far as `context` says that it needs.
    ///
    /// # Errors
    /// As the disk says.
    pub fn open(
        _disk: Arc<dyn Disk>,
        _clock: Arc<dyn Clock>,
        _dir: PathBuf,
        _config: LogConfig,
        _context: OpenContext,
    ) -> Result<Self, StorageError> {
        unsupported()
    }

    /// A reader, independent of the writer.
    pub fn reader(&self) -> LogReader {
        self.reader.clone()
    }

    /// The settings.
    pub fn config(&self) -> &LogConfig {
        unreachable!("no log can be opened yet")
    }

    /// Changes the settings from here on.
    pub fn set_config(&mut self, _config: LogConfig) {}

    /// Holds an idempotent producer's batch (as produced) against what the producer wrote before.
    ///
    /// # Errors
    /// Where the producer is fenced or the batch does not follow its last one.
    pub fn check_producer(&self, _header: &BatchHeader) -> Result<SequenceCheck, ProducerError> {
        Ok(SequenceCheck::New)
    }

    /// Appends batches under offsets that follow the log's last, in one write. All or nothing.
    ///
    /// # Errors
    /// As the disk says; the log is then as it was before, or refuses further writes.
    pub fn append(&mut self, _batches: &[Batch], _epoch: LeaderEpoch) -> Result<Appended, StorageError> {
        unsupported()
    }

    /// Notes that the leader epoch `epoch` begins at the log's end.
    pub fn begin_epoch(&mut self, _epoch: LeaderEpoch) {}

    /// Takes away the segments that the settings say need not be kept; only what lies before `upto` (the high watermark).
    ///
    /// # Errors
    /// As the disk says.
    pub fn retain(&mut self, _now: Timestamp, _upto: Offset) -> Result<Retained, StorageError> {
        unsupported()
    }

    /// Removes files whose `file.delete.delay.ms` is over. Returns how many are still waiting.
    pub fn sweep(&mut self, _now: Timestamp) -> usize {
        0
    }

    /// Forgets records before `offset`; segments that hold nothing else go with the next [`Log::retain`].
    ///
    /// # Errors
    /// Where the offset is beyond the log's end.
    pub fn advance_start(&mut self, _offset: Offset) -> Result<(), StorageError> {
        unsupported()
    }

    /// Cuts the log so that `offset` is its end.
    ///
    /// # Errors
    /// As the disk says.
    pub fn truncate_to(&mut self, _offset: Offset) -> Result<(), StorageError> {
        unsupported()
    }

    /// What is to be synced now; `None` if nothing is.
    pub fn flush_task(&mut self) -> Option<FlushTask> {
        None
    }

    /// Notes that everything before `upto` is synced.
    pub fn flushed(&mut self, _upto: Offset) {}

    /// Everything before this is synced.
    pub fn recovery_point(&self) -> Offset {
        Offset::ZERO
    }

    /// Syncs everything and leaves the files as a clean shutdown leaves them.
    ///
    /// # Errors
    /// As the disk says.
    pub fn close(self) -> Result<Offset, StorageError> {
        unsupported()
    }

    /// Renames the directory to `<topic>-<partition>.<unique>-delete`. Readers fail from here on.
    ///
    /// # Errors
    /// As the disk says.
    pub fn delete(self) -> Result<DeletedDir, StorageError> {
        unsupported()
    }
}

/// Bytes of a segment as they stand on disk, ready for sendfile. The file stays readable for as long as the slice lives.
#[derive(Clone, Debug)]
pub struct FileSlice {
    file: Option<Arc<dyn DiskFile>>,
    position: u64,
    len: u32,
}

impl FileSlice {
    /// The file; `None` for an empty slice.
    pub fn file(&self) -> Option<&Arc<dyn DiskFile>> {
        self.file.as_ref()
    }

    /// Where in the file.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes. The last batch may be cut short, as Kafka's answers have it.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes themselves.
    ///
    /// # Errors
    /// As the disk says.
    pub fn to_bytes(&self) -> Result<Bytes, StorageError> {
        unsupported()
    }

    /// Whether sending the bytes would not wait for the disk.
    pub fn is_hot(&self) -> bool {
        true
    }

    /// Reads the bytes in; on a thread that may wait.
    ///
    /// # Errors
    /// As the disk says.
    pub fn warm(&self) -> Result<(), StorageError> {
        unsupported()
    }
}

/// Reads a log beside its writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogReader {}

impl LogReader {
    /// The first offset.
    pub fn start_offset(&self) -> Offset {
        Offset::ZERO
    }

    /// The offset after the last.
    pub fn end_offset(&self) -> Offset {
        Offset::ZERO
    }

    /// Bytes of all segments.
    pub fn size(&self) -> u64 {
        0
    }

    /// The batches from the one that holds `from` on, up to `upto` (exclusive; exact at batch borders), all of one segment and
    /// at most `max_bytes`, or one whole batch if `at_least_one_batch`. The last batch may be cut short. Empty at the end.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] outside of the log.
    pub fn read(
        &self,
        from: Offset,
        _upto: Offset,
        _max_bytes: u32,
        _at_least_one_batch: bool,
    ) -> Result<FileSlice, ReadError> {
        Err(ReadError::OutOfRange { offset: from, start: Offset::ZERO, end: Offset::ZERO })
    }

    /// The first record with this timestamp or a later one: its offset and timestamp. Reads and unpacks a batch.
    ///
    /// # Errors
    /// As the disk says.
    pub fn offset_for_timestamp(&self, _target: Timestamp) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        Ok(None)
    }

    /// The record with the largest timestamp. Reads and unpacks a batch.
    ///
    /// # Errors
    /// As the disk says.
    pub fn max_timestamp(&self) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        Ok(None)
    }

    /// The largest epoch not above `epoch`, and the offset where it ends; (−1, −1) where that is not known (KIP-101, KIP-320).
    pub fn epoch_end(&self, _epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        (LeaderEpoch::NONE, Offset::new(-1))
    }

    /// The epoch of the last batch.
    pub fn latest_epoch(&self) -> LeaderEpoch {
        LeaderEpoch::NONE
    }
}
