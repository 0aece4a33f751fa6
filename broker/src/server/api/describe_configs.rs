//! DescribeConfigs (32), versions 1 to 4: configs of topics, brokers and groups.
//!
//! Version 3 adds the type and, where asked for, the documentation of each key. All are described from the one table of
//! `config::kafka_keys`.

use super::config_change::{BROKER, GROUP, TOPIC};
use super::errors::INVALID_REQUEST;
use super::{Asked, text};
use crate::config::kafka_keys::{Entry, describe_broker, describe_cluster, describe_group, describe_topic};
use millrace_metadata::check_topic_name;
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::DescribeConfigsRequest;
use millrace_protocol::messages::describe_configs_request::DescribeConfigsResource;
use millrace_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use std::collections::BTreeMap;

pub(super) async fn handle(asked: Asked, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match entries(&asked, resource) {
            Ok(entries) => {
                let wanted = |name: &str| match &resource.configuration_keys {
                    Some(keys) if !keys.is_empty() => keys.iter().any(|key| key.as_str() == name),
                    _ => true,
                };
                let entries = entries.into_iter().filter(|entry| wanted(entry.name));
                let configs = entries.map(|entry| config(entry, &request, asked.version)).collect();
                result.with_configs(configs).with_error_message(Some(text("")))
            }
            Err((code, reason)) => result.with_error_code(code.code()).with_error_message(Some(text(reason))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn entries(asked: &Asked, resource: &DescribeConfigsResource) -> Result<Vec<Entry>, (ErrorCode, String)> {
    let context = &asked.context;
    let name = resource.resource_name.as_str();
    let broken = |error: crate::config::kafka_keys::KeyError| (ErrorCode::InvalidConfig, error.to_string());
    let image = context.cluster.image();
    let keys = context.keys_in(&image);
    match resource.resource_type {
        TOPIC => {
            if let Err(fault) = check_topic_name(name) {
                return Err((ErrorCode::InvalidTopicException, format!("Topic name is invalid: {fault}")));
            }
            let Some(topic) = image.topic(name) else {
                return Err((ErrorCode::UnknownTopicOrPartition, String::new()));
            };
            describe_topic(&topic.config, &keys).map_err(broken)
        }
        // Without a name: what is set for all brokers while they run.
        BROKER if name.is_empty() => Ok(describe_cluster(image.cluster_config())),
        BROKER => match name.parse::<i32>() {
            Ok(id) if id == context.node.get() => describe_broker(&keys, &context.facts).map_err(broken),
            Ok(id) => {
                let own = context.node;
                let reason = format!("Unexpected broker id, expected {own} or empty string, but received {id}");
                Err((ErrorCode::InvalidRequest, reason))
            }
            Err(_) => Err((ErrorCode::InvalidRequest, format!("Broker id must be an integer, but it is: {name}"))),
        },
        GROUP if name.is_empty() => Err((ErrorCode::InvalidRequest, "Group name must not be empty".to_owned())),
        GROUP => describe_group(image.group_config(name).unwrap_or(&BTreeMap::new()), &keys).map_err(broken),
        _ => Err((ErrorCode::InvalidRequest, INVALID_REQUEST.to_owned())),
    }
}

fn config(entry: Entry, request: &DescribeConfigsRequest, version: i16) -> DescribeConfigsResourceResult {
    let result = DescribeConfigsResourceResult::default()
        .with_name(text(entry.name))
        .with_value(entry.value.map(text))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source.wire())
        .with_is_sensitive(entry.sensitive);
    let synonyms = entry.synonyms.into_iter().filter(|_| request.include_synonyms).map(|synonym| {
        DescribeConfigsSynonym::default()
            .with_name(text(synonym.name))
            .with_value(synonym.value.map(text))
            .with_source(synonym.source.wire())
    });
    let result = result.with_synonyms(synonyms.collect());
    if version < 3 {
        return result;
    }
    let documentation = request.include_documentation.then(|| text(entry.documentation));
    result.with_config_type(entry.kind.wire()).with_documentation(documentation)
}
