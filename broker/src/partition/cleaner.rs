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

use super::beside::beside;
use super::error::AppendError;
use super::handle::{Inner, PartitionHandle};
use super::registry::Partitions;
use millrace_model::Offset;
use millrace_storage::StorageError;
use millrace_storage::clean::{CleanOptions, CleanStats, Cleanable, Round, Step};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Bytes that a step reads before the task looks around again.
const STEP: u64 = 8 << 20;
/// A throttled step takes about so long.
const THROTTLED_STEP: Duration = Duration::from_millis(100);

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
                let cleanable = partition.inner().cleanable(partition.inner().decided())?;
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
        self.flush_to(self.log_end()).await?;
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
        stepped.await.ok_or(AppendError::NotLeader)
    }
}

fn moved(round: &Round) -> u64 {
    round.stats().bytes_read + round.stats().bytes_written
}
