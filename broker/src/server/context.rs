//! What the handlers are given of the rooms below.

use crate::cluster::ClusterHandle;
use crate::config::kafka_keys::{BrokerKeys, BrokerSettings};
use crate::coordinator::groups::GroupCoordinator;
use crate::coordinator::transactions::TxnCoordinator;
use crate::partition::Partitions;
use millrace_metadata::Image;
use millrace_model::{Clock, NodeId, Offload, Random};
use millrace_protocol::ApiKey;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// What is counted here; the node gives it a home in its metrics.
pub trait Metrics: Send + Sync + fmt::Debug {
    /// A request has come whose body has so many bytes.
    fn request(&self, _key: ApiKey, _bytes: usize) {}

    /// Connections have come (positive) or gone.
    fn connections(&self, _change: i64) {}

    /// A connection was closed because of what it sent, or because there were too many.
    fn refused(&self) {}

    /// So many bytes of answers were sent.
    fn sent(&self, _bytes: u64) {}
}

/// Nothing is counted.
#[derive(Clone, Copy, Debug)]
pub struct NoMetrics;

impl Metrics for NoMetrics {}

/// The rooms below, and what is known of this node.
#[derive(Debug)]
pub struct Context {
    parts: Parts,
    /// Fetch sessions of all connections.
    pub(super) sessions: Arc<AtomicUsize>,
}

impl Deref for Context {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// What a [`Context`] is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// This node.
    pub node: NodeId,
    /// The cluster's facts.
    pub cluster: ClusterHandle,
    /// This node's partitions.
    pub partitions: Partitions,
    /// The groups of this node.
    pub groups: GroupCoordinator,
    /// The transactions of this node.
    pub transactions: TxnCoordinator,
    /// The broker's keys, as they are described.
    pub keys: BrokerKeys,
    /// The same, typed.
    pub settings: BrokerSettings,
    /// Keys that other options of the node decide, as they are described.
    pub facts: BTreeMap<&'static str, String>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub random: Arc<dyn Random>,
    /// Where reads of cold pages happen.
    pub offload: Arc<dyn Offload>,
    /// Where requests are counted.
    pub metrics: Arc<dyn Metrics>,
}

impl Context {
    /// The broker's keys with those that were set while it runs.
    pub fn keys_in(&self, image: &Image) -> BrokerKeys {
        self.keys.with_dynamic(image.cluster_config(), image.broker_config(self.node))
    }

    /// Puts the parts together.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self { parts, sessions: Arc::default() })
    }
}
