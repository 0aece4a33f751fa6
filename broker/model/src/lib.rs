//! The vocabulary of the broker: ids, offsets, epochs, time, and views over
//! Kafka's record batches (message format v2).
//!
//! Nothing here knows a request, a file, a socket or a plugin. Bytes that
//! come in are checked once, at the border of a view; after that a view cannot
//! be malformed.

pub mod batch;
pub mod builder;
pub mod codec;
mod content_hash;
pub mod control;
mod ids;
pub mod record;
pub mod rewrite;
mod seams;
pub mod validate;

pub use batch::{Batch, BatchError, BatchHeader};
pub use builder::BatchBuilder;
pub use codec::Compression;
pub use content_hash::{ContentHash, ContentHashError};
pub use ids::{
    LeaderEpoch, NodeId, Offset, PartitionId, ProducerEpoch, ProducerId, Timestamp, TopicId, TopicPartition,
};
pub use seams::{Clock, Offload, Random, SystemClock, SystemRandom};
