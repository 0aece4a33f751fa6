//! What the transaction coordinator is asked and what it answers, in types of its own.

use crate::config::kafka_keys::BrokerSettings;
use crate::coordinator::runtime::machine::Refusal;
use millrace_model::{ProducerEpoch, ProducerId, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Why a request to the transaction coordinator was refused. Each is one of Kafka's error codes; the edge knows which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TxnError {
    /// The coordinator is stopping, or its log cannot be written right now.
    #[error("the transaction coordinator is not available")]
    NotAvailable,
    /// The partition of the transactional id is still being replayed.
    #[error("the transaction coordinator is loading")]
    Loading,
    /// Another broker coordinates the transactional id.
    #[error("this broker does not coordinate the transactional id")]
    NotCoordinator,
    /// An empty transactional id, or something else that no client sends.
    #[error("the request makes no sense")]
    InvalidRequest,
    /// The timeout is not between 1 and `transaction.max.timeout.ms`.
    #[error("the transaction timeout is outside the allowed range")]
    InvalidTimeout,
    /// The producer's transaction is being ended, or another request changes it.
    #[error("the producer's last transaction has not ended yet")]
    Concurrent,
    /// A newer instance of the producer took over.
    #[error("a newer producer has taken over the transactional id")]
    Fenced,
    /// The producer id is not the transactional id's.
    #[error("the producer id does not belong to the transactional id")]
    IdMapping,
    /// The transaction is in no state for this.
    #[error("the transaction is in no state for this")]
    InvalidState,
    /// The partition is not part of the transaction: it is to be aborted.
    #[error("the partition is not part of the transaction")]
    Abortable,
    /// There is no such transactional id.
    #[error("there is no such transactional id")]
    IdNotFound,
    /// The records are too large for the log, or no producer id is to be had.
    #[error("the coordinator cannot do this")]
    Unknown,
}

impl From<Refusal> for TxnError {
    fn from(why: Refusal) -> Self {
        match why {
            Refusal::NotAvailable => Self::NotAvailable,
            Refusal::Loading => Self::Loading,
            Refusal::NotCoordinator | Refusal::Fenced => Self::NotCoordinator,
            Refusal::TooLarge | Refusal::NotInTransaction => Self::Unknown,
        }
    }
}

/// A partition that a transaction touches.
pub type TxnPartition = (Arc<str>, i32);

/// How a client does transactions (`transaction.version`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TxnVersion {
    /// As before KIP-890.
    #[default]
    V0,
    /// The same, its state stored in a newer format.
    V1,
    /// The epoch moves with every transaction, and partitions are added by writing to them.
    V2,
}

impl TxnVersion {
    /// The number of the feature level.
    pub const fn level(self) -> i16 {
        match self {
            Self::V0 => 0,
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// The version of a feature level.
    pub const fn of_level(level: i16) -> Self {
        match level {
            ..=0 => Self::V0,
            1 => Self::V1,
            2.. => Self::V2,
        }
    }

    /// Whether every transaction has an epoch of its own.
    pub const fn bumps_epoch(self) -> bool {
        matches!(self, Self::V2)
    }
}

/// Who writes in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// The id.
    pub id: ProducerId,
    /// The epoch.
    pub epoch: ProducerEpoch,
}

/// A transaction's state, in Kafka's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are Kafka's and documented there")]
pub enum TxnState {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

impl TxnState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// The name that tools show.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// Whether it is decided how the transaction ends, and not yet done.
    pub const fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

/// A transactional id asks for a producer id and an epoch.
#[derive(Clone, Debug)]
pub struct InitProducer {
    /// The transactional id.
    pub id: Arc<str>,
    /// How long a transaction may take.
    pub timeout_ms: i32,
    /// Who the producer believes to be (KIP-360).
    pub expected: Option<ProducerIdentity>,
    /// A producer id that nobody has, where one is needed.
    pub fresh: Option<ProducerId>,
}

/// Partitions become part of a transaction, or are looked for in it.
#[derive(Clone, Debug)]
pub struct AddPartitions {
    /// The transactional id.
    pub id: Arc<str>,
    /// Who asks.
    pub producer: ProducerIdentity,
    /// The partitions.
    pub partitions: BTreeSet<TxnPartition>,
    /// How the client does transactions.
    pub version: TxnVersion,
}

/// A transaction ends.
#[derive(Clone, Debug)]
pub struct EndTxn {
    /// The transactional id.
    pub id: Arc<str>,
    /// Who asks.
    pub producer: ProducerIdentity,
    /// Whether its records count.
    pub commit: bool,
    /// How the client does transactions.
    pub version: TxnVersion,
    /// A producer id that nobody has, where one is needed.
    pub fresh: Option<ProducerId>,
}

/// What a request that may need a fresh producer id comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// This is who the producer is from now on.
    Is(ProducerIdentity),
    /// Ask again, with a fresh producer id.
    NeedsFreshId,
}

/// A transaction, for who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnDescription {
    /// Its transactional id.
    pub id: Arc<str>,
    /// Its state.
    pub state: TxnState,
    /// Its timeout.
    pub timeout_ms: i32,
    /// When it began; −1 where none is open.
    pub started: Timestamp,
    /// Its producer.
    pub producer: ProducerIdentity,
    /// The partitions that it touches.
    pub partitions: BTreeSet<TxnPartition>,
}

/// Which transactions to list; what is empty lets everything pass.
#[derive(Clone, Debug, Default)]
pub struct ListTxns {
    /// Their states.
    pub states: Vec<TxnState>,
    /// Their producers.
    pub producers: Vec<ProducerId>,
    /// How long they have been going on, at least; negative lets everything pass.
    pub longer_than_ms: i64,
}

/// The markers that end a transaction are to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteMarkers {
    /// The transactional id.
    pub id: Arc<str>,
    /// The producer and the epoch that the markers carry.
    pub producer: ProducerIdentity,
    /// Whether its records count.
    pub commit: bool,
    /// The epoch of this coordinator.
    pub coordinator_epoch: i32,
    /// How the transaction was done.
    pub version: TxnVersion,
    /// Where to.
    pub partitions: BTreeSet<TxnPartition>,
}

/// The settings of the coordinator; each is the Kafka key of the same name.
#[derive(Clone, Debug)]
pub struct TxnOptions {
    /// `transaction.max.timeout.ms`.
    pub max_timeout_ms: i32,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`.
    pub timeout_check_interval_ms: u64,
    /// `transactional.id.expiration.ms`.
    pub expiration_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub expiration_check_interval_ms: u64,
    /// `transaction.state.log.num.partitions`.
    pub log_partitions: i32,
    /// `transaction.state.log.replication.factor`; fewer where there are fewer brokers.
    pub log_replication_factor: i16,
    /// `transaction.state.log.segment.bytes`.
    pub log_segment_bytes: i32,
    /// How long an append may take.
    pub append_timeout_ms: u64,
}

impl Default for TxnOptions {
    fn default() -> Self {
        Self {
            max_timeout_ms: 900_000,
            timeout_check_interval_ms: 10_000,
            expiration_ms: 604_800_000,
            expiration_check_interval_ms: 3_600_000,
            log_partitions: 50,
            log_replication_factor: 3,
            log_segment_bytes: 104_857_600,
            append_timeout_ms: 30_000,
        }
    }
}

impl From<&BrokerSettings> for TxnOptions {
    fn from(settings: &BrokerSettings) -> Self {
        let long = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            max_timeout_ms: i32::try_from(settings.transaction_max_timeout.as_millis()).unwrap_or(i32::MAX),
            timeout_check_interval_ms: long(settings.transaction_timeout_check_interval),
            expiration_ms: i64::try_from(settings.transactional_id_expiration.as_millis()).unwrap_or(i64::MAX),
            expiration_check_interval_ms: long(settings.transactional_id_expiration_check_interval),
            log_partitions: i32::try_from(settings.transaction_log_partitions).unwrap_or(i32::MAX),
            log_replication_factor: i16::try_from(settings.transaction_log_replication_factor).unwrap_or(i16::MAX),
            log_segment_bytes: i32::try_from(settings.transaction_log_segment_bytes).unwrap_or(i32::MAX),
            ..Self::default()
        }
    }
}
