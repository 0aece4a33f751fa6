//! Why a command is refused. Each variant names the Kafka error it is at the edge.

use crate::names::NameFault;
use millrace_model::{NodeId, TopicId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A command that the facts do not allow; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApplyError {
    /// TOPIC_ALREADY_EXISTS
    #[error("Topic '{name}' already exists.")]
    TopicExists {
        /// The topic's name.
        name: String,
    },
    /// INVALID_TOPIC_EXCEPTION: a name by the wrong rules.
    #[error("Topic name is invalid: {0}")]
    TopicName(NameFault),
    /// INVALID_TOPIC_EXCEPTION: a name that differs only in '.' and '_'.
    #[error("Topic '{name}' collides with existing topic: {existing}")]
    TopicCollides {
        /// The name asked for.
        name: String,
        /// The name that is there.
        existing: String,
    },
    /// INVALID_REQUEST: an id that was used before, or none.
    #[error("the topic id {} is not free", id.get())]
    TopicIdTaken {
        /// The id.
        id: TopicId,
    },
    /// UNKNOWN_TOPIC_OR_PARTITION
    #[error("This server does not host this topic-partition.")]
    UnknownTopic {
        /// The topic's name.
        name: String,
    },
    /// UNKNOWN_TOPIC_ID
    #[error("This server does not host this topic ID.")]
    UnknownTopicId {
        /// The id.
        id: TopicId,
    },
    /// INVALID_PARTITIONS
    #[error("Number of partitions was set to an invalid non-positive value.")]
    PartitionsNotPositive {
        /// What was asked for.
        partitions: i32,
    },
    /// INVALID_PARTITIONS: a topic's partitions can only grow.
    #[error("The topic {name} currently has {existing} partition(s); {asked} would not be an increase.")]
    PartitionsNotMore {
        /// The topic's name.
        name: String,
        /// How many it has.
        existing: usize,
        /// How many it should have.
        asked: i32,
    },
    /// INVALID_PARTITIONS: as many as there are.
    #[error("Topic already has {existing} partition(s).")]
    PartitionsThere {
        /// How many it has.
        existing: usize,
    },
    /// POLICY_VIOLATION
    #[error("Excessively large number of partitions per request.")]
    TooManyPartitions {
        /// The most that are allowed.
        limit: usize,
    },
    /// INVALID_REPLICATION_FACTOR: zero or less.
    #[error("Replication factor must be larger than 0, or -1 to use the default value.")]
    ReplicationNotPositive {
        /// What was asked for.
        factor: i16,
    },
    /// INVALID_REPLICATION_FACTOR: more than there are brokers.
    #[error(
        "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be \
         reached because only {brokers} broker(s) are registered or some brokers have all their log directories cordoned."
    )]
    NotEnoughBrokers {
        /// What was asked for.
        factor: i16,
        /// How many brokers could take a replica.
        brokers: usize,
    },
    /// INVALID_REPLICA_ASSIGNMENT
    #[error("{reason}")]
    ReplicaAssignment {
        /// What is wrong with it.
        reason: String,
    },
    /// INVALID_CONFIG
    #[error("Invalid value for configuration {key}: {reason}")]
    Config {
        /// The config's name.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// INVALID_REQUEST: they are not what somebody has seen. Who asked looks again.
    #[error("the configs have changed meanwhile")]
    ConfigChanged,
    /// An attachment of a plugin the registry does not have with this content.
    #[error("the plugin {plugin} is not in the registry with the content {hash}")]
    UnknownPlugin {
        /// `name@version`.
        plugin: String,
        /// The content asked for.
        hash: String,
    },
    /// A version that was pushed before with other bytes.
    #[error("the plugin {plugin} is there with other content ({hash}); give the new one another version")]
    PluginDiffers {
        /// `name@version`.
        plugin: String,
        /// The content that is there.
        hash: String,
    },
    /// A plugin that may not go, because a topic runs it.
    #[error("the plugin {plugin} is attached to the topic {topic}")]
    PluginInUse {
        /// `name@version`.
        plugin: String,
        /// One topic that runs it.
        topic: String,
    },
    /// A plugin name or version by the wrong rules.
    #[error("'{text}' cannot name a plugin or a version: use letters, digits, '.', '-', '_' and '+', at most 128")]
    PluginName {
        /// The name or version.
        text: String,
    },
    /// BROKER_ID_NOT_REGISTERED
    #[error("the broker {id} is not registered")]
    UnknownBroker {
        /// The broker's number.
        id: NodeId,
    },
    /// DUPLICATE_BROKER_REGISTRATION: another data directory has this number.
    #[error("another broker has registered as {id}")]
    DuplicateBroker {
        /// The broker's number.
        id: NodeId,
    },
    /// INVALID_REGISTRATION
    #[error("the broker registration is not valid: {reason}")]
    Registration {
        /// What is wrong with it.
        reason: String,
    },
    /// INCONSISTENT_CLUSTER_ID: a cluster has one id for ever.
    #[error("the cluster is {existing}, not {asked}")]
    ClusterId {
        /// The id it has.
        existing: String,
        /// The id it should get.
        asked: String,
    },
    /// UNKNOWN_SERVER_ERROR: every producer id has been given out.
    #[error("no producer ids are left")]
    ProducerIdsExhausted,
    /// INVALID_REQUEST
    #[error("{reason}")]
    Request {
        /// What is wrong with it.
        reason: String,
    },
}
