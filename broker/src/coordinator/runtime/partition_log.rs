//! A partition of this node as the log of a shard.

use super::log::{AppendFailure, ShardLog};
use super::machine::Refusal;
use crate::partition::{AppendError, Claim, Origin, PartitionHandle, beside};
use bytes::Bytes;
use futures::future::BoxFuture;
use millrace_model::{Batch, LeaderEpoch, Offload, Offset};
use millrace_storage::ProducerError;
use std::sync::Arc;

/// How much is read at once when a partition is replayed.
const READ: u32 = 1024 * 1024;

/// A partition of this node.
#[derive(Clone, Debug)]
pub struct PartitionLog {
    partition: PartitionHandle,
    offload: Arc<dyn Offload>,
}

impl PartitionLog {
    /// The partition, and where its files are read.
    pub fn new(partition: PartitionHandle, offload: Arc<dyn Offload>) -> Self {
        Self { partition, offload }
    }
}

impl ShardLog for PartitionLog {
    fn append(&self, batch: Batch, claim: Claim) -> BoxFuture<'static, Result<Offset, AppendFailure>> {
        let append = self.partition.append_with(batch, Origin::Coordinator, claim);
        Box::pin(async move { append.await.map(|appended| appended.base_offset).map_err(|error| failure(&error)) })
    }

    fn epoch(&self) -> LeaderEpoch {
        self.partition.leader_epoch()
    }

    fn start(&self) -> Offset {
        self.partition.log_start()
    }

    fn end(&self) -> Offset {
        self.partition.high_watermark()
    }

    fn read(&self, from: Offset, upto: Offset) -> BoxFuture<'static, Result<Bytes, String>> {
        let reader = self.partition.reader().clone();
        let read = beside(&*self.offload, move || {
            let read = reader.read(from, upto, READ, true).map_err(|error| error.to_string());
            read.and_then(|slice| slice.to_bytes().map_err(|error| error.to_string()))
        });
        Box::pin(async move { read.await.unwrap_or_else(|| Err("the read was abandoned".to_owned())) })
    }
}

fn failure(error: &AppendError) -> AppendFailure {
    match error {
        AppendError::NotLeader => AppendFailure::Lost,
        AppendError::TooLarge { .. } => AppendFailure::Refused(Refusal::TooLarge),
        AppendError::Producer(ProducerError::Fenced { .. } | ProducerError::CoordinatorFenced { .. }) => {
            AppendFailure::Refused(Refusal::Fenced)
        }
        AppendError::NotInTransaction { .. } => AppendFailure::Refused(Refusal::NotInTransaction),
        // Another broker may have a disk that works.
        AppendError::Storage(_) => AppendFailure::Refused(Refusal::NotCoordinator),
        other => {
            tracing::error!(error = %other, "a coordinator's own batch was refused");
            AppendFailure::Refused(Refusal::NotAvailable)
        }
    }
}
