//! The writing of the markers that end a transaction.
//!
//! Each partition is told by itself, again and again until it has heard: a prepared transaction has no other way to end. A
//! partition that is gone has nothing to end, and one that has seen a newer epoch of the producer or of the coordinator
//! has heard already.

use super::group::EndOfTransaction;
use super::group::GroupError;
use super::groups::GroupCoordinator;
use super::txn::{TxnPartition, WriteMarkers};
use crate::cluster::ClusterHandle;
use crate::partition::{AppendError, Claim, Origin, PartitionHandle, Partitions};
use millrace_metadata::CONSUMER_OFFSETS;
use millrace_model::control::Marker;
use millrace_model::{Clock, PartitionId};
use millrace_storage::ProducerError;
use std::sync::Arc;
use std::time::Duration;

/// Between two attempts, at first …
pub(super) const AGAIN: Duration = Duration::from_millis(100);
/// … and at most: a disk may be full for long.
const AGAIN_AT_MOST: Duration = Duration::from_secs(2);

/// Where markers go.
#[derive(Clone, Debug)]
pub(super) struct MarkerWriter {
    pub(super) cluster: ClusterHandle,
    pub(super) partitions: Partitions,
    pub(super) groups: GroupCoordinator,
    pub(super) clock: Arc<dyn Clock>,
}

/// Why a marker was not written.
#[derive(Debug)]
pub(super) enum MarkerError {
    /// There is no such partition.
    Unknown,
    /// Another node leads it.
    NotHere,
    /// A newer epoch of the producer has written there.
    ProducerFenced,
    /// A newer coordinator has written there.
    CoordinatorFenced,
    /// Not now.
    Later,
}

impl MarkerWriter {
    /// Returns once all partitions have heard.
    pub(super) async fn write_all(&self, work: &WriteMarkers) {
        let marker = Marker {
            producer_id: work.producer.id,
            producer_epoch: work.producer.epoch,
            committed: work.commit,
            coordinator_epoch: work.coordinator_epoch,
        };
        let end = EndOfTransaction { marker, strict: work.version.bumps_epoch() };
        let each = work.partitions.iter().map(|partition| self.until_heard(work, partition, end));
        futures::future::join_all(each).await;
    }

    async fn until_heard(&self, work: &WriteMarkers, partition: &TxnPartition, end: EndOfTransaction) {
        let (topic, index) = partition;
        let mut pause = AGAIN;
        loop {
            match self.write(topic, PartitionId::new(*index), end).await {
                Ok(()) | Err(MarkerError::Unknown) => return,
                Err(why @ (MarkerError::ProducerFenced | MarkerError::CoordinatorFenced)) => {
                    tracing::warn!(transactional_id = %work.id, %topic, index, ?why, "a marker comes too late");
                    return;
                }
                Err(MarkerError::NotHere | MarkerError::Later) => tokio::time::sleep(pause).await,
            }
            pause = (2 * pause).min(AGAIN_AT_MOST);
        }
    }

    /// Writes one marker.
    pub(super) async fn write(
        &self,
        topic: &str,
        index: PartitionId,
        end: EndOfTransaction,
    ) -> Result<(), MarkerError> {
        let partition = self.partition(topic, index).await?;
        if topic == CONSUMER_OFFSETS {
            // Offsets wait for it in the group's coordinator, which writes it in its own order.
            return self.groups.end_transaction(partition, end).await.map_err(|error| match error {
                GroupError::ProducerFenced => MarkerError::ProducerFenced,
                GroupError::NotCoordinator => MarkerError::NotHere,
                _ => MarkerError::Later,
            });
        }
        let batch = end.marker.batch(self.clock.now()).map_err(|_| MarkerError::Later)?;
        let claim = Claim { guard: None, strict: end.strict };
        match partition.append_with(batch, Origin::Coordinator, claim).await {
            Ok(_) => Ok(()),
            Err(AppendError::NotLeader) => Err(MarkerError::NotHere),
            Err(AppendError::Producer(ProducerError::Fenced { .. })) => Err(MarkerError::ProducerFenced),
            Err(AppendError::Producer(ProducerError::CoordinatorFenced { .. })) => Err(MarkerError::CoordinatorFenced),
            Err(error) => {
                tracing::warn!(%topic, %index, %error, "a marker could not be written");
                Err(MarkerError::Later)
            }
        }
    }

    async fn partition(&self, topic: &str, index: PartitionId) -> Result<PartitionHandle, MarkerError> {
        let found = || self.partitions.topic_named(topic).and_then(|topic| topic.get(index).cloned());
        if let Some(partition) = found() {
            return Ok(partition);
        }
        let image = self.cluster.image();
        self.partitions.in_line_with(image.index()).await;
        match found() {
            Some(partition) => Ok(partition),
            None if image.locate(topic, index).is_none() => Err(MarkerError::Unknown),
            None => Err(MarkerError::NotHere),
        }
    }
}
