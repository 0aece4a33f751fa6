//! What a starting node makes of the partition directories it finds.
//!
//! A data directory that has no cluster of ours yet may be one that Kafka wrote: its topics are adopted, under the ids in
//! their `partition.metadata`. Once there is a cluster, it alone says which topics exist: a directory of a topic that was
//! deleted, or deleted and made again under another id, is thrown away, as the deletion would have done had the node
//! lived to do it.

use super::error::StartError;
use crate::cluster::ClusterHandle;
use millrace_metadata::{Command, Image, NewTopic, Placement, Response};
use millrace_model::{NodeId, PartitionId, Random, TopicId};
use millrace_storage::StorageError;
use millrace_storage::data_dir::{DataDir, PartitionDir};
use millrace_storage::io::Disk;
use std::collections::BTreeMap;

/// What Kafka's controller keeps its own facts in; they are not ours.
const KAFKA_METADATA: &str = "__cluster_metadata";

/// Creates the topics whose partitions are in the directory, as they are there.
pub(super) async fn adopt(dir: &DataDir, cluster: &ClusterHandle, node: NodeId) -> Result<(), StartError> {
    let mut found: BTreeMap<(String, TopicId), BTreeMap<PartitionId, Vec<NodeId>>> = BTreeMap::new();
    for partition in dir.partitions()? {
        match partition.topic_id {
            _ if partition.topic == KAFKA_METADATA => {}
            Some(id) => {
                found.entry((partition.topic, id)).or_default().insert(partition.partition, vec![node]);
            }
            None => tracing::warn!(
                directory = %partition.path.display(),
                "a directory without partition.metadata is left alone",
            ),
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let topics: Vec<_> = found
        .into_iter()
        .map(|((name, id), partitions)| NewTopic {
            id,
            name,
            placement: Placement::Assigned(without_gaps(partitions, node)),
            config: BTreeMap::new(),
            attachments: Vec::new(),
        })
        .collect();
    tracing::info!(topics = topics.len(), "adopting the topics of another broker's data directory");
    if let Response::Created(answers) = cluster.propose(Command::CreateTopics { topics }).await? {
        for refused in answers.into_iter().filter_map(Result::err) {
            tracing::error!(error = %refused, "a topic could not be adopted");
        }
    }
    Ok(())
}

/// Partitions are numbered without gaps: one whose directory is missing comes back empty.
fn without_gaps(
    mut partitions: BTreeMap<PartitionId, Vec<NodeId>>,
    node: NodeId,
) -> BTreeMap<PartitionId, Vec<NodeId>> {
    let last = partitions.last_key_value().map_or(0, |(last, _)| last.get());
    for index in 0..last {
        partitions.entry(PartitionId::new(index)).or_insert_with(|| vec![node]);
    }
    partitions
}

/// Renames the directories that belong to no topic of the image, and removes whatever was renamed. What is written down about
/// partitions that are not there is forgotten.
pub(super) fn discard(
    dir: &mut DataDir,
    disk: &dyn Disk,
    image: &Image,
    random: &dyn Random,
) -> Result<(), StorageError> {
    for partition in dir.partitions()? {
        if is_known(&partition, image) || partition.topic == KAFKA_METADATA {
            continue;
        }
        let name = format!("{}-{}.{}-delete", partition.topic, partition.partition, random.uuid().simple());
        tracing::info!(directory = %partition.path.display(), "removing the directory of a deleted topic");
        let to = dir.path().join(name);
        disk.rename(&partition.path, &to).map_err(|source| StorageError::Io {
            operation: "rename",
            path: partition.path.clone(),
            source,
        })?;
    }
    for deleted in dir.deleted()? {
        deleted.remove()?;
    }
    dir.forget_missing()
}

/// A directory whose id cannot be read is never thrown away.
fn is_known(partition: &PartitionDir, image: &Image) -> bool {
    match (image.topic(&partition.topic), partition.topic_id) {
        (Some(topic), Some(id)) => topic.id == id && topic.partition(partition.partition).is_some(),
        (_, None) => true,
        (None, Some(_)) => false,
    }
}
