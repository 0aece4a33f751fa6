//! Edge values of the admin requests: records deleted within and between batches, values of configs that are almost
//! right, partitions at the ends of their range, log directories asked for twice.

use std::time::Duration;

use kafka_protocol::messages::alter_configs_request::{
    AlterConfigsResource as Replaced, AlterableConfig as ReplacedConfig,
};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    AlterConfigsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DescribeLogDirsRequest, FetchRequest, IncrementalAlterConfigsRequest, ListOffsetsRequest, ProduceRequest,
};

use super::admin::{APPEND, BROKER, DELETE, GROUP, SET, SUBTRACT, TOPIC, altered, grow};
use super::batch::Raw;
use super::data::{fetch_of, produce_to};
use super::topics::name;
use super::{Pair, text};

/// The topic whose records are deleted, and whose configs are nearly changed.
const EDGES: &str = "edges";
/// Batches of three records each in its first partition.
const BATCHES: usize = 6;

/// All of it.
pub fn all(pair: &mut Pair) {
    let fresh = CreatableTopic::default().with_name(name(EDGES)).with_num_partitions(2).with_replication_factor(1);
    for broker in [pair.ours.port(), pair.kafka.port()] {
        let request = CreateTopicsRequest::default().with_topics(vec![fresh.clone()]).with_timeout_ms(5_000);
        let frame = super::frame(&request, 7).expect("version 7 can say it");
        super::answer::<CreateTopicsRequest>(broker, &frame, 7).expect("the topic is created");
    }
    std::thread::sleep(Duration::from_secs(1));
    records(pair);
    values(pair);
    brokers(pair);
    groups(pair);
    partitions(pair);
    log_dirs(pair);
}

fn deleted(topic: &str, partitions: &[(i32, i64)]) -> DeleteRecordsTopic {
    let one = |(index, offset): &(i32, i64)| {
        DeleteRecordsPartition::default().with_partition_index(*index).with_offset(*offset)
    };
    DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(partitions.iter().map(one).collect())
}

/// DeleteRecords, and what is found of the log afterwards.
fn records(pair: &mut Pair) {
    for broker in [pair.ours.port(), pair.kafka.port()] {
        for _ in 0..BATCHES {
            let request = produce_to(EDGES, 0, Some(Raw::default().bytes()), -1);
            let frame = super::frame(&request, 9).expect("version 9 can say it");
            super::answer::<ProduceRequest>(broker, &frame, 9).expect("the records are stored");
        }
    }
    for (case, topics, timeout) in [
        ("nothing", vec![], 5_000),
        ("no partitions", vec![deleted(EDGES, &[])], 5_000),
        ("an empty name", vec![deleted("", &[(0, 1)])], 5_000),
        ("a bad name", vec![deleted("a b", &[(0, 1)])], 5_000),
        ("an internal topic", vec![deleted("__consumer_offsets", &[(0, -1)])], 5_000),
        ("an internal topic's future partition", vec![deleted("__consumer_offsets", &[(999, -1)])], 5_000),
        ("a negative partition", vec![deleted(EDGES, &[(-1, 1)])], 5_000),
        ("the greatest partition", vec![deleted(EDGES, &[(i32::MAX, 1)])], 5_000),
        ("the greatest offset", vec![deleted(EDGES, &[(0, i64::MAX)])], 5_000),
        ("the least offset", vec![deleted(EDGES, &[(0, i64::MIN)])], 5_000),
        ("the end of an empty partition", vec![deleted(EDGES, &[(1, 0)])], 5_000),
        ("all of an empty partition", vec![deleted(EDGES, &[(1, -1)])], 5_000),
        ("beyond an empty partition", vec![deleted(EDGES, &[(1, 1)])], 5_000),
        ("within a batch", vec![deleted(EDGES, &[(0, 4)])], 5_000),
        ("before the start", vec![deleted(EDGES, &[(0, 2)])], 5_000),
        ("nothing more", vec![deleted(EDGES, &[(0, 4)])], 5_000),
        ("between batches", vec![deleted(EDGES, &[(0, 6)])], 5_000),
        ("within no time", vec![deleted(EDGES, &[(0, 7)])], 0),
        ("within less than no time", vec![deleted(EDGES, &[(0, 8)])], -1),
        ("a partition twice", vec![deleted(EDGES, &[(0, 9), (0, 10)])], 5_000),
        ("a partition twice, wrong first", vec![deleted(EDGES, &[(0, 99), (0, 10)])], 5_000),
        ("a topic twice", vec![deleted(EDGES, &[(0, 10)]), deleted(EDGES, &[(1, 0)])], 5_000),
        ("one of two", vec![deleted(EDGES, &[(0, 11), (1, 5)])], 5_000),
        ("one of two topics", vec![deleted(EDGES, &[(0, 12)]), deleted("nowhere", &[(0, 0)])], 5_000),
        ("one beyond the end", vec![deleted(EDGES, &[(0, 19)])], 5_000),
    ] {
        pair.ask_tidy::<DeleteRecordsRequest>(
            &format!("DeleteRecords, edges: {case}"),
            |_| DeleteRecordsRequest::default().with_topics(topics.clone()).with_timeout_ms(timeout),
            |answer| {
                answer.topics.sort_by(|a, b| a.name.cmp(&b.name));
                answer.topics.iter_mut().for_each(|topic| topic.partitions.sort_by_key(|it| it.partition_index));
            },
        );
        found(pair, case);
    }
    pair.ask::<DeleteRecordsRequest>("DeleteRecords, edges: all", |_| {
        DeleteRecordsRequest::default().with_topics(vec![deleted(EDGES, &[(0, -1)])]).with_timeout_ms(5_000)
    });
    found(pair, "all");
}

/// Where the log begins and what is read there.
fn found(pair: &mut Pair, after: &str) {
    for timestamp in [-1, -2, -3, 0] {
        let asked = ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(name(EDGES)).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        pair.ask_in::<ListOffsetsRequest>(&format!("ListOffsets {timestamp}, after {after}"), 7, request);
    }
    for offset in [0, 5, 12, 18] {
        let request = fetch_of(11, EDGES, 0, offset);
        pair.ask_in::<FetchRequest>(&format!("Fetch from {offset}, after {after}"), 11, request);
    }
}

/// Values of a topic's configs: as the parser, the range and the rule see them.
const VALUES: &[(&str, &str)] = &[
    ("retention.ms", " 5 "),
    ("retention.ms", "+5"),
    ("retention.ms", "05"),
    ("retention.ms", "0x10"),
    ("retention.ms", "5.0"),
    ("retention.ms", ""),
    ("retention.ms", " "),
    ("retention.ms", "-2"),
    ("retention.ms", "9223372036854775808"),
    ("retention.bytes", "-2"),
    ("retention.bytes", "0"),
    ("segment.bytes", "2147483648"),
    ("segment.bytes", "1048575"),
    ("segment.bytes", "1048576"),
    ("segment.ms", "0"),
    ("segment.jitter.ms", "-1"),
    ("segment.index.bytes", "3"),
    ("max.message.bytes", "-1"),
    ("index.interval.bytes", "-1"),
    ("flush.messages", "0"),
    ("flush.ms", "-1"),
    ("file.delete.delay.ms", "-1"),
    ("delete.retention.ms", "-1"),
    ("min.insync.replicas", "0"),
    ("min.cleanable.dirty.ratio", "1.1"),
    ("min.cleanable.dirty.ratio", "-0.1"),
    ("min.cleanable.dirty.ratio", "1e-1"),
    ("min.cleanable.dirty.ratio", "0.5f"),
    ("min.cleanable.dirty.ratio", "half"),
    ("cleanup.policy", ""),
    ("cleanup.policy", "delete,delete"),
    ("cleanup.policy", "delete,"),
    ("cleanup.policy", "Delete"),
    ("cleanup.policy", " compact , delete "),
    ("cleanup.policy", "none"),
    ("compression.type", "none"),
    ("compression.type", "GZIP"),
    ("compression.type", " gzip "),
    ("compression.gzip.level", "0"),
    ("compression.gzip.level", "10"),
    ("compression.gzip.level", "-2"),
    ("compression.lz4.level", "0"),
    ("compression.lz4.level", "18"),
    ("compression.zstd.level", "23"),
    ("compression.zstd.level", "-131073"),
    ("message.timestamp.type", "createtime"),
    ("message.timestamp.before.max.ms", "-1"),
    ("preallocate", "yes"),
    ("preallocate", " TRUE "),
    ("preallocate", ""),
    ("unclean.leader.election.enable", "1"),
    ("leader.replication.throttled.replicas", "*"),
    ("leader.replication.throttled.replicas", "0:1,1:1"),
    ("leader.replication.throttled.replicas", "0:1,*"),
    ("follower.replication.throttled.replicas", "0:x"),
    ("follower.replication.throttled.replicas", ""),
    ("local.retention.ms", "-3"),
    ("local.retention.ms", "5"),
    ("remote.storage.enable", "true"),
    ("remote.log.copy.disable", "true"),
    ("max.compaction.lag.ms", "0"),
    ("min.compaction.lag.ms", "-1"),
    ("message.format.version", "3.0"),
    ("message.downconversion.enable", "true"),
    ("log.retention.ms", "5"),
    ("Retention.ms", "5"),
    ("", "5"),
];

fn values(pair: &mut Pair) {
    for (key, value) in VALUES {
        pair.ask::<IncrementalAlterConfigsRequest>(&format!("IncrementalAlterConfigs, {key}={value:?}"), |_| {
            let resources = vec![altered(TOPIC, EDGES, &[(key, SET, Some(value))])];
            IncrementalAlterConfigsRequest::default().with_resources(resources).with_validate_only(true)
        });
        pair.ask::<AlterConfigsRequest>(&format!("AlterConfigs, {key}={value:?}"), |_| {
            let config = ReplacedConfig::default().with_name(text(key)).with_value(Some(text(value)));
            let resource = Replaced::default().with_resource_type(TOPIC).with_resource_name(text(EDGES));
            let request = AlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])]);
            request.with_validate_only(true)
        });
    }
    for (case, steps) in [
        ("append what is there", &[("cleanup.policy", APPEND, Some("delete"))][..]),
        ("append two", &[("cleanup.policy", APPEND, Some("compact,delete"))]),
        ("append nothing", &[("cleanup.policy", APPEND, Some(""))]),
        ("append null", &[("cleanup.policy", APPEND, None)]),
        ("subtract what is not there", &[("cleanup.policy", SUBTRACT, Some("compact"))]),
        ("subtract nonsense", &[("cleanup.policy", SUBTRACT, Some("burn"))]),
        ("subtract nothing", &[("cleanup.policy", SUBTRACT, Some(""))]),
        ("delete with a value", &[("retention.ms", DELETE, Some("5"))]),
        ("delete what is not set", &[("segment.bytes", DELETE, None)]),
        ("a negative step", &[("retention.ms", -1, Some("5"))]),
        ("many at once", &[("retention.ms", SET, Some("5")), ("flush.ms", SET, Some("x")), ("a", SET, Some("1"))]),
    ] {
        pair.ask::<IncrementalAlterConfigsRequest>(&format!("IncrementalAlterConfigs, edges: {case}"), |_| {
            let resources = vec![altered(TOPIC, EDGES, steps)];
            IncrementalAlterConfigsRequest::default().with_resources(resources).with_validate_only(true)
        });
    }
}

/// Values of a broker's configs.
fn brokers(pair: &mut Pair) {
    for (key, value) in [
        ("max.connections.per.ip.overrides", "127.0.0.9:5"),
        ("max.connections.per.ip.overrides", "127.0.0.9"),
        ("max.connections.per.ip.overrides", "no host:5"),
        ("max.connections.per.ip.overrides", "127.0.0.9:x"),
        ("max.connections.per.ip", "-1"),
        ("max.connections", "-1"),
        ("max.connections", "1000000"),
        ("message.max.bytes", "-1"),
        ("message.max.bytes", "1000000"),
        ("log.retention.ms", "0"),
        ("log.retention.ms", "-1"),
        ("log.retention.ms", "-2"),
        ("log.retention.hours", "1"),
        ("log.retention.minutes", "1"),
        ("log.roll.ms", "0"),
        ("log.roll.jitter.ms", "-1"),
        ("log.flush.interval.ms", "-1"),
        ("log.preallocate", "maybe"),
        ("log.preallocate", "true"),
        ("log.cleanup.policy", "burn"),
        ("log.cleanup.policy", ""),
        ("log.index.size.max.bytes", "3"),
        ("log.segment.bytes", "1048576"),
        ("log.message.timestamp.type", "Never"),
        ("compression.type", "lzma"),
        ("compression.lz4.level", "18"),
        ("compression.lz4.level", "12"),
        ("producer.id.expiration.ms", "0"),
        ("producer.id.expiration.ms", "5000"),
        ("transaction.partition.verification.enable", "no"),
        ("transaction.partition.verification.enable", "true"),
        ("unclean.leader.election.enable", "maybe"),
        ("auto.create.topics.enable", "false"),
        ("num.partitions", "4"),
        ("node.id", "2"),
        ("process.roles", "broker"),
        ("group.min.session.timeout.ms", "5"),
        ("retention.ms", "5"),
    ] {
        for resource in ["1", ""] {
            pair.ask::<IncrementalAlterConfigsRequest>(
                &format!("IncrementalAlterConfigs, broker {resource:?}, {key}={value:?}"),
                |_| {
                    let resources = vec![altered(BROKER, resource, &[(key, SET, Some(value))])];
                    IncrementalAlterConfigsRequest::default().with_resources(resources).with_validate_only(true)
                },
            );
        }
    }
}

/// Values of a group's configs.
fn groups(pair: &mut Pair) {
    for (case, steps) in [
        ("as short as may be", &[("consumer.session.timeout.ms", SET, Some("45000"))][..]),
        ("too short by one", &[("consumer.session.timeout.ms", SET, Some("44999"))]),
        ("as long as may be", &[("consumer.session.timeout.ms", SET, Some("60000"))]),
        ("too long by one", &[("consumer.session.timeout.ms", SET, Some("60001"))]),
        ("an overflow", &[("consumer.session.timeout.ms", SET, Some("2147483648"))]),
        ("an empty value", &[("consumer.session.timeout.ms", SET, Some(""))]),
        ("null", &[("consumer.session.timeout.ms", SET, None)]),
        ("zero", &[("consumer.heartbeat.interval.ms", SET, Some("0"))]),
        ("taken off", &[("consumer.session.timeout.ms", DELETE, None)]),
        ("append", &[("consumer.session.timeout.ms", APPEND, Some("1"))]),
        ("a topic's", &[("retention.ms", SET, Some("1"))]),
        ("a broker's", &[("group.consumer.session.timeout.ms", SET, Some("45000"))]),
        ("no name", &[("", SET, Some("45000"))]),
        (
            "twice",
            &[("consumer.session.timeout.ms", SET, Some("45000")), ("consumer.session.timeout.ms", DELETE, None)],
        ),
        ("a bad one of two", &[("consumer.session.timeout.ms", SET, Some("50000")), ("x", SET, Some("1"))]),
        ("a share group's lock", &[("share.record.lock.duration.ms", SET, Some("1"))]),
        ("a share group's isolation", &[("share.isolation.level", SET, Some("none"))]),
        ("a share group's reset", &[("share.auto.offset.reset", SET, Some("by_duration:P"))]),
        ("a share group's deliveries", &[("share.delivery.count.limit", SET, Some("11"))]),
        ("standby replicas", &[("streams.num.standby.replicas", SET, Some("3"))]),
        ("negative standby replicas", &[("streams.num.standby.replicas", SET, Some("-1"))]),
    ] {
        pair.ask::<IncrementalAlterConfigsRequest>(&format!("IncrementalAlterConfigs, group: {case}"), |_| {
            let resources = vec![altered(GROUP, "edges", steps)];
            IncrementalAlterConfigsRequest::default().with_resources(resources).with_validate_only(true)
        });
    }
}

fn partitions(pair: &mut Pair) {
    for (case, topics) in [
        ("as many as there are numbers", vec![grow(EDGES, i32::MAX, None)]),
        ("fewer than there are numbers", vec![grow(EDGES, i32::MIN, None)]),
        ("one more", vec![grow(EDGES, 3, None)]),
        ("an internal topic", vec![grow("__consumer_offsets", 51, None)]),
        ("a name of dots", vec![grow("..", 3, None)]),
        ("a long name", vec![grow(&"x".repeat(250), 3, None)]),
        ("another and unknown", vec![grow(EDGES, 3, None), grow("nowhere", 3, None), grow("grown", 1, None)]),
        ("three times", vec![grow(EDGES, 3, None), grow(EDGES, 3, None), grow(EDGES, 3, None)]),
        ("twice, unknown", vec![grow("nowhere", 3, None), grow("nowhere", 3, None)]),
        ("as many, assigned", vec![grow(EDGES, 2, Some(&[&[1]]))]),
        ("fewer, assigned", vec![grow(EDGES, 1, Some(&[&[1]]))]),
        ("two assigned, one to two", vec![grow(EDGES, 4, Some(&[&[1], &[1, 2]]))]),
        ("assigned to a negative", vec![grow(EDGES, 3, Some(&[&[-1]]))]),
        ("two assigned, one to nobody", vec![grow(EDGES, 4, Some(&[&[1], &[]]))]),
    ] {
        pair.ask_tidy::<CreatePartitionsRequest>(
            &format!("CreatePartitions, edges: {case}"),
            |_| {
                let request = CreatePartitionsRequest::default().with_topics(topics.clone()).with_timeout_ms(5_000);
                request.with_validate_only(true)
            },
            |answer| answer.results.sort_by(|a, b| a.name.cmp(&b.name)),
        );
    }
}

fn log_dirs(pair: &mut Pair) {
    let some = |topic: &str, partitions: &[i32]| {
        DescribableLogDirTopic::default().with_topic(name(topic)).with_partitions(partitions.to_vec())
    };
    for (case, topics) in [
        ("a partition twice", vec![some(EDGES, &[0, 0])]),
        ("a topic twice", vec![some(EDGES, &[0]), some(EDGES, &[1])]),
        ("a topic twice, the same partition", vec![some(EDGES, &[0]), some(EDGES, &[0])]),
        ("a negative partition", vec![some(EDGES, &[-1])]),
        ("the greatest partition", vec![some(EDGES, &[i32::MAX, 1])]),
        ("an empty name", vec![some("", &[0])]),
        ("a bad name", vec![some("a b", &[0])]),
        ("in another order", vec![some(EDGES, &[1, 0])]),
    ] {
        pair.ask_tidy::<DescribeLogDirsRequest>(
            &format!("DescribeLogDirs, edges: {case}"),
            |_| DescribeLogDirsRequest::default().with_topics(Some(topics.clone())),
            |answer| {
                for dir in &mut answer.results {
                    dir.log_dir = text("dir");
                    (dir.total_bytes, dir.usable_bytes) = (dir.total_bytes.signum(), dir.usable_bytes.signum());
                    dir.topics.sort_by(|a, b| a.name.cmp(&b.name));
                    dir.topics.iter_mut().for_each(|topic| topic.partitions.sort_by_key(|it| it.partition_index));
                }
            },
        );
    }
}
