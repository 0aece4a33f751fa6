//! What partitions need from time to time: retention, `flush.ms`, checkpoints. (Cleaning has a task of its own.)
//!
//! One task for all partitions; each is held only for its own turn, and what blocks happens beside the I/O workers.

use super::beside::beside;
use super::handle::PartitionHandle;
use super::registry::Partitions;
use millrace_storage::data_dir::CheckpointWriter;
use std::time::Duration;

/// How often partitions are asked whether `flush.ms` is over.
const TICK: Duration = Duration::from_secs(1);

/// How often what is done.
#[derive(Clone, Copy, Debug)]
pub struct Intervals {
    /// `log.retention.check.interval.ms`.
    pub retention_check: Duration,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub checkpoint: Duration,
}

impl Partitions {
    /// Runs for ever: deletes what retention gives free, writes back what `flush.ms` asks for, and notes in the
    /// checkpoints how far the logs are synced.
    pub async fn keep_house(self, intervals: Intervals) {
        let checkpoints = self.options().data_dir.checkpoint_writer();
        let (mut since_retention, mut since_checkpoint) = (Duration::ZERO, Duration::ZERO);
        loop {
            tokio::time::sleep(TICK).await;
            since_retention += TICK;
            since_checkpoint += TICK;
            let retention_due = since_retention >= intervals.retention_check;
            for partition in self.all() {
                if retention_due {
                    partition.apply_retention().await;
                }
                partition.flush_if_due().await;
            }
            if retention_due {
                since_retention = Duration::ZERO;
            }
            if since_checkpoint >= intervals.checkpoint {
                since_checkpoint = Duration::ZERO;
                self.checkpoint_beside(checkpoints.clone());
            }
        }
    }
}

impl Partitions {
    fn checkpoint_beside(&self, writer: CheckpointWriter) {
        let partitions = self.clone();
        self.options().offload.run(Box::new(move || {
            if let Err(error) = partitions.write_checkpoints(&writer) {
                tracing::warn!(%error, "the checkpoints could not be written");
            }
        }));
    }
}

impl PartitionHandle {
    pub(super) async fn apply_retention(&self) {
        let inner = self.inner();
        let now = inner.options.clock.now();
        let reader = self.reader().clone();
        // What fails here fails again where it is said.
        beside(&*inner.options.offload, move || drop(reader.learn_ages())).await;
        let upto = self.high_watermark();
        let mut writer = inner.writer.lock().await;
        let Ok(log) = writer.log() else { return };
        match log.retain(now, upto) {
            Ok(retained) if retained.segments > 0 => tracing::info!(
                partition = %inner.name, segments = retained.segments, bytes = retained.bytes,
                log_start = %retained.log_start, "retention deleted segments",
            ),
            Ok(_) => {}
            Err(error) => tracing::warn!(partition = %inner.name, %error, "retention could not delete a segment"),
        }
        let deleted = log.sweep(now);
        drop(writer);
        if !deleted.is_empty() {
            beside(&*inner.options.offload, move || deleted.remove()).await;
        }
    }

    async fn flush_if_due(&self) {
        let inner = self.inner();
        let Some(interval) = inner.settings.load().flush_interval else { return };
        let end = self.reader().end_offset();
        let now = inner.options.clock.now();
        if inner.flushed() >= end || !inner.flusher.is_due(now, interval) {
            return;
        }
        if let Err(error) = inner.flush_to(end).await {
            tracing::error!(partition = %inner.name, %error, "the log could not be flushed");
        }
    }
}
