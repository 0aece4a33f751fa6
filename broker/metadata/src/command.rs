//! What can be asked of the state machine, and its answers.
//!
//! Both persist or travel as serde data (JSON in the raft log). A field added later has
//! a default; a variant's name and meaning never change.

use crate::{ApplyError, Attachment, BrokerRegistration, ContentHash, Plugin};
use millrace_model::{LeaderEpoch, NodeId, PartitionId, ProducerId, TopicId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// One change of the cluster's facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// The first command of a cluster: gives it its id.
    FormCluster {
        /// Kafka's form: 16 bytes in base64url without padding.
        cluster_id: String,
    },
    /// Creates topics, each for itself: one that is refused does not hold up the others.
    CreateTopics {
        /// What to create.
        topics: Vec<NewTopic>,
    },
    /// Deletes topics, each for itself.
    DeleteTopics {
        /// What to delete.
        topics: Vec<TopicId>,
    },
    /// Adds partitions to topics, each for itself.
    CreatePartitions {
        /// What to extend.
        topics: Vec<NewPartitions>,
    },
    /// Changes configs of one topic.
    SetTopicConfig {
        /// The topic.
        topic: TopicId,
        /// New values; `None` takes the key off.
        set: BTreeMap<String, Option<String>>,
        /// Whether keys that `set` does not name are taken off too.
        #[serde(default)]
        replace: bool,
    },
    /// Replaces the plugins of one topic.
    SetAttachments {
        /// The topic.
        topic: TopicId,
        /// All its plugins in their order, of every stage.
        attachments: Vec<Attachment>,
    },
    /// Changes the cluster-wide broker configs.
    SetClusterConfig {
        /// New values; `None` takes the key off.
        set: BTreeMap<String, Option<String>>,
        /// Whether keys that `set` does not name are taken off too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        replace: bool,
    },
    /// Changes the configs of one broker, registered or not.
    SetBrokerConfig {
        /// The broker.
        broker: NodeId,
        /// New values; `None` takes the key off.
        set: BTreeMap<String, Option<String>>,
        /// Whether keys that `set` does not name are taken off too.
        #[serde(default)]
        replace: bool,
    },
    /// Changes the configs of one group, which need not exist yet.
    SetGroupConfig {
        /// The group.
        group: String,
        /// New values; `None` takes the key off.
        set: BTreeMap<String, Option<String>>,
        /// Whether keys that `set` does not name are taken off too.
        #[serde(default)]
        replace: bool,
    },
    /// Puts a plugin into the registry; its component is on the proposer's disk already.
    RegisterPlugin(Plugin),
    /// Takes a plugin that no topic runs off the registry.
    RemovePlugin {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
    /// Takes a block of producer ids.
    AllocateProducerIds {
        /// How many.
        count: u32,
    },
    /// A broker joins, or comes back, or moves.
    RegisterBroker(BrokerRegistration),
    /// A broker leaves for good.
    UnregisterBroker {
        /// Its number.
        id: NodeId,
    },
    /// A broker has proposed every topic that its data directory held before it belonged to the cluster. From here on the
    /// cluster alone says which topics exist; until then nothing in that directory may be taken for a leftover.
    AdoptDirectory {
        /// The directory's id, which is the broker's incarnation.
        directory: Uuid,
    },
    /// Changes nothing, and is refused unless the configs are exactly these. In front of a change within [`Command::All`], so
    /// that what was checked against some configs is not applied to others.
    ExpectConfig {
        /// Whose configs.
        of: ConfigOf,
        /// All of them.
        configs: BTreeMap<String, String>,
    },
    /// All of them or none: the first that is refused refuses the whole.
    All(Vec<Command>),
}

/// Who has configs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigOf {
    /// A topic.
    Topic(TopicId),
    /// All brokers.
    Cluster,
    /// One broker.
    Broker(NodeId),
    /// A group.
    Group(String),
}

/// A topic to create. Defaults are filled in by whoever asks: here everything is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopic {
    /// Its id, drawn by whoever asks.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its partitions and where they go.
    pub placement: Placement,
    /// Its configs, checked before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Its plugins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

/// Where a topic's partitions go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Striped over the brokers.
    Spread {
        /// How many partitions.
        partitions: i32,
        /// How many replicas of each.
        factor: i16,
        /// A random number: which broker is first.
        #[serde(default)]
        seed: u64,
    },
    /// As written, partition by partition, the preferred leader first.
    Assigned(BTreeMap<PartitionId, Vec<NodeId>>),
    /// As they were found on a broker's disk. What is there already is no matter of bounds.
    Found {
        /// The broker that has them all.
        broker: NodeId,
        /// Partition by partition, the epoch that its leader begins with: above any that a client may have seen.
        leader_epochs: Vec<LeaderEpoch>,
    },
}

/// Partitions to add to a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPartitions {
    /// The topic.
    pub topic: TopicId,
    /// How many partitions it has afterwards.
    pub total: i32,
    /// Where the new ones go, in order; spread over the brokers where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Vec<Vec<NodeId>>>,
    /// A random number: which broker is first.
    #[serde(default)]
    pub seed: u64,
}

/// What an accepted command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// It is done and there is nothing to say.
    Done,
    /// For [`Command::CreateTopics`] and [`Command::CreatePartitions`], in the order asked.
    Created(Vec<Result<CreatedTopic, ApplyError>>),
    /// For [`Command::DeleteTopics`], in the order asked.
    Deleted(Vec<Result<DeletedTopic, ApplyError>>),
    /// For [`Command::AllocateProducerIds`].
    ProducerIds(ProducerIds),
    /// For [`Command::RegisterBroker`]: the epoch of the registration.
    Registered {
        /// The broker's epoch.
        epoch: u64,
    },
    /// For [`Command::RegisterPlugin`]: the content that the name and version stand for.
    Plugin(ContentHash),
    /// For [`Command::All`], in order.
    All(Vec<Response>),
}

/// A topic as it was created or extended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedTopic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many replicas each has.
    pub replication_factor: i16,
}

/// A topic that is no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedTopic {
    /// The id it had.
    pub id: TopicId,
    /// The name it had.
    pub name: String,
}

/// A block of producer ids: `first`, and `count − 1` more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIds {
    /// The first.
    pub first: ProducerId,
    /// How many.
    pub count: u32,
}
