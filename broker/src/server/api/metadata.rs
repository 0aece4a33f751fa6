//! Metadata (3), versions 0 to 13: brokers, topics, partitions and who leads them.
//!
//! Version 0 asks for all topics with an empty list, later ones with null. From 10 on answers carry topic ids, from 12 on
//! a topic may be asked for by its id. Topics that are named and not there are created where client and broker allow it
//! (`auto.create.topics.enable`), and are there when this is answered.

use super::create_topics::default_topic;
use super::{Asked, Context, errors, text};
use millrace_metadata::{Command, Image, Response, Topic, check_topic_name};
use millrace_model::TopicId;
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use millrace_protocol::messages::{BrokerId, MetadataRequest, TopicName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Without an authorizer everybody may do everything that can be done with a topic: the bits of Kafka's operations.
pub(super) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// The same for the cluster.
pub(super) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;
/// Nobody has asked.
pub(super) const NOT_ASKED: i32 = i32::MIN;

pub(super) async fn handle(asked: Asked, request: MetadataRequest) -> MetadataResponse {
    let context = &asked.context;
    if asked.version < 12
        && request.topics.iter().flatten().any(|topic| topic.name.is_none() || !topic.topic_id.is_nil())
    {
        return refuse(&request);
    }
    let mut failed = BTreeMap::new();
    let auto = request.allow_auto_topic_creation && context.settings.auto_create_topics;
    if auto && let Some(topics) = &request.topics {
        let image = context.cluster.image();
        let missing = topics.iter().filter_map(|topic| topic.name.as_ref()).map(|name| name.as_str());
        let missing: Vec<&str> =
            missing.filter(|name| image.topic(name).is_none() && check_topic_name(name).is_ok()).collect();
        if !missing.is_empty() {
            failed = create(context, missing).await;
        }
    }
    let image = context.cluster.image();
    let operations = if request.include_topic_authorized_operations { TOPIC_OPERATIONS } else { NOT_ASKED };
    let all = request.topics.as_ref().is_none_or(|topics| asked.version == 0 && topics.is_empty());
    let topics = if all {
        image.topics().map(|topic| describe(&image, topic, operations)).collect()
    } else {
        // What stands there twice is described once.
        let mut seen = BTreeSet::new();
        let asked_for = request.topics.iter().flatten();
        let asked_for = asked_for.filter(|topic| seen.insert((topic.name.as_deref(), topic.topic_id)));
        asked_for.map(|topic| one(&image, topic.name.as_ref(), topic.topic_id, operations, &failed)).collect()
    };
    let brokers = image.brokers().filter(|broker| !broker.fenced).map(|broker| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(broker.id().get()))
            .with_host(text(broker.host()))
            .with_port(broker.port().into())
            .with_rack(broker.registration.rack.as_deref().map(text))
    });
    let cluster = asked.version >= 8 && request.include_cluster_authorized_operations;
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(image.cluster_id().map(text))
        .with_controller_id(BrokerId(controller(context)))
        .with_topics(topics)
        .with_cluster_authorized_operations(if cluster { CLUSTER_OPERATIONS } else { NOT_ASKED })
}

/// Ids stand in the layout from version 10 on, but may be asked for from 12 on.
fn refuse(request: &MetadataRequest) -> MetadataResponse {
    let topics = request.topics.iter().flatten().map(|topic| {
        MetadataResponseTopic::default()
            .with_error_code(ErrorCode::InvalidRequest.code())
            .with_name(Some(topic.name.clone().unwrap_or_default()))
            .with_topic_id(topic.topic_id)
            .with_topic_authorized_operations(NOT_ASKED)
    });
    MetadataResponse::default()
        .with_controller_id(BrokerId(-1))
        .with_topics(topics.collect())
        .with_cluster_authorized_operations(NOT_ASKED)
}

/// The broker to send administration to: any, for all of them pass it on.
pub(super) fn controller(context: &Context) -> i32 {
    context.node.get()
}

fn one(
    image: &Image,
    name: Option<&TopicName>,
    id: uuid::Uuid,
    operations: i32,
    failed: &BTreeMap<String, ErrorCode>,
) -> MetadataResponseTopic {
    // Who asks by id may leave the name empty instead of null, as Java's consumers do.
    let Some(name) = name.filter(|_| id.is_nil()) else {
        return match image.topic_by_id(TopicId::new(id)) {
            Some(topic) => describe(image, topic, operations),
            None => MetadataResponseTopic::default()
                .with_error_code(ErrorCode::UnknownTopicId.code())
                .with_name(None)
                .with_topic_id(id)
                .with_topic_authorized_operations(NOT_ASKED),
        };
    };
    if let Some(topic) = image.topic(name) {
        return describe(image, topic, operations);
    }
    let error = if check_topic_name(name).is_err() {
        ErrorCode::InvalidTopicException
    } else {
        failed.get(name.as_str()).copied().unwrap_or(ErrorCode::UnknownTopicOrPartition)
    };
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(name.clone()))
        .with_topic_authorized_operations(operations)
}

fn describe(image: &Image, topic: &Topic, operations: i32) -> MetadataResponseTopic {
    let ids = |nodes: &[millrace_model::NodeId]| nodes.iter().map(|node| BrokerId(node.get())).collect();
    let partitions = topic.numbered().map(|(index, partition)| {
        let led = image.broker(partition.leader).is_some_and(|broker| !broker.fenced);
        let error = if led { ErrorCode::None } else { ErrorCode::LeaderNotAvailable };
        let offline: Vec<_> =
            partition.replicas.iter().copied().filter(|node| image.broker(*node).is_none_or(|it| it.fenced)).collect();
        MetadataResponsePartition::default()
            .with_error_code(error.code())
            .with_partition_index(index.get())
            .with_leader_id(BrokerId(if led { partition.leader.get() } else { -1 }))
            .with_leader_epoch(partition.leader_epoch.get())
            .with_replica_nodes(ids(&partition.replicas))
            .with_isr_nodes(ids(&partition.isr))
            .with_offline_replicas(ids(&offline))
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_topic_id(topic.id.get())
        .with_is_internal(topic.internal)
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(operations)
}

/// Creates topics with the broker's defaults. Returns what went wrong with which.
async fn create(context: &Arc<Context>, names: Vec<&str>) -> BTreeMap<String, ErrorCode> {
    let topics = names.iter().map(|name| default_topic(context, name)).collect();
    let mut failed = BTreeMap::new();
    match context.cluster.propose(Command::CreateTopics { topics }).await {
        Ok(Response::Created(created)) => {
            for (name, outcome) in names.iter().zip(created) {
                if let Err(error) = outcome {
                    let code = match errors::apply(&error) {
                        // Somebody else was faster.
                        ErrorCode::TopicAlreadyExists => ErrorCode::LeaderNotAvailable,
                        code => code,
                    };
                    failed.insert((*name).to_owned(), code);
                } else {
                    tracing::info!(topic = name, "topic created because a client asked for it");
                }
            }
            context.partitions.in_line_with(context.cluster.image().index()).await;
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(%error, "topics could not be created for a client");
            failed.extend(names.iter().map(|name| ((*name).to_owned(), ErrorCode::LeaderNotAvailable)));
        }
    }
    failed
}
