//! Topics and their partitions.

use crate::Attachment;
use millrace_model::{LeaderEpoch, NodeId, PartitionId, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One partition: who has it and who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The leader; −1 while there is none.
    pub leader: NodeId,
    /// Counts changes of the leader.
    pub leader_epoch: LeaderEpoch,
    /// The replicas that have all that is committed, in the order of `replicas`.
    pub isr: Vec<NodeId>,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Counts changes of any of these fields.
    pub partition_epoch: i32,
}

/// A topic: never changed, replaced by the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its id, for as long as it lives.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its partitions by number: never empty, never fewer than before.
    pub partitions: Vec<Partition>,
    /// What was set on the topic itself; defaults stand elsewhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Its plugins, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// The index of the command that set the attachments: the pipeline's generation.
    #[serde(default)]
    pub generation: u64,
    /// Whether it belongs to the broker.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
}

impl Topic {
    /// A partition by its number.
    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.partitions.get(usize::try_from(id.get()).ok()?)
    }

    /// The partitions with their numbers.
    pub fn numbered(&self) -> impl Iterator<Item = (PartitionId, &Partition)> {
        (0..).map(PartitionId::new).zip(&self.partitions)
    }

    /// The name of a partition across topics.
    pub const fn at(&self, partition: PartitionId) -> TopicPartition {
        TopicPartition { topic: self.id, partition }
    }

    /// How many replicas its first partition has, which is what Kafka calls the topic's factor.
    pub fn replication_factor(&self) -> usize {
        self.partitions.first().map_or(0, |partition| partition.replicas.len())
    }
}
