//! Broker keys that are changed while the broker runs: what Kafka lets be changed, and for one broker or for all.

use super::{BrokerKeys, KeyError, broker_key};
use std::collections::BTreeMap;

/// Keys that make sense for one broker only.
const PER_BROKER: &[&str] = &["listener.security.protocol.map", "listeners", "principal.builder.class"];

fn is_per_broker(name: &str) -> bool {
    PER_BROKER.contains(&name) || name.starts_with("ssl.") || name.starts_with("sasl.")
}

/// Checks all the keys that would be in force for one broker, or for all, beside what the node's file says.
///
/// # Errors
/// The first fault, in Kafka's words; unknown keys too, which Kafka keeps for plugins of its own.
pub fn check_dynamic(keys: &BTreeMap<String, String>, one_broker: bool) -> Result<(), KeyError> {
    let refuse = |names: Vec<&str>, reason: &str| match names.first() {
        Some(first) => {
            let reason = format!("{reason}: [{}]", names.join(", "));
            Err(KeyError::Conflict { name: (*first).to_owned(), reason })
        }
        None => Ok(()),
    };
    let named = |wanted: &dyn Fn(&str) -> bool| keys.keys().map(String::as_str).filter(|name| wanted(name)).collect();
    let fixed = |name: &str| broker_key(name).is_some_and(|key| !key.dynamic);
    refuse(named(&fixed), "Cannot update these configs dynamically")?;
    if !one_broker {
        let reason = "Cannot update these configs at default cluster level, broker id must be specified";
        refuse(named(&is_per_broker), reason)?;
    }
    // The node's one listener is an option of its own.
    refuse(named(&|name| name == "listeners"), "Cannot update these configs dynamically")?;
    keys.iter().try_for_each(|(name, text)| BrokerKeys::check(name, text).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, value: &str, one_broker: bool) -> String {
        let keys = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        check_dynamic(&keys, one_broker).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn what_may_not_change_while_the_broker_runs_is_refused_in_the_words_of_kafka() {
        assert_eq!(said("log.retention.ms", "500000", true), "");
        assert_eq!(said("log.dirs", "/x", true), "Cannot update these configs dynamically: [log.dirs]");
        assert_eq!(
            said("listeners", "PLAINTEXT://:1", false),
            "Cannot update these configs at default cluster level, broker id must be specified: [listeners]"
        );
        assert_eq!(
            said("log.retention.ms", "abc", true),
            "Invalid value abc for configuration log.retention.ms: Not a number of type LONG"
        );
        assert_eq!(said("no.such", "1", true), "Unknown broker config name: no.such");
    }
}
