//! The offsets of a group, as the machine holds them.

use super::records::OffsetValue;
use millrace_model::Offset;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An offset, and where its record stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredOffset {
    pub value: OffsetValue,
    pub at: Offset,
}

/// The offsets of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OffsetStore {
    topics: BTreeMap<Arc<str>, BTreeMap<i32, StoredOffset>>,
}

impl OffsetStore {
    pub fn get(&self, topic: &str, partition: i32) -> Option<&StoredOffset> {
        self.topics.get(topic)?.get(&partition)
    }

    pub fn put(&mut self, topic: Arc<str>, partition: i32, stored: StoredOffset) {
        self.topics.entry(topic).or_default().insert(partition, stored);
    }

    pub fn remove(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    pub fn all(&self) -> impl Iterator<Item = (&Arc<str>, i32, &StoredOffset)> {
        self.topics.iter().flat_map(|(topic, partitions)| partitions.iter().map(move |(p, stored)| (topic, *p, stored)))
    }

    pub fn into_all(self) -> impl Iterator<Item = (Arc<str>, i32, StoredOffset)> {
        self.topics
            .into_iter()
            .flat_map(|(topic, partitions)| partitions.into_iter().map(move |(p, s)| (Arc::clone(&topic), p, s)))
    }
}
