//! What every partition of a node shares.

use crate::config::kafka_keys::{BrokerKeys, TopicSettings};
use millrace_model::{Clock, Offload};
use millrace_storage::data_dir::DataDir;
use millrace_storage::io::Disk;
use std::fmt;
use std::sync::Arc;

/// What is counted here; the node gives it a home in its metrics.
pub trait Counts: Send + Sync + fmt::Debug {
    /// Batches were appended, so many records and bytes in all.
    fn appended(&self, _batches: u64, _records: u64, _bytes: u64) {}

    /// A batch was not appended because of the disk.
    fn failed(&self) {}
}

/// Nothing is counted.
#[derive(Clone, Copy, Debug)]
pub struct NoCounts;

impl Counts for NoCounts {}

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
    /// Who counts.
    pub counts: Arc<dyn Counts>,
}
