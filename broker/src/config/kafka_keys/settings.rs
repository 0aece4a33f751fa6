//! What stands behind the strings: the settings of a topic and of a broker, typed.
//!
//! A topic's value comes from the topic itself, else from the broker keys that stand in for it in their order, else
//! from the key's default. Kafka resolves it the same way.

use super::keys::{BrokerKeys, as_flag, as_integer, topic_value, unsuited};
use super::{KeyError, Value, topic_key};
use millrace_storage::{Cleanup, Compaction, LogConfig};
use std::collections::BTreeMap;
use std::time::Duration;

/// Whose time the records carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, at the append.
    LogAppendTime,
}

/// In which codec a topic's batches are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer sent them.
    Producer,
    /// Not compressed.
    Uncompressed,
    /// gzip; no level is the codec's own default.
    Gzip(Option<i32>),
    /// snappy.
    Snappy,
    /// lz4 at this level.
    Lz4(i32),
    /// zstd at this level.
    Zstd(i32),
}

/// The settings of one topic. Where there may be no limit, `None` is no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicSettings {
    /// Old segments are deleted (`cleanup.policy`).
    pub delete: bool,
    /// Old segments are compacted (`cleanup.policy`).
    pub compact: bool,
    /// `compression.type` with the level of that codec.
    pub compression: CompressionType,
    /// `delete.retention.ms`.
    pub delete_retention: Duration,
    /// `file.delete.delay.ms`.
    pub file_delete_delay: Duration,
    /// `flush.messages`.
    pub flush_messages: Option<u64>,
    /// `flush.ms`.
    pub flush_interval: Option<Duration>,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag: Option<Duration>,
    /// `max.message.bytes`.
    pub max_message_bytes: u32,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag: Duration,
    /// `min.insync.replicas`.
    pub min_insync_replicas: u32,
    /// `preallocate`.
    pub preallocate: bool,
    /// `retention.bytes`.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`.
    pub retention: Option<Duration>,
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u32,
    /// `segment.jitter.ms`.
    pub segment_jitter: Duration,
    /// `segment.ms`.
    pub segment_age: Duration,
    /// `producer.id.expiration.ms`, which is the broker's and may change while it runs.
    pub producer_id_expiration: Duration,
    /// `transaction.partition.verification.enable`, likewise.
    pub verifies_transactions: bool,
    /// `unclean.leader.election.enable`.
    pub unclean_leader_election: bool,
}

impl TopicSettings {
    /// The settings of a topic with these configs of its own on a broker with these keys.
    ///
    /// # Errors
    /// As [`super::validate_topic`]. Configs that have once been accepted do not fail.
    pub fn resolve(configs: &BTreeMap<String, String>, broker: &BrokerKeys) -> Result<Self, KeyError> {
        super::validate_topic(configs)?;
        let values = TopicValues { configs, broker };
        let policy = values.list("cleanup.policy")?;
        Ok(Self {
            delete: policy.iter().any(|word| word == "delete"),
            compact: policy.iter().any(|word| word == "compact"),
            compression: values.compression()?,
            delete_retention: values.ms("delete.retention.ms")?,
            file_delete_delay: values.ms("file.delete.delay.ms")?,
            flush_messages: limit(values.integer("flush.messages")?),
            flush_interval: limit(values.integer("flush.ms")?.max(0)).map(Duration::from_millis),
            index_interval_bytes: values.u32("index.interval.bytes")?,
            max_compaction_lag: limit(values.integer("max.compaction.lag.ms")?).map(Duration::from_millis),
            max_message_bytes: values.u32("max.message.bytes")?,
            timestamp_after_max_ms: values.integer("message.timestamp.after.max.ms")?,
            timestamp_before_max_ms: values.integer("message.timestamp.before.max.ms")?,
            timestamp_type: match values.text("message.timestamp.type")?.as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: values.double("min.cleanable.dirty.ratio")?,
            min_compaction_lag: values.ms("min.compaction.lag.ms")?,
            min_insync_replicas: values.u32("min.insync.replicas")?,
            preallocate: values.flag("preallocate")?,
            retention_bytes: u64::try_from(values.integer("retention.bytes")?).ok(),
            retention: u64::try_from(values.integer("retention.ms")?).ok().map(Duration::from_millis),
            segment_bytes: values.u32("segment.bytes")?,
            segment_index_bytes: values.u32("segment.index.bytes")?,
            segment_jitter: values.ms("segment.jitter.ms")?,
            segment_age: values.ms("segment.ms")?,
            producer_id_expiration: broker.unit("producer.id.expiration.ms", 1)?,
            verifies_transactions: as_flag(VERIFICATION, broker.required(VERIFICATION)?)?,
            unclean_leader_election: values.flag("unclean.leader.election.enable")?,
        })
    }

    /// What the topic's logs are told.
    pub fn log_config(&self) -> LogConfig {
        LogConfig {
            segment_bytes: self.segment_bytes,
            segment_ms: millis(self.roll_age()),
            segment_jitter_ms: millis(self.segment_jitter),
            segment_index_bytes: self.segment_index_bytes,
            index_interval_bytes: self.index_interval_bytes,
            retention_ms: self.retention.map(millis),
            retention_bytes: self.retention_bytes,
            flush_messages: self.flush_messages.and_then(|n| i64::try_from(n).ok()).unwrap_or(i64::MAX),
            flush_ms: self.flush_interval.map_or(i64::MAX, millis),
            max_message_bytes: self.max_message_bytes,
            cleanup: Cleanup { delete: self.delete, compact: self.compact },
            compaction: self.compaction(),
            preallocate: self.preallocate,
            file_delete_delay_ms: millis(self.file_delete_delay),
            producer_id_expiration_ms: millis(self.producer_id_expiration),
        }
    }

    /// When the topic's logs are cleaned, where they are compacted.
    pub fn compaction(&self) -> Compaction {
        Compaction {
            min_dirty_ratio: self.min_cleanable_dirty_ratio,
            max_lag_ms: self.max_compaction_lag.map_or(i64::MAX, millis),
            min_lag_ms: millis(self.min_compaction_lag),
            delete_retention_ms: millis(self.delete_retention),
        }
    }

    /// The greatest age of an active segment: what is in it is not compacted, so `max.compaction.lag.ms` counts too.
    pub fn roll_age(&self) -> Duration {
        match self.max_compaction_lag {
            Some(lag) if self.compact => self.segment_age.min(lag),
            _ => self.segment_age,
        }
    }

    /// What must hold between a topic's own configs.
    pub(super) fn check_lags(configs: &BTreeMap<String, String>) -> Result<(), KeyError> {
        let broker = BrokerKeys::default();
        let values = TopicValues { configs, broker: &broker };
        let (low, high) = (values.integer("min.compaction.lag.ms")?, values.integer("max.compaction.lag.ms")?);
        if low > high {
            let reason =
                format!("conflict topic config setting min.compaction.lag.ms ({low}) > max.compaction.lag.ms ({high})");
            return Err(KeyError::Conflict { name: "min.compaction.lag.ms".to_owned(), reason });
        }
        if values.flag("remote.storage.enable")? {
            let reason = "Tiered Storage functionality is disabled in the broker. \
                          Topic cannot be configured with remote log storage.";
            return Err(KeyError::Conflict { name: "remote.storage.enable".to_owned(), reason: reason.to_owned() });
        }
        Ok(())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// `Long.MAX_VALUE` stands for "never".
fn limit(value: i64) -> Option<u64> {
    if value == i64::MAX { None } else { u64::try_from(value).ok() }
}

struct TopicValues<'a> {
    configs: &'a BTreeMap<String, String>,
    broker: &'a BrokerKeys,
}

impl TopicValues<'_> {
    fn value(&self, name: &str) -> Result<Value, KeyError> {
        let key = topic_key(name).ok_or_else(|| KeyError::UnknownTopicKey { name: name.to_owned() })?;
        topic_value(key, self.configs, self.broker)
    }

    fn integer(&self, name: &str) -> Result<i64, KeyError> {
        as_integer(name, self.value(name)?)
    }

    fn u32(&self, name: &str) -> Result<u32, KeyError> {
        let number = self.integer(name)?;
        u32::try_from(number).map_err(|_| unsuited(name, &number.to_string()))
    }

    fn ms(&self, name: &str) -> Result<Duration, KeyError> {
        let number = self.integer(name)?;
        u64::try_from(number).map(Duration::from_millis).map_err(|_| unsuited(name, &number.to_string()))
    }

    fn double(&self, name: &str) -> Result<f64, KeyError> {
        match self.value(name)? {
            Value::Double(number) => Ok(number),
            other => Err(unsuited(name, &other.to_string())),
        }
    }

    fn flag(&self, name: &str) -> Result<bool, KeyError> {
        as_flag(name, self.value(name)?)
    }

    fn text(&self, name: &str) -> Result<String, KeyError> {
        Ok(self.value(name)?.to_string())
    }

    fn list(&self, name: &str) -> Result<Vec<String>, KeyError> {
        match self.value(name)? {
            Value::List(items) => Ok(items),
            other => Err(unsuited(name, &other.to_string())),
        }
    }

    fn compression(&self) -> Result<CompressionType, KeyError> {
        let level =
            |name: &str| self.integer(name).and_then(|n| i32::try_from(n).map_err(|_| unsuited(name, &n.to_string())));
        let codec = self.text("compression.type")?;
        Ok(match codec.as_str() {
            "producer" => CompressionType::Producer,
            "uncompressed" => CompressionType::Uncompressed,
            "gzip" => CompressionType::Gzip(Some(level("compression.gzip.level")?).filter(|level| *level != -1)),
            "snappy" => CompressionType::Snappy,
            "lz4" => CompressionType::Lz4(level("compression.lz4.level")?),
            "zstd" => CompressionType::Zstd(level("compression.zstd.level")?),
            other => return Err(unsuited("compression.type", other)),
        })
    }
}

/// The coordinator's own assignors; Kafka would load others by the name of their class.
fn assignors(value: Value) -> Result<Vec<String>, KeyError> {
    match value {
        Value::List(names) if !names.is_empty() && names.iter().all(|name| name == "uniform" || name == "range") => {
            Ok(names)
        }
        other => Err(KeyError::Invalid {
            name: "group.consumer.assignors".to_owned(),
            value: other.to_string(),
            reason: "the assignors are uniform and range".to_owned(),
        }),
    }
}

const VERIFICATION: &str = "transaction.partition.verification.enable";
pub(super) const OVERRIDES: &str = "max.connections.per.ip.overrides";

/// Hosts and numbers: `127.0.0.1:200,example.org:100`.
pub(super) fn overrides(text: &str) -> Result<Vec<(String, u32)>, KeyError> {
    let refuse = |reason: String| KeyError::Conflict { name: OVERRIDES.to_owned(), reason };
    let mut found = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let pair = item.rsplit_once(':').and_then(|(host, most)| Some((host.trim(), most.trim().parse().ok()?)));
        let (host, most) = pair.ok_or_else(|| {
            refuse(format!("{OVERRIDES}: {item:?} is not an address and a number, as in 127.0.0.1:200"))
        })?;
        found.push((host.to_owned(), most));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || "-%._:".contains(c);
    let wrong: Vec<_> = found
        .iter()
        .map(|(host, _)| host.as_str())
        .filter(|host| host.is_empty() || !host.chars().all(legal))
        .collect();
    match wrong.as_slice() {
        [] => Ok(found),
        wrong => Err(refuse(format!("{OVERRIDES} contains invalid addresses : {}", wrong.join(",")))),
    }
}

/// The settings of a broker that are not a topic's. Where there may be no limit, `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerSettings {
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `delete.topic.enable`.
    pub delete_topics: bool,
    /// `num.partitions`.
    pub default_partitions: u32,
    /// `default.replication.factor`.
    pub default_replication_factor: u32,
    /// `connections.max.idle.ms`; `None` never closes.
    pub connections_max_idle: Option<Duration>,
    /// `max.connections`.
    pub max_connections: u32,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: u32,
    /// `max.connections.per.ip.overrides`: hosts, by name or address, and what holds for them.
    pub max_connections_per_ip_overrides: Vec<(String, u32)>,
    /// `socket.request.max.bytes`.
    pub request_max_bytes: u32,
    /// `queued.max.request.bytes`; `None` is the server's own bound.
    pub queued_request_bytes: Option<u64>,
    /// `socket.send.buffer.bytes`; `None` is the system's choice.
    pub socket_send_buffer: Option<u32>,
    /// `socket.receive.buffer.bytes`; `None` is the system's choice.
    pub socket_receive_buffer: Option<u32>,
    /// `socket.listen.backlog.size`.
    pub listen_backlog: u32,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: u32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_session_slots: u32,
    /// `max.request.partition.size.limit`.
    pub describe_partitions_limit: u32,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub recovery_checkpoint_interval: Duration,
    /// `log.cleaner.enable`.
    pub cleaner_enabled: bool,
    /// `log.cleaner.backoff.ms`.
    pub cleaner_backoff: Duration,
    /// `log.cleaner.dedupe.buffer.size`.
    pub cleaner_table_bytes: u64,
    /// `log.cleaner.io.buffer.load.factor`, in thousandths.
    pub cleaner_table_load: u32,
    /// `log.cleaner.io.buffer.size`.
    pub cleaner_io_bytes: u32,
    /// `log.cleaner.io.max.bytes.per.second`.
    pub cleaner_bytes_per_second: Option<u64>,
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub group_min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`.
    pub group_max_session_timeout: Duration,
    /// `group.max.size`.
    pub group_max_size: u32,
    /// `group.consumer.session.timeout.ms`.
    pub group_consumer_session_timeout: Duration,
    /// `group.consumer.heartbeat.interval.ms`.
    pub group_consumer_heartbeat_interval: Duration,
    /// `group.consumer.max.size`.
    pub group_consumer_max_size: u32,
    /// `group.consumer.assignors`.
    pub group_consumer_assignors: Vec<String>,
    /// `group.consumer.assignment.interval.ms`.
    pub group_consumer_assignment_interval: Duration,
    /// `group.consumer.migration.policy`.
    pub group_consumer_migration_policy: String,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: u32,
    /// `offsets.commit.timeout.ms`.
    pub offsets_commit_timeout: Duration,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval: Duration,
    /// `offsets.topic.num.partitions`.
    pub offsets_topic_partitions: u32,
    /// `offsets.topic.replication.factor`.
    pub offsets_topic_replication_factor: u32,
    /// `offsets.topic.segment.bytes`.
    pub offsets_topic_segment_bytes: u32,
    /// `transaction.max.timeout.ms`.
    pub transaction_max_timeout: Duration,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`.
    pub transaction_timeout_check_interval: Duration,
    /// `transactional.id.expiration.ms`.
    pub transactional_id_expiration: Duration,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub transactional_id_expiration_check_interval: Duration,
    /// `transaction.state.log.num.partitions`.
    pub transaction_log_partitions: u32,
    /// `transaction.state.log.replication.factor`.
    pub transaction_log_replication_factor: u32,
    /// `transaction.state.log.segment.bytes`.
    pub transaction_log_segment_bytes: u32,
}

impl BrokerSettings {
    /// The settings of a broker with these keys.
    ///
    /// # Errors
    /// [`KeyError::Invalid`] for a value that its key allows and that makes no sense (a negative timeout).
    pub fn resolve(keys: &BrokerKeys) -> Result<Self, KeyError> {
        let positive = |name: &str| Ok(u32::try_from(keys.integer(name)?).ok());
        Ok(Self {
            auto_create_topics: as_flag("auto.create.topics.enable", keys.required("auto.create.topics.enable")?)?,
            delete_topics: as_flag("delete.topic.enable", keys.required("delete.topic.enable")?)?,
            default_partitions: keys.u32("num.partitions")?,
            default_replication_factor: keys.u32("default.replication.factor")?,
            connections_max_idle: u64::try_from(keys.integer("connections.max.idle.ms")?)
                .ok()
                .map(Duration::from_millis),
            max_connections: keys.u32("max.connections")?,
            max_connections_per_ip: keys.u32("max.connections.per.ip")?,
            max_connections_per_ip_overrides: overrides(&keys.required(OVERRIDES)?.to_string())?,
            request_max_bytes: keys.u32("socket.request.max.bytes")?,
            queued_request_bytes: u64::try_from(keys.integer("queued.max.request.bytes")?).ok(),
            socket_send_buffer: positive("socket.send.buffer.bytes")?,
            socket_receive_buffer: positive("socket.receive.buffer.bytes")?,
            listen_backlog: keys.u32("socket.listen.backlog.size")?,
            fetch_max_bytes: keys.u32("fetch.max.bytes")?,
            fetch_session_slots: keys.u32("max.incremental.fetch.session.cache.slots")?,
            describe_partitions_limit: keys.u32("max.request.partition.size.limit")?,
            retention_check_interval: keys.unit("log.retention.check.interval.ms", 1)?,
            recovery_checkpoint_interval: keys.unit("log.flush.offset.checkpoint.interval.ms", 1)?,
            cleaner_enabled: as_flag("log.cleaner.enable", keys.required("log.cleaner.enable")?)?,
            cleaner_backoff: keys.unit("log.cleaner.backoff.ms", 1)?,
            cleaner_table_bytes: u64::try_from(keys.integer("log.cleaner.dedupe.buffer.size")?).unwrap_or(0),
            cleaner_table_load: keys
                .whole("log.cleaner.io.buffer.load.factor", 1000.0)?
                .and_then(|load| u32::try_from(load).ok())
                .unwrap_or(1000),
            cleaner_io_bytes: keys.u32("log.cleaner.io.buffer.size")?,
            cleaner_bytes_per_second: keys.whole("log.cleaner.io.max.bytes.per.second", 1.0)?,
            group_initial_rebalance_delay: keys.unit("group.initial.rebalance.delay.ms", 1)?,
            group_min_session_timeout: keys.unit("group.min.session.timeout.ms", 1)?,
            group_max_session_timeout: keys.unit("group.max.session.timeout.ms", 1)?,
            group_max_size: keys.u32("group.max.size")?,
            group_consumer_session_timeout: keys.unit("group.consumer.session.timeout.ms", 1)?,
            group_consumer_heartbeat_interval: keys.unit("group.consumer.heartbeat.interval.ms", 1)?,
            group_consumer_max_size: keys.u32("group.consumer.max.size")?,
            group_consumer_assignors: assignors(keys.required("group.consumer.assignors")?)?,
            group_consumer_assignment_interval: keys.unit("group.consumer.assignment.interval.ms", 1)?,
            group_consumer_migration_policy: keys.required("group.consumer.migration.policy")?.to_string(),
            offset_metadata_max_bytes: keys.u32("offset.metadata.max.bytes")?,
            offsets_commit_timeout: keys.unit("offsets.commit.timeout.ms", 1)?,
            offsets_retention: keys.unit("offsets.retention.minutes", 60_000)?,
            offsets_retention_check_interval: keys.unit("offsets.retention.check.interval.ms", 1)?,
            offsets_topic_partitions: keys.u32("offsets.topic.num.partitions")?,
            offsets_topic_replication_factor: keys.u32("offsets.topic.replication.factor")?,
            offsets_topic_segment_bytes: keys.u32("offsets.topic.segment.bytes")?,
            transaction_max_timeout: keys.unit("transaction.max.timeout.ms", 1)?,
            transaction_timeout_check_interval: keys
                .unit("transaction.abort.timed.out.transaction.cleanup.interval.ms", 1)?,
            transactional_id_expiration: keys.unit("transactional.id.expiration.ms", 1)?,
            transactional_id_expiration_check_interval: keys
                .unit("transaction.remove.expired.transaction.cleanup.interval.ms", 1)?,
            transaction_log_partitions: keys.u32("transaction.state.log.num.partitions")?,
            transaction_log_replication_factor: keys.u32("transaction.state.log.replication.factor")?,
            transaction_log_segment_bytes: keys.u32("transaction.state.log.segment.bytes")?,
        })
    }
}
