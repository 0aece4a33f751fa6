//! The cleaner of a node: one task for all compacted partitions, the dirtiest first, as Kafka has it.
//!
//! What is compacted and has a retention too is held against that as often, as Kafka's cleaner does; the check of all logs comes
//! every five minutes.
//!
//! A round runs in steps beside the I/O workers; between them the task sleeps as `log.cleaner.io.max.bytes.per.second` asks.
//! The writer is held for the swap of a finished segment, which is a few renames, and for nothing else.
//!
//! Invariants:
//! - How far a log is clean is written down (`cleaner-offset-checkpoint`) after the segments are in place on the disk. One that is too
//!   early costs a longer round, no more.
//! - What a round takes for decided is on the disk before it begins: a transaction whose marker a power loss takes back has all
//!   of its records.
//! - A log that cannot be read is left alone from then on, with one line that says why; the others go on. Where the disk fails
//!   otherwise, it is tried again later: a full one may have room by then.

use super::error::AppendError;
use super::flush;
use super::handle::{Inner, PartitionHandle};
use super::registry::Partitions;
use millrace_model::{Offload, Offset, Timestamp};
use millrace_storage::StorageError;
use millrace_storage::clean::{CleanOptions, CleanStats, Cleanable, Round, Step};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, oneshot, watch};

/// Bytes that a step reads before the task looks around again.
const STEP: u64 = 8 << 20;
/// A throttled step takes about so long.
const THROTTLED_STEP: Duration = Duration::from_millis(100);
/// How long a log is left alone that the disk did not let clean.
const AGAIN_AFTER_MS: i64 = 30_000;

/// What the cleaner of a node is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleanerOptions {
    /// `log.cleaner.enable`.
    pub enabled: bool,
    /// `log.cleaner.backoff.ms`: how long it waits where nothing is dirty enough.
    pub backoff: Duration,
    /// `log.cleaner.io.max.bytes.per.second`, read and written together; `None` for no limit.
    pub bytes_per_second: Option<u64>,
    /// What every round is told.
    pub rounds: CleanOptions,
}

/// What the cleaner knows of a partition.
#[derive(Debug)]
pub(super) struct Cleaning {
    /// Records before it are clean; negative where that is not known.
    clean: AtomicI64,
    given_up: AtomicBool,
    /// Not before this time, after the disk has failed.
    not_before: AtomicI64,
    /// Held during a round.
    turn: Mutex<()>,
    stopped: AtomicBool,
}

impl Default for Cleaning {
    fn default() -> Self {
        Self {
            clean: AtomicI64::new(-1),
            given_up: AtomicBool::new(false),
            not_before: AtomicI64::new(i64::MIN),
            turn: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }
}

impl Cleaning {
    /// Before which offset the records are clean.
    pub(super) fn clean(&self) -> Option<Offset> {
        Some(Offset::new(self.clean.load(Ordering::Acquire))).filter(|offset| *offset >= Offset::ZERO)
    }

    pub(super) fn set_clean(&self, offset: Offset) {
        self.clean.store(offset.get(), Ordering::Release);
    }

    /// No more rounds; returns once none is under way.
    pub(super) async fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        drop(self.turn.lock().await);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn is_free(&self, now: Timestamp) -> bool {
        !self.given_up.load(Ordering::Relaxed) && now.get() >= self.not_before.load(Ordering::Relaxed)
    }
}

impl Partitions {
    /// Runs for ever: cleans what is dirty enough, by the options as they are then. What is compacted and has a retention
    /// too loses its old segments as often.
    pub async fn keep_clean(self, mut options: watch::Receiver<CleanerOptions>) {
        loop {
            let current = *options.borrow_and_update();
            if !current.enabled {
                return;
            }
            if self.clean_one(&current).await {
                continue;
            }
            let also_deleted = |partition: &PartitionHandle| {
                let settings = partition.settings();
                settings.compact && settings.delete
            };
            for partition in self.all().into_iter().filter(also_deleted) {
                partition.apply_retention().await;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(current.backoff) => {}
                Ok(()) = options.changed() => {}
            }
        }
    }

    /// Cleans the dirtiest partition. `false` where none needs it, or it did not come to an end.
    pub(super) async fn clean_one(&self, options: &CleanerOptions) -> bool {
        let Some((partition, cleanable)) = self.dirtiest().await else { return false };
        let inner = Arc::clone(partition.inner());
        match inner.clean(&cleanable, options).await {
            Ok(Some((upto, stats))) => {
                tracing::info!(
                    partition = %inner.name, from = %cleanable.first_dirty, %upto, keys = stats.keys,
                    bytes_before = stats.bytes_before, bytes_after = stats.bytes_after, "log cleaned",
                );
                inner.cleaning.set_clean(upto);
                self.checkpoint_cleaned().await;
                true
            }
            // Its segments were deleted meanwhile; the partition may have gone.
            Ok(None) | Err(AppendError::NotLeader | AppendError::Storage(StorageError::Failed { .. })) => false,
            Err(error) => {
                inner.cleaning.failed(&inner.name, &error, inner.options.clock.now());
                false
            }
        }
    }

    async fn dirtiest(&self) -> Option<(PartitionHandle, Cleanable)> {
        let now = self.options().clock.now();
        let compacted =
            |partition: &PartitionHandle| partition.settings().compact && partition.inner().cleaning.is_free(now);
        let partitions: Vec<_> = self.all().into_iter().filter(compacted).collect();
        if partitions.is_empty() {
            return None;
        }
        beside(&*self.options().offload, move || {
            let due = partitions.into_iter().filter_map(|partition| {
                let cleanable = partition.inner().cleanable(partition.decided())?;
                Some((partition, cleanable))
            });
            due.max_by(|(_, a), (_, b)| a.dirty_ratio.total_cmp(&b.dirty_ratio))
        })
        .await?
    }

    async fn checkpoint_cleaned(&self) {
        let (partitions, writer) = (self.clone(), self.options().data_dir.checkpoint_writer());
        let written = beside(&*self.options().offload, move || partitions.write_cleaned(&writer)).await;
        if let Some(Err(error)) = written {
            tracing::warn!(%error, "it could not be written down how far logs are clean");
        }
    }
}

impl Cleaning {
    fn failed(&self, partition: &str, error: &AppendError, now: Timestamp) {
        if matches!(error, AppendError::Storage(StorageError::Io { .. })) {
            tracing::warn!(partition, %error, "log cannot be cleaned now");
            self.not_before.store(now.plus_ms(AGAIN_AFTER_MS).get(), Ordering::Relaxed);
        } else if !self.given_up.swap(true, Ordering::Relaxed) {
            tracing::error!(partition, %error, "log cannot be cleaned and is left as it is");
        }
    }
}

impl Inner {
    /// What a round would find, where it is due.
    fn cleanable(&self, stable: Offset) -> Option<Cleanable> {
        let config = self.settings.load().log_config();
        let now = self.options.clock.now();
        match self.reader().cleanable(&config, self.cleaning.clean(), stable, now) {
            Ok(cleanable) => Some(cleanable).filter(|cleanable| cleanable.is_due(&config.compaction)),
            Err(error) => {
                if !self.reader().is_failed() {
                    self.cleaning.failed(&self.name, &error.into(), now);
                }
                None
            }
        }
    }

    /// One round. `None` where a segment went away meanwhile.
    async fn clean(
        self: &Arc<Self>,
        cleanable: &Cleanable,
        options: &CleanerOptions,
    ) -> Result<Option<(Offset, CleanStats)>, AppendError> {
        let _turn = self.cleaning.turn.lock().await;
        flush::flush_to(self, self.log_end()).await?;
        let now = self.options.clock.now();
        let mut round = self.writer.lock().await.log()?.clean(options.rounds, cleanable, now);
        loop {
            if self.cleaning.is_stopped() {
                beside(&*self.options.offload, move || round.discard()).await;
                return Ok(None);
            }
            let before = moved(&round);
            let (back, step) = self.step(round, options).await?;
            round = back;
            match step {
                Ok(Step::More) => {}
                Ok(Step::Swap(cleaned)) => {
                    if !self.writer.lock().await.log()?.swap_in(cleaned, now)? {
                        return Ok(None);
                    }
                }
                Ok(Step::Done(upto)) => return Ok(Some((upto, *round.stats()))),
                Err(error) => {
                    beside(&*self.options.offload, move || round.discard()).await;
                    return Err(error.into());
                }
            }
            if let Some(limit) = options.bytes_per_second {
                let bytes = moved(&round).saturating_sub(before);
                tokio::time::sleep(Duration::from_millis(bytes.saturating_mul(1000) / limit.max(1))).await;
            }
        }
    }

    async fn step(
        &self,
        mut round: Round,
        options: &CleanerOptions,
    ) -> Result<(Round, Result<Step, StorageError>), AppendError> {
        let bytes = options.bytes_per_second.map_or(STEP, |limit| {
            let part = u128::from(limit) * THROTTLED_STEP.as_millis() / 1000;
            u64::try_from(part).unwrap_or(STEP).clamp(1, STEP)
        });
        let stepped = beside(&*self.options.offload, move || {
            let step = round.step(bytes);
            (round, step)
        });
        // The offload drops a job only when the node goes down.
        stepped.await.ok_or(AppendError::NotLeader)
    }
}

fn moved(round: &Round) -> u64 {
    round.stats().bytes_read + round.stats().bytes_written
}

/// Runs a job beside the I/O workers; `None` where the node goes down.
pub(super) async fn beside<T: Send + 'static>(
    offload: &dyn Offload,
    job: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, outcome) = oneshot::channel();
    offload.run(Box::new(move || {
        let _ = done.send(job());
    }));
    outcome.await.ok()
}
