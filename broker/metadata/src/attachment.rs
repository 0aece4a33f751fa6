//! Plugins as the cluster knows them: entries of a registry, and attachments of them
//! to topics. The components themselves are files named by their content's hash.

use millrace_model::ContentHash;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A plugin in the registry: a name and a version stand for the same bytes for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    /// Its name, such as `mask-fields`.
    pub name: String,
    /// Its version, such as `1.2.0`.
    pub version: String,
    /// Which component it is.
    pub hash: ContentHash,
    /// Bytes of the component.
    #[serde(default)]
    pub size: u64,
}

/// Which plugin an attachment runs, down to the byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PluginReference {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its component.
    pub hash: ContentHash,
}

impl fmt::Display for PluginReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// Where on a record's way a plugin stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Before the append and its ack.
    Produce,
    /// On the way to a consumer.
    Fetch,
    /// Behind the committed log.
    Follow,
}

/// What happens to records a plugin fails on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultPolicy {
    /// The batch fails and the client is told.
    Reject,
    /// The records are dropped.
    Drop,
    /// The records go on as they were.
    Pass,
    /// The records go to another topic.
    DeadLetter,
    /// The stage stops until someone acts.
    Halt,
}

/// What one call of an attachment may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of guest memory.
    pub memory_bytes: u64,
    /// Milliseconds of one call.
    pub time_ms: u32,
}

/// What a topic file lets an attachment reach; nothing unless it says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grants {
    /// Environment variables, with their values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// `host:port` it may connect to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub network: Vec<String>,
    /// Directories it may read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dirs: Vec<String>,
    /// Whether it may keep state.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub state: bool,
}

/// A plugin on a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// What runs.
    pub plugin: PluginReference,
    /// Where it runs.
    pub stage: Stage,
    /// Its configuration: JSON text, as the plugin gets it.
    pub config: String,
    /// What a call may use.
    pub limits: Limits,
    /// What happens when it fails.
    pub on_fault: FaultPolicy,
    /// What it may reach.
    #[serde(default)]
    pub grants: Grants,
    /// The topics a router may write to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
}
