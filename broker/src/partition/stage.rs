//! What may stand between a producer's batch and the log: the attached
//! pipeline, behind a trait of this room's own, so that the writer knows
//! nothing of plugins.

use futures::future::BoxFuture;
use millrace_model::{Batch, PartitionId, Timestamp};
use std::fmt;
use std::sync::Arc;

/// Where the batch is bound for.
#[derive(Clone, Debug)]
pub struct StageContext {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
    /// The broker's time when the batch came.
    pub now: Timestamp,
}

/// A record that the stage refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRejection {
    /// The record's place in the batch as produced, from 0.
    pub index: i32,
    /// Why, in words for the producer.
    pub reason: String,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageOutcome {
    /// It is stored as it came: same bytes, same checksum, same compression.
    Unchanged,
    /// This is stored in its place. It keeps producer id, epoch, base sequence
    /// and last offset delta, so that a retry of the original is still recognised.
    Replaced(Batch),
    /// Nothing is stored; the producer is told which records and why (KIP-467).
    Rejected {
        /// The refused records; may be empty where the batch as a whole is refused.
        records: Vec<RecordRejection>,
        /// Why, for the batch.
        message: String,
    },
}

/// What tells one pipeline of a topic from the next: noted for each partition with the offset from which on it handled
/// the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// Grows from pipeline to pipeline.
    pub number: u64,
    /// What the pipeline runs, in its order, between spaces; empty for nothing.
    pub plugins: Arc<str>,
}

/// The pipeline of one topic's produce stage.
pub trait BatchStage: Send + Sync + fmt::Debug {
    /// Takes a batch whose checksum has been verified. The writer awaits the
    /// outcome before it looks at the partition's next batch. Dropping the
    /// future abandons the batch.
    fn run(&self, batch: Batch, context: StageContext) -> BoxFuture<'static, StageOutcome>;
}
