//! Making the log survive a power loss, and the files that say how far.

use super::Log;
use crate::StorageError;
use crate::io::{DiskFile, Open};
use crate::reader::Shared;
use crate::segment::{Kind, Segment};
use millrace_model::Offset;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(crate) const EPOCHS_FILE: &str = "leader-epoch-checkpoint";
/// Snapshots between two segments' first offsets that stay.
const SNAPSHOTS_KEPT: usize = 2;

/// The syncing of all that was written before the task was made. Runs on any thread.
#[derive(Debug)]
pub struct FlushTask {
    shared: Arc<Shared>,
    sealed: Vec<Arc<Segment>>,
    active: Option<(Arc<dyn DiskFile>, PathBuf)>,
    aborted: Option<Arc<Segment>>,
    epochs: Option<String>,
    dir: bool,
    upto: Offset,
}

impl FlushTask {
    /// Everything before this offset will be synced.
    pub const fn upto(&self) -> Offset {
        self.upto
    }

    /// Syncs. Hand the offset to [`Log::flushed`]. After a failure the log takes no more writes: what the kernel could not write it
    /// forgets, and a second attempt would succeed without it.
    ///
    /// # Errors
    /// As the disk says.
    pub fn run(self) -> Result<Offset, StorageError> {
        self.sync().inspect_err(|_| self.shared.failed.store(true, Ordering::Release))?;
        Ok(self.upto)
    }

    fn sync(&self) -> Result<(), StorageError> {
        for segment in &self.sealed {
            for kind in Kind::ALL.into_iter().chain([Kind::Aborted]) {
                let path = segment.path(kind);
                match self.shared.dir.disk.open(&path, Open::Write) {
                    Ok(file) => file.sync_data().map_err(StorageError::io("sync", path))?,
                    // Retention was faster.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(StorageError::io("open", path)(error)),
                }
            }
            segment.set_synced();
        }
        if let Some((file, path)) = &self.active {
            file.sync_data().map_err(StorageError::io("sync", path))?;
        }
        if let Some(segment) = self.aborted.as_ref().filter(|segment| segment.aborted_entries() != Some(0)) {
            let path = segment.path(Kind::Aborted);
            match self.shared.dir.disk.open(&path, Open::Write) {
                Ok(file) => file.sync_data().map_err(StorageError::io("sync", path))?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(StorageError::io("open", path)(error)),
            }
        }
        if let Some(text) = &self.epochs {
            let path = self.shared.dir.path.join(EPOCHS_FILE);
            self.shared.dir.disk.replace_synced(&path, text.as_bytes()).map_err(StorageError::io("write", path))?;
        }
        if self.dir {
            let path = &self.shared.dir.path;
            self.shared.dir.disk.sync_dir(path).map_err(StorageError::io("sync", path))?;
        }
        Ok(())
    }
}

impl Log {
    /// What is to be synced now; `None` if nothing is.
    pub fn flush_task(&mut self) -> Option<FlushTask> {
        if self.recovery_point >= self.end && self.unsynced.is_empty() && !self.dir_unsynced && !self.epochs_unsynced {
            return None;
        }
        // The task writes the epochs; the writer's own (unsynced) copy must not come after it with older ones.
        self.epochs_changed &= !self.epochs_unsynced;
        let epochs = std::mem::take(&mut self.epochs_unsynced).then(|| self.epochs.to_text());
        Some(FlushTask {
            shared: Arc::clone(&self.shared),
            sealed: self.unsynced.clone(),
            active: self.active.file.clone().map(|file| (file, self.active.segment.path(Kind::Log))),
            aborted: std::mem::take(&mut self.aborted_unsynced).then(|| Arc::clone(&self.active.segment)),
            epochs,
            dir: std::mem::take(&mut self.dir_unsynced),
            upto: self.end,
        })
    }

    /// Notes that everything before `upto` is synced: what [`FlushTask::run`] returned.
    pub fn flushed(&mut self, upto: Offset) {
        // The log may have been cut back while the task ran.
        self.recovery_point = self.recovery_point.max(upto.min(self.end));
        self.unsynced.retain(|segment| !segment.is_synced());
    }

    /// Everything before this is synced. Kept in `recovery-point-offset-checkpoint` by who owns the data directory; it must be
    /// written there before records are appended after a [`Log::truncate_to`], lest a power loss mixes the old end with the new one.
    pub const fn recovery_point(&self) -> Offset {
        self.recovery_point
    }

    /// Records that are not synced.
    pub fn unflushed(&self) -> i64 {
        self.end.since(self.recovery_point)
    }

    /// Syncs everything and leaves the files as a clean shutdown leaves them. Returns the recovery point.
    ///
    /// # Errors
    /// As the disk says.
    pub fn close(mut self) -> Result<Offset, StorageError> {
        if self.shared.failed.load(Ordering::Acquire) {
            return Err(self.shared.failed());
        }
        let mut cut = false;
        if self.active.size > 0 && self.active.file.is_some() {
            self.dir_unsynced |= self.active.index.index_entries == 0;
            self.finish_index()?;
            cut = self.give_back()?;
        }
        if self.end > self.start_offset() || self.epochs_changed {
            self.snapshot()?;
        }
        if let Some(task) = self.flush_task() {
            let upto = task.run()?;
            self.flushed(upto);
        }
        self.sync_active(cut)?;
        Ok(self.recovery_point)
    }

    /// After a clean shutdown the indexes are believed, also of the active segment, and its length where it was `cut`.
    fn sync_active(&self, cut: bool) -> Result<(), StorageError> {
        if self.active.size == 0 || self.active.file.is_none() {
            return Ok(());
        }
        for kind in [Kind::TimeIndex, Kind::Index].into_iter().chain(cut.then_some(Kind::Log)) {
            let path = self.active.segment.path(kind);
            let file = self.active.segment.open(kind, Open::Create).map_err(StorageError::io("open", &path))?;
            file.sync_data().map_err(StorageError::io("sync", path))?;
        }
        Ok(())
    }

    pub(super) fn snapshot_if_due(&mut self) {
        if self.since_snapshot < super::SNAPSHOT_EVERY && self.batches_since_snapshot < super::SNAPSHOT_BATCHES {
            return;
        }
        // Without it the next start takes longer; the next one will do.
        if let Err(error) = self.snapshot() {
            (self.since_snapshot, self.batches_since_snapshot) = (0, 0);
            tracing::warn!(%error, "snapshot of the producers' state cannot be written");
        }
    }

    /// Writes the leader epochs and the producers' state as of the log's end.
    pub(super) fn snapshot(&mut self) -> Result<(), StorageError> {
        let dir = Arc::clone(&self.shared.dir);
        if self.epochs_changed {
            let path = dir.path.join(EPOCHS_FILE);
            dir.disk.replace(&path, self.epochs.to_text().as_bytes()).map_err(StorageError::io("write", path))?;
            self.epochs_changed = false;
        }
        (self.since_snapshot, self.batches_since_snapshot) = (0, 0);
        if self.snapshots.last() == Some(&self.end) {
            return Ok(());
        }
        let path = dir.file(self.end, "snapshot");
        dir.disk.replace(&path, &self.producers.encode()).map_err(StorageError::io("write", path))?;
        self.snapshots.push(self.end);
        self.drop_snapshots();
        Ok(())
    }

    /// Kafka keeps the snapshots at segments' first offsets; of those in between the newest ones do.
    fn drop_snapshots(&mut self) {
        let segments = self.shared.segments.load();
        let between = |offset: &Offset| segments.binary_search_by(|segment| segment.base.cmp(offset)).is_err();
        let excess = self.snapshots.iter().filter(|offset| between(offset)).count().saturating_sub(SNAPSHOTS_KEPT);
        let going: Vec<_> = self.snapshots.iter().copied().filter(|offset| between(offset)).take(excess).collect();
        if let Err(error) = self.remove_snapshots(|offset| going.contains(&offset)) {
            tracing::warn!(%error, "old snapshot stays");
        }
    }

    /// Removes snapshots for which `stale` holds; stops at the first that stays.
    pub(super) fn remove_snapshots(&mut self, stale: impl Fn(Offset) -> bool) -> Result<(), StorageError> {
        let dir = Arc::clone(&self.shared.dir);
        while let Some(at) = self.snapshots.iter().position(|offset| stale(*offset)) {
            let path = self.snapshots.get(at).map(|offset| dir.file(*offset, "snapshot")).unwrap_or_default();
            match dir.disk.remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StorageError::io("remove", path)(error));
                }
                _ => self.snapshots.remove(at),
            };
        }
        Ok(())
    }
}
