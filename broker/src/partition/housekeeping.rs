//! What partitions need from time to time: retention, `flush.ms`, checkpoints.
//!
//! One task for all partitions; each is held only for its own turn, and what blocks happens beside the I/O workers.

use super::flush;
use super::handle::PartitionHandle;
use super::registry::Partitions;
use std::time::Duration;

impl Partitions {
    /// Runs for ever: deletes what retention gives free and writes back what `flush.ms` asks for.
    pub async fn keep_house(self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            for partition in self.all() {
                partition.keep_house().await;
            }
        }
    }
}

impl PartitionHandle {
    async fn keep_house(&self) {
        let inner = self.inner();
        let now = inner.options.clock.now();
        let upto = self.high_watermark();
        {
            let mut writer = inner.writer.lock().await;
            let Ok(log) = writer.log() else { return };
            if let Err(error) = log.retain(now, upto) {
                tracing::warn!(partition = %inner.name, %error, "retention could not delete a segment");
            }
            log.sweep(now);
        }
        if self.settings().flush_interval.is_some()
            && let Err(error) = flush::flush_to(inner, self.reader().end_offset()).await
        {
            tracing::error!(partition = %inner.name, %error, "the log could not be flushed");
        }
    }
}
