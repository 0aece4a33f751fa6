//! ListConfigResources (74), versions 0 and 1: the names of what can have configs (KIP-714, KIP-1142).
//!
//! Version 0 lists client metrics only, of which there are none here; from 1 on the types may be chosen.

use super::config_change::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::{Asked, text};
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::ListConfigResourcesRequest;
use millrace_protocol::messages::list_config_resources_response::{ConfigResource, ListConfigResourcesResponse};

const ALL: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

pub(super) async fn handle(asked: Asked, request: ListConfigResourcesRequest) -> ListConfigResourcesResponse {
    let response = ListConfigResourcesResponse::default();
    if asked.version == 0 {
        return response;
    }
    let types = if request.resource_types.is_empty() { &ALL[..] } else { &request.resource_types };
    if !types.iter().all(|kind| ALL.contains(kind)) {
        return response.with_error_code(ErrorCode::UnsupportedVersion.code());
    }
    let image = asked.context.cluster.image();
    let mut found = Vec::new();
    let mut add = |kind: i8, name: String| {
        if types.contains(&kind) {
            found.push(ConfigResource::default().with_resource_name(text(name)).with_resource_type(kind));
        }
    };
    image.group_configs().for_each(|(group, _)| add(GROUP, group.clone()));
    for broker in image.brokers().filter(|broker| !broker.fenced) {
        add(BROKER_LOGGER, broker.id().to_string());
        add(BROKER, broker.id().to_string());
    }
    image.topics().for_each(|topic| add(TOPIC, topic.name.clone()));
    response.with_config_resources(found)
}
