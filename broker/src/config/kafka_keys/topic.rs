//! The configs of a topic, as Kafka 4.3 names them, in the order of their names.

use super::Effect::{Acts, Ignored, Refused};
use super::Importance::Medium;
use super::Kind::{Bool, Double, Int, List, Long, Str};
use super::Rule::{Any, AtLeast, Between, Fraction, GzipLevel, ListOf, OneOf, ThrottledReplicas};
use super::{Effect, Key, Kind, Rule};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 3_600_000;
/// "No limit", as Kafka writes it.
const MAX: &str = "9223372036854775807";

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    rule: Rule,
    effect: Effect,
    synonyms: &'static [(&'static str, i64)],
    doc: &'static str,
) -> Key {
    Key { name, kind, default: Some(default), rule, importance: Medium, effect, dynamic: true, doc, synonyms }
}

/// Settings of replication are checked, kept and described; they come into force with the second replica.
#[rustfmt::skip]
pub(super) static TOPIC: &[Key] = &[
    key("cleanup.policy", List, "delete", ListOf(&["compact", "delete"]), Acts, &[("log.cleanup.policy", 1)],
        "What becomes of old segments: delete them, compact them, or both."),
    key("compression.gzip.level", Int, "-1", GzipLevel, Acts, &[("compression.gzip.level", 1)],
        "The level where the broker compresses with gzip; -1 is the codec's own default."),
    key("compression.lz4.level", Int, "9", Between(1, 17), Acts, &[("compression.lz4.level", 1)],
        "The level where the broker compresses with lz4: 9 is the fast compressor, every other one a level of the slow one."),
    key("compression.type", Str, "producer", OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), Acts,
        &[("compression.type", 1)],
        "The codec in which batches are stored; producer keeps what each producer chose."),
    key("compression.zstd.level", Int, "3", Between(-131_072, 22), Acts, &[("compression.zstd.level", 1)],
        "The level where the broker compresses with zstd."),
    key("delete.retention.ms", Long, "86400000", AtLeast(0), Acts, &[("log.cleaner.delete.retention.ms", 1)],
        "How long tombstones stay readable in a compacted topic."),
    key("file.delete.delay.ms", Long, "60000", AtLeast(0), Acts, &[("log.segment.delete.delay.ms", 1)],
        "How long a deleted segment's files stay on disk under their .deleted names."),
    key("flush.messages", Long, MAX, AtLeast(1), Acts, &[("log.flush.interval.messages", 1)],
        "An fsync is due after this many records; 1 makes every ack wait for the disk."),
    key("flush.ms", Long, MAX, AtLeast(0), Acts,
        &[("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)],
        "An fsync is due once a record has waited this long."),
    key("follower.replication.throttled.replicas", List, "", ThrottledReplicas, Ignored, &[],
        "Followers whose replication is throttled, as partition:broker, or * for all."),
    key("index.interval.bytes", Int, "4096", AtLeast(0), Acts, &[("log.index.interval.bytes", 1)],
        "An index entry is written after about this many bytes of records."),
    key("leader.replication.throttled.replicas", List, "", ThrottledReplicas, Ignored, &[],
        "Leaders whose replication is throttled, as partition:broker, or * for all."),
    key("local.retention.bytes", Long, "-2", AtLeast(-2), Ignored, &[("log.local.retention.bytes", 1)],
        "Known from Kafka's tiered storage; without effect in this broker."),
    key("local.retention.ms", Long, "-2", AtLeast(-2), Ignored, &[("log.local.retention.ms", 1)],
        "Known from Kafka's tiered storage; without effect in this broker."),
    key("max.compaction.lag.ms", Long, MAX, AtLeast(1), Acts, &[("log.cleaner.max.compaction.lag.ms", 1)],
        "The longest time that a record may stay uncompacted."),
    key("max.message.bytes", Int, "1048588", AtLeast(0), Acts, &[("message.max.bytes", 1)],
        "The largest batch that is accepted, compressed where it is compressed."),
    key("message.timestamp.after.max.ms", Long, "3600000", AtLeast(0), Acts,
        &[("log.message.timestamp.after.max.ms", 1)],
        "How far a record's timestamp may be ahead of the broker's clock."),
    key("message.timestamp.before.max.ms", Long, MAX, AtLeast(0), Acts,
        &[("log.message.timestamp.before.max.ms", 1)],
        "How far a record's timestamp may be behind the broker's clock."),
    key("message.timestamp.type", Str, "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), Acts,
        &[("log.message.timestamp.type", 1)],
        "Whether records carry the producer's time or the time at which the broker appended them."),
    key("min.cleanable.dirty.ratio", Double, "0.5", Fraction(1.0), Acts, &[("log.cleaner.min.cleanable.ratio", 1)],
        "The share of the log that must be dirty before it is compacted."),
    key("min.compaction.lag.ms", Long, "0", AtLeast(0), Acts, &[("log.cleaner.min.compaction.lag.ms", 1)],
        "The shortest time that a record stays uncompacted."),
    key("min.insync.replicas", Int, "1", AtLeast(1), Acts, &[("min.insync.replicas", 1)],
        "Replicas that must have a batch before acks=all is answered."),
    key("preallocate", Bool, "false", Any, Acts, &[("log.preallocate", 1)],
        "Whether segment files are allocated in full when they are created, and cut to what is in them when they are closed."),
    key("remote.log.copy.disable", Bool, "false", Any, Ignored, &[],
        "Known from Kafka's tiered storage; without effect in this broker."),
    key("remote.log.delete.on.disable", Bool, "false", Any, Ignored, &[],
        "Known from Kafka's tiered storage; without effect in this broker."),
    key("remote.storage.enable", Bool, "false", Any, Refused, &[],
        "Tiered storage; this broker has none, so it cannot be enabled."),
    key("retention.bytes", Long, "-1", Any, Acts, &[("log.retention.bytes", 1)],
        "The most bytes that each partition keeps; -1 for no limit."),
    key("retention.ms", Long, "604800000", AtLeast(-1), Acts,
        &[("log.retention.ms", 1), ("log.retention.minutes", MINUTE), ("log.retention.hours", HOUR)],
        "How long segments are kept; -1 for no limit."),
    key("segment.bytes", Int, "1073741824", AtLeast(1_048_576), Acts, &[("log.segment.bytes", 1)],
        "The size at which a new segment is begun."),
    key("segment.index.bytes", Int, "10485760", AtLeast(4), Acts, &[("log.index.size.max.bytes", 1)],
        "The largest size of an index file; a full index rolls the segment."),
    key("segment.jitter.ms", Long, "0", AtLeast(0), Acts, &[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR)],
        "The most that is taken off at random from the age at which segments roll."),
    key("segment.ms", Long, "604800000", AtLeast(1), Acts, &[("log.roll.ms", 1), ("log.roll.hours", HOUR)],
        "The greatest age of an active segment before a new one is begun."),
    key("unclean.leader.election.enable", Bool, "false", Any, Ignored, &[("unclean.leader.election.enable", 1)],
        "Whether a replica that is not in sync may become leader, which can lose records."),
];
