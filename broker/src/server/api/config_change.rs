//! What AlterConfigs and IncrementalAlterConfigs share: from the change of a resource's configs to a command.
//!
//! Each resource succeeds or fails for itself. What a change comes to is checked as a whole, as at its creation; a change
//! is in force when it is answered.

use super::Context;
use super::errors::{self, INVALID_REQUEST};
use crate::cluster::ProposeError;
use crate::config::kafka_keys::{
    Key, KeyError, Kind, broker_key, check_dynamic, group_keys, topic_key, validate_group, validate_topic,
};
use futures::future::join_all;
use millrace_metadata::{ApplyError, Command, ConfigOf, Image, check_topic_name};
use millrace_protocol::{ErrorCode, StrBytes};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

/// Of all who change the same configs at the same time one comes through at each attempt.
const ATTEMPTS: usize = 1_000;

const MIN_INSYNC: &str = "min.insync.replicas";

/// A code, and a reason where Kafka gives one.
pub(super) type Refused = (ErrorCode, Option<String>);

/// What becomes of one key.
pub(super) struct Step {
    pub(super) key: StrBytes,
    /// 0 sets, 1 deletes, 2 appends to a list, 3 takes off a list.
    pub(super) operation: i8,
    pub(super) value: Option<StrBytes>,
}

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// What becomes of one resource's configs.
pub(super) struct Change {
    pub(super) kind: i8,
    pub(super) name: StrBytes,
    pub(super) steps: Vec<Step>,
    /// Keys that no step names are taken off.
    pub(super) replace: bool,
}

/// Makes the changes and answers for each: its resource's type and name, a code, and a reason where there is one.
pub(super) async fn answer<R>(
    context: &Context,
    changes: Vec<Change>,
    validate_only: bool,
    response: impl Fn(i8, StrBytes, i16, Option<StrBytes>) -> R,
) -> Vec<R> {
    let outcomes = make(context, &changes, validate_only).await;
    let answered = changes.into_iter().zip(outcomes).map(|(change, outcome)| {
        let (code, reason) = outcome.err().unwrap_or((ErrorCode::None, None));
        response(change.kind, change.name, code.code(), reason.map(StrBytes::from_string))
    });
    answered.collect()
}

/// Makes the changes; one outcome for each.
async fn make(context: &Context, changes: &[Change], validate_only: bool) -> Vec<Result<(), Refused>> {
    let image = context.cluster.image();
    let mut times = BTreeMap::<(i8, &str), usize>::new();
    for change in changes {
        *times.entry((change.kind, &change.name)).or_default() += 1;
    }
    let (image, times) = (&image, &times);
    let proposed = changes.iter().map(|change| async move {
        match times.get(&(change.kind, change.name.as_str())) {
            Some(1) if validate_only => command(context, image, change).map(drop),
            Some(1) => make_one(context, change).await,
            _ => refuse("Each resource must appear at most once."),
        }
    });
    let outcomes = join_all(proposed).await;
    if !validate_only && outcomes.iter().any(Result::is_ok) {
        context.partitions.in_line_with(context.cluster.image().index()).await;
    }
    outcomes
}

/// Where the configs have changed since they were looked at, what the change makes of them is worked out anew.
async fn make_one(context: &Context, change: &Change) -> Result<(), Refused> {
    let mut attempts = 0;
    loop {
        let command = command(context, &context.cluster.image(), change)?;
        attempts += 1;
        match context.cluster.propose(command).await {
            Ok(_) => return Ok(()),
            Err(ProposeError::Refused(ApplyError::ConfigChanged)) if attempts < ATTEMPTS => {}
            Err(error) => return Err((errors::propose(&error), Some(error.to_string()))),
        }
    }
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, Refused> {
    Err((ErrorCode::InvalidRequest, Some(reason.into())))
}

fn invalid(error: &KeyError) -> Refused {
    (ErrorCode::InvalidConfig, Some(error.to_string()))
}

fn command(context: &Context, image: &Image, change: &Change) -> Result<Command, Refused> {
    let mut keys = BTreeSet::new();
    if !change.steps.iter().all(|step| keys.insert(step.key.as_str())) {
        return refuse("Error due to duplicate config keys");
    }
    let nulls = change.steps.iter().filter(|step| step.operation != DELETE && step.value.is_none());
    let nulls: Vec<&str> = nulls.map(|step| step.key.as_str()).collect();
    if !nulls.is_empty() {
        return refuse(format!("Null value not supported for : {}", nulls.join(", ")));
    }
    match change.kind {
        TOPIC => topic(image, change),
        BROKER if change.name.is_empty() => cluster(image, change),
        BROKER => broker(context, image, change),
        GROUP => group(context, image, change),
        other => refuse(format!("Unknown resource type {other}")),
    }
}

fn topic(image: &Image, change: &Change) -> Result<Command, Refused> {
    let name = change.name.as_str();
    let found = image.topic(name);
    let none = BTreeMap::new();
    let altered = altered(found.map_or(&none, |topic| &topic.config), change, topic_key)?;
    if name.is_empty() {
        return refuse("Default topic resources are not allowed.");
    }
    if let Err(fault) = check_topic_name(name) {
        return Err((ErrorCode::InvalidTopicException, Some(format!("Topic name is invalid: {fault}"))));
    }
    validate_topic(&altered.configs).map_err(|error| invalid(&error))?;
    match found {
        Some(topic) => {
            let set = Command::SetTopicConfig { topic: topic.id, set: altered.set, replace: change.replace };
            Ok(unless_changed(ConfigOf::Topic(topic.id), &topic.config, set))
        }
        None => {
            let reason = format!("The topic '{name}' does not exist.");
            Err((ErrorCode::UnknownTopicOrPartition, Some(reason)))
        }
    }
}

fn cluster(image: &Image, change: &Change) -> Result<Command, Refused> {
    let altered = altered_broker(image.cluster_config(), change)?;
    check_dynamic(&altered.configs, false).or_else(|error| refuse(error.to_string()))?;
    // Kafka does not do without it as long as it knows eligible leader replicas.
    if image.cluster_config().contains_key(MIN_INSYNC) && !altered.configs.contains_key(MIN_INSYNC) {
        let reason = "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.";
        return Err((ErrorCode::InvalidConfig, Some(reason.to_owned())));
    }
    let set = Command::SetClusterConfig { set: altered.set, replace: change.replace };
    Ok(unless_changed(ConfigOf::Cluster, image.cluster_config(), set))
}

fn broker(context: &Context, image: &Image, change: &Change) -> Result<Command, Refused> {
    let (name, own) = (change.name.as_str(), context.node);
    match name.parse::<i32>() {
        Ok(id) if id == own.get() => {}
        Ok(_) => return refuse(format!("Unexpected broker id, expected {own}, but received {name}")),
        Err(_) => return refuse(format!("Node id must be an integer, but it is: {name}")),
    }
    let none = BTreeMap::new();
    let current = image.broker_config(own).unwrap_or(&none);
    let altered = altered_broker(current, change)?;
    check_dynamic(&altered.configs, true).or_else(|error| refuse(error.to_string()))?;
    if altered.set.contains_key(MIN_INSYNC) {
        let reason = "Broker-level min.insync.replicas cannot be altered while ELR is enabled.";
        return Err((ErrorCode::InvalidConfig, Some(reason.to_owned())));
    }
    let set = Command::SetBrokerConfig { broker: own, set: altered.set, replace: change.replace };
    Ok(unless_changed(ConfigOf::Broker(own), current, set))
}

fn group(context: &Context, image: &Image, change: &Change) -> Result<Command, Refused> {
    let name = change.name.as_str();
    let none = BTreeMap::new();
    let find = |name: &str| group_keys().iter().find(|key| key.name == name);
    let current = image.group_config(name).unwrap_or(&none);
    let altered = altered(current, change, find)?;
    if name.is_empty() {
        return refuse("Default group resources are not allowed.");
    }
    validate_group(&altered.configs, &context.keys_in(image)).map_err(|error| invalid(&error))?;
    let set = Command::SetGroupConfig { group: name.to_owned(), set: altered.set, replace: change.replace };
    Ok(unless_changed(ConfigOf::Group(name.to_owned()), current, set))
}

/// What was checked is what is applied: a list that somebody else adds to at the same time keeps both.
fn unless_changed(of: ConfigOf, current: &BTreeMap<String, String>, set: Command) -> Command {
    Command::All(vec![Command::ExpectConfig { of, configs: current.clone() }, set])
}

/// What the steps make of a resource's configs.
struct Altered {
    /// All of them.
    configs: BTreeMap<String, String>,
    /// Those that a step names; `None` is taken off.
    set: BTreeMap<String, Option<String>>,
}

fn altered(
    current: &BTreeMap<String, String>,
    change: &Change,
    find: impl Fn(&str) -> Option<&'static Key>,
) -> Result<Altered, Refused> {
    let mut configs = if change.replace { BTreeMap::new() } else { current.clone() };
    let mut set = BTreeMap::new();
    for step in &change.steps {
        let key = step.key.as_str();
        let given = step.value.as_ref().map(StrBytes::to_string).unwrap_or_default();
        let value = match step.operation {
            SET => Some(given),
            DELETE => None,
            APPEND | SUBTRACT => Some(spliced(current.get(key), step.operation, key, &given, find(key))?),
            _ => return refuse(INVALID_REQUEST),
        };
        match &value {
            Some(value) => drop(configs.insert(key.to_owned(), value.clone())),
            None => drop(configs.remove(key)),
        }
        set.insert(key.to_owned(), value);
    }
    Ok(Altered { configs, set })
}

/// The same of a broker, which has words of its own for what is no list.
fn altered_broker(current: &BTreeMap<String, String>, change: &Change) -> Result<Altered, Refused> {
    let is_list = |name: &str| broker_key(name).is_some_and(|key| key.kind == Kind::List);
    match change.steps.iter().find(|step| matches!(step.operation, APPEND | SUBTRACT) && !is_list(&step.key)) {
        Some(step) => {
            let verb = if step.operation == APPEND { "append" } else { "subtract" };
            let reason = format!("Config value {verb} is not allowed for config key: {}", step.key);
            Err((ErrorCode::InvalidConfig, Some(reason)))
        }
        None => altered(current, change, broker_key),
    }
}

/// A list with these items added, or without them.
fn spliced(
    current: Option<&String>,
    operation: i8,
    name: &str,
    items: &str,
    key: Option<&Key>,
) -> Result<String, Refused> {
    let Some(key) = key.filter(|key| key.kind == Kind::List) else {
        let verb = if operation == APPEND { "APPEND" } else { "SUBTRACT" };
        let reason = format!("Can't {verb} to key {name} because its type is not LIST.");
        return Err((ErrorCode::InvalidConfig, Some(reason)));
    };
    let current = current.map(String::as_str).or(key.default).unwrap_or_default();
    let mut list: Vec<&str> = current.split(',').filter(|item| !item.is_empty()).collect();
    for item in items.split(',') {
        let place = list.iter().position(|there| *there == item);
        match (operation, place) {
            (APPEND, None) => list.push(item),
            (SUBTRACT, Some(place)) => drop(list.remove(place)),
            _ => {}
        }
    }
    Ok(list.join(","))
}
