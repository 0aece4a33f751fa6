//! CreateTopics (19), versions 2 to 7.
//!
//! Each topic succeeds or fails for itself. With `validate_only` the command is applied to the current facts and thrown
//! away. From version 5 on the answer says how many partitions and replicas a topic got and which configs it has. A
//! created topic's partitions are open when this is answered. A timeout is held against zero only: what is decided here
//! takes milliseconds.

use super::{Asked, Context, errors, text};
use crate::config::kafka_keys::{KeyError, describe_topic, validate_topic};
use millrace_metadata::{Command, CreatedTopic, NewTopic, Placement, Response};
use millrace_model::{NodeId, PartitionId, TopicId};
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use millrace_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Kafka keeps its own log of metadata under this name.
const METADATA_TOPIC: &str = "__cluster_metadata";

type Refused = (ErrorCode, String);

pub(super) async fn handle(asked: Asked, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let context = &asked.context;
    if request.timeout_ms <= 0 {
        // No time is over before anything is looked at.
        let failed = |topic: &CreatableTopic| {
            let result = CreatableTopicResult::default().with_name(topic.name.clone());
            failed(result, ErrorCode::RequestTimedOut, "").with_error_message(None)
        };
        return CreateTopicsResponse::default().with_topics(request.topics.iter().map(failed).collect());
    }
    let mut outcomes: Vec<Option<Result<CreatedTopic, Refused>>> = Vec::new();
    let mut topics = Vec::new();
    let mut count = BTreeMap::<&str, usize>::new();
    for topic in &request.topics {
        *count.entry(&topic.name).or_default() += 1;
    }
    // A name that stands there twice is refused once.
    let mut asked_for = Vec::new();
    for topic in &request.topics {
        let times = count.get_mut(topic.name.as_str()).map_or(0, std::mem::take);
        let new = match times {
            0 => continue,
            1 => new_topic(context, topic),
            _ => refuse("Duplicate topic name."),
        };
        asked_for.push(topic);
        outcomes.push(match new {
            Ok(new) => {
                topics.push(new);
                None
            }
            Err(refused) => Some(Err(refused)),
        });
    }
    let configs: Vec<_> = topics.iter().map(|topic: &NewTopic| topic.config.clone()).collect();
    let mut created = create(context, topics, request.validate_only).await.into_iter().zip(configs);
    let results = asked_for.into_iter().zip(outcomes).map(|(topic, refused)| {
        let (outcome, config) = match refused {
            Some(refused) => (refused, BTreeMap::new()),
            None => created.next().unwrap_or_else(|| (refuse("The topic was not created."), BTreeMap::new())),
        };
        let result = CreatableTopicResult::default().with_name(topic.name.clone());
        match outcome {
            Ok(created) => succeeded(context, result, &created, &config, asked.version),
            Err((code, reason)) => failed(result, code, &reason),
        }
    });
    CreateTopicsResponse::default().with_topics(results.collect())
}

fn refuse<T>(reason: &str) -> Result<T, Refused> {
    Err((ErrorCode::InvalidRequest, reason.to_owned()))
}

/// A topic with the broker's defaults.
pub(super) fn default_topic(context: &Context, name: &str) -> NewTopic {
    let placement = Placement::Spread {
        partitions: i32::try_from(context.settings.default_partitions).unwrap_or(1),
        factor: i16::try_from(context.settings.default_replication_factor).unwrap_or(1),
        seed: context.random.u64(),
    };
    let id = TopicId::new(context.random.uuid());
    NewTopic { id, name: name.to_owned(), placement, config: BTreeMap::new(), attachments: Vec::new() }
}

fn new_topic(context: &Context, asked: &CreatableTopic) -> Result<NewTopic, Refused> {
    if asked.name.as_str() == METADATA_TOPIC {
        return refuse("Creation of internal topic __cluster_metadata is prohibited.");
    }
    let mut topic = default_topic(context, &asked.name);
    topic.config = config(asked).map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
    if asked.assignments.is_empty() {
        if let Placement::Spread { partitions, factor, .. } = &mut topic.placement {
            if asked.num_partitions != -1 {
                *partitions = asked.num_partitions;
            }
            if asked.replication_factor != -1 {
                *factor = asked.replication_factor;
            }
        }
        return Ok(topic);
    }
    if asked.replication_factor != -1 {
        return refuse("A manual partition assignment was specified, but replication factor was not set to -1.");
    }
    if asked.num_partitions != -1 {
        return refuse("A manual partition assignment was specified, but numPartitions was not set to -1.");
    }
    let mut assigned = BTreeMap::new();
    for partition in &asked.assignments {
        let nodes = partition.broker_ids.iter().map(|id| NodeId::new(id.0)).collect();
        if assigned.insert(PartitionId::new(partition.partition_index), nodes).is_some() {
            let reason =
                format!("Found multiple manual partition assignments for partition {}", partition.partition_index);
            return Err((ErrorCode::InvalidReplicaAssignment, reason));
        }
    }
    topic.placement = Placement::Assigned(assigned);
    Ok(topic)
}

fn config(asked: &CreatableTopic) -> Result<BTreeMap<String, String>, KeyError> {
    let nulls = asked.configs.iter().filter(|config| config.value.is_none()).map(|config| config.name.as_str());
    let nulls: Vec<&str> = nulls.collect();
    if !nulls.is_empty() {
        return Err(KeyError::Null { names: nulls.join(",") });
    }
    let named = asked.configs.iter();
    let set = named.filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())));
    let set: BTreeMap<String, String> = set.collect();
    validate_topic(&set)?;
    Ok(set)
}

async fn create(
    context: &Arc<Context>,
    topics: Vec<NewTopic>,
    validate_only: bool,
) -> Vec<Result<CreatedTopic, Refused>> {
    if topics.is_empty() {
        return Vec::new();
    }
    let asked = topics.len();
    let command = Command::CreateTopics { topics };
    let response = if validate_only {
        let image = context.cluster.image();
        image.apply(image.index() + 1, &command).1.map_err(|error| (errors::apply(&error), error.to_string()))
    } else {
        context.cluster.propose(command).await.map_err(|error| (errors::propose(&error), error.to_string()))
    };
    match response {
        Ok(Response::Created(created)) => {
            if !validate_only {
                context.partitions.in_line_with(context.cluster.image().index()).await;
            }
            let refused = |error| (errors::apply(&error), error.to_string());
            created.into_iter().map(|created| created.map_err(refused)).collect()
        }
        Ok(_) => Vec::new(),
        Err(refused) => vec![Err(refused); asked],
    }
}

fn failed(result: CreatableTopicResult, code: ErrorCode, reason: &str) -> CreatableTopicResult {
    result
        .with_error_code(code.code())
        .with_error_message(Some(text(reason)))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}

fn succeeded(
    context: &Context,
    result: CreatableTopicResult,
    created: &CreatedTopic,
    config: &BTreeMap<String, String>,
    version: i16,
) -> CreatableTopicResult {
    let result = result.with_topic_id(created.id.get()).with_error_message(None);
    if version < 5 {
        return result;
    }
    let configs = describe_topic(config, &context.keys_in(&context.cluster.image()))
        .unwrap_or_default()
        .into_iter()
        .map(|entry| {
            CreatableTopicConfigs::default()
                .with_name(text(entry.name))
                .with_value(entry.value.map(text))
                .with_read_only(entry.read_only)
                .with_config_source(entry.source.wire())
                .with_is_sensitive(entry.sensitive)
        });
    result
        .with_num_partitions(created.partitions)
        .with_replication_factor(created.replication_factor)
        .with_configs(Some(configs.collect()))
}
