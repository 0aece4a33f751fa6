//! The broker's keys in their layers, and what a key comes to.

use super::{Effect, Key, KeyError, Value, broker_key, parse};
use std::collections::BTreeMap;
use std::time::Duration;

/// Where a value comes from, with Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Set on the topic.
    Topic,
    /// Set on the group.
    Group,
    /// Set for this broker while it runs.
    DynamicBroker,
    /// Set for all brokers while they run.
    DynamicCluster,
    /// Set in the node's configuration.
    StaticBroker,
    /// Set nowhere.
    Default,
}

impl Source {
    /// The number on the wire (`ConfigSource`).
    pub const fn wire(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicCluster => 3,
            Self::Group => 8,
            Self::StaticBroker => 4,
            Self::Default => 5,
        }
    }
}

/// The broker keys that a node's configuration sets, checked, and those that were set while it runs: for this broker,
/// which go before all, or for all brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerKeys {
    set: BTreeMap<String, String>,
    cluster: BTreeMap<String, String>,
    broker: BTreeMap<String, String>,
}

impl BrokerKeys {
    /// Keys that hold by themselves and together.
    pub(super) fn of_file(set: BTreeMap<String, String>) -> Self {
        Self { set, ..Self::default() }
    }

    /// The same node with these keys set while it runs.
    #[must_use]
    pub fn with_dynamic(&self, cluster: &BTreeMap<String, String>, broker: Option<&BTreeMap<String, String>>) -> Self {
        Self { set: self.set.clone(), cluster: cluster.clone(), broker: broker.cloned().unwrap_or_default() }
    }

    /// The key's text, where anything sets it.
    pub fn get(&self, name: &str) -> Option<&str> {
        let layers = [&self.broker, &self.cluster, &self.set];
        layers.into_iter().find_map(|layer| layer.get(name)).map(String::as_str)
    }

    /// What sets keys, the strongest first.
    pub(super) fn layers(&self) -> [(Source, &BTreeMap<String, String>); 3] {
        [
            (Source::DynamicBroker, &self.broker),
            (Source::DynamicCluster, &self.cluster),
            (Source::StaticBroker, &self.set),
        ]
    }

    /// The keys that the node's configuration sets.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.set.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// The keys that are set and do nothing here: worth a warning at start.
    pub fn without_effect(&self) -> impl Iterator<Item = &str> {
        self.iter()
            .map(|(name, _)| name)
            .filter(|name| broker_key(name).is_some_and(|key| key.effect == Effect::Ignored))
    }

    pub(super) fn set_value(&self, key: &Key) -> Result<Option<Value>, KeyError> {
        self.get(key.name).map(|text| parse(key, text)).transpose()
    }

    /// The value in force: what is set, else the key's default.
    pub(super) fn value(&self, key: &Key) -> Result<Option<Value>, KeyError> {
        match (self.get(key.name), key.default) {
            (Some(text), _) | (None, Some(text)) => parse(key, text).map(Some),
            (None, None) => Ok(None),
        }
    }

    pub(super) fn required(&self, name: &str) -> Result<Value, KeyError> {
        let key = broker_key(name).ok_or_else(|| KeyError::UnknownBrokerKey { name: name.to_owned() })?;
        self.value(key)?.ok_or_else(|| unsuited(name, "null"))
    }

    pub(super) fn integer(&self, name: &str) -> Result<i64, KeyError> {
        as_integer(name, self.required(name)?)
    }

    pub(super) fn u32(&self, name: &str) -> Result<u32, KeyError> {
        let number = self.integer(name)?;
        u32::try_from(number).map_err(|_| unsuited(name, &number.to_string()))
    }

    /// A floating-point number in so many parts of one, whole; `None` where that is more than a number can say.
    pub(super) fn whole(&self, name: &str, parts: f64) -> Result<Option<u64>, KeyError> {
        let number = match self.required(name)? {
            Value::Double(number) => number * parts,
            other => return Err(unsuited(name, &other.to_string())),
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range of the type")]
        let whole = (0.0..9e18).contains(&number).then_some(number as u64);
        match whole {
            None if number < 0.0 || number.is_nan() => Err(unsuited(name, &number.to_string())),
            whole => Ok(whole),
        }
    }

    pub(super) fn unit(&self, name: &str, unit: i64) -> Result<Duration, KeyError> {
        let number = self.integer(name)?.saturating_mul(unit);
        u64::try_from(number).map(Duration::from_millis).map_err(|_| unsuited(name, &number.to_string()))
    }
}

/// The value of a topic config that is in force.
pub(super) fn topic_value(
    key: &'static Key,
    configs: &BTreeMap<String, String>,
    broker: &BrokerKeys,
) -> Result<Value, KeyError> {
    if let Some(text) = configs.get(key.name) {
        return parse(key, text);
    }
    for (name, unit) in key.synonyms {
        let Some(stand_in) = broker_key(name) else { continue };
        if let Some(value) = broker.set_value(stand_in)? {
            return Ok(scaled(value, *unit));
        }
    }
    parse(key, key.default.unwrap_or_default())
}

/// Hours and minutes become milliseconds; −1 stays "no limit" in every unit.
fn scaled(value: Value, unit: i64) -> Value {
    match value {
        Value::Int(number) if number < 0 => Value::Int(-1),
        Value::Int(number) => Value::Int(number.saturating_mul(unit)),
        other => other,
    }
}

pub(super) fn as_integer(name: &str, value: Value) -> Result<i64, KeyError> {
    match value {
        Value::Int(number) => Ok(number),
        other => Err(unsuited(name, &other.to_string())),
    }
}

pub(super) fn as_flag(name: &str, value: Value) -> Result<bool, KeyError> {
    match value {
        Value::Bool(flag) => Ok(flag),
        other => Err(unsuited(name, &other.to_string())),
    }
}

/// A value whose type is not the one that the caller expects of the key: the table and its readers disagree.
pub(super) fn unsuited(name: &str, value: &str) -> KeyError {
    KeyError::Invalid {
        name: name.to_owned(),
        value: value.to_owned(),
        reason: "the value does not suit the key's type".to_owned(),
    }
}
