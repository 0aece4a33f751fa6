//! What the rest of the broker holds of a partition.

use super::cleaning::Cleaning;
use super::error::AppendError;
use super::flush::{self, Flusher};
use super::gate::{Admission, Gate, Guard};
use super::stage::{BatchStage, Generation};
use super::waiters::{Waiter, Waiters};
use super::writer::{Candidate, Writer};
use super::{Options, isr};
use crate::config::kafka_keys::TopicSettings;
use arc_swap::ArcSwap;
use futures::FutureExt;
use millrace_model::{
    Batch, BatchHeader, LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, Timestamp, TopicPartition,
};
use millrace_storage::{GenerationStart, Generations, Log, LogReader, ProducerFacts, StorageError};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::sync::Mutex;

/// Who appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A producer: its batch is checked record by record and passes the produce stage.
    Client,
    /// A coordinator of this broker: its records are its own.
    Coordinator,
}

/// What a batch of a transaction, or the end of one, comes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// That the coordinator has agreed, where it was asked.
    pub guard: Option<Guard>,
    /// The marker has an epoch that no record of its producer has yet (KIP-890).
    pub strict: bool,
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the batch's first record; for a batch that was there already, the offset it got then.
    pub base_offset: Offset,
    /// The offset of the batch's last record.
    pub last_offset: Offset,
    /// The broker's time, where the topic stores that in place of the producer's.
    pub log_append_time: Option<Timestamp>,
    /// The first offset of the log.
    pub log_start: Offset,
    /// Whether the batch had been appended before.
    pub duplicate: bool,
}

/// A cheap handle; clones are the same partition.
#[derive(Clone, Debug)]
pub struct PartitionHandle(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) id: TopicPartition,
    pub(super) topic: Arc<str>,
    /// `topic-0`, as its directory is called.
    pub(super) name: String,
    pub(super) options: Arc<Options>,
    pub(super) settings: ArcSwap<TopicSettings>,
    pub(super) writer: Mutex<Writer>,
    pub(super) flusher: Flusher,
    pub(super) cleaning: Cleaning,
    reader: LogReader,
    generations: ArcSwap<Vec<GenerationStart>>,
    waiters: Waiters,
    pub(super) gate: Gate,
    leader_epoch: AtomicI32,
    high_watermark: AtomicI64,
    /// Never above the high watermark by more than a moment.
    last_stable: AtomicI64,
    flushed: AtomicI64,
    /// When an append that the disk refused was last said, in milliseconds, and how many there were since.
    failure_said: AtomicI64,
    failures_unsaid: AtomicU64,
}

/// What is known of a partition when its handle is made.
pub(super) struct Start {
    pub(super) id: TopicPartition,
    pub(super) topic: Arc<str>,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) settings: Arc<TopicSettings>,
    pub(super) stage: Option<Arc<dyn BatchStage>>,
    pub(super) generation: Generation,
}

impl PartitionHandle {
    pub(super) fn new(options: Arc<Options>, start: Start, mut log: Log, generations: Generations) -> Self {
        let reader = log.reader();
        let end = reader.end_offset();
        let stable = log.first_unstable(end).unwrap_or(end);
        let gate = Gate::default();
        for producer in log.producers().filter(|producer| producer.transaction_start.is_some()) {
            gate.opened(producer.id, producer.epoch);
        }
        Self(Arc::new(Inner {
            name: format!("{}-{}", start.topic, start.id.partition),
            id: start.id,
            topic: start.topic,
            options,
            settings: ArcSwap::new(start.settings),
            flusher: Flusher::default(),
            cleaning: Cleaning::default(),
            reader,
            generations: ArcSwap::new(generations.entries()),
            waiters: Waiters::default(),
            gate,
            leader_epoch: AtomicI32::new(start.leader_epoch.get()),
            high_watermark: AtomicI64::new(end.get()),
            last_stable: AtomicI64::new(stable.get()),
            flushed: AtomicI64::new(log.recovery_point().get()),
            failure_said: AtomicI64::new(i64::MIN),
            failures_unsaid: AtomicU64::new(0),
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
        &self.0.reader
    }

    /// Records below this offset are committed, and all that consumers see.
    pub fn high_watermark(&self) -> Offset {
        Offset::new(self.0.high_watermark.load(Ordering::SeqCst))
    }

    /// Everything below is committed and belongs to a decided transaction, or to none. An open transaction whose beginning
    /// was deleted does not hold it before the log's start.
    pub fn last_stable_offset(&self) -> Offset {
        self.decided().max(self.log_start())
    }

    /// The same without regard to the log's start.
    pub(super) fn decided(&self) -> Offset {
        Offset::new(self.0.last_stable.load(Ordering::SeqCst)).min(self.high_watermark())
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
        self.0.generations.load_full()
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
    pub(super) fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch::new(self.leader_epoch.load(Ordering::Relaxed))
    }

    pub(super) fn set_leader_epoch(&self, epoch: LeaderEpoch) {
        self.leader_epoch.store(epoch.get(), Ordering::Relaxed);
    }

    pub(super) fn reader(&self) -> &LogReader {
        &self.reader
    }

    pub(super) fn log_start(&self) -> Offset {
        self.reader.start_offset()
    }

    pub(super) fn log_end(&self) -> Offset {
        self.reader.end_offset()
    }

    pub(super) fn show_generations(&self, entries: Arc<Vec<GenerationStart>>) {
        self.generations.store(entries);
    }

    pub(super) fn flushed(&self) -> Offset {
        Offset::new(self.flushed.load(Ordering::Acquire))
    }

    pub(super) fn set_flushed(&self, upto: Offset) {
        self.flushed.fetch_max(upto.get(), Ordering::AcqRel);
    }

    /// After the log's end has moved: commits what can be committed and wakes who waits for it. `first_unstable` says
    /// what of the log is not decided when it is committed up to some offset.
    pub(super) fn advance(&self, end: Offset, first_unstable: impl FnOnce(Offset) -> Option<Offset>) {
        let current = Offset::new(self.high_watermark.load(Ordering::SeqCst));
        let next = isr::high_watermark(current, end, &[], 1);
        // A reader that sees the new high watermark and the old stable offset is behind, and never ahead.
        self.high_watermark.store(next.get(), Ordering::SeqCst);
        self.last_stable.store(first_unstable(next).unwrap_or(next).get(), Ordering::SeqCst);
        self.waiters.wake();
    }

    /// Wakes who waits here, for a change other than new records.
    pub(super) fn wake(&self) {
        self.waiters.wake();
    }

    /// Counts an append that the disk refused, and says so, but not for each of a storm of them.
    pub(super) fn report_failure(&self, error: &StorageError, now: Timestamp) {
        const QUIET_MS: i64 = 1000;
        self.options.counts.failed();
        let before = self.failure_said.load(Ordering::Relaxed);
        if now.get().saturating_sub(before) < QUIET_MS {
            self.failures_unsaid.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.failure_said.store(now.get(), Ordering::Relaxed);
        let since = self.failures_unsaid.swap(0, Ordering::Relaxed);
        tracing::error!(partition = %self.name, %error, since, "a batch was not appended; its producer is told KAFKA_STORAGE_ERROR");
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
            let _ = flush::flush_to(&partition, end).await;
        });
    }

    async fn finish(self: Arc<Self>, written: Written) -> Result<Appended, AppendError> {
        if let Some(upto) = written.flush_upto {
            flush::flush_to(&self, upto).await?;
        }
        Ok(written.appended)
    }
}

/// A batch that is in the log, and how far the log must be flushed before it is acked.
pub(super) struct Written {
    pub(super) appended: Appended,
    pub(super) flush_upto: Option<Offset>,
    /// A segment was closed.
    pub(super) rolled: bool,
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
