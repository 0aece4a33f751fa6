//! What can go wrong, with the operands in it.

use millrace_model::{BatchError, Offset, ProducerEpoch, ProducerId};
use std::path::PathBuf;
use thiserror::Error;

/// A failure of the disk, or of what stands on it.
#[derive(Debug, Error)]
pub enum StorageError {
    /// An operation on the disk failed.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds what it cannot hold.
    #[error("{} at byte {position}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong.
        reason: String,
    },
    /// An earlier failure left the log in a state that cannot be trusted: it takes no writes until it is opened again.
    #[error("the log {} failed earlier and takes no writes until it is opened again", path.display())]
    Failed {
        /// The log's directory.
        path: PathBuf,
    },
    /// The batches of one append do not fit into a segment.
    #[error("{bytes} bytes do not fit into a segment of {segment_bytes} bytes")]
    TooLarge {
        /// How many bytes there are.
        bytes: u64,
        /// `segment.bytes`.
        segment_bytes: u64,
    },
    /// Another process has this data directory open.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// An append of nothing, or of a batch whose numbers cannot be stored.
    #[error("batch cannot be stored: {0}")]
    Batch(#[from] BatchError),
    /// An offset outside of the log.
    #[error("offset {offset} is not between {start} and {end}")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The log's first offset.
        start: Offset,
        /// The offset after the log's last.
        end: Offset,
    },
}

impl StorageError {
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }
}

/// Why a read gave nothing.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The offset is not in the log (any more, or yet).
    #[error("offset {offset} is not between {start} and {end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The log's first offset.
        start: Offset,
        /// The offset after the log's last.
        end: Offset,
    },
    /// To say what is there takes a wait for the disk, which the reader was not to do.
    #[error("what is asked for is not in memory")]
    Cold,
    /// The disk failed, or what stands on it is broken.
    #[error(transparent)]
    Storage(StorageError),
}

impl From<StorageError> for ReadError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io { source, .. } if source.kind() == std::io::ErrorKind::WouldBlock => Self::Cold,
            error => Self::Storage(error),
        }
    }
}

/// Why an idempotent producer's batch is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProducerError {
    /// A newer instance of the producer has written (INVALID_PRODUCER_EPOCH).
    #[error("producer {id} is at epoch {current}, not {got}")]
    Fenced {
        /// The producer.
        id: ProducerId,
        /// Its epoch in the log.
        current: ProducerEpoch,
        /// The batch's epoch.
        got: ProducerEpoch,
    },
    /// The batch does not follow the producer's last one (OUT_OF_ORDER_SEQUENCE_NUMBER).
    #[error("producer {id} at epoch {epoch} continues at sequence {expected}, not {got}")]
    OutOfOrder {
        /// The producer.
        id: ProducerId,
        /// Its epoch.
        epoch: ProducerEpoch,
        /// The sequence that would be next.
        expected: i32,
        /// The batch's first sequence.
        got: i32,
    },
    /// A producer id without an epoch or a sequence (INVALID_RECORD).
    #[error("producer {id} sent epoch {epoch} and base sequence {sequence}")]
    Malformed {
        /// The producer.
        id: ProducerId,
        /// The batch's epoch.
        epoch: ProducerEpoch,
        /// The batch's first sequence.
        sequence: i32,
    },
    /// A newer coordinator has decided a transaction of the producer (TRANSACTION_COORDINATOR_FENCED).
    #[error("a coordinator of epoch {current} has decided for producer {id}, this one is at {got}")]
    CoordinatorFenced {
        /// The producer.
        id: ProducerId,
        /// The newest coordinator epoch in the log.
        current: i32,
        /// The marker's.
        got: i32,
    },
    /// A batch outside of the transaction that its producer has open (INVALID_TXN_STATE).
    #[error("producer {id} has a transaction open since offset {start} and wrote outside of it")]
    InTransaction {
        /// The producer.
        id: ProducerId,
        /// Where its transaction begins.
        start: Offset,
    },
}
