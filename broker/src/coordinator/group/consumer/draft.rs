//! A consumer group as it would be once some records are committed, and these records.

use super::assign::{ASSIGNORS, Seat, Share, assign};
use super::group::{ConsumerGroup, ConsumerMember};
use super::regex;
use crate::coordinator::group::records::{
    ConsumerGroupValue, ConsumerMemberValue, ConsumerRecord, CurrentValue, GroupRecord, RegexValue, TargetEpochValue,
};
use crate::coordinator::group::types::{GroupError, GroupOptions};
use millrace_metadata::Image;
use millrace_model::Timestamp;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A group on paper. The group itself is copied only when something changes.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    id: &'a Arc<str>,
    image: &'a Image,
    group: Cow<'a, ConsumerGroup>,
    records: Vec<GroupRecord>,
}

impl<'a> Draft<'a> {
    pub fn new(id: &'a Arc<str>, group: Cow<'a, ConsumerGroup>, records: Vec<GroupRecord>, image: &'a Image) -> Self {
        Self { id, image, group, records }
    }

    pub fn group(&self) -> &ConsumerGroup {
        &self.group
    }

    pub fn into_records(self) -> Vec<GroupRecord> {
        self.records
    }

    /// Takes a record into the group and the records.
    pub fn push(&mut self, record: ConsumerRecord) {
        self.group.to_mut().apply(&record);
        self.push_last(record);
    }

    /// Takes a record that nothing on this draft depends on any more.
    pub fn push_last(&mut self, record: ConsumerRecord) {
        self.records.push(GroupRecord::Consumer { group: Arc::clone(self.id), record });
    }

    /// Writes down what a member says of itself, where that is new.
    pub fn tell(&mut self, member: &ConsumerMember, told: &ConsumerMemberValue) {
        let known = self.group.member(&member.id).is_some();
        if !known || member.told != *told {
            self.push(ConsumerRecord::Member(Arc::clone(&member.id), Some(told.clone())));
        }
    }

    pub fn remove(&mut self, member: &Arc<str>) {
        self.push(ConsumerRecord::Current(Arc::clone(member), None));
        self.push(ConsumerRecord::Target(Arc::clone(member), None));
        self.push(ConsumerRecord::Member(Arc::clone(member), None));
    }

    /// Gives a static member's place to a new id, with all it has and shall have.
    pub fn replace(&mut self, old: &ConsumerMember, new: Arc<str>) -> Arc<ConsumerMember> {
        let target = self.group.target(&old.id).cloned().unwrap_or_default();
        self.remove(&old.id);
        let current = CurrentValue { epoch: 0, previous_epoch: 0, ..old.current.clone() };
        self.push(ConsumerRecord::Member(Arc::clone(&new), Some(old.told.clone())));
        self.push(ConsumerRecord::Target(Arc::clone(&new), Some(Arc::unwrap_or_clone(target))));
        self.push(ConsumerRecord::Current(Arc::clone(&new), Some(current.clone())));
        Arc::new(ConsumerMember { id: new, told: old.told.clone(), current })
    }

    /// Brings the resolved expressions in line with those the members have, after one has changed its own, and with the
    /// topics where these may have changed. True where the subscription has changed with it.
    ///
    /// # Errors
    /// In words, why the new expression is none.
    pub fn follow_regexes(
        &mut self,
        (old, new): (&str, &str),
        topics_may_differ: bool,
        now: Timestamp,
    ) -> Result<bool, String> {
        if old != new {
            if !new.is_empty() && self.group.regex(new).is_none() {
                regex::compile(new)?;
                self.resolve(&new.into(), now);
            }
            self.drop_unused_regex(old);
        }
        let mut changed = old != new;
        if topics_may_differ {
            let known: Vec<(Arc<str>, Arc<RegexValue>)> =
                self.group.regexes().map(|(regex, value)| (Arc::clone(regex), Arc::clone(value))).collect();
            for (regex, value) in known {
                if value.topics != regex::topics_matching(&regex, self.image) {
                    self.resolve(&regex, now);
                    changed = true;
                }
            }
        }
        Ok(changed)
    }

    fn resolve(&mut self, regex: &Arc<str>, now: Timestamp) {
        let topics = regex::topics_matching(regex, self.image);
        let version = i64::try_from(self.image.index()).unwrap_or(i64::MAX);
        self.push(ConsumerRecord::Regex(Arc::clone(regex), Some(RegexValue { topics, version, at: now })));
    }

    /// Forgets an expression that nobody has any more.
    pub fn drop_unused_regex(&mut self, regex: &str) {
        if !regex.is_empty() && self.group.subscribers(regex) == 0 && self.group.regex(regex).is_some() {
            self.push(ConsumerRecord::Regex(regex.into(), None));
        }
    }

    /// The next epoch begins, where it has to or the topics are no longer what they were. True where it does.
    pub fn renew(&mut self, must: bool, topics_may_differ: bool) -> bool {
        if !must && !topics_may_differ {
            return false;
        }
        let metadata_hash = self.group.hash_of_topics(self.image);
        let begins = must || metadata_hash != self.group.value.metadata_hash;
        if begins {
            // As Kafka counts: a group that begins with topics that exist has had an epoch without any.
            let is_first = self.group.value.epoch == 0 && metadata_hash != self.group.value.metadata_hash;
            let epoch = self.group.value.epoch.saturating_add(if is_first { 2 } else { 1 });
            tracing::info!(group = %self.id, epoch, members = self.group.members().len(), "consumer group's epoch begins");
            self.push(ConsumerRecord::Group(Some(ConsumerGroupValue { epoch, metadata_hash })));
        }
        if self.group.has_topics_record {
            self.push(ConsumerRecord::Topics { kept: false });
        }
        begins
    }

    /// Assigns for the group's epoch, where that is not done and the last time is long enough ago; otherwise a later
    /// heartbeat will.
    pub fn retarget(&mut self, options: &GroupOptions, now: Timestamp) {
        let group = &*self.group;
        let last = group.target_at;
        if group.target_epoch >= group.value.epoch
            || last.get() != 0 && now < last.plus_ms(options.consumer_assignment_interval_ms)
        {
            return;
        }
        let epoch = group.value.epoch;
        let known = |name: &&str| options.consumer_assignors.iter().any(|known| known == name);
        let assignor = group.preferred_assignor().filter(known);
        let assignor = assignor.or(options.consumer_assignors.first().map(String::as_str)).unwrap_or(ASSIGNORS[0]);
        let (seats, shares) = self.table();
        let given = assign(assignor, &seats, &shares);
        tracing::info!(group = %self.id, epoch, assignor, members = seats.len(), topics = shares.len(), "assigned");
        for (seat, given) in seats.into_iter().zip(given) {
            if self.group.target(&seat.member).is_none_or(|before| **before != given) {
                self.push(ConsumerRecord::Target(seat.member, Some(given)));
            }
        }
        self.push(ConsumerRecord::TargetEpoch(Some(TargetEpochValue { epoch, at: now })));
    }

    /// Who gets what: the members, and the topics that somebody reads and that exist.
    fn table(&self) -> (Vec<Seat>, Vec<Share>) {
        let group = &*self.group;
        let seat = |member: &Arc<ConsumerMember>| Seat {
            member: Arc::clone(&member.id),
            instance: member.told.instance_id.clone(),
            before: group.target(&member.id).cloned().unwrap_or_default(),
        };
        let mut readers = BTreeMap::<&str, Vec<usize>>::new();
        for (place, member) in group.members().enumerate() {
            let matched = group.regex(&member.told.regex).into_iter().flat_map(|regex| regex.topics.iter());
            let topics: BTreeSet<&str> = member.told.topics.iter().chain(matched).map(String::as_str).collect();
            for topic in topics {
                readers.entry(topic).or_default().push(place);
            }
        }
        let share = |(name, readers): (&str, Vec<usize>)| {
            let topic = self.image.topic(name)?;
            let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            Some(Share { topic: topic.id, partitions, readers })
        };
        (group.members().map(seat).collect(), readers.into_iter().filter_map(share).collect())
    }

    /// Whether there is room for a member.
    pub fn check_room(&self, member: &str, options: &GroupOptions) -> Result<(), GroupError> {
        let is_full = self.group.members().len() >= options.consumer_max_size;
        if is_full && self.group.member(member).is_none() { Err(GroupError::GroupMaxSizeReached) } else { Ok(()) }
    }
}
