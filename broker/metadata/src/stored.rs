//! An image as it persists in snapshots.
//!
//! Version 1, any serde format with named fields (JSON on disk):
//! `version`, `index`, `cluster-id`, `topics` (sorted by name), `brokers`, `plugins`,
//! `config`, `broker-configs` and `group-configs` (left out where empty), `next-producer-id`; `deleted` (the newest deleted
//! topics' ids, in their order) and `directories` (those whose content was adopted), left out where empty. Fields added later have defaults, so an older snapshot stays readable; a
//! snapshot with a higher version is refused, because it may hold facts that would be lost.

use crate::{Broker, Image, Plugin, Topic};
use millrace_model::{NodeId, TopicId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use uuid::Uuid;

const VERSION: u32 = 1;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Written<'a> {
    version: u32,
    index: u64,
    cluster_id: Option<&'a str>,
    topics: Vec<&'a Topic>,
    brokers: Vec<&'a Broker>,
    plugins: Vec<&'a Plugin>,
    config: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    broker_configs: &'a BTreeMap<NodeId, BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    group_configs: &'a BTreeMap<String, BTreeMap<String, String>>,
    next_producer_id: i64,
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    deleted: &'a VecDeque<TopicId>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    directories: &'a BTreeSet<Uuid>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Read {
    version: u32,
    index: u64,
    cluster_id: Option<String>,
    #[serde(default)]
    topics: Vec<Topic>,
    #[serde(default)]
    brokers: Vec<Broker>,
    #[serde(default)]
    plugins: Vec<Plugin>,
    #[serde(default)]
    config: BTreeMap<String, String>,
    #[serde(default)]
    broker_configs: BTreeMap<NodeId, BTreeMap<String, String>>,
    #[serde(default)]
    group_configs: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    next_producer_id: i64,
    #[serde(default)]
    deleted: VecDeque<TopicId>,
    #[serde(default)]
    directories: BTreeSet<Uuid>,
}

impl Serialize for Image {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written {
            version: VERSION,
            index: self.index,
            cluster_id: self.cluster_id(),
            topics: self.topics().map(AsRef::as_ref).collect(),
            brokers: self.brokers().map(AsRef::as_ref).collect(),
            plugins: self.plugins().map(AsRef::as_ref).collect(),
            config: &self.config,
            broker_configs: &self.broker_configs,
            group_configs: &self.group_configs,
            next_producer_id: self.next_producer_id,
            deleted: &self.deleted,
            directories: &self.directories,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Image {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Read::deserialize(deserializer)?;
        if read.version != VERSION {
            return Err(D::Error::custom(format!("image version {} is not {VERSION}", read.version)));
        }
        let mut image = Self {
            index: read.index,
            cluster_id: read.cluster_id.map(Arc::from),
            brokers: Arc::new(read.brokers.into_iter().map(|broker| (broker.id(), Arc::new(broker))).collect()),
            plugins: Arc::new(read.plugins.into_iter().map(keyed).collect()),
            config: Arc::new(read.config),
            broker_configs: Arc::new(read.broker_configs),
            group_configs: Arc::new(read.group_configs),
            next_producer_id: read.next_producer_id,
            deleted: Arc::new(read.deleted),
            directories: Arc::new(read.directories),
            ..Self::default()
        };
        for topic in read.topics {
            if image.topic_in_the_way(&topic.name).is_some() || image.topic_by_id(topic.id).is_some() {
                return Err(D::Error::custom(format!("the topic {} ({}) stands twice", topic.name, topic.id.get())));
            }
            image.put_topic(Arc::new(topic));
        }
        Ok(image)
    }
}

fn keyed(plugin: Plugin) -> ((String, String), Arc<Plugin>) {
    ((plugin.name.clone(), plugin.version.clone()), Arc::new(plugin))
}
