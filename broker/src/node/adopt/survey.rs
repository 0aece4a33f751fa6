//! What stands in a data directory: its topics, as far as their partitions' directories and Kafka's facts tell.

use super::kafka::{KAFKA_METADATA, KafkaFacts, KafkaTopic};
use millrace_metadata::MAX_PARTITIONS_PER_COMMAND;
use millrace_model::{LeaderEpoch, TopicId};
use millrace_storage::StorageError;
use millrace_storage::data_dir::{DataDir, PartitionDir};
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
    /// Whether Kafka's facts tell of it.
    pub(super) known: bool,
}

/// The newest epochs by partition; −1 where the directory tells of none.
type Epochs = BTreeMap<i32, i32>;

/// The topics whose partitions are in the directory: those that Kafka knew first, so that they get their names.
pub(super) fn topics(dir: &DataDir, facts: Option<&KafkaFacts>) -> Result<Vec<Found>, StorageError> {
    let mut found: BTreeMap<(String, TopicId), Epochs> = BTreeMap::new();
    for partition in dir.partitions()? {
        if partition.topic == KAFKA_METADATA {
            continue;
        }
        let Some(id) = partition.topic_id.or_else(|| id_of(&partition, facts?)) else { continue };
        if facts.is_some_and(|facts| facts.was_removed(id)) {
            tracing::warn!(directory = %partition.path.display(), "the directory is of a topic that was deleted in Kafka");
            continue;
        }
        let epoch = dir.last_epoch(&partition)?.map_or(-1, LeaderEpoch::get);
        found.entry((partition.topic, id)).or_default().insert(partition.partition.get(), epoch);
    }
    let known = |name: &str, id| facts.and_then(|facts| facts.topic(id, name));
    let topics = found.into_iter().filter_map(|((name, id), epochs)| whole(known(&name, id), name, id, &epochs));
    let mut topics: Vec<_> = topics.collect();
    topics.sort_by_key(|topic| !topic.known);
    Ok(topics)
}

/// The id of the topic that a directory without one is of, if Kafka knew such a partition.
fn id_of(partition: &PartitionDir, facts: &KafkaFacts) -> Option<TopicId> {
    let id = facts.id_of(&partition.topic)?;
    let topic = facts.topic(id, &partition.topic)?;
    topic.partitions.contains_key(&partition.partition.get()).then_some(id)
}

/// Partitions are numbered without gaps: one whose directory is missing comes back empty.
fn whole(known: Option<&KafkaTopic>, name: String, id: TopicId, here: &Epochs) -> Option<Found> {
    let none = Epochs::new();
    let there = known.map_or(&none, |topic| &topic.partitions);
    let last = here.keys().chain(there.keys()).copied().max()?;
    let count = usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1);
    let missing = count.saturating_sub(here.len());
    if count.saturating_sub(here.len().max(there.len())) > MAX_PARTITIONS_PER_COMMAND {
        tracing::error!(topic = %name, missing, last, "a topic cannot be adopted: most of its partitions are not here");
        return None;
    }
    if missing > 0 {
        tracing::warn!(topic = %name, missing, "partitions whose directories are not here come back empty");
    }
    let epoch = |of: &Epochs, partition| of.get(&partition).copied().unwrap_or(-1);
    let next = |partition| LeaderEpoch::new(epoch(here, partition).max(epoch(there, partition)).saturating_add(1));
    Some(Found { name, id, leader_epochs: (0..=last).map(next).collect(), known: known.is_some() })
}
