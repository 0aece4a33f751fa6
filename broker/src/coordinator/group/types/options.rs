//! The settings of groups.

use crate::config::kafka_keys::{BrokerSettings, GroupSettings};
use std::time::Duration;

/// Settings, named as in Kafka's `server.properties`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: i32,
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.max.size`.
    pub max_size: usize,
    /// `group.consumer.session.timeout.ms` and `group.consumer.heartbeat.interval.ms`, which a group may have of its own.
    pub consumer: GroupSettings,
    /// `group.consumer.max.size`.
    pub consumer_max_size: usize,
    /// `group.consumer.assignors`, the default first.
    pub consumer_assignors: Vec<String>,
    /// `group.consumer.assignment.interval.ms`.
    pub consumer_assignment_interval_ms: i64,
    /// `group.consumer.migration.policy`: classic groups may become consumer groups.
    pub consumer_upgrade: bool,
    /// `group.consumer.migration.policy`: consumer groups may become classic groups.
    pub consumer_downgrade: bool,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: u64,
    /// `offsets.commit.timeout.ms`.
    pub offsets_commit_timeout_ms: u64,
    /// `offsets.topic.num.partitions`.
    pub offsets_topic_partitions: i32,
    /// `offsets.topic.replication.factor`; fewer where there are fewer brokers.
    pub offsets_topic_replication_factor: i16,
    /// `offsets.topic.segment.bytes`.
    pub offsets_topic_segment_bytes: i32,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            initial_rebalance_delay_ms: 3_000,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_size: i32::MAX as usize,
            consumer: GroupSettings {
                consumer_heartbeat_interval: Duration::from_secs(5),
                consumer_session_timeout: Duration::from_secs(45),
            },
            consumer_max_size: i32::MAX as usize,
            consumer_assignors: vec!["uniform".to_owned(), "range".to_owned()],
            consumer_assignment_interval_ms: 1_000,
            consumer_upgrade: true,
            consumer_downgrade: true,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60_000,
            offsets_retention_check_interval_ms: 600_000,
            offsets_commit_timeout_ms: 5_000,
            offsets_topic_partitions: 50,
            offsets_topic_replication_factor: 3,
            offsets_topic_segment_bytes: 100 * 1024 * 1024,
        }
    }
}

impl From<&BrokerSettings> for GroupOptions {
    fn from(settings: &BrokerSettings) -> Self {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let short = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
        let long = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let policy = settings.group_consumer_migration_policy.to_ascii_lowercase();
        Self {
            consumer: GroupSettings {
                consumer_heartbeat_interval: settings.group_consumer_heartbeat_interval,
                consumer_session_timeout: settings.group_consumer_session_timeout,
            },
            consumer_max_size: settings.group_consumer_max_size as usize,
            consumer_assignors: settings.group_consumer_assignors.clone(),
            consumer_assignment_interval_ms: millis(settings.group_consumer_assignment_interval),
            consumer_upgrade: matches!(policy.as_str(), "upgrade" | "bidirectional"),
            consumer_downgrade: matches!(policy.as_str(), "downgrade" | "bidirectional"),
            initial_rebalance_delay_ms: short(settings.group_initial_rebalance_delay),
            min_session_timeout_ms: short(settings.group_min_session_timeout),
            max_session_timeout_ms: short(settings.group_max_session_timeout),
            max_size: settings.group_max_size as usize,
            offset_metadata_max_bytes: settings.offset_metadata_max_bytes as usize,
            offsets_retention_ms: millis(settings.offsets_retention),
            offsets_retention_check_interval_ms: long(settings.offsets_retention_check_interval),
            offsets_commit_timeout_ms: long(settings.offsets_commit_timeout),
            offsets_topic_partitions: count(settings.offsets_topic_partitions),
            offsets_topic_replication_factor: i16::try_from(settings.offsets_topic_replication_factor)
                .unwrap_or(i16::MAX),
            offsets_topic_segment_bytes: count(settings.offsets_topic_segment_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kafka_keys::BrokerKeys;

    #[test]
    fn the_defaults_are_those_of_the_brokers_keys() {
        let settings = BrokerSettings::resolve(&BrokerKeys::default()).unwrap();
        assert_eq!(GroupOptions::from(&settings), GroupOptions::default());
    }
}
