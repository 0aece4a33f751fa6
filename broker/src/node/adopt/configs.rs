//! Which of Kafka's configs are taken over: those that mean something here, each checked as if somebody set it now.

use super::kafka::KafkaFacts;
use super::kraft::{BROKER, TOPIC};
use crate::config::kafka_keys::{
    BrokerKeys, BrokerSettings, TopicSettings, check_dynamic, validate_group, validate_topic,
};
use millrace_metadata::{Command, is_internal_topic};
use millrace_model::NodeId;
use std::collections::BTreeMap;

type Configs = BTreeMap<String, String>;

const MIN_INSYNC: &str = "min.insync.replicas";
/// What decides over whether records are kept.
const RETENTION: [&str; 3] = ["cleanup.policy", "retention.bytes", "retention.ms"];

/// Configs by which nothing that is stored goes away: but of what belongs to the broker itself only the newest value counts.
pub(super) fn without_removal(topic: &str) -> Configs {
    let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    match is_internal_topic(topic) {
        true => [set("cleanup.policy", "compact")].into(),
        false => [set("cleanup.policy", "delete"), set("retention.bytes", "-1"), set("retention.ms", "-1")].into(),
    }
}

/// A topic's configs as they are adopted.
pub(super) fn of_topic(topic: &str, facts: &KafkaFacts, broker: &BrokerKeys) -> Configs {
    let found = facts.configs(TOPIC, topic);
    let mut kept = Configs::new();
    let mut unclear = false;
    for (key, value) in found {
        let one = Configs::from([(key.clone(), value.clone())]);
        match validate_topic(&one) {
            Ok(()) => kept.extend(one),
            Err(error) => {
                tracing::warn!(topic, key, value, %error, "a config of Kafka's is not adopted");
                unclear |= RETENTION.contains(&key.as_str());
            }
        }
    }
    if let Err(error) = TopicSettings::resolve(&kept, broker) {
        tracing::warn!(topic, %error, "Kafka's configs of a topic do not go together here; none is adopted");
        return without_removal(topic);
    }
    if is_internal_topic(topic) && !kept.contains_key("cleanup.policy") || unclear {
        kept.extend(without_removal(topic));
    }
    kept
}

/// Whether the topic keeps its records as long as the broker says.
pub(super) fn follows_the_broker(topic: &str, facts: &KafkaFacts) -> bool {
    let found = facts.configs(TOPIC, topic);
    let deletes = found.get("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
    deletes && !found.contains_key("retention.ms") && !is_internal_topic(topic)
}

/// The commands that set what Kafka had for the cluster, this broker and groups, besides what is a fact of every cluster.
pub(super) fn of_the_rest(facts: &KafkaFacts, node: NodeId, keys: &BrokerKeys, there: &Configs) -> Vec<Command> {
    let mut cluster = checked("all brokers", &facts.configs(BROKER, ""), |one| check_dynamic(one, false));
    let mut broker = checked("the broker", &facts.configs(BROKER, &node.to_string()), |one| check_dynamic(one, true));
    let together = keys.with_dynamic(&cluster, Some(&broker));
    let fits = BrokerSettings::resolve(&together).map(drop);
    if let Err(error) = fits.and_then(|()| TopicSettings::resolve(&Configs::new(), &together).map(drop)) {
        tracing::warn!(%error, "Kafka's configs of brokers do not go together with the node's; none is adopted");
        (cluster, broker) = (Configs::new(), Configs::new());
    }
    // As Kafka does since it knows eligible leader replicas: from here on it is a fact of the cluster, not of a node.
    cluster.entry(MIN_INSYNC.to_owned()).or_insert_with(|| keys.get(MIN_INSYNC).unwrap_or("1").to_owned());
    cluster.retain(|key, _| !there.contains_key(key));
    let mut commands = Vec::new();
    if !cluster.is_empty() {
        commands.push(Command::SetClusterConfig { set: changes(cluster), replace: false });
    }
    if !broker.is_empty() {
        commands.push(Command::SetBrokerConfig { broker: node, set: changes(broker), replace: false });
    }
    for (group, configs) in facts.groups() {
        let configs = checked("a group", configs, |one| validate_group(one, &together));
        if !configs.is_empty() {
            commands.push(Command::SetGroupConfig { group: group.clone(), set: changes(configs), replace: false });
        }
    }
    commands
}

fn checked<E: std::fmt::Display>(of: &str, found: &Configs, check: impl Fn(&Configs) -> Result<(), E>) -> Configs {
    let mut kept = Configs::new();
    for (key, value) in found {
        let one = Configs::from([(key.clone(), value.clone())]);
        match check(&one) {
            Ok(()) => kept.extend(one),
            // The value may be a secret.
            Err(error) => tracing::warn!(of, key, %error, "a config of Kafka's is not adopted"),
        }
    }
    kept
}

fn changes(configs: Configs) -> BTreeMap<String, Option<String>> {
    configs.into_iter().map(|(key, value)| (key, Some(value))).collect()
}
