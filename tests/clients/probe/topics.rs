//! ApiVersions, Metadata and the topic requests.

use std::time::Duration;

use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, BrokerId, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeTopicPartitionsRequest, MetadataRequest, TopicName,
};
use uuid::Uuid;

use super::{Pair, text};

/// A topic's name.
pub fn name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// The features that are served here; Kafka lists others too.
const FEATURES: [&str; 3] = ["group.version", "metadata.version", "transaction.version"];

/// ApiVersions: the range of every key that we serve is Kafka's, and so is what is said of the features that we have.
pub fn versions(pair: &mut Pair) {
    let served: Vec<i16> = super::answer::<ApiVersionsRequest>(
        pair.ours.port(),
        &super::frame(&ApiVersionsRequest::default(), 0).expect("version 0 needs nothing"),
        0,
    )
    .map_or_else(
        |error| panic!("ApiVersions: {error}"),
        |answer| answer.api_keys.iter().map(|key| key.api_key).collect(),
    );
    for (case, software) in [("named", "probe"), ("nameless", ""), ("ill named", "p r o b e!")] {
        let request = |_| {
            ApiVersionsRequest::default()
                .with_client_software_name(text(software))
                .with_client_software_version(text("1"))
        };
        pair.ask_tidy::<ApiVersionsRequest>(&format!("ApiVersions, {case}"), request, |answer| {
            answer.api_keys.retain(|key| served.contains(&key.api_key));
            answer.api_keys.sort_by_key(|key| key.api_key);
            answer.supported_features.retain(|feature| FEATURES.contains(&feature.name.as_str()));
            answer.finalized_features.retain(|feature| FEATURES.contains(&feature.name.as_str()));
            answer.supported_features.sort_by(|a, b| a.name.cmp(&b.name));
            answer.finalized_features.sort_by(|a, b| a.name.cmp(&b.name));
            answer.finalized_features_epoch = -1;
        });
    }
}

fn topic(topic: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions).with_replication_factor(replicas)
}

fn assigned(topic_name: &str, assignments: &[(i32, &[i32])]) -> CreatableTopic {
    let one = |(index, brokers): &(i32, &[i32])| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*index)
            .with_broker_ids(brokers.iter().map(|id| BrokerId(*id)).collect())
    };
    topic(topic_name, -1, -1).with_assignments(assignments.iter().map(one).collect())
}

fn configured(topic_name: &str, configs: &[(&str, Option<&str>)]) -> CreatableTopic {
    let one = |(key, value): &(&str, Option<&str>)| {
        CreatableTopicConfig::default().with_name(text(key)).with_value(value.map(text))
    };
    topic(topic_name, 1, 1).with_configs(configs.iter().map(one).collect())
}

/// CreateTopics, validated and for good.
pub fn create(pair: &mut Pair) {
    let ask = |pair: &mut Pair, case: &str, topics: &[CreatableTopic], only_validate: bool| {
        let request = |_| {
            CreateTopicsRequest::default()
                .with_topics(topics.to_vec())
                .with_timeout_ms(5_000)
                .with_validate_only(only_validate)
        };
        pair.ask_tidy::<CreateTopicsRequest>(&format!("CreateTopics, {case}"), request, |answer| {
            answer.topics.sort_by(|a, b| a.name.cmp(&b.name));
            for topic in &mut answer.topics {
                if let Some(configs) = &mut topic.configs {
                    configs.sort_by(|a, b| a.name.cmp(&b.name));
                }
            }
        });
    };
    let long = "x".repeat(250);
    for (case, topics) in [
        ("good", vec![topic("good", 2, 1)]),
        ("defaults", vec![topic("good", -1, -1)]),
        ("no topics", vec![]),
        ("bad names", ["", ".", "..", "a b", "a/b", "\u{e4}", &long].map(|name| topic(name, 1, 1)).to_vec()),
        ("no partitions", vec![topic("good", 0, 1)]),
        ("fewer than no partitions", vec![topic("good", -2, 1)]),
        ("no replicas", vec![topic("good", 1, 0)]),
        ("two replicas", vec![topic("good", 1, 2)]),
        ("twice", vec![topic("good", 1, 1), topic("good", 1, 1)]),
        ("assigned", vec![assigned("good", &[(0, &[1]), (1, &[1])])]),
        ("assigned to nobody", vec![assigned("good", &[(0, &[])])]),
        ("assigned to a stranger", vec![assigned("good", &[(0, &[9])])]),
        ("assigned twice", vec![assigned("good", &[(0, &[1, 1])])]),
        ("assigned with a gap", vec![assigned("good", &[(0, &[1]), (2, &[1])])]),
        ("assigned and counted", vec![assigned("good", &[(0, &[1])]).with_num_partitions(1)]),
        (
            "configured",
            vec![configured("good", &[("retention.ms", Some("5")), ("cleanup.policy", Some("compact,delete"))])],
        ),
        ("unknown config", vec![configured("good", &[("no.such", Some("5"))])]),
        ("no number", vec![configured("good", &[("retention.ms", Some("soon"))])]),
        ("out of range", vec![configured("good", &[("segment.bytes", Some("1"))])]),
        ("no such choice", vec![configured("good", &[("compression.type", Some("brotli"))])]),
        ("null config", vec![configured("good", &[("retention.ms", None)])]),
    ] {
        ask(pair, case, &topics, true);
    }
    ask(
        pair,
        "for good",
        &[topic("alpha", 3, 1), topic("beta", 1, 1), configured("old", &[("retention.ms", Some("-1"))])],
        false,
    );
    ask(pair, "again", &[topic("alpha", 3, 1), topic("a.lpha", 1, 1)], true);
    ask(pair, "colliding", &[topic("al_pha", 1, 1), topic("al.pha", 1, 1)], true);
    // Metadata follows a moment later.
    std::thread::sleep(Duration::from_secs(1));
}

/// Metadata, DescribeTopicPartitions, DescribeCluster.
pub fn metadata(pair: &mut Pair) {
    let by_name = |topic: &str| MetadataRequestTopic::default().with_name(Some(name(topic)));
    let by_id = |id: Uuid| MetadataRequestTopic::default().with_name(None).with_topic_id(id);
    for (case, topics) in [
        ("all", None),
        ("none", Some(vec![])),
        ("known", Some(vec![by_name("alpha"), by_name("beta")])),
        ("unknown", Some(vec![by_name("nowhere"), by_name("beta")])),
        ("bad name", Some(vec![by_name("a b")])),
        ("twice", Some(vec![by_name("beta"), by_name("beta")])),
        ("unknown id", Some(vec![by_id(Uuid::from_u128(7))])),
    ] {
        for authorized in [false, true] {
            let request = |version: i16| {
                MetadataRequest::default()
                    .with_topics(topics.clone())
                    .with_allow_auto_topic_creation(version < 4)
                    .with_include_topic_authorized_operations(authorized)
            };
            // Before version 4 the broker decides, and may create what is asked for.
            if case == "unknown" {
                let later = |version: i16| request(version.max(4));
                pair.ask_tidy::<MetadataRequest>(&format!("Metadata, {case}"), later, sort_topics);
            } else {
                pair.ask_tidy::<MetadataRequest>(&format!("Metadata, {case}, {authorized}"), request, sort_topics);
            }
        }
    }
    pair.ask_tidy::<MetadataRequest>(
        "Metadata, created on demand",
        |version| {
            let topic = format!("demand-{version}");
            MetadataRequest::default().with_topics(Some(vec![by_name(&topic)])).with_allow_auto_topic_creation(true)
        },
        sort_topics,
    );
    // Kafka creates them behind its answers.
    std::thread::sleep(Duration::from_secs(1));
    for (case, topics, limit, cursor) in [
        ("all", &[][..], 2000, None),
        ("some", &["alpha", "nowhere", "beta"][..], 2000, None),
        ("limited", &["alpha", "beta"][..], 2, None),
        ("continued", &["alpha", "beta"][..], 2000, Some(("alpha", 1))),
        ("continued elsewhere", &["alpha", "beta"][..], 2000, Some(("aardvark", 0))),
    ] {
        pair.ask::<DescribeTopicPartitionsRequest>(&format!("DescribeTopicPartitions, {case}"), |_| {
            let cursor =
                cursor.map(|(topic, index)| Cursor::default().with_topic_name(name(topic)).with_partition_index(index));
            DescribeTopicPartitionsRequest::default()
                .with_topics(topics.iter().map(|topic| TopicRequest::default().with_name(name(topic))).collect())
                .with_response_partition_limit(limit)
                .with_cursor(cursor)
        });
    }
    pair.ask::<DescribeClusterRequest>("DescribeCluster", |_| DescribeClusterRequest::default());
    pair.ask::<DescribeClusterRequest>("DescribeCluster, operations", |_| {
        DescribeClusterRequest::default().with_include_cluster_authorized_operations(true)
    });
}

fn sort_topics(answer: &mut kafka_protocol::messages::MetadataResponse) {
    answer.topics.sort_by(|a, b| a.name.cmp(&b.name));
    for topic in &mut answer.topics {
        topic.partitions.sort_by_key(|partition| partition.partition_index);
    }
}

/// DescribeConfigs of topics and of things that are none.
pub fn configs(pair: &mut Pair) {
    let resource = |kind: i8, name: &str, keys: Option<&[&str]>| {
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()))
    };
    for (case, resources) in [
        ("a topic", vec![resource(2, "old", None)]),
        ("some keys", vec![resource(2, "alpha", Some(&["retention.ms", "no.such", "segment.bytes"]))]),
        ("no keys", vec![resource(2, "alpha", Some(&[]))]),
        ("an unknown topic", vec![resource(2, "nowhere", None)]),
        ("a bad name", vec![resource(2, "a b", None)]),
        ("another broker", vec![resource(4, "99", None)]),
        ("no broker", vec![resource(4, "one", None)]),
        ("an unknown kind", vec![resource(77, "x", None)]),
        ("this broker", vec![resource(4, "1", Some(&["log.retention.hours", "num.partitions", "message.max.bytes"]))]),
    ] {
        for more in [false, true] {
            let request = |_| {
                DescribeConfigsRequest::default()
                    .with_resources(resources.clone())
                    .with_include_synonyms(more)
                    .with_include_documentation(false)
            };
            pair.ask_tidy::<DescribeConfigsRequest>(&format!("DescribeConfigs, {case}, {more}"), request, |answer| {
                for result in &mut answer.results {
                    result.configs.sort_by(|a, b| a.name.cmp(&b.name));
                }
            });
        }
    }
}

/// DeleteTopics, last, because it takes the topics away.
pub fn delete(pair: &mut Pair) {
    let names = |version: i16, names: &[&str]| {
        let request = DeleteTopicsRequest::default().with_timeout_ms(5_000);
        if version < 6 {
            return request.with_topic_names(names.iter().map(|topic| name(topic)).collect());
        }
        request
            .with_topics(names.iter().map(|topic| DeleteTopicState::default().with_name(Some(name(topic)))).collect())
    };
    pair.ask::<DeleteTopicsRequest>("DeleteTopics, unknown", |version| names(version, &["nowhere"]));
    pair.ask::<DeleteTopicsRequest>("DeleteTopics, none", |version| names(version, &[]));
    pair.ask::<DeleteTopicsRequest>("DeleteTopics, bad name", |version| names(version, &["a b"]));
    pair.ask::<DeleteTopicsRequest>("DeleteTopics, twice", |version| names(version, &["beta", "beta"]));
    pair.ask::<DeleteTopicsRequest>("DeleteTopics, unknown id", |_| {
        let state = DeleteTopicState::default().with_name(None).with_topic_id(Uuid::from_u128(7));
        DeleteTopicsRequest::default().with_timeout_ms(5_000).with_topics(vec![state])
    });
    pair.ask::<DeleteTopicsRequest>("DeleteTopics, known, then gone", |version| names(version, &["alpha"]));
}
