//! What every partition of a node shares.

use crate::config::kafka_keys::{BrokerKeys, TopicSettings};
use millrace_model::{Clock, Offload};
use millrace_storage::data_dir::DataDir;
use millrace_storage::io::Disk;
use millrace_storage::{Cleanup, LogConfig};
use std::sync::Arc;
use std::time::Duration;

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
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration: Duration,
}

impl Options {
    /// What a topic's settings mean for its logs.
    pub(super) fn log_config(&self, settings: &TopicSettings) -> LogConfig {
        LogConfig {
            segment_bytes: settings.segment_bytes,
            segment_ms: millis(settings.roll_age()),
            segment_index_bytes: settings.segment_index_bytes,
            index_interval_bytes: settings.index_interval_bytes,
            retention_ms: settings.retention.map(millis),
            retention_bytes: settings.retention_bytes,
            flush_messages: settings.flush_messages.map_or(i64::MAX, |n| i64::try_from(n).unwrap_or(i64::MAX)),
            flush_ms: settings.flush_interval.map_or(i64::MAX, millis),
            max_message_bytes: settings.max_message_bytes,
            cleanup: Cleanup { delete: settings.delete, compact: settings.compact },
            compaction: settings.compaction(),
            file_delete_delay_ms: millis(settings.file_delete_delay),
            producer_id_expiration_ms: millis(self.producer_id_expiration),
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
