//! The facts at one index of the log.

use crate::names::compare_loosely;
use crate::sorted::{Order, Sorted};
use crate::{Broker, Plugin, Topic};
use millrace_model::{NodeId, PartitionId, ProducerId, TopicId, TopicPartition};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use uuid::Uuid;

/// How many deleted topics are remembered: those whose directories a broker may not have removed yet.
const MAX_DELETED: usize = 10_000;

/// Topics by name; '.' and '_' are the same in this order, because such names collide.
#[derive(Debug)]
pub(crate) struct ByName;

impl Order<Arc<Topic>> for ByName {
    type Key = str;

    fn compare(value: &Arc<Topic>, key: &str) -> Ordering {
        compare_loosely(&value.name, key)
    }

    fn key(value: &Arc<Topic>) -> &str {
        &value.name
    }
}

/// Topics by id.
#[derive(Debug)]
pub(crate) struct ById;

impl Order<Arc<Topic>> for ById {
    type Key = TopicId;

    fn compare(value: &Arc<Topic>, key: &TopicId) -> Ordering {
        value.id.cmp(key)
    }

    fn key(value: &Arc<Topic>) -> &TopicId {
        &value.id
    }
}

/// The facts at one index of the log. Cheap to clone: copies share everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    pub(crate) index: u64,
    pub(crate) cluster_id: Option<Arc<str>>,
    pub(crate) topics: Sorted<Arc<Topic>, ByName>,
    pub(crate) by_id: Sorted<Arc<Topic>, ById>,
    pub(crate) partitions: usize,
    pub(crate) brokers: Arc<BTreeMap<NodeId, Arc<Broker>>>,
    pub(crate) plugins: Arc<BTreeMap<(String, String), Arc<Plugin>>>,
    pub(crate) config: Arc<BTreeMap<String, String>>,
    pub(crate) broker_configs: Arc<BTreeMap<NodeId, BTreeMap<String, String>>>,
    pub(crate) group_configs: Arc<BTreeMap<String, BTreeMap<String, String>>>,
    pub(crate) next_producer_id: i64,
    pub(crate) deleted: Arc<VecDeque<TopicId>>,
    pub(crate) directories: Arc<BTreeSet<Uuid>>,
}

impl Image {
    /// The index of the last command in it; 0 where there was none.
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The same facts at a later index: an entry of the log without commands.
    #[must_use]
    pub fn at(&self, index: u64) -> Self {
        Self { index, ..self.clone() }
    }

    /// The cluster's id; `None` only before the first command.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// A topic by its name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name).filter(|topic| topic.name == name)
    }

    /// A topic whose name differs from this one at most in '.' and '_'.
    pub fn topic_in_the_way(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// A topic by its id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// All topics, sorted by name ('.' and '_' count as the same).
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> + Clone {
        self.topics.iter()
    }

    /// How many topics there are.
    pub const fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many partitions there are in all topics.
    pub const fn partition_count(&self) -> usize {
        self.partitions
    }

    /// A topic and one of its partitions.
    pub fn partition(&self, at: TopicPartition) -> Option<(&Arc<Topic>, &crate::Partition)> {
        let topic = self.topic_by_id(at.topic)?;
        Some((topic, topic.partition(at.partition)?))
    }

    /// The partition's id across topics, by the topic's name.
    pub fn locate(&self, name: &str, partition: PartitionId) -> Option<TopicPartition> {
        let topic = self.topic(name)?;
        topic.partition(partition).map(|_| topic.at(partition))
    }

    /// A broker by its number.
    pub fn broker(&self, id: NodeId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// All registered brokers by number.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// A plugin of the registry.
    pub fn plugin(&self, name: &str, version: &str) -> Option<&Arc<Plugin>> {
        self.plugins.get(&(name.to_owned(), version.to_owned()))
    }

    /// All plugins of the registry, by name and version.
    pub fn plugins(&self) -> impl ExactSizeIterator<Item = &Arc<Plugin>> {
        self.plugins.values()
    }

    /// Broker configs that hold for the whole cluster.
    pub fn cluster_config(&self) -> &BTreeMap<String, String> {
        &self.config
    }

    /// Configs that hold for one broker; they go before the cluster's.
    pub fn broker_config(&self, id: NodeId) -> Option<&BTreeMap<String, String>> {
        self.broker_configs.get(&id)
    }

    /// The configs of a group, where it has any.
    pub fn group_config(&self, group: &str) -> Option<&BTreeMap<String, String>> {
        self.group_configs.get(group)
    }

    /// All groups that have configs, by name.
    pub fn group_configs(&self) -> impl ExactSizeIterator<Item = (&String, &BTreeMap<String, String>)> {
        self.group_configs.iter()
    }

    /// The first producer id that was not given out.
    pub const fn next_producer_id(&self) -> ProducerId {
        ProducerId::new(self.next_producer_id)
    }

    /// Whether this cluster deleted the topic, and not so long ago that it has forgotten.
    pub fn was_deleted(&self, id: TopicId) -> bool {
        self.deleted.contains(&id)
    }

    /// Whether what the directory held before it belonged to the cluster has become part of the cluster.
    pub fn has_adopted(&self, directory: Uuid) -> bool {
        self.directories.contains(&directory)
    }

    /// Puts a topic in the place of what has its name and id.
    pub(crate) fn put_topic(&mut self, topic: Arc<Topic>) {
        self.partitions += topic.partitions.len();
        self.by_id.insert(Arc::clone(&topic));
        if let Some(old) = self.topics.insert(topic) {
            self.partitions -= old.partitions.len();
        }
    }

    /// Remembers a topic that was deleted, and forgets the one that has been longest gone where there are too many.
    pub(crate) fn remember_deleted(&mut self, id: TopicId) {
        let deleted = Arc::make_mut(&mut self.deleted);
        deleted.push_back(id);
        if deleted.len() > MAX_DELETED {
            deleted.pop_front();
        }
    }

    pub(crate) fn take_topic(&mut self, id: TopicId) -> Option<Arc<Topic>> {
        let topic = self.by_id.remove(&id)?;
        self.topics.remove(&topic.name);
        self.partitions -= topic.partitions.len();
        Some(topic)
    }
}
