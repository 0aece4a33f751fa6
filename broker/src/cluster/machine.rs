//! The state machine: applies committed entries to the image and publishes it.

use super::log_store::RETRY;
use super::snapshot::{SnapshotFile, SnapshotRecord};
use super::types::{Entry, LogId, Outcome, SnapshotMeta, StorageError, StoredMembership, Types};
use arc_swap::ArcSwap;
use millrace_metadata::Image;
use millrace_model::Offload;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use std::io::{self, Cursor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Mutex, oneshot, watch};

/// Where readers find the image.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) current: ArcSwap<Image>,
    pub(super) changes: watch::Sender<Arc<Image>>,
}

impl Published {
    pub(super) fn new(image: Arc<Image>) -> Self {
        Self { current: ArcSwap::new(Arc::clone(&image)), changes: watch::Sender::new(image) }
    }

    fn publish(&self, image: Arc<Image>) {
        self.current.store(Arc::clone(&image));
        self.changes.send_replace(image);
    }
}

/// The image and where in the log it stands.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    image: Arc<Image>,
    applied: Option<LogId>,
    membership: StoredMembership,
    published: Arc<Published>,
    file: SnapshotFile,
    offload: Arc<dyn Offload>,
    closing: Arc<AtomicBool>,
    /// Held while a snapshot is written, so that a node that shuts down can wait for it.
    writing: Arc<Mutex<()>>,
}

impl Machine {
    /// The machine as the last snapshot left it.
    pub(super) fn restore(
        record: Option<SnapshotRecord>,
        file: SnapshotFile,
        offload: Arc<dyn Offload>,
        closing: Arc<AtomicBool>,
    ) -> Self {
        let (meta, image) = record.map_or_else(Default::default, |record| (record.meta, record.image));
        let image = Arc::new(image);
        Self {
            published: Arc::new(Published::new(Arc::clone(&image))),
            image,
            applied: meta.last_log_id,
            membership: meta.last_membership,
            file,
            offload,
            closing,
            writing: Arc::default(),
        }
    }

    pub(super) fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    pub(super) fn writing(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.writing)
    }

    /// Writes the snapshot's file. As with the journal, a disk that refuses for a while is not the end of the node.
    async fn persist(&self, record: SnapshotRecord) -> io::Result<Snapshot<Types>> {
        let _writing = self.writing.lock().await;
        let record = Arc::new(record);
        loop {
            if self.closing.load(Ordering::Relaxed) {
                return Err(io::Error::other("the node shuts down"));
            }
            let record = Arc::clone(&record);
            let written = self.blocking(move |file| {
                file.write(&record)?;
                snapshot(&record)
            });
            match written.await {
                Ok(snapshot) => return Ok(snapshot),
                Err(error) => tracing::error!(%error, "the metadata snapshot cannot be written; trying again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn record(&self) -> SnapshotRecord {
        let snapshot_id = self.applied.map_or_else(String::new, |log| format!("{}-{}", log.leader_id.term, log.index));
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone(), snapshot_id };
        SnapshotRecord::new(meta, Image::clone(&self.image))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&SnapshotFile) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = oneshot::channel();
        let file = self.file.clone();
        self.offload.run(Box::new(move || drop(done.send(job(&file)))));
        result.await.unwrap_or_else(|_| Err(io::Error::other("the job was dropped")))
    }
}

/// A snapshot as other nodes get it: the image alone, in JSON.
fn snapshot(record: &SnapshotRecord) -> io::Result<Snapshot<Types>> {
    let image = serde_json::to_vec(&record.image)?;
    Ok(Snapshot { meta: record.meta.clone(), snapshot: Box::new(Cursor::new(image)) })
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        match self.persist(self.record()).await {
            Ok(snapshot) => {
                tracing::debug!(index = self.image.index(), "wrote a snapshot of the metadata");
                Ok(snapshot)
            }
            Err(error) => Err(StorageIOError::write_snapshot(None, AnyError::new(&error)).into()),
        }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut image = Image::clone(&self.image);
        let mut outcomes = Vec::new();
        for entry in entries {
            let index = entry.log_id.index;
            let commands = match entry.payload {
                EntryPayload::Normal(proposal) => proposal.commands,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Arc::default()
                }
                EntryPayload::Blank => Arc::default(),
            };
            image = image.at(index);
            let mut outcome = Vec::with_capacity(commands.len());
            for command in commands.iter() {
                let (next, response) = image.apply(index, command);
                image = next;
                outcome.push(response);
            }
            outcomes.push(outcome);
            self.applied = Some(entry.log_id);
        }
        self.image = Arc::new(image);
        self.published.publish(Arc::clone(&self.image));
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let failed = |error: io::Error| StorageIOError::write_snapshot(Some(meta.signature()), AnyError::new(&error));
        let image: Image = serde_json::from_slice(snapshot.get_ref()).map_err(|error| failed(error.into()))?;
        let record = SnapshotRecord::new(meta.clone(), image.clone());
        self.persist(record).await.map_err(failed)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.image = Arc::new(image);
        self.published.publish(Arc::clone(&self.image));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let read = self.blocking(|file| {
            let record = file.read().map_err(io::Error::other)?;
            record.as_ref().map(snapshot).transpose()
        });
        read.await.map_err(|error| StorageIOError::read_snapshot(None, AnyError::new(&error)).into())
    }
}
