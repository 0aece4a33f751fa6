//! The one table of Kafka's configuration keys: what `"retention.ms"` means, for topics and for brokers.
//!
//! Strings go no further than this module. A key's text is checked here against its type and range, and refused in the
//! words that Kafka uses; behind it stand [`TopicSettings`] and [`BrokerSettings`], typed. DescribeConfigs is answered
//! from the same lines ([`describe_topic`], [`describe_broker`]), so that what is shown is what is in force.
//!
//! Source: Kafka 4.3's `TopicConfig`, `LogConfig`, `ServerTopicConfigSynonyms` and `DescribeConfigs`.

mod broker;
mod checks;
mod describe;
mod dynamic;
mod group;
mod keys;
mod settings;
#[cfg(test)]
mod tests;
mod topic;
mod value;

pub use describe::{Entry, Synonym, describe_broker, describe_cluster, describe_group, describe_topic};
pub use dynamic::check_dynamic;
pub use group::{GroupSettings, group_keys, validate_group};
pub use keys::{BrokerKeys, Source};
pub use settings::{BrokerSettings, CompressionType, TimestampType, TopicSettings};
pub use value::{Value, parse};

use std::collections::BTreeMap;
use thiserror::Error;

/// Why a configuration is refused. The texts are Kafka's: tools and tests compare them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// No topic config has this name.
    #[error("Unknown topic config name: {name}")]
    UnknownTopicKey {
        /// The name.
        name: String,
    },
    /// No broker config has this name.
    #[error("Unknown broker config name: {name}")]
    UnknownBrokerKey {
        /// The name.
        name: String,
    },
    /// No group config has this name.
    #[error("Unknown group config name: {name}")]
    UnknownGroupKey {
        /// The name.
        name: String,
    },
    /// The value does not suit the key.
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    Invalid {
        /// The key.
        name: String,
        /// The value, as Kafka prints it: parsed where it could be.
        value: String,
        /// What it should have been.
        reason: String,
    },
    /// Configs were sent without a value.
    #[error("Null value not supported for topic configs: {names}")]
    Null {
        /// The keys, separated by commas.
        names: String,
    },
    /// Two keys contradict each other.
    #[error("{reason}")]
    Conflict {
        /// The key that is named first.
        name: String,
        /// What contradicts what.
        reason: String,
    },
}

impl KeyError {
    /// The key that is at fault.
    pub fn key(&self) -> &str {
        match self {
            Self::UnknownTopicKey { name }
            | Self::UnknownBrokerKey { name }
            | Self::UnknownGroupKey { name }
            | Self::Invalid { name, .. }
            | Self::Conflict { name, .. } => name,
            Self::Null { names } => names,
        }
    }
}

/// The type of a key's value, with the numbers that DescribeConfigs gives the types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// Any text.
    Str,
    /// 32 bits.
    Int,
    /// 16 bits.
    Short,
    /// 64 bits.
    Long,
    /// A floating-point number.
    Double,
    /// Texts separated by commas.
    List,
    /// The name of a Java class: Millrace has no use for any.
    Class,
    /// A text that is never shown.
    Password,
}

impl Kind {
    /// The number on the wire (DescribeConfigs, `ConfigType`).
    pub const fn wire(self) -> i8 {
        match self {
            Self::Bool => 1,
            Self::Str => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }

    /// Kafka's name for the type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOLEAN",
            Self::Str => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }
}

/// Which values of its type a key takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// All.
    Any,
    /// Integers from here on.
    AtLeast(i64),
    /// Integers in this range, both ends included.
    Between(i64, i64),
    /// A floating-point number from 0 to this.
    Fraction(f64),
    /// 1 to 9, or −1 for the codec's own default.
    GzipLevel,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// One of these texts, in upper or lower case.
    OneOfAnyCase(&'static [&'static str]),
    /// A list of these texts.
    ListOf(&'static [&'static str]),
    /// `earliest`, `latest` or `by_duration:` and an ISO 8601 duration.
    OffsetReset,
    /// A list of `partition:broker`, or `*`.
    ThrottledReplicas,
    /// A text with something in it.
    NonEmpty,
}

/// How much a key matters, in Kafka's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importance {
    /// Look at it before production.
    High,
    /// Look at it for tuning.
    Medium,
    /// Seldom touched.
    Low,
}

/// What Millrace does with a key that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Acts on it.
    Acts,
    /// Nothing: it tunes a part of Kafka that has no counterpart here. Setting it is answered with a warning.
    Ignored,
    /// Refuses it: whoever sets it counts on something that is not there (security, tiered storage).
    Refused,
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// The name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// What applies where nothing is set; `None` for keys without.
    pub default: Option<&'static str>,
    /// Which values it takes.
    pub rule: Rule,
    /// How much it matters.
    pub importance: Importance,
    /// What Millrace does with it.
    pub effect: Effect,
    /// Whether Kafka lets it be changed while the broker runs; topic configs always may.
    pub dynamic: bool,
    /// What it is for, in one sentence; empty for keys that have no effect here.
    pub doc: &'static str,
    /// For a topic config: the broker keys that stand in for it, the strongest first, each with what one unit of it
    /// is worth in the topic config's unit.
    pub synonyms: &'static [(&'static str, i64)],
}

impl Key {
    /// What it is for.
    pub const fn documentation(&self) -> &'static str {
        match (self.doc.is_empty(), self.effect) {
            (false, _) => self.doc,
            (true, Effect::Refused) => "Known from Kafka; not supported by this broker.",
            (true, _) => "Known from Kafka; without effect in this broker.",
        }
    }

    /// Whether its value may never be shown.
    pub const fn is_sensitive(&self) -> bool {
        matches!(self.kind, Kind::Password)
    }
}

/// All topic configs, in the order of their names.
pub fn topic_keys() -> &'static [Key] {
    topic::TOPIC
}

/// All broker configs, in the order of their names.
pub fn broker_keys() -> &'static [Key] {
    broker::BROKER
}

/// The topic config of this name.
pub fn topic_key(name: &str) -> Option<&'static Key> {
    find(topic::TOPIC, name)
}

/// The broker config of this name.
pub fn broker_key(name: &str) -> Option<&'static Key> {
    find(broker::BROKER, name)
}

fn find(table: &'static [Key], name: &str) -> Option<&'static Key> {
    table.binary_search_by(|key| key.name.cmp(name)).ok().and_then(|at| table.get(at))
}

/// Checks a topic's configs: names, types, ranges, and what must hold between them.
///
/// # Errors
/// The first fault, in Kafka's words.
pub fn validate_topic(configs: &BTreeMap<String, String>) -> Result<(), KeyError> {
    // Kafka complains of unknown names before it looks at any value.
    for name in configs.keys() {
        if topic_key(name).is_none() {
            return Err(KeyError::UnknownTopicKey { name: name.clone() });
        }
    }
    for (name, text) in configs {
        if let Some(key) = topic_key(name) {
            parse(key, text)?;
        }
    }
    settings::TopicSettings::check_lags(configs)
}
