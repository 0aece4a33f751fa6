//! AlterConfigs (33), versions 0 to 2: replaces all configs of topics, groups, this broker or all brokers.
//!
//! What the request does not name goes back to its default. IncrementalAlterConfigs is the one to use.

use super::config_change::{self, Change, Step};
use super::{Asked, text};
use millrace_protocol::messages::AlterConfigsRequest;
use millrace_protocol::messages::alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse};

pub(super) async fn handle(asked: Asked, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let changes = request.resources.into_iter().map(|resource| {
        let set =
            resource.configs.into_iter().map(|config| Step { key: config.name, operation: 0, value: config.value });
        Change { kind: resource.resource_type, name: resource.resource_name, steps: set.collect(), replace: true }
    });
    let changes: Vec<Change> = changes.collect();
    let outcomes = config_change::make(&asked.context, &changes, request.validate_only).await;
    let responses = changes.into_iter().zip(outcomes).map(|(change, outcome)| {
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(change.kind)
            .with_resource_name(change.name)
            .with_error_message(None);
        match outcome {
            Ok(()) => response,
            Err((code, reason)) => response.with_error_code(code.code()).with_error_message(reason.map(text)),
        }
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}
