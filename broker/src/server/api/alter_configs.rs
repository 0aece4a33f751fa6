//! AlterConfigs (33), versions 0 to 2: replaces all configs of topics, groups, this broker or all brokers.
//!
//! What the request does not name goes back to its default. IncrementalAlterConfigs is the one to use.

use super::Asked;
use super::config_change::{self, Change, Step};
use millrace_protocol::messages::AlterConfigsRequest;
use millrace_protocol::messages::alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse};

pub(super) async fn handle(asked: Asked, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let changes = request.resources.into_iter().map(|resource| {
        let set =
            resource.configs.into_iter().map(|config| Step { key: config.name, operation: 0, value: config.value });
        Change { kind: resource.resource_type, name: resource.resource_name, steps: set.collect(), replace: true }
    });
    let responses =
        config_change::answer(&asked.context, changes.collect(), request.validate_only, |kind, name, code, message| {
            AlterConfigsResourceResponse::default()
                .with_resource_type(kind)
                .with_resource_name(name)
                .with_error_code(code)
                .with_error_message(message)
        });
    AlterConfigsResponse::default().with_responses(responses.await)
}
