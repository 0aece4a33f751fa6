//! DeleteRecords: the start of a log moves on because somebody asks for it.
//!
//! Invariant: where it was answered, the new start is on the disk; the segments before it go with the next retention.

use super::beside::beside;
use super::error::AppendError;
use super::handle::PartitionHandle;
use super::registry::Partitions;
use millrace_model::Offset;
use thiserror::Error;

/// Why records are not deleted.
#[derive(Debug, Error)]
pub enum DeleteRecordsError {
    /// The topic is compacted, and nothing else.
    #[error("records of {partition} cannot be deleted: its cleanup.policy is compact")]
    Policy {
        /// The partition.
        partition: String,
    },
    /// Only committed records can be deleted.
    #[error("offset {offset} is not between 0 and the high watermark {high_watermark}")]
    OutOfRange {
        /// What was asked for.
        offset: i64,
        /// The high watermark.
        high_watermark: Offset,
    },
    /// The log is not this node's, or failed.
    #[error(transparent)]
    Log(#[from] AppendError),
}

impl PartitionHandle {
    /// Forgets the records before `offset`; −1 stands for the high watermark. Returns the first offset then. It is not
    /// on the disk before [`Partitions::keep_starts`] has returned.
    ///
    /// # Errors
    /// See [`DeleteRecordsError`].
    pub async fn delete_records(&self, offset: i64) -> Result<Offset, DeleteRecordsError> {
        let inner = self.inner();
        {
            let settings = self.settings();
            if settings.compact && !settings.delete {
                return Err(DeleteRecordsError::Policy { partition: inner.name.clone() });
            }
        }
        let mut writer = inner.writer.lock().await;
        let log = writer.log()?;
        let high_watermark = self.high_watermark();
        let before = if offset == -1 { high_watermark } else { Offset::new(offset) };
        if before < Offset::ZERO || before > high_watermark {
            return Err(DeleteRecordsError::OutOfRange { offset, high_watermark });
        }
        log.advance_start(before).map_err(AppendError::from)?;
        drop(writer);
        inner.wake();
        Ok(self.log_start())
    }
}

impl Partitions {
    /// Writes down where all logs begin.
    ///
    /// # Errors
    /// As the disk says.
    pub async fn keep_starts(&self) -> Result<(), AppendError> {
        let (partitions, writer) = (self.clone(), self.options().data_dir.checkpoint_writer());
        let written = beside(&*self.options().offload, move || partitions.write_starts(&writer)).await;
        Ok(written.ok_or(AppendError::NotLeader)??)
    }
}
