//! What the rest of the broker holds of a partition.

use super::Options;
use super::cleaning::Cleaning;
use super::error::AppendError;
use super::facts::{Appended, Claim, Facts, Origin, Start};
use super::flush::Flusher;
use super::gate::{Admission, Guard};
use super::waiters::Waiter;
use super::writer::{Candidate, Writer, Written};
use crate::config::kafka_keys::TopicSettings;
use futures::FutureExt;
use millrace_model::{Batch, BatchHeader, LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, TopicPartition};
use millrace_storage::{GenerationStart, Generations, Log, LogReader, ProducerFacts};
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::Mutex;

/// A cheap handle; clones are the same partition.
#[derive(Clone, Debug)]
pub struct PartitionHandle(Arc<Inner>);

/// The partition: what is known of it, and who works on it.
#[derive(Debug)]
pub(super) struct Inner {
    facts: Facts,
    pub(super) writer: Mutex<Writer>,
    pub(super) flusher: Flusher,
    pub(super) cleaning: Cleaning,
}

impl Deref for Inner {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

impl PartitionHandle {
    pub(super) fn new(options: Arc<Options>, start: Start, mut log: Log, generations: Generations) -> Self {
        Self(Arc::new(Inner {
            facts: Facts::new(options, &start, &mut log, &generations),
            flusher: Flusher::default(),
            cleaning: Cleaning::default(),
            writer: Mutex::new(Writer::new(log, start.stage, start.generation, generations)),
        }))
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// The partition's place in the cluster.
    pub fn id(&self) -> TopicPartition {
        self.0.id
    }

    /// The topic's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.0.topic
    }

    /// The partition's index.
    pub fn index(&self) -> PartitionId {
        self.0.id.partition
    }

    /// Reads that do not pass through the writer.
    pub fn reader(&self) -> &LogReader {
        self.0.reader()
    }

    /// Records below this offset are committed, and all that consumers see.
    pub fn high_watermark(&self) -> Offset {
        self.0.high_watermark()
    }

    /// Everything below is committed and belongs to a decided transaction, or to none. An open transaction whose beginning
    /// was deleted does not hold it before the log's start.
    pub fn last_stable_offset(&self) -> Offset {
        self.0.decided().max(self.log_start())
    }

    /// What a transactional batch of a producer needs before it is appended.
    pub fn admission(&self, id: ProducerId, epoch: ProducerEpoch) -> Admission {
        self.0.gate.admission(id, epoch)
    }

    /// Gives a guard back: the coordinator did not agree.
    pub fn abandon(&self, id: ProducerId, guard: Guard) {
        self.0.gate.abandon(id, guard);
    }

    /// Gives a guard back: the coordinator did not agree now, and the batch will come again.
    pub fn postpone(&self, guard: Guard, header: &BatchHeader) {
        self.0.gate.postpone(header.producer_id, guard, header.producer_epoch, header.base_sequence);
    }

    /// The producers that the log remembers.
    ///
    /// # Errors
    /// Where the partition is not this node's any more.
    pub async fn producers(&self) -> Result<Vec<ProducerFacts>, AppendError> {
        Ok(self.0.writer.lock().await.log()?.producers().collect())
    }

    /// The first offset of the log.
    pub fn log_start(&self) -> Offset {
        self.0.log_start()
    }

    /// The epoch in which this node leads the partition.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.0.leader_epoch()
    }

    /// What the topic's configuration says.
    pub fn settings(&self) -> arc_swap::Guard<Arc<TopicSettings>> {
        self.0.settings.load()
    }

    /// Which generations of the topic's plugins handled which records, oldest first; empty where there never was one.
    pub fn generations(&self) -> Arc<Vec<GenerationStart>> {
        self.0.generations()
    }

    /// Leaves a waiter to be woken by the next change. Look at the partition once more after this.
    pub fn wait(&self, waiter: &Arc<Waiter>) -> Waiting {
        self.0.waiters.add(waiter);
        Waiting { partition: self.clone(), waiter: Arc::clone(waiter) }
    }

    /// Appends a batch. The partition's order is fixed by the order of these calls, not by when the outcome is awaited.
    /// Without a stage, and with the topic's default of not waiting for the disk, the outcome is there at once.
    ///
    /// The outcome comes when the batch is committed as far as one replica can: appended, and on the disk where
    /// `flush.messages` asks for it.
    pub fn append(&self, batch: Batch, origin: Origin) -> Append {
        self.append_with(batch, origin, Claim::default())
    }

    /// Appends producers' batches that came together, as [`Self::append`] would one after the other, but with one write
    /// where nothing speaks against it.
    pub fn append_together(&self, batches: Vec<Batch>) -> Vec<Append> {
        let checked =
            batches.into_iter().map(|batch| Candidate::check(&self.0, batch, Origin::Client, Claim::default()));
        let (mut candidates, mut refused) = (Vec::new(), Vec::new());
        for (at, checked) in checked.enumerate() {
            match checked {
                Ok(candidate) => candidates.push(candidate),
                Err(error) => refused.push((at, Append::Done(Some(Err(error))))),
            }
        }
        let written = match self.0.writer.try_lock() {
            Ok(mut writer) if writer.is_direct(Origin::Client) => writer.write_together(&self.0, &candidates),
            _ => None,
        };
        let mut appends: Vec<_> = match written {
            Some(written) => written.into_iter().map(|written| self.written(written)).collect(),
            None => candidates.into_iter().map(|candidate| self.append_checked(candidate)).collect(),
        };
        for (at, append) in refused {
            appends.insert(at, append);
        }
        appends
    }

    /// Appends a batch of a transaction, or a marker; otherwise as [`Self::append`].
    pub fn append_with(&self, batch: Batch, origin: Origin, claim: Claim) -> Append {
        match Candidate::check(&self.0, batch, origin, claim) {
            Ok(candidate) => self.append_checked(candidate),
            Err(error) => Append::Done(Some(Err(error))),
        }
    }

    fn append_checked(&self, candidate: Candidate) -> Append {
        // The writer's queue is fair: where others wait, this fails and the batch queues up behind them.
        if let Ok(mut writer) = self.0.writer.try_lock()
            && writer.is_direct(candidate.origin())
        {
            let written = writer.write_now(&self.0, candidate);
            drop(writer);
            return match written {
                Ok(written) => self.written(written),
                Err(error) => Append::Done(Some(Err(error))),
            };
        }
        self.pending(Arc::clone(&self.0).append_in_turn(candidate))
    }

    /// After a batch was written: it may have to be on the disk before it is acked.
    fn written(&self, written: Written) -> Append {
        if written.rolled {
            self.0.flush_behind();
        }
        match written.flush_upto {
            None => Append::Done(Some(Ok(written.appended))),
            Some(_) => self.pending(Arc::clone(&self.0).finish(written)),
        }
    }

    /// Polls the future once, so that it stands in the writer's queue when this returns. The poll is outside of tokio's
    /// budget: a future that yields for fairness would not have queued up.
    fn pending(&self, append: impl Future<Output = Result<Appended, AppendError>> + Send + 'static) -> Append {
        let mut append: Pending = Box::pin(append);
        match tokio::task::unconstrained(append.as_mut()).now_or_never() {
            Some(done) => Append::Done(Some(done)),
            None => Append::Pending(append),
        }
    }
}

impl Inner {
    /// Returns once everything below `upto` is on the disk.
    pub(super) async fn flush_to(&self, upto: Offset) -> Result<(), AppendError> {
        self.flusher.flush_to(self, &self.writer, upto).await
    }

    async fn append_in_turn(self: Arc<Self>, candidate: Candidate) -> Result<Appended, AppendError> {
        let written = {
            let mut writer = self.writer.lock().await;
            writer.write(&self, candidate).await?
        };
        if written.rolled {
            self.flush_behind();
        }
        self.finish(written).await
    }

    /// A closed segment goes to the disk behind everybody's back.
    fn flush_behind(self: &Arc<Self>) {
        let (partition, end) = (Arc::clone(self), self.log_end());
        tokio::spawn(async move {
            // What goes wrong is logged there, and the log refuses what comes after.
            let _ = partition.flush_to(end).await;
        });
    }

    async fn finish(self: Arc<Self>, written: Written) -> Result<Appended, AppendError> {
        if let Some(upto) = written.flush_upto {
            self.flush_to(upto).await?;
        }
        Ok(written.appended)
    }
}

type Pending = Pin<Box<dyn Future<Output = Result<Appended, AppendError>> + Send>>;

/// An append whose place in the order is fixed. It holds up those behind it until it is polled to its end or dropped.
/// Dropping it abandons the outcome: the batch may or may not be appended.
#[must_use]
pub enum Append {
    /// The outcome is there; taken by the poll that returns it.
    Done(Option<Result<Appended, AppendError>>),
    /// It takes a stage, a turn or the disk.
    Pending(Pending),
}

impl std::fmt::Debug for Append {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done(outcome) => f.debug_tuple("Done").field(outcome).finish(),
            Self::Pending(_) => f.write_str("Pending"),
        }
    }
}

impl Append {
    /// The outcome, if it is there without waiting.
    ///
    /// # Errors
    /// The append itself, where it must be awaited.
    pub fn now(self) -> Result<Result<Appended, AppendError>, Self> {
        match self {
            Self::Done(Some(outcome)) => Ok(outcome),
            other => Err(other),
        }
    }
}

impl Future for Append {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Done(outcome) => outcome.take().map_or(Poll::Pending, Poll::Ready),
            Self::Pending(append) => append.as_mut().poll(cx),
        }
    }
}

/// A waiter left with a partition; dropping it takes the waiter away.
#[derive(Debug)]
pub struct Waiting {
    partition: PartitionHandle,
    waiter: Arc<Waiter>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.partition.0.waiters.remove(&self.waiter);
    }
}
