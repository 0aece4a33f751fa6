//! What stands in a data directory: its topics, as far as their partitions' directories tell.

use super::KAFKA_METADATA;
use millrace_metadata::MAX_PARTITIONS_PER_COMMAND;
use millrace_model::{LeaderEpoch, TopicId};
use millrace_storage::StorageError;
use millrace_storage::data_dir::DataDir;
use std::collections::BTreeMap;

/// A topic that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its name.
    pub(super) name: String,
    /// Its id.
    pub(super) id: TopicId,
    /// What its partitions' next leaders begin with, partition by partition.
    pub(super) leader_epochs: Vec<LeaderEpoch>,
}

/// The topics whose partitions are in the directory, by name and id.
pub(super) fn topics(dir: &DataDir) -> Result<Vec<Found>, StorageError> {
    let mut found: BTreeMap<(String, TopicId), BTreeMap<i32, LeaderEpoch>> = BTreeMap::new();
    for partition in dir.partitions()? {
        if partition.topic == KAFKA_METADATA {
            continue;
        }
        let Some(id) = partition.topic_id else { continue };
        let epoch = dir.last_epoch(&partition)?;
        let next = epoch.map_or(0, |epoch| epoch.get().saturating_add(1));
        found.entry((partition.topic, id)).or_default().insert(partition.partition.get(), LeaderEpoch::new(next));
    }
    Ok(found.into_iter().filter_map(|((name, id), partitions)| without_gaps(name, id, &partitions)).collect())
}

/// Partitions are numbered without gaps: one whose directory is missing comes back empty.
fn without_gaps(name: String, id: TopicId, partitions: &BTreeMap<i32, LeaderEpoch>) -> Option<Found> {
    let last = *partitions.last_key_value()?.0;
    let missing = usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1).saturating_sub(partitions.len());
    if missing > MAX_PARTITIONS_PER_COMMAND {
        tracing::error!(topic = %name, missing, last, "a topic cannot be adopted: most of its partitions are not here");
        return None;
    }
    if missing > 0 {
        tracing::warn!(topic = %name, missing, "partitions whose directories are not here come back empty");
    }
    let epoch_of = |partition: i32| partitions.get(&partition).copied().unwrap_or(LeaderEpoch::new(0));
    Some(Found { name, id, leader_epochs: (0..=last).map(epoch_of).collect() })
}
