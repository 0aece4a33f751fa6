//! CreatePartitions (37), versions 0 to 3: more partitions for topics that are there.
//!
//! Each topic succeeds or fails for itself; the new partitions are open when this is answered. With `validate_only` the
//! command is held against the current facts and thrown away.

use super::{Asked, errors, text};
use millrace_metadata::{ApplyError, Command, CreatedTopic, Image, NewPartitions, Response};
use millrace_model::NodeId;
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::CreatePartitionsRequest;
use millrace_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use millrace_protocol::messages::create_partitions_response::{CreatePartitionsResponse, CreatePartitionsTopicResult};
use std::collections::BTreeMap;

type Refused = (ErrorCode, Option<String>);

pub(super) async fn handle(asked: Asked, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    if request.timeout_ms <= 0 {
        let failed = |topic: &CreatePartitionsTopic| {
            let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone()).with_error_message(None);
            result.with_error_code(ErrorCode::RequestTimedOut.code())
        };
        return CreatePartitionsResponse::default().with_results(request.topics.iter().map(failed).collect());
    }
    let image = asked.context.cluster.image();
    let mut times = BTreeMap::<&str, usize>::new();
    for topic in &request.topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    // A name that stands there twice is refused once.
    let mut decided = Vec::new();
    for topic in &request.topics {
        match times.get_mut(topic.name.as_str()).map_or(0, std::mem::take) {
            0 => {}
            1 => decided.push((topic, wanted(&image, topic, asked.context.random.u64()))),
            _ => decided.push((topic, Err((ErrorCode::InvalidRequest, Some("Duplicate topic name.".to_owned()))))),
        }
    }
    let topics = decided.iter().filter_map(|(_, wanted)| wanted.as_ref().ok().cloned()).collect();
    let mut outcomes = extend(&asked, &image, topics, request.validate_only).await.into_iter();
    let results = decided.into_iter().map(|(topic, wanted)| {
        let nothing = || Err((ErrorCode::UnknownServerError, None));
        let outcome = wanted.and_then(|_| outcomes.next().unwrap_or_else(nothing));
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        match outcome {
            Ok(_) => result.with_error_message(None),
            Err((code, reason)) => result.with_error_code(code.code()).with_error_message(reason.map(text)),
        }
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

fn wanted(image: &Image, topic: &CreatePartitionsTopic, seed: u64) -> Result<NewPartitions, Refused> {
    let Some(found) = image.topic(&topic.name) else {
        return Err((ErrorCode::UnknownTopicOrPartition, None));
    };
    let assignment = topic.assignments.as_ref().map(|assignments| {
        let nodes =
            |assignment: &millrace_protocol::messages::create_partitions_request::CreatePartitionsAssignment| {
                assignment.broker_ids.iter().map(|id| NodeId::new(id.0)).collect()
            };
        assignments.iter().map(nodes).collect()
    });
    Ok(NewPartitions { topic: found.id, total: topic.count, assignment, seed })
}

async fn extend(
    asked: &Asked,
    image: &Image,
    topics: Vec<NewPartitions>,
    validate_only: bool,
) -> Vec<Result<CreatedTopic, Refused>> {
    let refused = |error: ApplyError| (errors::apply(&error), Some(error.to_string()));
    if validate_only || topics.is_empty() {
        return topics.iter().map(|topic| image.check_partitions(topic).map_err(refused)).collect();
    }
    let count = topics.len();
    match asked.context.cluster.propose(Command::CreatePartitions { topics }).await {
        Ok(Response::Created(created)) => {
            asked.context.partitions.in_line_with(asked.context.cluster.image().index()).await;
            created.into_iter().map(|created| created.map_err(refused)).collect()
        }
        Ok(_) => Vec::new(),
        Err(error) => vec![Err((errors::propose(&error), Some(error.to_string()))); count],
    }
}
