//! Which keys a node may set, and what must hold between them.

use super::keys::BrokerKeys;
use super::settings::{OVERRIDES, TopicSettings, overrides};
use super::{Effect, Key, KeyError, Value, broker_key, group, parse};
use std::collections::BTreeMap;

const PER_ADDRESS: &str = "max.connections.per.ip";

impl BrokerKeys {
    /// Checks names, types, ranges, and the keys that this broker refuses.
    ///
    /// # Errors
    /// The first fault.
    pub fn new(set: BTreeMap<String, String>) -> Result<Self, KeyError> {
        for (name, text) in &set {
            Self::check(name, text)?;
        }
        let keys = Self::of_file(set);
        let empty = BTreeMap::new();
        // What the keys come to for a topic must hold together as well.
        TopicSettings::resolve(&empty, &keys)?;
        group::check_broker(&keys)?;
        if keys.integer(PER_ADDRESS)? == 0 && keys.get(OVERRIDES).is_none_or(|text| text.trim().is_empty()) {
            let reason = format!("{PER_ADDRESS} can be set to zero only if {OVERRIDES} property is set.");
            return Err(KeyError::Conflict { name: PER_ADDRESS.to_owned(), reason });
        }
        Ok(keys)
    }

    /// Checks one key by itself.
    ///
    /// # Errors
    /// As [`BrokerKeys::new`].
    pub fn check(name: &str, text: &str) -> Result<&'static Key, KeyError> {
        let key = broker_key(name).ok_or_else(|| KeyError::UnknownBrokerKey { name: name.to_owned() })?;
        let value = parse(key, text)?;
        if key.effect == Effect::Refused {
            let reason = format!("{name} is not supported by this broker");
            return Err(KeyError::Conflict { name: name.to_owned(), reason });
        }
        let refuse = |reason: &str| {
            let reason = format!("requirement failed: {name} {reason}");
            Err(KeyError::Conflict { name: name.to_owned(), reason })
        };
        match (name, value) {
            // Kafka's own ranges for these are looser than the sense they make; less than −1 is −1.
            ("log.retention.ms" | "log.retention.minutes" | "log.retention.hours", Value::Int(0)) => {
                refuse("must be unlimited (-1) or, greater than or equal to 1")
            }
            ("log.roll.ms", Value::Int(number)) if number < 1 => refuse("must be greater than or equal to 1"),
            ("log.roll.jitter.ms", Value::Int(number)) if number < 0 => refuse("must be greater than or equal to 0"),
            (OVERRIDES, Value::Text(text)) => overrides(&text).map(|_| key),
            _ => Ok(key),
        }
    }
}
