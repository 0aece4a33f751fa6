//! What is different between two images: what the rooms above react to.

use crate::{Broker, Image, Plugin, Topic};
use millrace_model::{NodeId, ProducerId, TopicId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use uuid::Uuid;

/// One thing before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// It was not there.
    Added(T),
    /// It is not there any more.
    Removed(T),
    /// It is another one now.
    Changed {
        /// As it was.
        before: T,
        /// As it is.
        after: T,
    },
}

impl<T> Change<T> {
    /// What is there now.
    pub const fn after(&self) -> Option<&T> {
        match self {
            Self::Added(after) | Self::Changed { after, .. } => Some(after),
            Self::Removed(_) => None,
        }
    }

    /// What was there before.
    pub const fn before(&self) -> Option<&T> {
        match self {
            Self::Removed(before) | Self::Changed { before, .. } => Some(before),
            Self::Added(_) => None,
        }
    }

    fn of(before: Option<&T>, after: Option<&T>) -> Option<Self>
    where
        T: Clone + PartialEq,
    {
        match (before, after) {
            (None, Some(after)) => Some(Self::Added(after.clone())),
            (Some(before), None) => Some(Self::Removed(before.clone())),
            (Some(before), Some(after)) if before != after => {
                Some(Self::Changed { before: before.clone(), after: after.clone() })
            }
            _ => None,
        }
    }
}

/// All that is different between two images.
///
/// Topics are told apart by id: one that was deleted and created again under its name
/// is a `Removed` and an `Added`, and every `Removed` stands before every `Added`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// The index of the newer image.
    pub index: u64,
    /// The cluster's id, where it was given.
    pub cluster_id: Option<Arc<str>>,
    /// Topics that came, went or changed.
    pub topics: Vec<Change<Arc<Topic>>>,
    /// Brokers that came, went or changed.
    pub brokers: Vec<Change<Arc<Broker>>>,
    /// Plugins that came or went.
    pub plugins: Vec<Change<Arc<Plugin>>>,
    /// The cluster's broker configs, where they changed.
    pub cluster_config: Option<Arc<BTreeMap<String, String>>>,
    /// The configs of single brokers, where any changed.
    pub broker_configs: Option<Arc<BTreeMap<NodeId, BTreeMap<String, String>>>>,
    /// The configs of groups, where any changed.
    pub group_configs: Option<Arc<BTreeMap<String, BTreeMap<String, String>>>>,
    /// The first producer id that is free, where it moved.
    pub next_producer_id: Option<ProducerId>,
    /// The deleted topics that are remembered, where they changed.
    pub deleted: Option<Arc<VecDeque<TopicId>>>,
    /// The directories whose content was adopted, where any came.
    pub directories: Option<Arc<BTreeSet<Uuid>>>,
}

impl Delta {
    /// What changed from one image to a newer one. What both share costs nothing.
    pub fn between(old: &Image, new: &Image) -> Self {
        let mut topics = Vec::new();
        old.by_id.differences(&new.by_id, |before, after| match (before, after) {
            // An id used again under another name is another topic.
            (Some(before), Some(after)) if before.name != after.name => {
                topics.extend([Change::Removed(Arc::clone(before)), Change::Added(Arc::clone(after))]);
            }
            _ => topics.extend(Change::of(before, after)),
        });
        topics.sort_by_key(|change| !matches!(change, Change::Removed(_)));
        Self {
            index: new.index,
            cluster_id: new.cluster_id.clone().filter(|id| old.cluster_id.as_ref() != Some(id)),
            topics,
            brokers: maps(&old.brokers, &new.brokers),
            plugins: maps(&old.plugins, &new.plugins),
            cluster_config: (old.config != new.config).then(|| Arc::clone(&new.config)),
            broker_configs: (old.broker_configs != new.broker_configs).then(|| Arc::clone(&new.broker_configs)),
            group_configs: (old.group_configs != new.group_configs).then(|| Arc::clone(&new.group_configs)),
            next_producer_id: (old.next_producer_id != new.next_producer_id).then(|| new.next_producer_id()),
            deleted: (old.deleted != new.deleted).then(|| Arc::clone(&new.deleted)),
            directories: (old.directories != new.directories).then(|| Arc::clone(&new.directories)),
        }
    }

    /// Whether nothing but the index changed.
    pub fn is_empty(&self) -> bool {
        *self == Self { index: self.index, ..Self::default() }
    }

    /// The image that the older one becomes by this delta.
    #[must_use]
    pub fn applied_to(&self, old: &Image) -> Image {
        let mut image = Image { index: self.index, ..old.clone() };
        if let Some(id) = &self.cluster_id {
            image.cluster_id = Some(Arc::clone(id));
        }
        for change in &self.topics {
            match change {
                Change::Removed(topic) => drop(image.take_topic(topic.id)),
                Change::Added(topic) | Change::Changed { after: topic, .. } => image.put_topic(Arc::clone(topic)),
            }
        }
        let id_of = |broker: &Arc<Broker>| -> NodeId { broker.id() };
        patch(&mut image.brokers, &self.brokers, id_of);
        patch(&mut image.plugins, &self.plugins, |plugin| (plugin.name.clone(), plugin.version.clone()));
        if let Some(config) = &self.cluster_config {
            image.config = Arc::clone(config);
        }
        if let Some(configs) = &self.broker_configs {
            image.broker_configs = Arc::clone(configs);
        }
        if let Some(configs) = &self.group_configs {
            image.group_configs = Arc::clone(configs);
        }
        if let Some(next) = self.next_producer_id {
            image.next_producer_id = next.get();
        }
        if let Some(deleted) = &self.deleted {
            image.deleted = Arc::clone(deleted);
        }
        if let Some(directories) = &self.directories {
            image.directories = Arc::clone(directories);
        }
        image
    }
}

fn maps<K: Ord, V: PartialEq>(old: &Arc<BTreeMap<K, Arc<V>>>, new: &Arc<BTreeMap<K, Arc<V>>>) -> Vec<Change<Arc<V>>> {
    if Arc::ptr_eq(old, new) {
        return Vec::new();
    }
    let gone =
        old.iter().filter(|(key, _)| !new.contains_key(key)).filter_map(|(_, before)| Change::of(Some(before), None));
    gone.chain(new.iter().filter_map(|(key, after)| Change::of(old.get(key), Some(after)))).collect()
}

fn patch<K: Ord + Clone, V>(
    map: &mut Arc<BTreeMap<K, Arc<V>>>,
    changes: &[Change<Arc<V>>],
    key: impl Fn(&Arc<V>) -> K,
) {
    if changes.is_empty() {
        return;
    }
    let map = Arc::make_mut(map);
    for change in changes {
        match change {
            Change::Removed(before) => drop(map.remove(&key(before))),
            Change::Added(after) | Change::Changed { after, .. } => drop(map.insert(key(after), Arc::clone(after))),
        }
    }
}
