//! What a starting node makes of the partition directories it finds.
//!
//! A data directory that is new to the cluster may hold what Kafka wrote, or what is left where the cluster's own facts were
//! lost: every topic in it is adopted, under the id in its `partition.metadata`. From then on the cluster alone says which
//! topics exist. Configs, leader epochs and producer ids are those of Kafka's metadata log, where that stands in the directory too
//! and no broker of ours has served from it yet: later the log would be out of date.
//!
//! Invariants:
//! - A directory is adopted when the cluster's log says so ([`Command::AdoptDirectory`]), which is proposed after everything
//!   that was found in it. A start that dies before leaves the rest to the next one.
//! - Only what this cluster deleted is removed. Whatever else belongs to no topic is set aside under Kafka's name for that
//!   (`-stray`), with a warning, and stays.
//! - A topic whose configs are not known is adopted with configs by which nothing is ever removed.

mod configs;
mod kafka;
mod kraft;
mod survey;
#[cfg(test)]
mod tests;

use super::error::StartError;
use crate::cluster::ClusterHandle;
use crate::config::kafka_keys::BrokerKeys;
use kafka::{KAFKA_METADATA, KAFKA_METADATA_DIR, KafkaFacts};
use millrace_metadata::{Command, Image, MAX_PARTITIONS_PER_COMMAND, NewTopic, Placement, Response};
use millrace_model::{NodeId, Random};
use millrace_storage::StorageError;
use millrace_storage::data_dir::{DataDir, PartitionDir};
use millrace_storage::io::Disk;
use survey::Found;
use uuid::Uuid;

/// What decides how long a broker keeps records of topics that do not say.
const RETENTION: [&str; 3] = ["log.retention.ms", "log.retention.minutes", "log.retention.hours"];

/// The taking over of one data directory.
#[derive(Debug)]
pub(super) struct Adoption<'a> {
    pub(super) dir: &'a DataDir,
    pub(super) disk: &'a dyn Disk,
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
        let facts = self.facts();
        let mut found = survey::topics(self.dir, facts.as_ref())?;
        found.retain(|found| image.topic_by_id(found.id).is_none() && !image.was_deleted(found.id));
        if !found.is_empty() {
            tracing::info!(topics = found.len(), "adopting the topics that are in the data directory");
            let known = facts.as_ref().filter(|_| found.iter().all(|found| found.known));
            self.skip_producer_ids(&image, known).await?;
            self.warn_of_retention(&found, facts.as_ref());
        }
        for chunk in in_chunks(found) {
            let topics = chunk.into_iter().map(|found| self.topic(found, facts.as_ref())).collect();
            self.create(topics).await?;
        }
        self.conclude(&facts.unwrap_or_default()).await
    }

    /// What Kafka's metadata log says, where it is there, whole and not out of date.
    fn facts(&self) -> Option<KafkaFacts> {
        let path = self.dir.path().join(KAFKA_METADATA_DIR);
        let facts = match KafkaFacts::read(self.disk, &path) {
            Ok(facts) => facts?,
            Err(reason) => {
                tracing::warn!(directory = %path.display(), reason, "Kafka's metadata log cannot be read");
                return None;
            }
        };
        if !self.dir.is_foreign() {
            tracing::warn!(
                "the cluster's own facts were lost, and Kafka's metadata log is from before them; it does not count"
            );
            return None;
        }
        for (what, records) in &facts.left {
            tracing::warn!(what, records, "Kafka's metadata log holds what is not adopted");
        }
        Some(facts)
    }

    /// How long Kafka kept records of topics that do not say is in no file of the data directory.
    fn warn_of_retention(&self, found: &[Found], facts: Option<&KafkaFacts>) {
        let (Some(facts), false) = (facts, RETENTION.iter().any(|key| self.keys.get(key).is_some())) else { return };
        let follows = |found: &&Found| found.known && configs::follows_the_broker(&found.name, facts);
        let topics = found.iter().filter(follows).count();
        if topics > 0 {
            tracing::warn!(
                topics,
                "topics without a retention.ms of their own now keep records for this broker's log.retention.ms; \
                 what Kafka's server.properties said does not count",
            );
        }
    }

    fn topic(&self, found: Found, facts: Option<&KafkaFacts>) -> NewTopic {
        let config = match facts {
            Some(facts) if found.known => configs::of_topic(&found.name, facts, self.keys),
            _ => {
                tracing::warn!(
                    topic = %found.name,
                    "the topic's configs are not known; it keeps all records until its retention.ms is set",
                );
                configs::without_removal(&found.name)
            }
        };
        NewTopic {
            id: found.id,
            name: found.name,
            config,
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
    async fn skip_producer_ids(&self, image: &Image, facts: Option<&KafkaFacts>) -> Result<(), StartError> {
        // Where it is not known which were given out: a broker gives out a thousand at a time, far fewer than this in its life.
        const FAR: u32 = 1 << 31;
        let next = image.next_producer_id().get();
        let mut missing = match facts {
            Some(facts) => facts.next_producer_id.saturating_sub(next),
            None if next >= i64::from(FAR) => 0,
            // Not always the same number: the directory may have been adopted before.
            None => i64::from(FAR) | i64::try_from(self.random.u64() >> 33).unwrap_or(0),
        };
        while missing > 0 {
            let count = u32::try_from(missing).unwrap_or(u32::MAX);
            self.cluster.propose(Command::AllocateProducerIds { count }).await?;
            missing -= i64::from(count);
        }
        Ok(())
    }

    async fn conclude(&self, facts: &KafkaFacts) -> Result<(), StartError> {
        let image = self.cluster.image();
        let mut commands = configs::of_the_rest(facts, self.node, self.keys, image.cluster_config());
        commands.push(Command::AdoptDirectory { directory: self.directory });
        self.cluster.propose(Command::All(commands)).await?;
        Ok(())
    }
}

/// As many topics together as one command may create partitions, or one that has more by itself: entries of the cluster's log
/// stay small.
fn in_chunks(found: Vec<Found>) -> Vec<Vec<Found>> {
    let mut chunks: Vec<Vec<Found>> = Vec::new();
    let mut partitions = 0_usize;
    for topic in found {
        partitions = partitions.saturating_add(topic.leader_epochs.len());
        match chunks.last_mut().filter(|_| partitions <= MAX_PARTITIONS_PER_COMMAND) {
            Some(chunk) => chunk.push(topic),
            None => {
                partitions = topic.leader_epochs.len();
                chunks.push(vec![topic]);
            }
        }
    }
    chunks
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
            // Whoever opens it names it; a full disk, which may have left it so, does not keep the node from starting.
            (None, None) if dir.is_bare(&partition.path)? => {}
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
