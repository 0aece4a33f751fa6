//! Taking away: retention, moving the start, cutting the end, deleting the log.

use super::{Active, Log};
use crate::StorageError;
use crate::io::Disk;
use crate::retention::{Candidate, choose};
use crate::segment::{Kind, Segment};
use crate::tail::Border;
use millrace_model::{Offset, Timestamp};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
pub struct DeletedDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl DeletedDir {
    /// A directory that was renamed earlier, for instance before a restart.
    pub fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self { disk, path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directory.
    ///
    /// # Errors
    /// As the disk says.
    pub fn remove(self) -> Result<(), StorageError> {
        self.disk.remove_dir_all(&self.path).map_err(StorageError::io("remove", self.path))
    }
}

/// Files of segments that are gone, under their new names. To remove large ones takes a file system its time.
#[derive(Debug)]
#[must_use]
pub struct DeletedFiles {
    disk: Arc<dyn Disk>,
    paths: Vec<PathBuf>,
}

impl DeletedFiles {
    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Removes them; what cannot be removed is gone with the next start of the log.
    pub fn remove(self) {
        for path in self.paths {
            match self.disk.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "deleted file cannot be removed");
                }
                _ => {}
            }
        }
    }
}

impl Log {
    /// Takes away the segments that the settings say need not be kept; only what lies before `upto` (the high watermark). Forgets idle
    /// producers.
    ///
    /// # Errors
    /// As the disk says.
    pub fn retain(&mut self, now: Timestamp, upto: Offset) -> Result<Retained, StorageError> {
        self.producers.expire(now, self.config.producer_id_expiration_ms);
        let segments = self.shared.segments.load_full();
        let count = self.expired(&segments, now, upto)?;
        let going = segments.get(..count).unwrap_or_default();
        let bytes = going.iter().map(|segment| segment.size()).sum();
        if count > 0 {
            self.drop_front(going, now)?;
        }
        Ok(Retained { segments: count, bytes, log_start: self.start_offset() })
    }

    fn expired(&self, segments: &[Arc<Segment>], now: Timestamp, upto: Offset) -> Result<usize, StorageError> {
        let ends = segments.iter().skip(1).map(|next| next.base).chain([self.end]);
        let candidates: Vec<_> =
            segments.iter().zip(ends).map(|(segment, end)| Candidate { size: segment.size(), end }).collect();
        choose(&candidates, &self.config, self.start_offset(), upto, now, |i| {
            let Some(segment) = segments.get(i) else { return Ok(now) };
            match segment.max_timestamp(self.shared.access())? {
                Some(max) => Ok(max.timestamp),
                None => segment.modified(),
            }
        })
    }

    fn drop_front(&mut self, going: &[Arc<Segment>], now: Timestamp) -> Result<(), StorageError> {
        if going.last().is_some_and(|last| last.base == self.active.base()) {
            self.roll()?;
        }
        if self.active.file.is_none() {
            // It would be made with the first write. But once the others are gone nothing else says where the log goes on: a
            // process that died before the checkpoints are written would give the next record offset 0.
            self.active_file()?;
            self.sync_names()?;
        }
        let list: Vec<_> = self.shared.segments.load().iter().skip(going.len()).cloned().collect();
        let first = list.first().map_or(self.end, |first| first.base);
        // First the start moves, then the names go: a reader never finds an offset it was promised without its file.
        self.shared.start.fetch_max(first.get(), Ordering::AcqRel);
        self.shared.segments.store(Arc::new(list));
        self.remove_segments(going, now)?;
        self.unsynced.retain(|segment| segment.base >= first);
        if self.recovery_point < first {
            // What comes back after a power loss, and was never synced, must not count as synced.
            self.sync_names()?;
            self.recovery_point = first;
        }
        if self.epochs.cut_start(self.start_offset()) {
            self.show_epochs();
        }
        self.remove_snapshots(|offset| offset < first)
    }

    fn sync_names(&self) -> Result<(), StorageError> {
        let path = &self.shared.dir.path;
        self.shared.dir.disk.sync_dir(path).map_err(StorageError::io("sync", path))
    }

    /// Renames the files of segments to `.deleted`; [`Log::sweep`] hands them over later.
    pub(super) fn remove_segments(&mut self, going: &[Arc<Segment>], now: Timestamp) -> Result<(), StorageError> {
        let due = now.plus_ms(self.config.file_delete_delay_ms);
        self.dir_unsynced = true;
        for segment in going {
            self.deleted.extend(segment.retire()?.into_iter().map(|path| (due, path)));
        }
        Ok(())
    }

    /// Hands over the files whose `file.delete.delay.ms` is over.
    pub fn sweep(&mut self, now: Timestamp) -> DeletedFiles {
        let due = self.deleted.iter().take_while(|(due, _)| *due <= now).count();
        let paths = self.deleted.drain(..due).map(|(_, path)| path).collect();
        DeletedFiles { disk: Arc::clone(&self.shared.dir.disk), paths }
    }

    /// Forgets records before `offset`; segments that hold nothing else go with the next [`Log::retain`].
    ///
    /// # Errors
    /// Where the offset is beyond the log's end.
    pub fn advance_start(&mut self, offset: Offset) -> Result<(), StorageError> {
        let start = self.start_offset();
        if offset > self.end {
            return Err(StorageError::OffsetOutOfRange { offset, start, end: self.end });
        }
        if offset > start {
            self.shared.start.store(offset.get(), Ordering::Release);
            if self.epochs.cut_start(offset) {
                self.show_epochs();
            }
        }
        Ok(())
    }

    /// Cuts the log so that it ends at `offset`, or before: a batch that reaches beyond goes as a whole. The recovery point that then holds
    /// is to be written down before records are appended.
    ///
    /// # Errors
    /// As the disk says; the log then takes no more writes.
    pub fn truncate_to(&mut self, offset: Offset) -> Result<(), StorageError> {
        if offset >= self.end {
            return Ok(());
        }
        let done = self.cut(offset);
        if done.is_err() {
            self.fail();
        }
        done
    }

    /// Empties the log; the next record gets `offset`.
    ///
    /// # Errors
    /// As the disk says; the log then takes no more writes.
    pub fn restart_at(&mut self, offset: Offset) -> Result<(), StorageError> {
        let done = self.empty_at(offset);
        if done.is_err() {
            self.fail();
        }
        done
    }

    fn cut(&mut self, offset: Offset) -> Result<(), StorageError> {
        let segments = self.shared.segments.load_full();
        let keep = segments.partition_point(|segment| segment.base <= offset);
        let Some(target) = keep.checked_sub(1).and_then(|last| segments.get(last)) else {
            return self.empty_at(offset);
        };
        let cut_at = target.find(offset, target.size(), self.shared.access())?.map_or(target.size(), |(at, _)| at);
        // The newest go first: a crash in between leaves a log that ends early, never one with a hole.
        let now = self.clock.now();
        let list: Vec<_> = segments.iter().take(keep - 1).cloned().collect();
        for segment in segments.iter().skip(keep).rev() {
            self.remove_segments(std::slice::from_ref(segment), now)?;
        }
        if keep < segments.len() {
            // Nor may a power loss bring them back behind the cut.
            self.sync_names()?;
        }
        let base = target.base;
        target.release_files();
        let fresh = Arc::new(Segment::new(Arc::clone(&self.shared.dir), base, cut_at, false));
        if cut_at < target.size() {
            let path = fresh.path(Kind::Log);
            let file = fresh.open(Kind::Log, crate::io::Open::Write).map_err(StorageError::io("open", &path))?;
            file.set_len(cut_at).map_err(StorageError::io("cut", path))?;
        }
        self.install_tail(list, fresh)
    }

    fn empty_at(&mut self, offset: Offset) -> Result<(), StorageError> {
        let now = self.clock.now();
        for segment in self.shared.segments.load_full().iter().rev() {
            self.remove_segments(std::slice::from_ref(segment), now)?;
        }
        let fresh = Arc::new(Segment::new(Arc::clone(&self.shared.dir), offset, 0, false));
        self.shared.start.store(offset.get(), Ordering::Release);
        self.install_tail(Vec::new(), fresh)
    }

    /// Makes `fresh`, whose log file has been cut, the active segment behind `list`.
    fn install_tail(&mut self, mut list: Vec<Arc<Segment>>, fresh: Arc<Segment>) -> Result<(), StorageError> {
        self.dir_unsynced = true;
        self.active = Active::new(Arc::clone(&fresh), self.config.index_interval_bytes, self.clock.now());
        self.active.size = fresh.size();
        list.push(fresh);
        let end = if self.active.size > 0 { self.resume_active(false)? } else { self.begin_indexes()? };
        self.end = end;
        let border = Border { offset: end, segment: self.active.base(), position: self.active.size };
        self.shared.segments.store(Arc::new(list));
        self.shared.tail.reset(border);
        self.shared.start.fetch_min(end.get(), Ordering::AcqRel);
        self.recovery_point = self.recovery_point.min(end);
        let base = self.active.base();
        self.unsynced.retain(|segment| segment.base < base);
        self.epochs.cut_end(end);
        self.show_epochs();
        // One that stayed would speak of records that are gone, once the log has grown past it again.
        self.remove_snapshots(|offset| offset > end)?;
        self.load_producers(true)?;
        self.snapshot()
    }

    /// Renames the directory to `<topic>-<partition>.<unique>-delete`. Readers fail from here on.
    ///
    /// # Errors
    /// As the disk says.
    pub fn delete(self) -> Result<DeletedDir, StorageError> {
        self.fail();
        let dir = &self.shared.dir;
        let name = dir.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // Kafka puts a random UUID here; the time will do, and a number where two fall together.
        let now = self.clock.now().get();
        let mut unique = 0_u32;
        let path = loop {
            let suffix = format!(".{now:016x}{unique:016x}-delete");
            let kept: String = name.chars().take(255_usize.saturating_sub(suffix.len())).collect();
            let path = dir.path.with_file_name(format!("{kept}{suffix}"));
            if dir.disk.stat(&path).is_err() {
                break path;
            }
            unique += 1;
        };
        dir.disk.rename(&dir.path, &path).map_err(StorageError::io("rename", &dir.path))?;
        for segment in self.shared.segments.load().iter() {
            segment.release_files();
        }
        Ok(DeletedDir { disk: Arc::clone(&dir.disk), path })
    }
}
