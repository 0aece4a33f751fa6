//! IncrementalAlterConfigs (44), versions 0 and 1: changes single configs of topics, groups, this broker or all brokers.
//!
//! A step sets a key, takes it off, or adds to or takes from a list (KIP-339). The resource types of log levels and of
//! client metrics are not served.

use super::Asked;
use super::config_change::{self, Change, Step};
use millrace_protocol::messages::IncrementalAlterConfigsRequest;
use millrace_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};

pub(super) async fn handle(asked: Asked, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
    let changes = request.resources.into_iter().map(|resource| {
        let steps = resource.configs.into_iter();
        let steps = steps.map(|step| Step { key: step.name, operation: step.config_operation, value: step.value });
        Change { kind: resource.resource_type, name: resource.resource_name, steps: steps.collect(), replace: false }
    });
    let responses =
        config_change::answer(&asked.context, changes.collect(), request.validate_only, |kind, name, code, message| {
            AlterConfigsResourceResponse::default()
                .with_resource_type(kind)
                .with_resource_name(name)
                .with_error_code(code)
                .with_error_message(message)
        });
    IncrementalAlterConfigsResponse::default().with_responses(responses.await)
}
