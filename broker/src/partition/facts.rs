//! What is known of a partition beside its log: what handles say and the writer moves.

use super::gate::{Gate, Guard};
use super::stage::{BatchStage, Generation};
use super::waiters::Waiters;
use super::{Options, isr};
use crate::config::kafka_keys::TopicSettings;
use arc_swap::ArcSwap;
use millrace_model::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use millrace_storage::{GenerationStart, Generations, Log, LogReader, StorageError};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering};

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

/// What is known of a partition beside its log. Whoever holds the partition may look; what moves is moved by the writer.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) id: TopicPartition,
    pub(super) topic: Arc<str>,
    /// `topic-0`, as its directory is called.
    pub(super) name: String,
    pub(super) options: Arc<Options>,
    pub(super) settings: ArcSwap<TopicSettings>,
    pub(super) waiters: Waiters,
    pub(super) gate: Gate,
    reader: LogReader,
    generations: ArcSwap<Vec<GenerationStart>>,
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

impl Facts {
    pub(super) fn new(options: Arc<Options>, start: &Start, log: &mut Log, generations: &Generations) -> Self {
        let reader = log.reader();
        let end = reader.end_offset();
        let stable = log.first_unstable(end).unwrap_or(end);
        let gate = Gate::default();
        for producer in log.producers().filter(|producer| producer.transaction_start.is_some()) {
            gate.opened(producer.id, producer.epoch);
        }
        Self {
            name: format!("{}-{}", start.topic, start.id.partition),
            id: start.id,
            topic: Arc::clone(&start.topic),
            options,
            settings: ArcSwap::new(Arc::clone(&start.settings)),
            waiters: Waiters::default(),
            gate,
            reader,
            generations: ArcSwap::new(generations.entries()),
            leader_epoch: AtomicI32::new(start.leader_epoch.get()),
            high_watermark: AtomicI64::new(end.get()),
            last_stable: AtomicI64::new(stable.get()),
            flushed: AtomicI64::new(log.recovery_point().get()),
            failure_said: AtomicI64::new(i64::MIN),
            failures_unsaid: AtomicU64::new(0),
        }
    }

    pub(super) fn high_watermark(&self) -> Offset {
        Offset::new(self.high_watermark.load(Ordering::SeqCst))
    }

    /// Everything below is committed and belongs to a decided transaction, or to none, without regard to the log's start.
    pub(super) fn decided(&self) -> Offset {
        Offset::new(self.last_stable.load(Ordering::SeqCst)).min(self.high_watermark())
    }

    pub(super) fn generations(&self) -> Arc<Vec<GenerationStart>> {
        self.generations.load_full()
    }

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
        let next = isr::high_watermark(self.high_watermark(), end, &[], 1);
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
}
