//! Group commit: many batches that wait for the disk share one fsync.
//!
//! Whoever finds no flush under way starts one for all that is written by then; whoever comes meanwhile waits for that
//! one and, if it began too early for him, for the next. A failed flush fails everybody who waited for it: after a failed
//! fsync the kernel may have dropped the pages, so the log takes no more appends (as Kafka takes the directory offline).

use super::beside::beside;
use super::error::AppendError;
use super::facts::Facts;
use super::writer::Writer;
use millrace_model::{Offset, Timestamp};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// The right to flush one partition; held while a flush is under way.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    turn: Mutex<()>,
    /// When the last flush began, as milliseconds.
    began: AtomicI64,
}

impl Flusher {
    /// Returns once no flush is under way.
    pub(super) async fn wait(&self) {
        drop(self.turn.lock().await);
    }

    /// Whether the last flush began at least `interval` ago.
    pub(super) fn is_due(&self, now: Timestamp, interval: Duration) -> bool {
        let began = Timestamp::new(self.began.load(Ordering::Relaxed));
        u64::try_from(now.since(began)).is_ok_and(|age| Duration::from_millis(age) >= interval)
    }

    /// Returns once everything below `upto` is on the disk.
    pub(super) async fn flush_to(
        &self,
        partition: &Facts,
        writer: &Mutex<Writer>,
        upto: Offset,
    ) -> Result<(), AppendError> {
        if partition.flushed() >= upto {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        // Whoever had the turn before may have flushed for this one too.
        if partition.flushed() >= upto {
            return Ok(());
        }
        self.began.store(partition.options.clock.now().get(), Ordering::Relaxed);
        let Some(task) = writer.lock().await.log()?.flush_task() else {
            partition.set_flushed(upto);
            return Ok(());
        };
        let flushed = beside(&*partition.options.offload, move || task.run()).await.ok_or(AppendError::NotLeader)?;
        let flushed = flushed.inspect_err(|error| {
            tracing::error!(partition = %partition.name, %error, "flush failed; the partition takes no more appends");
        })?;
        writer.lock().await.log()?.flushed(flushed);
        partition.set_flushed(flushed);
        Ok(())
    }
}
