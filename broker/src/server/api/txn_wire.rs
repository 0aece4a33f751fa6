//! What the files of the transactional APIs share: codes, and the question that a partition asks before a transaction's
//! first batch is appended.

use super::Context;
use crate::coordinator::txn::{AddPartitions, ProducerIdentity, TxnError, TxnPartition, TxnVersion};
use millrace_metadata::TRANSACTION_STATE;
use millrace_model::{ProducerEpoch, ProducerId};
use millrace_protocol::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// For how long a partition asks again while the producer's last transaction is being ended, and how often.
const PATIENCE: Duration = Duration::from_millis(100);
const AGAIN: Duration = Duration::from_millis(20);

/// Asking again while the markers of the producer's last transaction are on their way. Guards are to be taken anew before
/// each attempt: such a marker makes them worthless.
pub(super) struct Patience {
    until: Option<Instant>,
}

impl Patience {
    /// Only who makes partitions part of the transaction by asking does so again: older clients have asked before.
    pub(super) fn new(adds: bool) -> Self {
        Self { until: adds.then(|| Instant::now() + PATIENCE) }
    }

    /// Waits a little; whether to ask again.
    pub(super) async fn again(&self, error: Option<TxnError>) -> bool {
        let again = error == Some(TxnError::Concurrent) && self.until.is_some_and(|until| Instant::now() < until);
        if again {
            tokio::time::sleep(AGAIN).await;
        }
        again
    }
}

/// The code of an error.
pub(super) const fn code(error: TxnError) -> ErrorCode {
    match error {
        TxnError::NotAvailable => ErrorCode::CoordinatorNotAvailable,
        TxnError::Loading => ErrorCode::CoordinatorLoadInProgress,
        TxnError::NotCoordinator => ErrorCode::NotCoordinator,
        TxnError::InvalidRequest => ErrorCode::InvalidRequest,
        TxnError::InvalidTimeout => ErrorCode::InvalidTransactionTimeout,
        TxnError::Concurrent => ErrorCode::ConcurrentTransactions,
        TxnError::Fenced => ErrorCode::ProducerFenced,
        TxnError::IdMapping => ErrorCode::InvalidProducerIdMapping,
        TxnError::InvalidState => ErrorCode::InvalidTxnState,
        TxnError::Abortable => ErrorCode::TransactionAbortable,
        TxnError::IdNotFound => ErrorCode::TransactionalIdNotFound,
        TxnError::Unknown => ErrorCode::UnknownServerError,
    }
}

/// The code of an error for clients that know PRODUCER_FENCED from some version on.
pub(super) fn code_since(first: i16, version: i16, error: TxnError) -> ErrorCode {
    match error {
        TxnError::Fenced if version < first => ErrorCode::InvalidProducerEpoch,
        error => code(error),
    }
}

/// The producer that a request names.
pub(super) const fn producer(id: i64, epoch: i16) -> ProducerIdentity {
    ProducerIdentity { id: ProducerId::new(id), epoch: ProducerEpoch::new(epoch) }
}

/// Asks whether partitions are part of a transaction, or makes them so. What is said of each; all have the same answer
/// where there is but one.
pub(super) async fn admit(
    context: &Context,
    id: &str,
    producer: ProducerIdentity,
    partitions: BTreeSet<TxnPartition>,
    adds: bool,
) -> BTreeMap<TxnPartition, Option<TxnError>> {
    let all = |partitions: BTreeSet<TxnPartition>, error| partitions.into_iter().map(|it| (it, error)).collect();
    // A partition looks for the coordinator, and there is none before the first transaction.
    if context.cluster.image().topic(TRANSACTION_STATE).is_none() {
        return all(partitions, Some(TxnError::NotAvailable));
    }
    let version = if adds { TxnVersion::V2 } else { TxnVersion::V0 };
    let ask = AddPartitions { id: Arc::from(id), producer, partitions: partitions.clone(), version };
    if !adds {
        return match context.transactions.verify(ask).await {
            Ok(verdicts) => verdicts.into_iter().collect(),
            Err(error) => all(partitions, Some(error)),
        };
    }
    all(partitions, context.transactions.add(ask).await.err())
}
