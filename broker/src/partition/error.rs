//! Why a batch was not appended. Turned into Kafka's error codes only at the edge, in `server`.

use super::stage::RecordRejection;
use millrace_model::codec::CodecError;
use millrace_model::{BatchError, ProducerEpoch, ProducerId};
use millrace_storage::{ProducerError, StorageError};
use thiserror::Error;

/// Why a batch was not appended.
#[derive(Debug, Error)]
pub enum AppendError {
    /// This node does not lead the partition, or the partition is being removed.
    #[error("this node does not lead the partition")]
    NotLeader,
    /// The bytes are not a batch, or its checksum is wrong.
    #[error("the batch is corrupt: {0}")]
    Corrupt(#[from] BatchError),
    /// The batch is larger than the topic allows.
    #[error("the batch has {size} bytes, the topic's max.message.bytes is {limit}")]
    TooLarge {
        /// The batch's bytes.
        size: usize,
        /// `max.message.bytes`.
        limit: usize,
    },
    /// The batch as a whole, or some of its records, are refused.
    #[error("{message}")]
    Invalid {
        /// Which records, and why.
        records: Vec<RecordRejection>,
        /// Why, for the batch.
        message: String,
    },
    /// The batch is not what its header says, or nothing that a producer may send.
    #[error("{message}")]
    Malformed {
        /// What is wrong with it.
        message: String,
    },
    /// The records do not unfold, or their codec does not exist.
    #[error(transparent)]
    Undecodable(CodecError),
    /// Timestamps outside of the topic's bounds.
    #[error("{message}")]
    InvalidTimestamp {
        /// Which records, and why.
        records: Vec<RecordRejection>,
        /// Why, for the batch.
        message: String,
    },
    /// The producer's sequence or epoch does not fit.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// The partition is not part of a transaction of the producer that is open.
    #[error("producer {id} at epoch {epoch} has no transaction open that this partition is part of")]
    NotInTransaction {
        /// The producer.
        id: ProducerId,
        /// Its epoch.
        epoch: ProducerEpoch,
    },
    /// The disk failed or is full. Nothing of the batch will ever be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
