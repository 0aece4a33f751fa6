//! What the HTTP port says, as JSON; the command line reads the same types.

use crate::config::plan::{Difference, Plan};
use crate::config::{Problem, Problems};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use millrace_metadata::{Image, Plugin, Topic};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The answer to a plan or an apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanAnswer {
    /// What differs, or did before the apply.
    pub differences: Vec<Difference>,
    /// Whether it has been taken away.
    pub applied: bool,
    /// Topics with plugins attached that no file names. They keep them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unnamed: Vec<String>,
}

impl PlanAnswer {
    /// The answer for a plan.
    pub fn new(plan: Plan, applied: bool) -> Self {
        Self { differences: plan.differences, applied, unnamed: plan.unnamed }
    }
}

/// One fault of a topic file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemInfo {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 where it is no single line's.
    pub line: usize,
    /// The key.
    pub key: String,
    /// What is wrong.
    pub reason: String,
}

impl From<&Problem> for ProblemInfo {
    fn from(problem: &Problem) -> Self {
        let place = &problem.place;
        Self { file: place.file.clone(), line: place.line, key: place.key.clone(), reason: problem.reason.clone() }
    }
}

/// Any refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// In words.
    pub error: String,
    /// Where topic files are at fault: each fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ProblemInfo>,
}

/// A refusal with its status.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    pub answer: ErrorAnswer,
}

impl Refusal {
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, answer: ErrorAnswer { error: error.into(), problems: Vec::new() } }
    }
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        let answer = ErrorAnswer {
            error: "the topic files are refused as a whole; nothing has changed".to_owned(),
            problems: problems.iter().map(ProblemInfo::from).collect(),
        };
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, answer }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.answer)).into_response()
    }
}

/// One attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentInfo {
    /// `name@version`.
    pub plugin: String,
    /// The content's hash.
    pub hash: String,
    /// Its stage.
    pub stage: millrace_metadata::Stage,
    /// What becomes of records that it fails on.
    pub on_fault: millrace_metadata::FaultPolicy,
    /// Its configuration.
    pub config: serde_json::Value,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// How many partitions it has.
    pub partitions: usize,
    /// How many replicas each has.
    pub replication_factor: usize,
    /// Whether it belongs to the broker.
    pub internal: bool,
    /// Its own configs.
    pub config: BTreeMap<String, String>,
    /// Its plugins in order.
    pub plugins: Vec<AttachmentInfo>,
    /// Which plugins handled which records of the partitions that this node has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generations: Vec<GenerationInfo>,
}

/// The plugins that handled a partition's records from an offset on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationInfo {
    /// The partition.
    pub partition: i32,
    /// The generation of the topic's plugins.
    pub generation: u64,
    /// The first offset that it handled.
    pub first_offset: i64,
    /// Its plugins in order, `name@version:hash`.
    pub plugins: Vec<String>,
}

impl TopicInfo {
    pub(super) fn new(topic: &Topic, generations: Vec<GenerationInfo>) -> Self {
        let attachment = |attachment: &millrace_metadata::Attachment| AttachmentInfo {
            plugin: attachment.plugin.to_string(),
            hash: attachment.plugin.hash.to_string(),
            stage: attachment.stage,
            on_fault: attachment.on_fault,
            config: serde_json::from_str(&attachment.config).unwrap_or_default(),
        };
        Self {
            name: topic.name.clone(),
            id: topic.id.get().to_string(),
            partitions: topic.partitions.len(),
            replication_factor: topic.replication_factor(),
            internal: topic.internal,
            config: topic.config.clone(),
            plugins: topic.attachments.iter().map(attachment).collect(),
            generations,
        }
    }
}

/// One plugin of the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginInfo {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its content's hash.
    pub hash: String,
    /// Bytes of the component.
    pub size: u64,
    /// The topics that run it.
    pub topics: Vec<String>,
}

impl PluginInfo {
    pub(super) fn new(plugin: &Plugin, image: &Image) -> Self {
        let runs = |topic: &Topic| topic.attachments.iter().any(|attachment| attachment.plugin.hash == plugin.hash);
        Self {
            name: plugin.name.clone(),
            version: plugin.version.clone(),
            hash: plugin.hash.to_string(),
            size: plugin.size,
            topics: image.topics().filter(|topic| runs(topic)).map(|topic| topic.name.clone()).collect(),
        }
    }
}

/// One broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerInfo {
    /// Its number.
    pub id: i32,
    /// What clients are told to connect to.
    pub address: String,
}

/// The node and its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// Millrace's version.
    pub version: String,
    /// This node's number.
    pub node_id: i32,
    /// Whether it serves Kafka clients.
    pub ready: bool,
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The cluster's brokers.
    pub brokers: Vec<BrokerInfo>,
    /// How many topics there are, the broker's own left out.
    pub topics: usize,
    /// How many partitions there are.
    pub partitions: usize,
    /// How many plugins the registry has.
    pub plugins: usize,
}
