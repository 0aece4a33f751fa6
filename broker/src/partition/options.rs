//! What every partition of a node shares.

use crate::config::kafka_keys::{BrokerKeys, TopicSettings};
use millrace_model::{Clock, Offload};
use millrace_storage::data_dir::DataDir;
use millrace_storage::io::Disk;
use std::sync::Arc;

/// What every partition of a node shares.
#[derive(Clone, Debug)]
pub struct Options {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// Where the partitions' directories are.
    pub data_dir: Arc<DataDir>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Where fsync, opening and deleting happen.
    pub offload: Arc<dyn Offload>,
    /// The broker's keys, which stand in for what a topic does not set.
    pub keys: BrokerKeys,
    /// What a topic that sets nothing has.
    pub defaults: TopicSettings,
}
