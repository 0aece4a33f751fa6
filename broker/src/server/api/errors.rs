//! From the rooms' errors to Kafka's codes: the only place where that happens.

use crate::cluster::ProposeError;
use crate::partition::AppendError;
use millrace_metadata::ApplyError;
use millrace_model::BatchError;
use millrace_protocol::ErrorCode;
use millrace_storage::{ProducerError, ReadError, StorageError};

/// What Kafka says of a request that it refuses without a reason of its own.
pub(super) const INVALID_REQUEST: &str = "This most likely occurs because of a request being malformed by the client library or the message was sent to an \
     incompatible broker. See the broker logs for more details.";

/// The code of a batch that was not appended.
pub(super) fn append(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::NotLeader => ErrorCode::NotLeaderOrFollower,
        AppendError::Corrupt(error) => batch(error),
        AppendError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        AppendError::Invalid { .. } | AppendError::Malformed { .. } => ErrorCode::InvalidRecord,
        // Kafka has no code for records that it cannot unfold: what it throws then is nobody's.
        AppendError::Undecodable(_) => ErrorCode::UnknownServerError,
        AppendError::InvalidTimestamp { .. } => ErrorCode::InvalidTimestamp,
        AppendError::Producer(ProducerError::Fenced { .. }) => ErrorCode::InvalidProducerEpoch,
        AppendError::Producer(ProducerError::OutOfOrder { .. }) => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::Producer(ProducerError::Malformed { .. }) => ErrorCode::InvalidRecord,
        AppendError::Producer(ProducerError::InTransaction { .. }) | AppendError::NotInTransaction { .. } => {
            ErrorCode::InvalidTxnState
        }
        AppendError::Producer(ProducerError::CoordinatorFenced { .. }) => ErrorCode::TransactionCoordinatorFenced,
        AppendError::Storage(error) => storage(error),
    }
}

/// The code of bytes that are no batch. Kafka takes batches that are cut short, or of an old format, for requests without
/// a batch.
pub(super) fn batch(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::Short { .. } | BatchError::Field { .. } | BatchError::Magic(0 | 1) => ErrorCode::InvalidRecord,
        _ => ErrorCode::CorruptMessage,
    }
}

/// The code of a failure of the disk.
pub(super) fn storage(error: &StorageError) -> ErrorCode {
    match error {
        StorageError::TooLarge { .. } => ErrorCode::RecordListTooLarge,
        StorageError::Batch(error) => batch(error),
        StorageError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        _ => ErrorCode::KafkaStorageError,
    }
}

/// The code of a read that failed.
pub(super) fn read(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        // Said to who does not wait; whoever answers has waited.
        ReadError::Cold => ErrorCode::UnknownServerError,
        ReadError::Storage(error) => storage(error),
    }
}

/// The code of a command that the cluster refused.
pub(super) fn apply(error: &ApplyError) -> ErrorCode {
    match error {
        ApplyError::TopicExists { .. } => ErrorCode::TopicAlreadyExists,
        ApplyError::TopicName(_) | ApplyError::TopicCollides { .. } => ErrorCode::InvalidTopicException,
        ApplyError::UnknownTopic { .. } => ErrorCode::UnknownTopicOrPartition,
        ApplyError::UnknownTopicId { .. } => ErrorCode::UnknownTopicId,
        ApplyError::PartitionsNotPositive { .. }
        | ApplyError::PartitionsNotMore { .. }
        | ApplyError::PartitionsThere { .. } => ErrorCode::InvalidPartitions,
        ApplyError::TooManyPartitions { .. } => ErrorCode::PolicyViolation,
        ApplyError::ReplicationNotPositive { .. } | ApplyError::NotEnoughBrokers { .. } => {
            ErrorCode::InvalidReplicationFactor
        }
        ApplyError::ReplicaAssignment { .. } => ErrorCode::InvalidReplicaAssignment,
        ApplyError::Config { .. } => ErrorCode::InvalidConfig,
        ApplyError::UnknownBroker { .. } => ErrorCode::BrokerIdNotRegistered,
        ApplyError::DuplicateBroker { .. } => ErrorCode::DuplicateBrokerRegistration,
        ApplyError::Registration { .. } => ErrorCode::InvalidRegistration,
        ApplyError::ClusterId { .. } => ErrorCode::InconsistentClusterId,
        ApplyError::ProducerIdsExhausted => ErrorCode::UnknownServerError,
        _ => ErrorCode::InvalidRequest,
    }
}

/// The code of a command that was refused or could not be decided on.
pub(super) fn propose(error: &ProposeError) -> ErrorCode {
    match error {
        ProposeError::Refused(error) => apply(error),
        _ => ErrorCode::NotController,
    }
}
