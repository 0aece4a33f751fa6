//! The journal as openraft's log storage: entries are kept in memory too (snapshots bound them),
//! writes go to threads that may block.

use super::journal::{Journal, Record, State, encode};
use super::types::{Entry, LogId, StorageError, Types, Vote};
use millrace_model::Offload;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogId, RaftLogReader, StorageIOError};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a write that failed waits before it is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(500);

/// Cheap to clone; openraft serialises the writes.
#[derive(Clone, Debug)]
pub(super) struct LogStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    journal: Mutex<Journal>,
    offload: Arc<dyn Offload>,
    bytes: AtomicU64,
    /// Appends so far: what tests of group commit count.
    appends: AtomicU64,
    closing: Arc<AtomicBool>,
}

/// What a lock protects is changed in one step, so a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogStore {
    pub(super) fn new(journal: Journal, state: State, offload: Arc<dyn Offload>, closing: Arc<AtomicBool>) -> Self {
        let bytes = AtomicU64::new(journal.len());
        let shared = Shared {
            state: Mutex::new(state),
            journal: Mutex::new(journal),
            offload,
            bytes,
            appends: AtomicU64::new(0),
            closing,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Bytes of the journal's file.
    pub(super) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn appends(&self) -> u64 {
        self.shared.appends.load(Ordering::Relaxed)
    }

    /// Runs a job on the journal where it may block.
    async fn offload<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Journal) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.shared.offload.run(Box::new(move || {
            let mut journal = lock(&shared.journal);
            let outcome = job(&mut journal);
            shared.bytes.store(journal.len(), Ordering::Relaxed);
            drop(journal);
            // Nobody waits any more when the node is going down.
            drop(done.send(outcome));
        }));
        result.await.unwrap_or_else(|_| Err(io::Error::other("the job was dropped")))
    }

    /// Appends a record durably. openraft takes a failed write for the end of the node; a disk that is full for a
    /// while should not be, so the write is tried again until it succeeds or the node shuts down.
    async fn append_record(&self, record: &Record) -> io::Result<()> {
        let frame = Arc::new(encode(record)?);
        loop {
            let bytes = Arc::clone(&frame);
            let Err(error) = self.offload(move |journal| journal.append(&bytes)).await else {
                self.shared.appends.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            };
            if self.shared.closing.load(Ordering::Relaxed) {
                return Err(error);
            }
            tracing::error!(%error, "the metadata log cannot be written; trying again");
            tokio::time::sleep(RETRY).await;
        }
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let state = lock(&self.shared.state);
        let Some(first) = state.entries.front().map(|entry| entry.get_log_id().index) else { return Ok(Vec::new()) };
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        let within = |entry: &&Entry| range.contains(&entry.get_log_id().index);
        Ok(state.entries.iter().skip(skip).take_while(within).cloned().collect())
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let state = lock(&self.shared.state);
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last() })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.append_record(&Record::Vote(*vote))
            .await
            .map_err(|error| StorageIOError::write_vote(AnyError::new(&error)))?;
        lock(&self.shared.state).vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(lock(&self.shared.state).vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let record = Record::Entries(entries.into_iter().collect());
        let written = self.append_record(&record).await;
        if written.is_ok() {
            lock(&self.shared.state)
                .replay(record)
                .map_err(|reason| StorageIOError::write_logs(AnyError::error(reason)))?;
        }
        callback.log_io_completed(written);
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.append_record(&Record::Truncate { since: log_id.index })
            .await
            .map_err(|error| StorageIOError::write_logs(AnyError::new(&error)))?;
        lock(&self.shared.state).truncate(log_id.index);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let header = {
            let mut state = lock(&self.shared.state);
            state.purge(log_id);
            state.header()
        };
        let replaced = async {
            let frame = encode(&header)?;
            self.offload(move |journal| journal.replace(&frame)).await
        };
        // A file that keeps more than it must is still right; the next purge tries again.
        if let Err(error) = replaced.await {
            tracing::warn!(%error, index = log_id.index, "the metadata log could not be shortened");
        }
        Ok(())
    }
}
