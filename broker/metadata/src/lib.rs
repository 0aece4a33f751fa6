//! The facts a cluster agrees on, as a pure state machine: topics, their configs
//! and plugins, brokers, producer ids.
//!
//! [`Image::apply`] takes a [`Command`] and gives the next [`Image`] and a
//! [`Response`]; [`Delta::between`] tells two images apart. Nothing here knows a
//! file, a socket, a clock or a source of randomness, and nothing here knows raft:
//! the same commands in the same order give the same image on every node.
//!
//! Invariants:
//! - A command is deterministic: ids, times and random numbers come inside it.
//! - An image never changes. The next one shares with it whatever is the same, so
//!   that a command costs little among many thousand topics.
//! - A refused command changes nothing but the index.
//! - What persists (commands in the raft log, images in snapshots) grows by fields
//!   with defaults and by new variants; `fixtures/` holds what must stay readable.

mod apply;
mod assign;
mod attachment;
mod broker;
mod command;
mod delta;
mod error;
mod image;
mod names;
mod sorted;
mod stored;
mod topic;

pub use assign::assign_replicas;
pub use attachment::{Attachment, FaultPolicy, Grants, Limits, Plugin, PluginReference, Stage};
pub use broker::{Broker, BrokerRegistration};
pub use command::{
    Command, ConfigOf, CreatedTopic, DeletedTopic, NewPartitions, NewTopic, Placement, ProducerIds, Response,
};
pub use delta::{Change, Delta};
pub use error::ApplyError;
pub use image::Image;
pub use millrace_model::{ContentHash, ContentHashError};
pub use names::{
    CONSUMER_OFFSETS, MAX_TOPIC_NAME, NameFault, SHARE_GROUP_STATE, TRANSACTION_STATE, check_topic_name,
    is_internal_topic,
};
pub use topic::{Partition, Topic};

/// Most partitions one command may create, as Kafka's controller bounds a request.
pub const MAX_PARTITIONS_PER_COMMAND: usize = 10_000;
