//! The configs of a group, as Kafka 4.3 names them, in the order of their names.
//!
//! Each stands for a broker key (`consumer.session.timeout.ms` for `group.consumer.session.timeout.ms`), and the broker
//! bounds it by two others (`group.consumer.min.session.timeout.ms` and `...max...`).

use super::Effect::{Acts, Ignored};
use super::Importance::Medium;
use super::Kind::{Bool, Int, Str};
use super::Rule::{Any, AtLeast, OffsetReset, OneOf};
use super::keys::{BrokerKeys, as_integer, topic_value, unsuited};
use super::{Effect, Key, KeyError, Kind, Rule, Value, broker_key, find, parse};
use std::collections::BTreeMap;
use std::time::Duration;

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    rule: Rule,
    effect: Effect,
    synonyms: &'static [(&'static str, i64)],
    doc: &'static str,
) -> Key {
    Key { name, kind, default: Some(default), rule, importance: Medium, effect, dynamic: true, doc, synonyms }
}

#[rustfmt::skip]
static GROUP: &[Key] = &[
    key("consumer.assignment.interval.ms", Int, "1000", AtLeast(0), Ignored, &[("group.consumer.assignment.interval.ms", 1)], ""),
    key("consumer.heartbeat.interval.ms", Int, "5000", AtLeast(1), Acts, &[("group.consumer.heartbeat.interval.ms", 1)],
        "How often the members of a consumer group are told to heartbeat."),
    key("consumer.session.timeout.ms", Int, "45000", AtLeast(1), Acts, &[("group.consumer.session.timeout.ms", 1)],
        "How long a member of a consumer group may be silent."),
    key("share.assignment.interval.ms", Int, "1000", AtLeast(0), Ignored, &[("group.share.assignment.interval.ms", 1)], ""),
    key("share.auto.offset.reset", Str, "latest", OffsetReset, Ignored, &[], ""),
    key("share.delivery.count.limit", Int, "5", AtLeast(2), Ignored, &[("group.share.delivery.count.limit", 1)], ""),
    key("share.heartbeat.interval.ms", Int, "5000", AtLeast(1), Ignored, &[("group.share.heartbeat.interval.ms", 1)], ""),
    key("share.isolation.level", Str, "read_uncommitted", OneOf(&["read_committed", "read_uncommitted"]), Ignored, &[], ""),
    key("share.partition.max.record.locks", Int, "2000", AtLeast(100), Ignored, &[("group.share.partition.max.record.locks", 1)], ""),
    key("share.record.lock.duration.ms", Int, "30000", AtLeast(1000), Ignored, &[("group.share.record.lock.duration.ms", 1)], ""),
    key("share.renew.acknowledge.enable", Bool, "true", Any, Ignored, &[], ""),
    key("share.session.timeout.ms", Int, "45000", AtLeast(1), Ignored, &[("group.share.session.timeout.ms", 1)], ""),
    key("streams.assignment.interval.ms", Int, "1000", AtLeast(0), Ignored, &[("group.streams.assignment.interval.ms", 1)], ""),
    key("streams.heartbeat.interval.ms", Int, "5000", AtLeast(1), Ignored, &[("group.streams.heartbeat.interval.ms", 1)], ""),
    key("streams.initial.rebalance.delay.ms", Int, "3000", AtLeast(0), Ignored, &[("group.streams.initial.rebalance.delay.ms", 1)], ""),
    key("streams.num.standby.replicas", Int, "0", AtLeast(0), Ignored, &[("group.streams.num.standby.replicas", 1)], ""),
    key("streams.session.timeout.ms", Int, "45000", AtLeast(1), Ignored, &[("group.streams.session.timeout.ms", 1)], ""),
];

/// All group configs, in the order of their names.
pub fn group_keys() -> &'static [Key] {
    GROUP
}

/// The settings of one group that Millrace acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// `consumer.heartbeat.interval.ms`.
    pub consumer_heartbeat_interval: Duration,
    /// `consumer.session.timeout.ms`.
    pub consumer_session_timeout: Duration,
}

impl GroupSettings {
    /// These settings, but for what a group's own configs say.
    #[must_use]
    pub fn over(self, configs: Option<&BTreeMap<String, String>>) -> Self {
        let ms = |name: &str, otherwise| {
            let value = configs.and_then(|configs| configs.get(name)).and_then(|value| value.trim().parse().ok());
            value.map_or(otherwise, Duration::from_millis)
        };
        Self {
            consumer_heartbeat_interval: ms("consumer.heartbeat.interval.ms", self.consumer_heartbeat_interval),
            consumer_session_timeout: ms("consumer.session.timeout.ms", self.consumer_session_timeout),
        }
    }

    /// The settings of a group with these configs of its own (none for most groups) on a broker with these keys.
    ///
    /// # Errors
    /// As [`validate_group`] without the bounds. Configs that have once been accepted do not fail.
    pub fn resolve(configs: Option<&BTreeMap<String, String>>, broker: &BrokerKeys) -> Result<Self, KeyError> {
        let none = BTreeMap::new();
        let configs = configs.unwrap_or(&none);
        let ms = |name: &str| {
            let number = integer(name, configs, broker)?;
            u64::try_from(number).map(Duration::from_millis).map_err(|_| unsuited(name, &number.to_string()))
        };
        Ok(Self {
            consumer_heartbeat_interval: ms("consumer.heartbeat.interval.ms")?,
            consumer_session_timeout: ms("consumer.session.timeout.ms")?,
        })
    }
}

fn integer(name: &str, configs: &BTreeMap<String, String>, broker: &BrokerKeys) -> Result<i64, KeyError> {
    let key = find(GROUP, name).ok_or_else(|| KeyError::UnknownGroupKey { name: name.to_owned() })?;
    as_integer(name, topic_value(key, configs, broker)?)
}

/// Checks a group's configs: names, types, ranges, the broker's bounds, and what must hold between them.
///
/// # Errors
/// The first fault, in Kafka's words.
pub fn validate_group(configs: &BTreeMap<String, String>, broker: &BrokerKeys) -> Result<(), KeyError> {
    if let Some(name) = configs.keys().find(|name| find(GROUP, name).is_none()) {
        return Err(KeyError::UnknownGroupKey { name: name.clone() });
    }
    let mut parsed = Vec::new();
    for (name, text) in configs {
        if let Some(key) = find(GROUP, name) {
            parsed.push((name, parse(key, text)?));
        }
    }
    for (name, value) in parsed {
        if let Value::Int(number) = value {
            bounded(name, number, broker)?;
        }
    }
    for kind in ["consumer", "share", "streams"] {
        let (session, heartbeat) = (format!("{kind}.session.timeout.ms"), format!("{kind}.heartbeat.interval.ms"));
        if integer(&session, configs, broker)? <= integer(&heartbeat, configs, broker)? {
            let reason = format!("{session} must be greater than {heartbeat}");
            return Err(KeyError::Conflict { name: session, reason });
        }
    }
    Ok(())
}

/// Holds the broker's keys for groups against each other, as Kafka does when it starts.
///
/// # Errors
/// The first contradiction, in Kafka's words, under the key that is set.
pub(super) fn check_broker(broker: &BrokerKeys) -> Result<(), KeyError> {
    for kind in ["consumer", "share", "streams"] {
        let key = |word: &str, what: &str| format!("group.{kind}.{word}{what}");
        let (session, heartbeat) = (key("", "session.timeout.ms"), key("", "heartbeat.interval.ms"));
        for what in ["heartbeat.interval.ms", "session.timeout.ms", "assignment.interval.ms"] {
            let (least, value, most) = (key("min.", what), key("", what), key("max.", what));
            holds(broker, &most, "greater than or equal to", &least, |most, least| most >= least)?;
            holds(broker, &value, "greater than or equal to", &least, |value, least| value >= least)?;
            holds(broker, &value, "less than or equal to", &most, |value, most| value <= most)?;
        }
        holds(broker, &heartbeat, "less than", &session, |heartbeat, session| heartbeat < session)?;
    }
    let (value, most) = ("group.streams.num.standby.replicas", "group.streams.max.standby.replicas");
    holds(broker, value, "less than or equal to", most, |value, most| value <= most)
}

fn holds(
    broker: &BrokerKeys,
    one: &str,
    how: &str,
    other: &str,
    is_so: impl Fn(i64, i64) -> bool,
) -> Result<(), KeyError> {
    if is_so(broker.integer(one)?, broker.integer(other)?) {
        return Ok(());
    }
    let name = if broker.get(one).is_some() { one } else { other };
    Err(KeyError::Conflict { name: name.to_owned(), reason: format!("{one} must be {how} {other}") })
}

/// Holds the broker's own bounds against a value.
fn bounded(name: &str, number: i64, broker: &BrokerKeys) -> Result<(), KeyError> {
    let Some((kind, rest)) = name.split_once('.') else { return Ok(()) };
    let rest = rest.strip_prefix("num.").unwrap_or(rest);
    let bound = |word: &str| match broker_key(&format!("group.{kind}.{word}.{rest}")) {
        Some(key) => Ok(broker.value(key)?.map(|value| (key.name, value))),
        None => Ok(None),
    };
    let refuse = |how: &str, other: &str| {
        let reason = format!("{name} must be {how} than or equal to {other}");
        Err(KeyError::Conflict { name: name.to_owned(), reason })
    };
    match (bound("min")?, bound("max")?) {
        (Some((other, Value::Int(low))), _) if number < low => refuse("greater", other),
        (_, Some((other, Value::Int(high)))) if number > high => refuse("less", other),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, value: &str) -> String {
        let configs = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        validate_group(&configs, &BrokerKeys::default()).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn a_groups_config_is_refused_in_the_words_of_kafka() {
        assert_eq!(said("consumer.session.timeout.ms", "50000"), "");
        assert_eq!(
            said("consumer.session.timeout.ms", "1"),
            "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms"
        );
        assert_eq!(
            said("consumer.heartbeat.interval.ms", "99999"),
            "consumer.heartbeat.interval.ms must be less than or equal to group.consumer.max.heartbeat.interval.ms"
        );
        assert_eq!(said("foo", "2"), "Unknown group config name: foo");
        assert!(said("share.auto.offset.reset", "x").starts_with("Invalid value x for configuration share.auto"));
        assert_eq!(said("share.auto.offset.reset", "by_duration:PT1H"), "");
    }

    #[test]
    fn every_group_key_and_its_stand_in_have_the_same_default() {
        assert!(GROUP.is_sorted_by(|a, b| a.name < b.name));
        for key in GROUP {
            let stand_in = key.synonyms.first().and_then(|(name, _)| broker_key(name));
            assert!(stand_in.is_none_or(|stand_in| stand_in.default == key.default), "{}", key.name);
            assert!(key.effect != Effect::Acts || !key.doc.is_empty(), "{}", key.name);
        }
        let settings = GroupSettings::resolve(None, &BrokerKeys::default()).unwrap();
        assert_eq!(settings.consumer_session_timeout, Duration::from_secs(45));
    }
}
