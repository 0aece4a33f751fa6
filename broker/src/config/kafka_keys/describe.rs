//! What DescribeConfigs says: for each key its value, where that comes from, and what else could have set it.

use super::keys::{BrokerKeys, Source, topic_value};
use super::{Key, KeyError, Kind, broker_key, broker_keys, group_keys, parse, topic_keys};
use std::collections::BTreeMap;

/// One of the keys that a value could come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The key.
    pub name: &'static str,
    /// What it says; `None` where that may not be shown.
    pub value: Option<String>,
    /// Where it says so.
    pub source: Source,
}

/// One key as it is described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub name: &'static str,
    /// The value in force; `None` for none, or for one that may not be shown.
    pub value: Option<String>,
    /// Whether it cannot be changed while the broker runs.
    pub read_only: bool,
    /// Where the value comes from.
    pub source: Source,
    /// Whether it is never shown.
    pub sensitive: bool,
    /// What could have set it, the strongest first.
    pub synonyms: Vec<Synonym>,
    /// Its type.
    pub kind: Kind,
    /// What it is for.
    pub documentation: &'static str,
}

/// All configs of a topic that has these of its own, in the order of their names.
///
/// # Errors
/// As [`super::TopicSettings::resolve`].
pub fn describe_topic(configs: &BTreeMap<String, String>, broker: &BrokerKeys) -> Result<Vec<Entry>, KeyError> {
    topic_keys().iter().map(|key| own_entry(key, Source::Topic, configs, broker)).collect()
}

/// All configs of a group that has these of its own, in the order of their names.
///
/// # Errors
/// As [`super::validate_group`]; configs that were accepted do not fail.
pub fn describe_group(configs: &BTreeMap<String, String>, broker: &BrokerKeys) -> Result<Vec<Entry>, KeyError> {
    group_keys().iter().map(|key| own_entry(key, Source::Group, configs, broker)).collect()
}

/// What is set for all brokers while they run, in the order of the names.
pub fn describe_cluster(configs: &BTreeMap<String, String>) -> Vec<Entry> {
    let known = configs.iter().filter_map(|(name, value)| Some((broker_key(name)?, value)));
    let entries = known.map(|(key, value)| {
        let shown = Some(value.clone()).filter(|_| !key.is_sensitive());
        let synonym = Synonym { name: key.name, value: shown, source: Source::DynamicCluster };
        entry(key, Some(value.clone()), !key.dynamic, vec![synonym])
    });
    entries.collect()
}

/// All configs of a broker, in the order of their names. `facts` are the keys that other options of the node decide:
/// `node.id`, `listeners`, `log.dirs` and their like.
///
/// # Errors
/// As [`BrokerKeys::new`]; keys that were accepted do not fail.
pub fn describe_broker(broker: &BrokerKeys, facts: &BTreeMap<&'static str, String>) -> Result<Vec<Entry>, KeyError> {
    broker_keys().iter().map(|key| broker_entry(key, broker, facts)).collect()
}

fn own_entry(
    key: &'static Key,
    source: Source,
    configs: &BTreeMap<String, String>,
    broker: &BrokerKeys,
) -> Result<Entry, KeyError> {
    let value = topic_value(key, configs, broker)?.to_string();
    let own = configs.get(key.name).map(|_| Synonym { name: key.name, value: Some(value.clone()), source });
    let mut synonyms: Vec<Synonym> = own.into_iter().collect();
    synonyms.extend(broker_synonyms(key, broker, &BTreeMap::new())?);
    if source == Source::Group && key.synonyms.is_empty() {
        // What no broker key stands in for stands for itself.
        let value = key.default.map(str::to_owned);
        synonyms.push(Synonym { name: key.name, value, source: Source::Default });
    }
    Ok(entry(key, Some(value), false, synonyms))
}

fn broker_entry(
    key: &'static Key,
    broker: &BrokerKeys,
    facts: &BTreeMap<&'static str, String>,
) -> Result<Entry, KeyError> {
    let value = match facts.get(key.name) {
        Some(fact) => Some(fact.clone()),
        None => broker.value(key)?.map(|value| value.to_string()),
    };
    // A key stands for itself, and where it is one of several units of one setting, for the others as well.
    let family = topic_keys()
        .iter()
        .filter(|topic| topic.synonyms.len() > 1)
        .find(|topic| topic.synonyms.iter().any(|(name, _)| *name == key.name));
    let synonyms = match family {
        Some(topic) => {
            after(key.name, broker_synonyms_of(topic.synonyms.iter().map(|(name, _)| *name), broker, facts)?)
        }
        None => broker_synonyms_of(std::iter::once(key.name), broker, facts)?,
    };
    let read_only = !key.dynamic;
    Ok(entry(key, value, read_only, synonyms))
}

fn entry(key: &'static Key, value: Option<String>, read_only: bool, synonyms: Vec<Synonym>) -> Entry {
    let sensitive = key.is_sensitive();
    Entry {
        name: key.name,
        value: value.filter(|_| !sensitive),
        read_only,
        source: synonyms.first().map_or(Source::Default, |first| first.source),
        sensitive,
        synonyms,
        kind: key.kind,
        documentation: key.documentation(),
    }
}

fn broker_synonyms(
    topic: &'static Key,
    broker: &BrokerKeys,
    facts: &BTreeMap<&'static str, String>,
) -> Result<Vec<Synonym>, KeyError> {
    let all = broker_synonyms_of(topic.synonyms.iter().map(|(name, _)| *name), broker, facts)?;
    Ok(topic.synonyms.first().map(|(first, _)| after(first, all)).unwrap_or_default())
}

/// Kafka shows synonyms only from the first one that has the key's own name: with `log.retention.hours` alone in force,
/// `log.retention.ms` and `retention.ms` show none, and their source is the default.
fn after(name: &str, all: Vec<Synonym>) -> Vec<Synonym> {
    all.into_iter().skip_while(|synonym| synonym.name != name).collect()
}

/// First what is set, then what are defaults, each in the order of the names.
fn broker_synonyms_of(
    names: impl Iterator<Item = &'static str> + Clone,
    broker: &BrokerKeys,
    facts: &BTreeMap<&'static str, String>,
) -> Result<Vec<Synonym>, KeyError> {
    let mut found = Vec::new();
    let keys = names.filter_map(broker_key);
    for (source, layer) in broker.layers() {
        for key in keys.clone() {
            let set = match (layer.get(key.name), facts.get(key.name)) {
                (_, Some(fact)) if source == Source::StaticBroker => Some(fact.clone()),
                (Some(text), _) => Some(parse(key, text)?.to_string()),
                _ => None,
            };
            if let Some(text) = set {
                let value = Some(text).filter(|_| !key.is_sensitive());
                found.push(Synonym { name: key.name, value, source });
            }
        }
    }
    for key in keys {
        if let Some(text) = key.default {
            let value = Some(text.to_owned()).filter(|_| !key.is_sensitive());
            found.push(Synonym { name: key.name, value, source: Source::Default });
        }
    }
    Ok(found)
}
