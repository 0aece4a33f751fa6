//! Plugins as the cluster knows them: entries of a registry, and attachments of them
//! to topics. The components themselves are files named by their content's hash.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// SHA-256 of a component's bytes; written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// The hash with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

/// Text that is not a content hash.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a content hash is 64 hexadecimal digits, not '{0}'")]
pub struct ContentHashError(String);

impl FromStr for ContentHash {
    type Err = ContentHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ContentHashError(text.chars().take(80).collect());
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refuse());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| refuse())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| refuse())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for ContentHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

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
