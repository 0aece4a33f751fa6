//! What a starting node makes of the partition directories it finds.
//!
//! A data directory that is new to the cluster may hold what Kafka wrote, or what is left where the cluster's own facts were
//! lost: every topic in it is adopted, under the id in its `partition.metadata`. From then on the cluster alone says which
//! topics exist.
//!
//! Invariants:
//! - A directory is adopted when the cluster's log says so ([`Command::AdoptDirectory`]), which is proposed after everything
//!   that was found in it. A start that dies before leaves the rest to the next one.
//! - Only what this cluster deleted is removed. Whatever else belongs to no topic is set aside under Kafka's name for that
//!   (`-stray`), with a warning, and stays.
//! - A topic whose configs are not known is adopted with configs by which nothing is ever removed.

mod survey;

use super::error::StartError;
use crate::cluster::ClusterHandle;
use crate::config::kafka_keys::BrokerKeys;
use millrace_metadata::{Command, Image, MAX_PARTITIONS_PER_COMMAND, NewTopic, Placement, Response, is_internal_topic};
use millrace_model::{NodeId, Random};
use millrace_storage::StorageError;
use millrace_storage::data_dir::{DataDir, PartitionDir};
use std::collections::BTreeMap;
use survey::Found;
use uuid::Uuid;

/// What Kafka's controller keeps its own facts in; they are not ours.
const KAFKA_METADATA: &str = "__cluster_metadata";
const MIN_INSYNC: &str = "min.insync.replicas";

/// The taking over of one data directory.
#[derive(Debug)]
pub(super) struct Adoption<'a> {
    pub(super) dir: &'a DataDir,
    pub(super) cluster: &'a ClusterHandle,
    pub(super) node: NodeId,
    /// The directory's id.
    pub(super) directory: Uuid,
    pub(super) keys: &'a BrokerKeys,
    pub(super) random: &'a dyn Random,
}

impl Adoption<'_> {
    /// Creates the topics whose partitions are in the directory, as they are there; nothing where that was done.
    pub(super) async fn run(&self) -> Result<(), StartError> {
        let image = self.cluster.image();
        if image.has_adopted(self.directory) {
            return Ok(());
        }
        let found = survey::topics(self.dir)?;
        if !found.is_empty() {
            tracing::info!(topics = found.len(), "adopting the topics that are in the data directory");
            self.skip_producer_ids(&image).await?;
        }
        let left =
            found.into_iter().filter(|found| image.topic_by_id(found.id).is_none() && !image.was_deleted(found.id));
        let mut chunk = Vec::new();
        let mut partitions = 0;
        for found in left {
            partitions += found.leader_epochs.len();
            if partitions > MAX_PARTITIONS_PER_COMMAND && !chunk.is_empty() {
                self.create(std::mem::take(&mut chunk)).await?;
                partitions = found.leader_epochs.len();
            }
            chunk.push(self.topic(found));
        }
        if !chunk.is_empty() {
            self.create(chunk).await?;
        }
        self.conclude().await
    }

    fn topic(&self, found: Found) -> NewTopic {
        tracing::warn!(
            topic = %found.name,
            "the topic's configs are not known; nothing of it is removed until they are set (retention.ms, retention.bytes)",
        );
        NewTopic {
            id: found.id,
            config: without_removal(&found.name),
            name: found.name,
            placement: Placement::Found { broker: self.node, leader_epochs: found.leader_epochs },
            attachments: Vec::new(),
        }
    }

    async fn create(&self, topics: Vec<NewTopic>) -> Result<(), StartError> {
        let names: Vec<_> = topics.iter().map(|topic| topic.name.clone()).collect();
        if let Response::Created(answers) = self.cluster.propose(Command::CreateTopics { topics }).await? {
            for (topic, answer) in names.iter().zip(answers) {
                if let Err(reason) = answer {
                    tracing::error!(topic, %reason, "a topic cannot be adopted; its directories are set aside");
                }
            }
        }
        Ok(())
    }

    /// Nobody must be given a producer id that the logs know: the first batches of the new producer would be taken for
    /// ones that the old one sent, and be thrown away.
    async fn skip_producer_ids(&self, image: &Image) -> Result<(), StartError> {
        // Which ids were given out is not known; a broker gives out a thousand at a time, far fewer than this in its life.
        const FAR: u32 = 1 << 31;
        if image.next_producer_id().get() < i64::from(FAR) {
            // Not always the same number: the directory may have been adopted before.
            let count = FAR | u32::try_from(self.random.u64() >> 33).unwrap_or(0);
            self.cluster.propose(Command::AllocateProducerIds { count }).await?;
        }
        Ok(())
    }

    async fn conclude(&self) -> Result<(), StartError> {
        let mut commands = Vec::new();
        // As Kafka does since it knows eligible leader replicas: from here on it is a fact of the cluster, not of a node.
        if !self.cluster.image().cluster_config().contains_key(MIN_INSYNC) {
            let least = self.keys.get(MIN_INSYNC).unwrap_or("1").to_owned();
            let set = BTreeMap::from([(MIN_INSYNC.to_owned(), Some(least))]);
            commands.push(Command::SetClusterConfig { set, replace: false });
        }
        commands.push(Command::AdoptDirectory { directory: self.directory });
        self.cluster.propose(Command::All(commands)).await?;
        Ok(())
    }
}

/// Configs by which nothing that is stored goes away: but of what belongs to the broker itself only the newest value counts.
fn without_removal(topic: &str) -> BTreeMap<String, String> {
    let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    match is_internal_topic(topic) {
        true => [set("cleanup.policy", "compact")].into(),
        false => [set("cleanup.policy", "delete"), set("retention.bytes", "-1"), set("retention.ms", "-1")].into(),
    }
}

/// Brings the partitions' directories in line with the image, once all that was found is adopted: what this cluster deleted
/// is removed, what it does not know is set aside. What is written down about partitions that are not there is forgotten.
pub(super) fn put_in_order(dir: &mut DataDir, image: &Image) -> Result<(), StorageError> {
    for partition in dir.partitions()? {
        if partition.topic == KAFKA_METADATA {
            continue;
        }
        match (stranger(&partition, image), partition.topic_id) {
            (None, Some(_)) => {}
            (None, None) => name(dir, &partition, image)?,
            (Some(_), Some(id)) if image.was_deleted(id) => {
                tracing::info!(directory = %partition.path.display(), "removing the directory of a deleted topic");
                dir.set_deleted(&partition)?;
            }
            (Some(reason), Some(_)) => {
                let aside = dir.set_astray(&partition)?;
                tracing::warn!(
                    directory = %partition.path.display(),
                    aside = %aside.display(),
                    reason,
                    "a directory that belongs to no topic is set aside; nothing of it is removed",
                );
            }
            (Some(reason), None) => tracing::warn!(
                directory = %partition.path.display(),
                reason,
                "a directory without a topic's id is left alone",
            ),
        }
    }
    for deleted in dir.deleted()? {
        deleted.remove()?;
    }
    dir.forget_missing()
}

/// Why the directory is of no topic in the image; `None` where it is of one.
fn stranger(partition: &PartitionDir, image: &Image) -> Option<&'static str> {
    let Some(topic) = image.topic(&partition.topic) else {
        return Some(match image.topic_in_the_way(&partition.topic) {
            Some(_) => "the cluster has a topic whose name differs only in '.' and '_'",
            None => "the cluster has no topic of this name",
        });
    };
    match partition.topic_id {
        Some(id) if id != topic.id => Some("the cluster's topic of this name has another id"),
        _ if topic.partition(partition.partition).is_none() => Some("the cluster's topic has fewer partitions"),
        _ => None,
    }
}

/// A partition that was made just before the power failed may have lost its id, but not the records that came after.
fn name(dir: &DataDir, partition: &PartitionDir, image: &Image) -> Result<(), StorageError> {
    let Some(topic) = image.topic(&partition.topic) else { return Ok(()) };
    tracing::warn!(directory = %partition.path.display(), topic = %topic.name, "a directory lost its topic's id; it gets it again");
    dir.name(partition, topic.id)
}
