//! DeleteTopics (20), versions 1 to 6.
//!
//! Up to version 5 topics are named; from 6 on each is named or given by its id, not both.

use super::{Asked, errors, text};
use millrace_metadata::{Command, Image, Response};
use millrace_model::TopicId;
use millrace_protocol::messages::TopicName;
use millrace_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use millrace_protocol::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use millrace_protocol::{ErrorCode, StrBytes};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A topic as the request gives it.
struct Given {
    name: Option<TopicName>,
    id: Uuid,
    outcome: Result<TopicId, (ErrorCode, String)>,
}

pub(super) async fn handle(asked: Asked, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let context = &asked.context;
    let image = context.cluster.image();
    let given: Vec<Given> = if asked.version >= 6 {
        request.topics.iter().map(|topic| given(&image, topic)).collect()
    } else {
        request.topic_names.iter().map(|name| named(&image, name)).collect()
    };
    if request.timeout_ms <= 0 {
        let failed =
            |given: Given| result(given.name, given.id, ErrorCode::RequestTimedOut, "").with_error_message(None);
        return DeleteTopicsResponse::default().with_responses(given.into_iter().map(failed).collect());
    }
    let given = refuse_doubles(given);
    if !context.settings.delete_topics {
        let code = if asked.version < 3 { ErrorCode::InvalidRequest } else { ErrorCode::TopicDeletionDisabled };
        let results = given.into_iter().map(|given| result(given.name, given.id, code, "Topic deletion is disabled."));
        return DeleteTopicsResponse::default().with_responses(results.collect());
    }
    let topics: Vec<TopicId> = given.iter().filter_map(|given| given.outcome.as_ref().ok().copied()).collect();
    let mut deleted = delete(&asked, topics).await.into_iter();
    let results = given.into_iter().map(|given| {
        let outcome = given.outcome.and_then(|id| match deleted.next() {
            Some(Ok(name)) => Ok((id, name)),
            Some(Err(refused)) => Err(refused),
            None => Err((ErrorCode::UnknownServerError, String::new())),
        });
        match outcome {
            Ok((id, name)) => DeletableTopicResult::default().with_name(Some(TopicName(name))).with_topic_id(id.get()),
            Err((code, reason)) => result(given.name, given.id, code, &reason),
        }
    });
    DeleteTopicsResponse::default().with_responses(results.collect())
}

fn result(name: Option<TopicName>, id: Uuid, code: ErrorCode, reason: &str) -> DeletableTopicResult {
    DeletableTopicResult::default()
        .with_name(name)
        .with_topic_id(id)
        .with_error_code(code.code())
        .with_error_message(Some(text(reason)))
}

/// A name that stands there twice is refused once.
fn refuse_doubles(given: Vec<Given>) -> Vec<Given> {
    let mut times = BTreeMap::<StrBytes, usize>::new();
    for name in given.iter().filter_map(|given| given.name.as_ref()) {
        *times.entry(name.0.clone()).or_default() += 1;
    }
    let once = given.into_iter().filter_map(|given| {
        let Some(name) = &given.name else { return Some(given) };
        match times.get_mut(&name.0).map_or(0, std::mem::take) {
            0 => None,
            1 => Some(given),
            _ => {
                let refused = Err((ErrorCode::InvalidRequest, "Duplicate topic name.".to_owned()));
                Some(Given { outcome: refused, ..given })
            }
        }
    });
    once.collect()
}

fn named(image: &Image, name: &TopicName) -> Given {
    let outcome = match image.topic(name) {
        Some(topic) => Ok(topic.id),
        None => Err((ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition.".to_owned())),
    };
    Given { name: Some(name.clone()), id: Uuid::nil(), outcome }
}

fn given(image: &Image, topic: &DeleteTopicState) -> Given {
    let invalid = |reason: &str| Err((ErrorCode::InvalidRequest, reason.to_owned()));
    let outcome = match (&topic.name, topic.topic_id) {
        (Some(name), id) if id.is_nil() => return named(image, name),
        (Some(_), _) => invalid("You may not specify both topic name and topic id."),
        (None, id) if id.is_nil() => invalid("Neither topic name nor id were specified."),
        (None, id) => match image.topic_by_id(TopicId::new(id)) {
            Some(topic) => Ok(topic.id),
            None => Err((ErrorCode::UnknownTopicId, "This server does not host this topic ID.".to_owned())),
        },
    };
    Given { name: topic.name.clone(), id: topic.topic_id, outcome }
}

/// Deletes; the names of what is gone, in the order asked.
async fn delete(asked: &Asked, topics: Vec<TopicId>) -> Vec<Result<StrBytes, (ErrorCode, String)>> {
    if topics.is_empty() {
        return Vec::new();
    }
    let count = topics.len();
    match asked.context.cluster.propose(Command::DeleteTopics { topics }).await {
        Ok(Response::Deleted(deleted)) => {
            let index = asked.context.cluster.image().index();
            asked.context.partitions.in_line_with(index).await;
            let refused = |error| (errors::apply(&error), error.to_string());
            deleted.into_iter().map(|deleted| deleted.map(|it| text(it.name)).map_err(refused)).collect()
        }
        Ok(_) => Vec::new(),
        Err(error) => vec![Err((errors::propose(&error), error.to_string())); count],
    }
}
