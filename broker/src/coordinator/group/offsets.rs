//! Offsets: stored, read, forgotten, expired.

use super::classic::{ClassicGroup, State, Token};
use super::machine::{Action, Group, GroupMachine, Kind, Now, Pending, Reply, Step};
use super::records::{GroupRecord, OffsetValue};
use super::timers::{Due, Key};
use super::types::{
    CommitPartition, CommitTopic, FetchedPartition, FetchedTopic, GroupError, OffsetCommit, OffsetDelete, OffsetFetch,
    TopicOutcome, TopicPartitions,
};
use millrace_model::{LeaderEpoch, Offset, Timestamp, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A group's name has to fit a record.
const LONGEST: usize = i16::MAX as usize;

impl GroupMachine {
    pub(super) fn commit(&mut self, token: Token, commit: OffsetCommit, now: Now) -> Step {
        if let Err(error) = self.validate_commit(&commit) {
            return Step::reply(token, Reply::Commit(Err(error)));
        }
        if let Some(mut scene) = self.scene(&commit.group, now)
            && matches!(scene.group.state(), State::Stable | State::PreparingRebalance)
        {
            scene.alive(&commit.member_id);
        }
        self.offset_records(token, commit, now)
    }

    /// Stores the offsets of a commit that is in order.
    pub(super) fn offset_records(&self, token: Token, commit: OffsetCommit, now: Now) -> Step {
        let expires_at = match commit.retention_time_ms {
            -1 => Timestamp::NONE,
            retention_ms => now.wall.plus_ms(retention_ms),
        };
        let mut records = Vec::new();
        let mut outcomes = Vec::with_capacity(commit.topics.len());
        for CommitTopic { name, id, partitions } in commit.topics {
            let mut outcome = Vec::with_capacity(partitions.len());
            for partition in partitions {
                if self.is_too_long(partition.metadata.as_deref()) {
                    outcome.push((partition.partition, Some(GroupError::OffsetMetadataTooLarge)));
                    continue;
                }
                outcome.push((partition.partition, None));
                records.push(offset_record(&commit.group, &name, id, partition, (now.wall, expires_at)));
            }
            outcomes.push(TopicOutcome { name, id, partitions: outcome });
        }
        answer_after(token, Reply::Commit(Ok(outcomes)), records)
    }

    fn validate_commit(&self, commit: &OffsetCommit) -> Result<(), GroupError> {
        if commit.group.len() > LONGEST {
            return Err(GroupError::InvalidGroupId);
        }
        let (member, instance) = (commit.member_id.as_str(), commit.instance_id.as_deref());
        match self.groups.get(&commit.group).map(|group| &group.kind) {
            Some(Kind::Classic(group)) => group.validate_commit(member, instance, commit.generation, false),
            Some(Kind::Consumer(group)) => group.validate_commit(commit, false, !commit.knows_group_id_not_found),
            // A consumer that manages its partitions itself needs no group to be there before.
            None if commit.generation < 0 => Ok(()),
            None if commit.knows_group_id_not_found => Err(GroupError::GroupIdNotFound),
            None => Err(GroupError::IllegalGeneration),
        }
    }

    /// Kafka counts the text in UTF-16 units.
    fn is_too_long(&self, metadata: Option<&str>) -> bool {
        let max = self.options.offset_metadata_max_bytes.min(LONGEST);
        metadata.is_some_and(|text| text.len() > max && (text.len() > LONGEST || text.encode_utf16().count() > max))
    }

    pub(super) fn fetch(&self, fetch: &OffsetFetch) -> Result<Vec<FetchedTopic>, GroupError> {
        let group = self.groups.get(&fetch.group);
        if let Some(consumer) = self.consumer_group(&fetch.group) {
            consumer.validate_fetch(fetch.member_id.as_deref(), fetch.member_epoch)?;
        }
        Ok(match &fetch.topics {
            Some(topics) => topics.iter().map(|topic| self.fetch_topic(group, fetch, topic)).collect(),
            None => {
                let mut topics = BTreeMap::<&Arc<str>, Vec<i32>>::new();
                for (topic, partition, _) in group.into_iter().flat_map(|group| group.offsets.all()) {
                    topics.entry(topic).or_default().push(partition);
                }
                let named = topics.into_iter().map(|(name, partitions)| TopicPartitions {
                    name: Arc::clone(name),
                    id: TopicId::NIL,
                    partitions,
                });
                named.map(|topic| self.fetch_topic(group, fetch, &topic)).collect()
            }
        })
    }

    fn fetch_topic(&self, group: Option<&Group>, fetch: &OffsetFetch, asked: &TopicPartitions) -> FetchedTopic {
        let fetched = asked.partitions.iter().map(|&partition| {
            let unstable = fetch.require_stable && self.is_undecided(&fetch.group, &asked.name, partition);
            let stored = group.and_then(|group| group.offsets.get(&asked.name, partition));
            let stored = stored.filter(|stored| {
                // An offset of a topic that was deleted means nothing in its successor.
                let theirs = stored.value.topic_id;
                !unstable && (asked.id == TopicId::NIL || theirs == TopicId::NIL || theirs == asked.id)
            });
            FetchedPartition {
                partition,
                offset: stored.map_or(Offset::new(-1), |stored| stored.value.offset),
                leader_epoch: stored.map_or(LeaderEpoch::NONE, |stored| stored.value.leader_epoch),
                metadata: stored.map(|stored| stored.value.metadata.clone()).unwrap_or_default(),
                error: unstable.then_some(GroupError::UnstableOffsetCommit),
            }
        });
        FetchedTopic { name: Arc::clone(&asked.name), id: asked.id, partitions: fetched.collect() }
    }

    /// Whether an open transaction has written an offset for this partition.
    fn is_undecided(&self, group: &Arc<str>, topic: &str, partition: i32) -> bool {
        let mut open = self.open_transactions.values().filter_map(|groups| groups.get(group));
        open.any(|offsets| offsets.get(topic, partition).is_some())
    }

    pub(super) fn delete_offsets(&mut self, token: Token, delete: &OffsetDelete) -> Step {
        let refused = |error| Step::reply(token, Reply::DeleteOffsets(Err(error)));
        if delete.group.is_empty() {
            return refused(GroupError::InvalidGroupId);
        }
        let Some(group) = self.groups.get(&delete.group) else { return refused(GroupError::GroupIdNotFound) };
        if !group.is_empty() && group.classic().is_some_and(|classic| !classic.is_consumer_group()) {
            return refused(GroupError::NonEmptyGroup);
        }
        let mut records = Vec::new();
        let mut outcomes = Vec::with_capacity(delete.topics.len());
        for TopicPartitions { name, id, partitions } in &delete.topics {
            let error = group.is_subscribed_to(name).then_some(GroupError::SubscribedToTopic);
            for &partition in partitions.iter().filter(|_| error.is_none()) {
                if group.offsets.get(name, partition).is_some() || self.is_undecided(&delete.group, name, partition) {
                    records.push(tombstone(&delete.group, name, partition));
                }
            }
            let partitions = partitions.iter().map(|&partition| (partition, error)).collect();
            outcomes.push(TopicOutcome { name: Arc::clone(name), id: *id, partitions });
        }
        answer_after(token, Reply::DeleteOffsets(Ok(outcomes)), records)
    }

    pub(super) fn delete_groups(&mut self, token: Token, groups: Vec<Arc<str>>) -> Step {
        let mut records = Vec::new();
        let mut results = Vec::with_capacity(groups.len());
        for id in groups {
            let error = match self.groups.get(&id) {
                None => Some(GroupError::GroupIdNotFound),
                Some(group) if !group.is_empty() => Some(GroupError::NonEmptyGroup),
                Some(group) => {
                    let mut keys: BTreeSet<_> =
                        group.offsets.all().map(|(topic, p, _)| (Arc::clone(topic), p)).collect();
                    for open in self.open_transactions.values().filter_map(|groups| groups.get(&id)) {
                        keys.extend(open.all().map(|(topic, p, _)| (Arc::clone(topic), p)));
                    }
                    records.extend(keys.iter().map(|(topic, partition)| tombstone(&id, topic, *partition)));
                    records.extend(group_tombstones(&id, group));
                    None
                }
            };
            results.push((id, error));
        }
        answer_after(token, Reply::DeleteGroups(results), records)
    }

    pub(super) fn topics_deleted(&mut self, token: Token, topics: &[Arc<str>]) -> Step {
        let mut keys = BTreeSet::new();
        let kept = self.groups.iter().map(|(id, group)| (id, &group.offsets));
        for (id, offsets) in kept.chain(self.open_transactions.values().flatten()) {
            let gone = offsets.all().filter(|(topic, ..)| topics.contains(topic));
            keys.extend(gone.map(|(topic, partition, _)| (Arc::clone(id), Arc::clone(topic), partition)));
        }
        let records = keys.iter().map(|(group, topic, partition)| tombstone(group, topic, *partition)).collect();
        answer_after(token, Reply::Done, records)
    }

    pub(super) fn expire_offsets(&mut self, now: Now) -> Step {
        let interval = self.options.offsets_retention_check_interval_ms;
        self.timers.set(Key::Expiry, now.tick.saturating_add(interval), Due::Expiry);
        let mut records = Vec::new();
        for (id, group) in &self.groups {
            let before = records.len();
            let total = group.offsets.all().count();
            let expired = group.offsets.all().filter(|(topic, partition, stored)| {
                !group.is_subscribed_to(topic)
                    && self.is_expired(group, &stored.value, now.wall)
                    && !self.is_undecided(id, topic, *partition)
            });
            records.extend(expired.map(|(topic, partition, _)| tombstone(id, topic, partition)));
            let in_transaction = self.open_transactions.values().any(|groups| groups.contains_key(id));
            let is_deserted = group.classic().map_or_else(|| group.is_empty(), ClassicGroup::is_deserted);
            if records.len() - before == total && !in_transaction && is_deserted {
                records.extend(group_tombstones(id, group));
            }
        }
        if !records.is_empty() {
            tracing::info!(records = records.len(), "expired offsets and empty groups are removed");
        }
        let pending = (!records.is_empty()).then(|| Pending::new(records, Vec::new(), Action::Apply));
        Step { replies: Vec::new(), pending }
    }

    fn is_expired(&self, group: &Group, value: &OffsetValue, now: Timestamp) -> bool {
        let unused_since = match &group.kind {
            Kind::Classic(classic) => classic.unused_since(value.committed_at),
            // The topics that members read are kept apart before.
            Kind::Consumer(_) => Some(value.committed_at),
        };
        let Some(unused_since) = unused_since else { return false };
        if value.expires_at.get() >= 0 {
            return now >= value.expires_at;
        }
        now.since(unused_since) >= self.options.offsets_retention_ms
    }
}

/// Answers at once where there is nothing to store.
fn answer_after(token: Token, reply: Reply, records: Vec<GroupRecord>) -> Step {
    if records.is_empty() {
        return Step::reply(token, reply);
    }
    Step { replies: Vec::new(), pending: Some(Pending::new(records, vec![(token, reply)], Action::Apply)) }
}

fn offset_record(
    group: &Arc<str>,
    topic: &Arc<str>,
    topic_id: TopicId,
    commit: CommitPartition,
    (committed_at, expires_at): (Timestamp, Timestamp),
) -> GroupRecord {
    let value = OffsetValue {
        offset: commit.offset,
        leader_epoch: commit.leader_epoch,
        metadata: commit.metadata.unwrap_or_default(),
        committed_at,
        expires_at,
        topic_id,
    };
    GroupRecord::Offset {
        group: Arc::clone(group),
        topic: Arc::clone(topic),
        partition: commit.partition,
        value: Some(value),
    }
}

/// The end of a group.
fn group_tombstones(id: &Arc<str>, group: &Group) -> Vec<GroupRecord> {
    match &group.kind {
        Kind::Classic(_) => vec![GroupRecord::Group { group: Arc::clone(id), value: None }],
        Kind::Consumer(consumer) => consumer.tombstones(id),
    }
}

fn tombstone(group: &Arc<str>, topic: &Arc<str>, partition: i32) -> GroupRecord {
    GroupRecord::Offset { group: Arc::clone(group), topic: Arc::clone(topic), partition, value: None }
}
