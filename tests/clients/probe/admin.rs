//! Configs, partitions and log directories: CreatePartitions, AlterConfigs, IncrementalAlterConfigs, DescribeConfigs of
//! what they changed, DescribeLogDirs, ListConfigResources, and requests with odd timeouts.

use std::time::Duration;

use kafka_protocol::messages::alter_configs_request::{
    AlterConfigsResource as Replaced, AlterableConfig as ReplacedConfig,
};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    AlterConfigsRequest, BrokerId, CreateAclsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteAclsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeAclsRequest, DescribeConfigsRequest, DescribeLogDirsRequest,
    IncrementalAlterConfigsRequest, ListConfigResourcesRequest, ProduceRequest,
};

use super::batch::Raw;
use super::topics::name;
use super::{Pair, data, text};

pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const METRICS: i8 = 16;
pub const GROUP: i8 = 32;

pub const SET: i8 = 0;
pub const DELETE: i8 = 1;
pub const APPEND: i8 = 2;
pub const SUBTRACT: i8 = 3;

/// All of it.
pub fn all(pair: &mut Pair) {
    let fresh = |topic: &str, partitions| {
        CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions).with_replication_factor(1)
    };
    pair.ask_tidy::<CreateTopicsRequest>(
        "CreateTopics, for the admin",
        |version| {
            let own = format!("created-{version}");
            let topics = vec![fresh("tuned", 1), fresh("grown", 2), fresh(&own, 1)];
            CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(5_000)
        },
        |answer| {
            answer.topics.sort_by(|a, b| a.name.cmp(&b.name));
            answer.topics.iter_mut().for_each(|topic| topic.configs = None);
        },
    );
    std::thread::sleep(Duration::from_secs(1));
    partitions(pair);
    incremental(pair);
    replaced(pair);
    described(pair);
    in_sync(pair);
    records(pair);
    log_dirs(pair);
    access_rules(pair);
    resources(pair);
    timeouts(pair);
}

pub fn grow(topic: &str, count: i32, assigned: Option<&[&[i32]]>) -> CreatePartitionsTopic {
    let one = |nodes: &&[i32]| {
        CreatePartitionsAssignment::default().with_broker_ids(nodes.iter().map(|id| BrokerId(*id)).collect())
    };
    CreatePartitionsTopic::default()
        .with_name(name(topic))
        .with_count(count)
        .with_assignments(assigned.map(|assigned| assigned.iter().map(one).collect()))
}

fn partitions(pair: &mut Pair) {
    for (case, topics, only_validate) in [
        ("nothing", vec![], true),
        ("good", vec![grow("grown", 4, None)], true),
        ("as many", vec![grow("grown", 2, None)], true),
        ("fewer", vec![grow("grown", 1, None)], true),
        ("none", vec![grow("grown", 0, None)], true),
        ("fewer than none", vec![grow("grown", -1, None)], true),
        ("too many", vec![grow("grown", 10_010, None)], true),
        ("an unknown topic", vec![grow("nowhere", 4, None)], true),
        ("a bad name", vec![grow("a b", 4, None)], true),
        ("an empty name", vec![grow("", 4, None)], true),
        ("twice", vec![grow("grown", 4, None), grow("grown", 5, None)], true),
        ("one of two", vec![grow("grown", 4, None), grow("tuned", 1, None)], true),
        ("assigned", vec![grow("grown", 3, Some(&[&[1]]))], true),
        ("assigned to nobody", vec![grow("grown", 3, Some(&[&[]]))], true),
        ("assigned to a stranger", vec![grow("grown", 3, Some(&[&[9]]))], true),
        ("assigned twice", vec![grow("grown", 3, Some(&[&[1, 1]]))], true),
        ("assigned too few", vec![grow("grown", 4, Some(&[&[1]]))], true),
        ("assigned too many", vec![grow("grown", 3, Some(&[&[1], &[1]]))], true),
        ("assigned none", vec![grow("grown", 3, Some(&[]))], true),
        ("for good, then again", vec![grow("grown", 3, None)], false),
    ] {
        pair.ask_tidy::<CreatePartitionsRequest>(
            &format!("CreatePartitions, {case}"),
            |_| {
                let request = CreatePartitionsRequest::default().with_topics(topics.clone()).with_timeout_ms(5_000);
                request.with_validate_only(only_validate)
            },
            |answer| answer.results.sort_by(|a, b| a.name.cmp(&b.name)),
        );
    }
}

pub fn altered(kind: i8, resource: &str, steps: &[(&str, i8, Option<&str>)]) -> AlterConfigsResource {
    let one = |(key, operation, value): &(&str, i8, Option<&str>)| {
        AlterableConfig::default().with_name(text(key)).with_config_operation(*operation).with_value(value.map(text))
    };
    AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(resource))
        .with_configs(steps.iter().map(one).collect())
}

fn incremental(pair: &mut Pair) {
    let ms = |value| [("retention.ms", SET, Some(value))];
    for (case, resources, only_validate) in [
        ("nothing", vec![], true),
        ("good", vec![altered(TOPIC, "tuned", &ms("5"))], true),
        ("no steps", vec![altered(TOPIC, "tuned", &[])], true),
        ("no number", vec![altered(TOPIC, "tuned", &ms("soon"))], true),
        ("out of range", vec![altered(TOPIC, "tuned", &[("segment.bytes", SET, Some("1"))])], true),
        ("unknown key", vec![altered(TOPIC, "tuned", &[("no.such", SET, Some("1"))])], true),
        ("unknown key taken off", vec![altered(TOPIC, "tuned", &[("no.such", DELETE, None)])], true),
        ("null", vec![altered(TOPIC, "tuned", &[("retention.ms", SET, None), ("flush.ms", SET, None)])], true),
        ("key twice", vec![altered(TOPIC, "tuned", &[("flush.ms", SET, Some("1")), ("flush.ms", DELETE, None)])], true),
        ("append to a number", vec![altered(TOPIC, "tuned", &[("flush.ms", APPEND, Some("1"))])], true),
        ("subtract from a number", vec![altered(TOPIC, "tuned", &[("flush.ms", SUBTRACT, Some("1"))])], true),
        ("append", vec![altered(TOPIC, "tuned", &[("cleanup.policy", APPEND, Some("compact"))])], true),
        ("append nonsense", vec![altered(TOPIC, "tuned", &[("cleanup.policy", APPEND, Some("burn"))])], true),
        ("subtract all", vec![altered(TOPIC, "tuned", &[("cleanup.policy", SUBTRACT, Some("delete"))])], true),
        ("unknown step", vec![altered(TOPIC, "tuned", &[("flush.ms", 9, Some("1"))])], true),
        (
            "lags in conflict",
            vec![altered(
                TOPIC,
                "tuned",
                &[("max.compaction.lag.ms", SET, Some("5")), ("min.compaction.lag.ms", SET, Some("6"))],
            )],
            true,
        ),
        ("unknown topic", vec![altered(TOPIC, "nowhere", &ms("5"))], true),
        ("bad name", vec![altered(TOPIC, "a b", &ms("5"))], true),
        ("no name", vec![altered(TOPIC, "", &ms("5"))], true),
        ("twice", vec![altered(TOPIC, "tuned", &ms("5")), altered(TOPIC, "tuned", &ms("6"))], true),
        ("one of two", vec![altered(TOPIC, "tuned", &ms("5")), altered(TOPIC, "nowhere", &ms("6"))], true),
        ("unknown type", vec![altered(77, "x", &ms("5"))], true),
        ("client metrics", vec![altered(METRICS, "x", &[("interval.ms", SET, Some("100"))])], true),
        ("log levels", vec![altered(LOGGER, "1", &[("root", SET, Some("INFO"))])], true),
        ("broker", vec![altered(BROKER, "1", &[("log.retention.ms", SET, Some("600000"))])], true),
        ("all brokers", vec![altered(BROKER, "", &[("log.retention.ms", SET, Some("600000"))])], true),
        ("another broker", vec![altered(BROKER, "9", &[("log.retention.ms", SET, Some("600000"))])], true),
        ("no broker", vec![altered(BROKER, "one", &[("log.retention.ms", SET, Some("600000"))])], true),
        ("broker, no number", vec![altered(BROKER, "1", &[("log.retention.ms", SET, Some("soon"))])], true),
        ("broker, out of range", vec![altered(BROKER, "1", &[("log.segment.bytes", SET, Some("1"))])], true),
        ("broker, fixed keys", vec![altered(BROKER, "1", &[("log.dirs", SET, Some("/x"))])], true),
        ("all brokers, listeners", vec![altered(BROKER, "", &[("listeners", SET, Some("PLAINTEXT://:1"))])], true),
        ("broker, min isr", vec![altered(BROKER, "1", &[("min.insync.replicas", SET, Some("1"))])], true),
        ("all brokers, no min isr", vec![altered(BROKER, "", &[("min.insync.replicas", DELETE, None)])], true),
        ("broker, append to a number", vec![altered(BROKER, "1", &[("log.retention.ms", APPEND, Some("1"))])], true),
        ("broker, unknown key", vec![altered(BROKER, "1", &[("no.such", SET, Some("1"))])], true),
        ("broker, listeners", vec![altered(BROKER, "1", &[("listeners", SET, Some("PLAINTEXT://:1"))])], true),
        ("broker, null", vec![altered(BROKER, "1", &[("log.retention.ms", SET, None)])], true),
        ("group", vec![altered(GROUP, "g", &[("consumer.session.timeout.ms", SET, Some("50000"))])], true),
        ("group, too short", vec![altered(GROUP, "g", &[("consumer.session.timeout.ms", SET, Some("1"))])], true),
        ("group, too long", vec![altered(GROUP, "g", &[("consumer.heartbeat.interval.ms", SET, Some("99999"))])], true),
        ("group, unknown key", vec![altered(GROUP, "g", &[("no.such", SET, Some("1"))])], true),
        ("group, no number", vec![altered(GROUP, "g", &[("consumer.session.timeout.ms", SET, Some("x"))])], true),
        ("group, no name", vec![altered(GROUP, "", &[("consumer.session.timeout.ms", SET, Some("50000"))])], true),
        (
            "for good",
            vec![
                altered(
                    TOPIC,
                    "tuned",
                    &[("retention.ms", SET, Some("123456")), ("cleanup.policy", SET, Some("compact"))],
                ),
                altered(BROKER, "", &[("log.retention.ms", SET, Some("600000"))]),
                altered(BROKER, "1", &[("log.index.interval.bytes", SET, Some("8192"))]),
                altered(GROUP, "g", &[("consumer.session.timeout.ms", SET, Some("50000"))]),
            ],
            false,
        ),
        ("taken off", vec![altered(TOPIC, "tuned", &[("cleanup.policy", DELETE, None)])], false),
    ] {
        pair.ask::<IncrementalAlterConfigsRequest>(&format!("IncrementalAlterConfigs, {case}"), |_| {
            let request = IncrementalAlterConfigsRequest::default().with_resources(resources.clone());
            request.with_validate_only(only_validate)
        });
    }
}

fn replaced(pair: &mut Pair) {
    let resource = |kind: i8, resource: &str, configs: &[(&str, Option<&str>)]| {
        let one = |(key, value): &(&str, Option<&str>)| {
            ReplacedConfig::default().with_name(text(key)).with_value(value.map(text))
        };
        Replaced::default()
            .with_resource_type(kind)
            .with_resource_name(text(resource))
            .with_configs(configs.iter().map(one).collect())
    };
    let ms = |value| [("retention.ms", Some(value))];
    for (case, resources, only_validate) in [
        ("good", vec![resource(TOPIC, "tuned", &ms("5"))], true),
        ("no number", vec![resource(TOPIC, "tuned", &ms("soon"))], true),
        ("null", vec![resource(TOPIC, "tuned", &[("retention.ms", None)])], true),
        ("unknown key", vec![resource(TOPIC, "tuned", &[("no.such", Some("1"))])], true),
        ("key twice", vec![resource(TOPIC, "tuned", &[("flush.ms", Some("1")), ("flush.ms", Some("1"))])], true),
        ("unknown topic", vec![resource(TOPIC, "nowhere", &ms("5"))], true),
        ("twice", vec![resource(TOPIC, "tuned", &ms("5")), resource(TOPIC, "tuned", &ms("6"))], true),
        ("unknown type", vec![resource(77, "x", &ms("5"))], true),
        ("log levels", vec![resource(LOGGER, "1", &[("root", Some("INFO"))])], true),
        ("another broker", vec![resource(BROKER, "9", &[("log.retention.ms", Some("600000"))])], true),
        ("broker", vec![resource(BROKER, "1", &[("log.retention.ms", Some("600000"))])], true),
        ("all brokers without min isr", vec![resource(BROKER, "", &[("log.retention.ms", Some("600000"))])], true),
        ("group", vec![resource(GROUP, "g", &[("consumer.session.timeout.ms", Some("50000"))])], true),
        ("for good", vec![resource(TOPIC, "tuned", &[("segment.bytes", Some("2000000"))])], false),
    ] {
        pair.ask::<AlterConfigsRequest>(&format!("AlterConfigs, {case}"), |_| {
            AlterConfigsRequest::default().with_resources(resources.clone()).with_validate_only(only_validate)
        });
    }
}

/// DescribeConfigs of what has been changed.
fn described(pair: &mut Pair) {
    // Kafka's brokers follow the controller a moment later.
    std::thread::sleep(Duration::from_secs(1));
    let some = |kind: i8, resource: &str, keys: Option<&[&str]>| {
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(resource))
            .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()))
    };
    let keys = ["log.retention.ms", "log.index.interval.bytes", "min.insync.replicas", "log.retention.hours"];
    for (case, resource) in [
        ("the tuned topic", some(TOPIC, "tuned", None)),
        ("another topic", some(TOPIC, "grown", None)),
        ("the tuned broker", some(BROKER, "1", Some(&keys))),
        ("all brokers", some(BROKER, "", None)),
        ("the tuned group", some(GROUP, "g", None)),
        ("another group", some(GROUP, "other", None)),
        ("a group without name", some(GROUP, "", None)),
        ("client metrics", some(METRICS, "x", None)),
    ] {
        for synonyms in [false, true] {
            pair.ask_tidy::<DescribeConfigsRequest>(
                &format!("DescribeConfigs, {case}, {synonyms}"),
                |_| {
                    DescribeConfigsRequest::default()
                        .with_resources(vec![resource.clone()])
                        .with_include_synonyms(synonyms)
                        .with_include_documentation(false)
                },
                |answer| {
                    for result in &mut answer.results {
                        result.configs.sort_by(|a, b| a.name.cmp(&b.name));
                    }
                },
            );
        }
    }
}

/// Produce to a topic that asks for more replicas than it has, and to a compacted one without a key.
fn in_sync(pair: &mut Pair) {
    for (case, configs) in [
        (
            "two in sync",
            altered(TOPIC, "tuned", &[("min.insync.replicas", SET, Some("2")), ("retention.ms", SET, Some("-1"))]),
        ),
        ("no key", altered(TOPIC, "tuned", &[("cleanup.policy", SET, Some("compact"))])),
    ] {
        pair.ask::<IncrementalAlterConfigsRequest>(&format!("IncrementalAlterConfigs, {case}"), |_| {
            IncrementalAlterConfigsRequest::default().with_resources(vec![configs.clone()])
        });
        std::thread::sleep(Duration::from_secs(1));
        for acks in [-1, 1] {
            pair.ask::<ProduceRequest>(&format!("Produce, {case}, acks {acks}"), |version| {
                let topic = if version < 13 { "tuned" } else { "" };
                data::produce_to(topic, 0, Some(Raw::default().bytes()), acks)
            });
        }
    }
}

/// DeleteRecords, where there is little to delete; "tuned" is compacted by now.
fn records(pair: &mut Pair) {
    for (case, topic, partition, offset) in [
        ("all of none", "grown", 0, -1),
        ("from the start", "grown", 0, 0),
        ("beyond the end", "grown", 0, 5),
        ("before all", "grown", 0, -2),
        ("a compacted topic", "tuned", 0, -1),
        ("an unknown topic", "nowhere", 0, -1),
        ("an unknown partition", "grown", 9, -1),
    ] {
        pair.ask::<DeleteRecordsRequest>(&format!("DeleteRecords, {case}"), |_| {
            let asked = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
            let asked = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![asked]);
            DeleteRecordsRequest::default().with_topics(vec![asked]).with_timeout_ms(5_000)
        });
    }
}

/// Neither has an authorizer; what is asked is read all the same.
fn access_rules(pair: &mut Pair) {
    // Resource, pattern, operation and permission: what there is at both ends of each, and beyond.
    for kinds in [
        [2, 3, 3, 3],
        [1, 1, 1, 1],
        [7, 4, 15, 2],
        [0, 3, 3, 3],
        [8, 3, 3, 3],
        [-1, 3, 3, 3],
        [2, 0, 3, 3],
        [2, 5, 3, 3],
        [2, 3, 0, 3],
        [2, 3, 16, 3],
        [2, 3, 3, 0],
        [2, 3, 3, 4],
    ] {
        let [resource, pattern, operation, permission] = kinds;
        pair.ask::<DescribeAclsRequest>(&format!("DescribeAcls, {kinds:?}"), |_| {
            DescribeAclsRequest::default()
                .with_resource_type_filter(resource)
                .with_pattern_type_filter(pattern)
                .with_operation(operation)
                .with_permission_type(permission)
        });
        let rule = AclCreation::default()
            .with_resource_type(resource)
            .with_resource_name(text("grown"))
            .with_resource_pattern_type(pattern)
            .with_principal(text("User:me"))
            .with_host(text("*"))
            .with_operation(operation)
            .with_permission_type(permission);
        pair.ask::<CreateAclsRequest>(&format!("CreateAcls, {kinds:?}"), |_| {
            CreateAclsRequest::default().with_creations(vec![rule.clone(), rule.clone().with_operation(4)])
        });
        let filter = DeleteAclsFilter::default()
            .with_resource_type_filter(resource)
            .with_resource_name_filter(Some(text("grown")))
            .with_pattern_type_filter(pattern)
            .with_operation(operation)
            .with_permission_type(permission);
        pair.ask::<DeleteAclsRequest>(&format!("DeleteAcls, {kinds:?}"), |_| {
            DeleteAclsRequest::default().with_filters(vec![filter.clone(), filter.clone().with_operation(4)])
        });
    }
    pair.ask::<CreateAclsRequest>("CreateAcls, none", |_| CreateAclsRequest::default());
    pair.ask::<DeleteAclsRequest>("DeleteAcls, none", |_| DeleteAclsRequest::default());
}

fn log_dirs(pair: &mut Pair) {
    let some = |topic: &str, partitions: &[i32]| {
        DescribableLogDirTopic::default().with_topic(name(topic)).with_partitions(partitions.to_vec())
    };
    for (case, topics) in [
        ("some", Some(vec![some("grown", &[0, 2, 9]), some("nowhere", &[0]), some("tuned", &[0])])),
        ("nothing", Some(vec![])),
        ("no partitions", Some(vec![some("grown", &[])])),
        ("nothing that is there", Some(vec![some("nowhere", &[0])])),
        ("all", None),
    ] {
        pair.ask_tidy::<DescribeLogDirsRequest>(
            &format!("DescribeLogDirs, {case}"),
            |_| DescribeLogDirsRequest::default().with_topics(topics.clone()),
            |answer| {
                for dir in &mut answer.results {
                    assert!(dir.log_dir.starts_with('/'), "{:?} is not absolute", dir.log_dir);
                    dir.log_dir = text("dir");
                    // The same volume, a moment later.
                    (dir.total_bytes, dir.usable_bytes) = (dir.total_bytes.signum(), dir.usable_bytes.signum());
                    // Of the others retention may have taken something on one side only.
                    dir.topics.retain(|topic| matches!(topic.name.as_str(), "grown" | "tuned"));
                    dir.topics.sort_by(|a, b| a.name.cmp(&b.name));
                    dir.topics.iter_mut().for_each(|topic| topic.partitions.sort_by_key(|it| it.partition_index));
                }
            },
        );
    }
}

fn resources(pair: &mut Pair) {
    for types in [&[][..], &[TOPIC], &[BROKER], &[LOGGER], &[METRICS], &[GROUP], &[TOPIC, GROUP, GROUP], &[77]] {
        pair.ask_tidy::<ListConfigResourcesRequest>(
            &format!("ListConfigResources, {types:?}"),
            |version| {
                let types = if version == 0 { Vec::new() } else { types.to_vec() };
                ListConfigResourcesRequest::default().with_resource_types(types)
            },
            |answer| {
                answer.config_resources.sort_by(|a, b| {
                    (a.resource_type, a.resource_name.as_str()).cmp(&(b.resource_type, b.resource_name.as_str()))
                });
            },
        );
    }
}

/// Requests that may take no time at all, only checked or about things that are not there.
fn timeouts(pair: &mut Pair) {
    let fresh = CreatableTopic::default().with_name(name("soon")).with_num_partitions(1).with_replication_factor(1);
    for timeout in [-1, 0, 1_000] {
        pair.ask_tidy::<CreateTopicsRequest>(
            &format!("CreateTopics, within {timeout} ms"),
            |_| {
                let request = CreateTopicsRequest::default().with_topics(vec![fresh.clone()]);
                request.with_timeout_ms(timeout).with_validate_only(true)
            },
            |answer| answer.topics.iter_mut().for_each(|topic| topic.configs = None),
        );
        pair.ask::<CreatePartitionsRequest>(&format!("CreatePartitions, within {timeout} ms"), |_| {
            let request = CreatePartitionsRequest::default().with_topics(vec![grow("grown", 9, None)]);
            request.with_timeout_ms(timeout).with_validate_only(true)
        });
        pair.ask::<DeleteTopicsRequest>(&format!("DeleteTopics, within {timeout} ms"), |version| {
            let request = DeleteTopicsRequest::default().with_timeout_ms(timeout);
            if version < 6 {
                return request.with_topic_names(vec![name("nowhere")]);
            }
            let state = kafka_protocol::messages::delete_topics_request::DeleteTopicState::default();
            request.with_topics(vec![state.with_name(Some(name("nowhere")))])
        });
    }
}
