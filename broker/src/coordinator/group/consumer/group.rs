//! One consumer group as data, and what its records do to it.

use crate::coordinator::group::records::{
    ConsumerGroupValue, ConsumerMemberValue, ConsumerRecord, CurrentValue, Epochs, GroupRecord, MemberState,
    Partitions, RegexValue, TargetEpochValue,
};
use crate::coordinator::group::types::{GroupError, OffsetCommit};
use millrace_metadata::Image;
use millrace_model::{Timestamp, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The epoch that says of a static member that it has left for a while.
pub const AWAY: i32 = -2;
/// The epoch that says of a member that it has left.
pub const LEFT: i32 = -1;

/// One member: what it says of itself, and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMember {
    /// Its id.
    pub id: Arc<str>,
    /// What it says of itself.
    pub told: ConsumerMemberValue,
    /// What it has.
    pub current: CurrentValue,
}

impl ConsumerMember {
    /// A member that has said nothing yet.
    pub fn new(id: Arc<str>) -> Self {
        let told = ConsumerMemberValue { rebalance_timeout_ms: -1, ..ConsumerMemberValue::default() };
        Self { id, told, current: CurrentValue::default() }
    }

    /// Whether it speaks the classic protocol.
    pub const fn is_classic(&self) -> bool {
        self.told.classic.is_some()
    }

    /// Whether it has all it is to have in this epoch.
    pub fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.current.state == MemberState::Stable && self.current.epoch == epoch
    }

    /// What a member with another epoch than ours hears, by the protocol it speaks.
    pub const fn stale(&self) -> GroupError {
        if self.is_classic() { GroupError::IllegalGeneration } else { GroupError::StaleMemberEpoch }
    }

    /// Whether a commit from an older epoch is right for a partition: it is where the member has had it since
    /// (KIP-1251).
    ///
    /// # Errors
    /// What the member hears where it is not.
    fn may_commit(&self, topic: TopicId, partition: i32, epoch: i32) -> Result<(), GroupError> {
        let since = |epochs: &Epochs| epochs.get(&topic).and_then(|partitions| partitions.get(&partition)).copied();
        match since(&self.current.assigned).or_else(|| since(&self.current.revoking)) {
            Some(since) if epoch >= since => Ok(()),
            _ => Err(self.stale()),
        }
    }
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroup {
    /// Its epoch, and the topics it was made for.
    pub value: ConsumerGroupValue,
    /// The epoch the targets are for; 0 before the first.
    pub target_epoch: i32,
    /// When they were computed; 0 if unknown.
    pub target_at: Timestamp,
    members: BTreeMap<Arc<str>, Arc<ConsumerMember>>,
    targets: BTreeMap<Arc<str>, Arc<Partitions>>,
    static_members: BTreeMap<String, Arc<str>>,
    /// Who has, or has yet to give up, each partition.
    owners: BTreeMap<TopicId, BTreeMap<i32, Arc<str>>>,
    regexes: BTreeMap<Arc<str>, Arc<RegexValue>>,
    /// A record of older brokers that has to go.
    pub has_topics_record: bool,
}

impl Default for ConsumerGroup {
    fn default() -> Self {
        Self {
            value: ConsumerGroupValue::default(),
            target_epoch: 0,
            target_at: Timestamp::new(0),
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            static_members: BTreeMap::new(),
            owners: BTreeMap::new(),
            regexes: BTreeMap::new(),
            has_topics_record: false,
        }
    }
}

impl ConsumerGroup {
    /// Its members by id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Arc<ConsumerMember>> + Clone {
        self.members.values()
    }

    /// A member by its id.
    pub fn member(&self, id: &str) -> Option<&Arc<ConsumerMember>> {
        self.members.get(id)
    }

    /// A static member by its instance id.
    pub fn static_member(&self, instance: &str) -> Option<&Arc<ConsumerMember>> {
        self.members.get(self.static_members.get(instance)?)
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What a member shall have.
    pub fn target(&self, member: &str) -> Option<&Arc<Partitions>> {
        self.targets.get(member)
    }

    /// All targets.
    pub fn targets(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Partitions>)> {
        self.targets.iter()
    }

    /// The expressions that members subscribe to, as far as they are resolved.
    pub fn regexes(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Arc<RegexValue>)> {
        self.regexes.iter()
    }

    /// What an expression matched.
    pub fn regex(&self, regex: &str) -> Option<&Arc<RegexValue>> {
        self.regexes.get(regex)
    }

    /// How many members subscribe to an expression.
    pub fn subscribers(&self, regex: &str) -> usize {
        self.members().filter(|member| member.told.regex == regex).count()
    }

    /// Whether somebody owns a partition.
    pub fn is_owned(&self, topic: TopicId, partition: i32) -> bool {
        self.owners.get(&topic).is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// Kafka's name for the state it is in.
    pub fn state(&self) -> &'static str {
        if self.is_empty() {
            "Empty"
        } else if self.value.epoch > self.target_epoch {
            "Assigning"
        } else if self.members().all(|member| member.is_reconciled_to(self.target_epoch)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Whether this member reads this topic.
    pub fn reads(&self, member: &ConsumerMember, topic: &str) -> bool {
        let matches = || self.regexes.get(member.told.regex.as_str()).is_some_and(|known| known.topics.contains(topic));
        member.told.topics.contains(topic) || !member.told.regex.is_empty() && matches()
    }

    /// Whether any member reads this topic.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members().any(|member| self.reads(member, topic))
    }

    /// Every topic that some member reads, whether it exists or not.
    pub fn subscribed(&self) -> BTreeSet<&str> {
        let named = self.members().flat_map(|member| member.told.topics.iter());
        let matched = self.regexes.values().flat_map(|regex| regex.topics.iter());
        named.chain(matched).map(String::as_str).collect()
    }

    /// A number that changes when a topic that is read comes, goes or grows. It is our own: Kafka counts racks in too and
    /// would only assign anew.
    pub fn hash_of_topics(&self, image: &Image) -> i64 {
        // FNV-1a, which is the same everywhere.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut any = false;
        for topic in self.subscribed().into_iter().filter_map(|name| image.topic(name)) {
            any = true;
            let count = topic.partitions.len() as u64;
            for byte in topic.id.get().as_bytes().iter().chain(&count.to_be_bytes()) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        if any { hash as i64 } else { 0 }
    }

    /// The assignor most members would like, if any has said so; the first of equals by name.
    pub fn preferred_assignor(&self) -> Option<&str> {
        let mut votes = BTreeMap::<&str, usize>::new();
        for name in self.members().filter_map(|member| member.told.assignor.as_deref()) {
            *votes.entry(name).or_default() += 1;
        }
        let mut best: Option<(&str, usize)> = None;
        for (name, count) in votes {
            if best.is_none_or(|(_, most)| count > most) {
                best = Some((name, count));
            }
        }
        best.map(|(name, _)| name)
    }

    /// Whether all members but these speak the classic protocol, and these do not.
    pub fn are_all_classic_but(&self, leaving: &[Arc<str>]) -> bool {
        self.members().all(|member| member.is_classic() != leaving.contains(&member.id))
    }

    /// Whether a member with these classic protocols can be in the group with the other members of its kind.
    pub fn supports<'a>(&self, mut protocols: impl Iterator<Item = &'a str>) -> bool {
        let sides: Vec<_> = self.members().filter_map(|member| member.told.classic.as_ref()).collect();
        protocols.any(|name| sides.iter().all(|side| side.protocols.iter().any(|offered| offered.name == name)))
    }

    /// Whether the member still waits for partitions that others have.
    pub fn waits_for_others(&self, member: &ConsumerMember) -> bool {
        let Some(target) = self.target(&member.id) else { return false };
        let has = |topic, partition| {
            member.current.assigned.get(topic).is_some_and(|has: &BTreeMap<i32, i32>| has.contains_key(partition))
        };
        member.current.state == MemberState::UnreleasedPartitions
            && target.iter().any(|(topic, partitions)| {
                partitions.iter().any(|partition| !has(topic, partition) && self.is_owned(*topic, *partition))
            })
    }

    /// Whether the group may store these offsets. Where the member's epoch has gone on since, the member must have had each
    /// partition in the epoch that it names.
    ///
    /// # Errors
    /// What the member is to be told instead.
    pub fn validate_commit(
        &self,
        commit: &OffsetCommit,
        transactional: bool,
        is_old_request: bool,
    ) -> Result<(), GroupError> {
        let (epoch, member_id) = (commit.generation, commit.member_id.as_str());
        if epoch < 0 && self.is_empty() {
            return Ok(());
        }
        if transactional && epoch == -1 && member_id.is_empty() && commit.instance_id.is_none() {
            return Ok(());
        }
        let member = self.member(member_id).ok_or(GroupError::UnknownMemberId)?;
        if !transactional && !member.is_classic() && is_old_request {
            return Err(GroupError::UnsupportedVersion);
        }
        match epoch.cmp(&member.current.epoch) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(member.stale()),
            std::cmp::Ordering::Less => commit.topics.iter().try_for_each(|topic| {
                topic.partitions.iter().try_for_each(|of| member.may_commit(topic.id, of.partition, epoch))
            }),
        }
    }

    /// Whether the group may tell its offsets to this member.
    ///
    /// # Errors
    /// What it is to be told instead.
    pub fn validate_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), GroupError> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = self.member(member_id.unwrap_or_default()).ok_or(GroupError::UnknownMemberId)?;
        if member.current.epoch == epoch { Ok(()) } else { Err(member.stale()) }
    }

    /// Takes a record. False where the group is gone with it.
    pub fn apply(&mut self, record: &ConsumerRecord) -> bool {
        match record {
            ConsumerRecord::Group(Some(value)) => self.value = *value,
            ConsumerRecord::Group(None) => return false,
            ConsumerRecord::Topics { kept } => self.has_topics_record = *kept,
            ConsumerRecord::Member(id, Some(told)) => self.tell(id, told),
            ConsumerRecord::Member(id, None) => self.remove(id),
            ConsumerRecord::TargetEpoch(Some(TargetEpochValue { epoch, at })) => {
                (self.target_epoch, self.target_at) = (*epoch, *at);
            }
            ConsumerRecord::TargetEpoch(None) => (self.target_epoch, self.target_at) = (0, Timestamp::new(0)),
            ConsumerRecord::Target(id, Some(target)) => {
                self.targets.insert(Arc::clone(id), Arc::new(target.clone()));
            }
            ConsumerRecord::Target(id, None) => {
                self.targets.remove(id);
            }
            ConsumerRecord::Current(id, Some(current)) => self.hold(id, current.clone()),
            ConsumerRecord::Current(id, None) => {
                if self.members.contains_key(id) {
                    self.hold(id, CurrentValue { epoch: LEFT, previous_epoch: LEFT, ..CurrentValue::default() });
                }
            }
            ConsumerRecord::Regex(regex, Some(value)) => {
                self.regexes.insert(Arc::clone(regex), Arc::new(value.clone()));
            }
            ConsumerRecord::Regex(regex, None) => {
                self.regexes.remove(regex);
            }
        }
        true
    }

    fn tell(&mut self, id: &Arc<str>, told: &ConsumerMemberValue) {
        let member =
            self.members.entry(Arc::clone(id)).or_insert_with(|| Arc::new(ConsumerMember::new(Arc::clone(id))));
        if let Some(before) = &member.told.instance_id
            && self.static_members.get(before) == Some(id)
        {
            self.static_members.remove(before);
        }
        Arc::make_mut(member).told = told.clone();
        if let Some(instance) = &told.instance_id {
            self.static_members.insert(instance.clone(), Arc::clone(id));
        }
    }

    fn hold(&mut self, id: &Arc<str>, current: CurrentValue) {
        let member =
            self.members.entry(Arc::clone(id)).or_insert_with(|| Arc::new(ConsumerMember::new(Arc::clone(id))));
        release(&mut self.owners, member);
        for (topic, partitions) in current.assigned.iter().chain(&current.revoking) {
            let owners = self.owners.entry(*topic).or_default();
            owners.extend(partitions.keys().map(|partition| (*partition, Arc::clone(id))));
        }
        Arc::make_mut(member).current = current;
    }

    fn remove(&mut self, id: &Arc<str>) {
        let Some(member) = self.members.remove(id) else { return };
        release(&mut self.owners, &member);
        if let Some(instance) = &member.told.instance_id
            && self.static_members.get(instance) == Some(id)
        {
            self.static_members.remove(instance);
        }
    }
}

impl ConsumerGroup {
    /// Everything that is stored of a group, undone; the members' records first.
    pub fn tombstones(&self, id: &Arc<str>) -> Vec<GroupRecord> {
        let group = self;
        let ids: Vec<Arc<str>> = group.members().map(|member| Arc::clone(&member.id)).collect();
        let of_members = ids.iter().flat_map(|id| {
            [ConsumerRecord::Current(Arc::clone(id), None), ConsumerRecord::Target(Arc::clone(id), None)]
        });
        let mut records: Vec<ConsumerRecord> = of_members.collect();
        // A target may have outlived its member in a log that an older broker wrote.
        let left = group.targets().filter(|(id, _)| group.member(id).is_none());
        records.extend(left.map(|(id, _)| ConsumerRecord::Target(Arc::clone(id), None)));
        records.push(ConsumerRecord::TargetEpoch(None));
        records.extend(ids.iter().map(|id| ConsumerRecord::Member(Arc::clone(id), None)));
        if group.has_topics_record {
            records.push(ConsumerRecord::Topics { kept: false });
        }
        records.extend(group.regexes().map(|(regex, _)| ConsumerRecord::Regex(Arc::clone(regex), None)));
        records.push(ConsumerRecord::Group(None));
        records.into_iter().map(|record| GroupRecord::Consumer { group: Arc::clone(id), record }).collect()
    }
}

fn release(owners: &mut BTreeMap<TopicId, BTreeMap<i32, Arc<str>>>, member: &ConsumerMember) {
    for (topic, partitions) in member.current.assigned.iter().chain(&member.current.revoking) {
        if let Some(known) = owners.get_mut(topic) {
            known.retain(|partition, owner| !(partitions.contains_key(partition) && *owner == member.id));
            if known.is_empty() {
                owners.remove(topic);
            }
        }
    }
}
