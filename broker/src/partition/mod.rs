//! One partition: a single writer, handles to it, and readers beside it.
//!
//! The order of a partition's batches is fixed in the moment [`PartitionHandle::append`] is called: whoever calls first
//! is first in the writer's queue. Readers never pass through the writer. This room knows no request, no socket and no
//! plugin: the batch stage is a trait of its own.

mod beside;
mod cleaner;
mod cleaning;
mod deletion;
mod error;
mod facts;
mod flush;
mod gate;
mod handle;
mod housekeeping;
mod isr;
mod options;
mod registry;
pub mod stage;
mod validate;
mod waiters;
mod writer;

#[cfg(test)]
mod tests;

pub use beside::beside;
pub use cleaner::CleanerOptions;
pub use deletion::DeleteRecordsError;
pub use error::AppendError;
pub use facts::{Appended, Claim, Origin};
pub use gate::{Admission, Guard};
pub use handle::{Append, PartitionHandle, Waiting};
pub use housekeeping::Intervals;
pub use options::{Counts, NoCounts, Options};
pub use registry::{Partitions, StageProvider, TopicPartitions};
pub use stage::{BatchStage, Generation, RecordRejection, StageContext, StageOutcome};
pub use waiters::Waiter;
