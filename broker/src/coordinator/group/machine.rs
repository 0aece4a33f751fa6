//! The groups of one offsets partition as a pure state machine.
//!
//! ```text
//! (request, now) ──▶ handle ──▶ Step { replies, pending: records + what follows from them }
//!                                          │ the runtime appends the records and waits for the commit
//!                                          ▼
//!                               conclude(pending, outcome, now) ──▶ Step …
//! ```
//! Invariants:
//! - Nothing here waits, reads a clock, draws a random number or touches a log.
//! - Between a step with pending records and its `conclude` the runtime hands in nothing but further offset commits
//!   ([`Request::is_commit`]): these only read a group's membership, so many of them share one append.
//! - Offsets change when their records are committed, never before. Membership changes at once, as members see it in
//!   the answers; what must be undone where the append fails stands in the [`Action`].
//! - Every token handed in comes back in exactly one reply, in time.

use super::classic::{ClassicGroup, State, Token};
use super::consumer::ConsumerGroup;
use super::offset_store::{OffsetStore, StoredOffset};
use super::records::{ConsumerRecord, GroupRecord};
use super::timers::{Due, Key, Tick, Timers};
use super::types::{GroupError, GroupOptions, JoinRefused};
use crate::coordinator::runtime::machine::Envelope;
use bytes::Bytes;
use millrace_metadata::Image;
use millrace_model::{Offset, ProducerId, Timestamp};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use super::request::{Reply, Request};
pub use crate::coordinator::runtime::machine::Now;

/// What one request, or one deadline, leads to.
pub type Step = crate::coordinator::runtime::machine::Step<Reply, Pending>;

/// Where the cluster's topics are looked up.
pub trait Images: Send + Sync + fmt::Debug {
    /// The facts as they are now.
    fn image(&self) -> Arc<Image>;
}

/// Records on their way into the log.
#[derive(Debug)]
pub struct Pending {
    /// The records, in order.
    pub records: Vec<GroupRecord>,
    /// What the batch around them is.
    pub envelope: Envelope,
    held: Vec<(Token, Reply)>,
    action: Action,
}

impl Pending {
    pub(super) fn new(records: Vec<GroupRecord>, held: Vec<(Token, Reply)>, action: Action) -> Self {
        Self { records, envelope: Envelope::Plain, held, action }
    }

    pub(super) fn set_action(&mut self, action: Action) {
        self.action = action;
    }

    pub(super) fn hold(&mut self, replies: Vec<(Token, Reply)>) {
        self.held.extend(replies);
    }
}

/// What is done once the log has spoken.
#[derive(Debug)]
pub(super) enum Action {
    /// The state is in place already and stays, stored or not.
    Keep,
    /// The records are the change.
    Apply,
    /// The records are the change, once the producer's transaction commits.
    ApplyInTransaction { producer: ProducerId },
    /// A producer's transaction has ended.
    EndTransaction { producer: ProducerId, committed: bool },
    /// A group was created; without its record it goes away again.
    Create { group: Arc<str> },
    /// The leader's assignment.
    Assign { group: Arc<str>, generation: i32, assignment: BTreeMap<String, Bytes> },
    /// A consumer group becomes a classic group, and may have to rebalance.
    Downgrade { group: Arc<str>, rebalance: bool },
    /// A static member came back under a new id.
    Replace(Box<Replacement>),
}

/// How a static member's place was taken, and how to give it back.
#[derive(Debug)]
pub(super) struct Replacement {
    pub group: Arc<str>,
    pub instance: String,
    pub old: String,
    pub new: String,
    pub before: super::classic::Member,
    pub leader_before: Option<String>,
    pub supports_skipping_assignment: bool,
}

/// The protocol a group speaks, with its members.
#[derive(Debug)]
pub(super) enum Kind {
    Classic(Box<ClassicGroup>),
    Consumer(Box<ConsumerGroup>),
}

/// A group and its offsets.
#[derive(Debug)]
pub(super) struct Group {
    pub kind: Kind,
    pub offsets: OffsetStore,
    /// The index of the metadata that a consumer group was last held against.
    pub seen: u64,
}

impl Group {
    /// A classic group that nobody has joined.
    pub fn new(now: Timestamp) -> Self {
        Self { kind: Kind::Classic(Box::new(ClassicGroup::new(now))), offsets: OffsetStore::default(), seen: 0 }
    }

    pub fn classic(&self) -> Option<&ClassicGroup> {
        match &self.kind {
            Kind::Classic(classic) => Some(classic),
            Kind::Consumer(_) => None,
        }
    }

    pub fn classic_mut(&mut self) -> Option<&mut ClassicGroup> {
        match &mut self.kind {
            Kind::Classic(classic) => Some(classic),
            Kind::Consumer(_) => None,
        }
    }

    /// Kafka's name for the group's state.
    pub fn state(&self) -> &'static str {
        match &self.kind {
            Kind::Classic(classic) => classic.state().name(),
            Kind::Consumer(consumer) => consumer.state(),
        }
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Classic(classic) => classic.state() == State::Empty,
            Kind::Consumer(consumer) => consumer.is_empty(),
        }
    }

    /// Whether members read this topic.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.kind {
            Kind::Classic(classic) => classic.is_subscribed_to(topic),
            Kind::Consumer(consumer) => consumer.is_subscribed_to(topic),
        }
    }
}

/// The groups of one offsets partition.
#[derive(Debug)]
pub struct GroupMachine {
    pub(super) options: GroupOptions,
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    /// Offsets written in transactions that are still open.
    pub(super) open_transactions: BTreeMap<ProducerId, BTreeMap<Arc<str>, OffsetStore>>,
    pub(super) timers: Timers,
    pub(super) images: Arc<dyn Images>,
}

impl GroupMachine {
    /// A machine without groups.
    pub fn new(options: GroupOptions, images: Arc<dyn Images>) -> Self {
        let timers = Timers::default();
        Self { options, groups: BTreeMap::new(), open_transactions: BTreeMap::new(), timers, images }
    }

    /// Takes a request.
    pub fn handle(&mut self, token: Token, request: Request, now: Now) -> Step {
        match request {
            Request::Join(join) => self.join(token, *join, now),
            Request::Sync(sync) if self.consumer_group(&sync.group).is_some() => {
                Step::reply(token, Reply::Sync(self.sync_consumer_group(&sync, now)))
            }
            Request::Sync(sync) => self.sync(token, sync, now),
            Request::Heartbeat(beat) if self.consumer_group(&beat.group).is_some() => {
                Step::reply(token, Reply::Heartbeat(self.beat_consumer_group(&beat, now)))
            }
            Request::Heartbeat(beat) => Step::reply(token, Reply::Heartbeat(self.heartbeat(&beat, now))),
            Request::Leave(leave) if self.consumer_group(&leave.group).is_some() => {
                self.leave_consumer_group(token, leave)
            }
            Request::Leave(leave) => self.leave(token, leave, now),
            Request::ConsumerHeartbeat(beat) => self.consumer_heartbeat(token, *beat, now),
            Request::DescribeConsumer(groups) => {
                Step::reply(token, Reply::DescribeConsumer(self.describe_consumer(&groups)))
            }
            Request::Commit(commit) => self.commit(token, commit, now),
            Request::CommitInTransaction(commit) => self.commit_in_transaction(token, commit, now),
            Request::EndTransaction(end) => Self::transaction_ends(token, end),
            Request::Fetch(fetch) => Step::reply(token, Reply::Fetch(self.fetch(&fetch))),
            Request::DeleteOffsets(delete) => self.delete_offsets(token, &delete),
            Request::DeleteGroups(groups) => self.delete_groups(token, groups),
            Request::List { states, types } => Step::reply(token, Reply::List(Ok(self.list(&states, &types)))),
            Request::Describe(groups) => Step::reply(token, Reply::Describe(self.describe(&groups))),
            Request::TopicsDeleted(topics) => self.topics_deleted(token, &topics),
        }
    }

    /// When [`Self::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Tick> {
        self.timers.next()
    }

    /// Handles one deadline that has been reached; none once all are.
    pub fn expire(&mut self, now: Now) -> Option<Step> {
        let (key, due) = self.timers.pop(now.tick)?;
        Some(match (key, due) {
            (Key::Session(group, member), _) if self.consumer_group(&group).is_some() => {
                self.consumer_overdue(&group, &member, None, "its session expired")
            }
            (Key::Session(group, member), _) => self.session_expired(&group, &member, now),
            (Key::Revocation(group, member), Due::Revocation { epoch }) => {
                self.consumer_overdue(&group, &member, Some(epoch), "it did not give up its partitions in time")
            }
            (Key::Rejoin(group, member), _) => {
                self.consumer_overdue(&group, &member, None, "it did not join again in time")
            }
            (Key::MemberSync(group, member), _) => {
                self.consumer_overdue(&group, &member, None, "it did not sync in time")
            }
            (Key::Join(group), due) => self.join_expired(&group, due, now),
            (Key::Sync(group), Due::Sync { generation }) => self.sync_expired(&group, generation, now),
            (Key::Expiry, _) => self.expire_offsets(now),
            (Key::Sync(_) | Key::Revocation(..), _) => Step::default(),
        })
    }

    /// Goes on after an append: with the offset of its first record, or with the reason why there is none.
    pub fn conclude(&mut self, pending: Pending, outcome: Result<Offset, GroupError>, now: Now) -> Step {
        let Pending { records, held, action, .. } = pending;
        let mut step = match (action, outcome) {
            (Action::Keep, _)
            | (
                Action::Apply
                | Action::Downgrade { .. }
                | Action::ApplyInTransaction { .. }
                | Action::EndTransaction { .. },
                Err(_),
            )
            | (Action::Create { .. }, Ok(_)) => Step::default(),
            (Action::ApplyInTransaction { producer }, Ok(base)) => {
                for (record, delta) in records.into_iter().zip(0..) {
                    self.apply(record, base.plus(delta), producer, now);
                }
                Step::default()
            }
            (Action::EndTransaction { producer, committed }, Ok(_)) => {
                self.end_transaction(producer, committed);
                Step::default()
            }
            (Action::Apply, Ok(base)) => {
                self.apply_all(records, base, now);
                Step::default()
            }
            (Action::Downgrade { group, rebalance }, Ok(base)) => {
                self.apply_all(records, base, now);
                self.downgrade(&group, rebalance, now)
            }
            (Action::Create { group }, Err(error)) => self.creation_failed(&group, error, now),
            (Action::Assign { group, generation, assignment }, outcome) => {
                self.assigned(&group, generation, assignment, outcome.err(), now)
            }
            (Action::Replace(replacement), outcome) => self.replaced(*replacement, outcome.err(), now),
        };
        let released = held.into_iter().map(|(token, reply)| match outcome {
            Ok(_) => (token, reply),
            Err(error) => (token, reply.failed(error)),
        });
        step.replies.extend(released);
        step
    }

    fn apply_all(&mut self, records: Vec<GroupRecord>, base: Offset, now: Now) {
        for (record, delta) in records.into_iter().zip(0..) {
            self.apply(record, base.plus(delta), ProducerId::NONE, now);
        }
    }

    /// Takes a record from the log. Records of an open transaction wait for [`Self::end_transaction`].
    pub fn apply(&mut self, record: GroupRecord, at: Offset, producer: ProducerId, now: Now) {
        match record {
            GroupRecord::Offset { group, topic, partition, value: Some(value) } => {
                let stored = StoredOffset { value, at };
                self.groups.entry(Arc::clone(&group)).or_insert_with(|| Group::new(now.wall));
                if producer.is_some() {
                    let open = self.open_transactions.entry(producer).or_default();
                    open.entry(group).or_default().put(topic, partition, stored);
                } else if let Some(group) = self.groups.get_mut(&group) {
                    group.offsets.put(topic, partition, stored);
                }
            }
            GroupRecord::Offset { group, topic, partition, value: None } => {
                if let Some(known) = self.groups.get_mut(&group) {
                    known.offsets.remove(&topic, partition);
                }
                for open in self.open_transactions.values_mut() {
                    if let Some(offsets) = open.get_mut(&group) {
                        offsets.remove(&topic, partition);
                    }
                }
            }
            GroupRecord::Group { group, value: Some(value) } => {
                let kind = Kind::Classic(Box::new(ClassicGroup::from_record(&value)));
                self.groups.entry(group).or_insert_with(|| Group::new(now.wall)).kind = kind;
            }
            GroupRecord::Group { group, value: None } => {
                if self.groups.get(&group).is_some_and(|group| group.classic().is_some()) {
                    self.timers.cancel_phases(&group);
                    self.forget(&group, now);
                }
            }
            GroupRecord::Consumer { group, record } => self.apply_to_consumer_group(&group, &record, now),
            GroupRecord::Other { .. } => {}
        }
    }

    /// A transaction was decided: its offsets count, or never were. An offset committed after them stays.
    pub fn end_transaction(&mut self, producer: ProducerId, committed: bool) {
        let Some(open) = self.open_transactions.remove(&producer).filter(|_| committed) else { return };
        for (group, offsets) in open {
            let Some(known) = self.groups.get_mut(&group) else { continue };
            for (topic, partition, stored) in offsets.into_all() {
                if known.offsets.get(&topic, partition).is_none_or(|before| before.at < stored.at) {
                    known.offsets.put(topic, partition, stored);
                }
            }
        }
    }

    /// The log has been replayed: members' sessions begin anew.
    pub fn loaded(&mut self, now: Now) -> Vec<Step> {
        let interval = self.options.offsets_retention_check_interval_ms;
        self.timers.set(Key::Expiry, now.tick.saturating_add(interval), Due::Expiry);
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        let mut steps = Vec::new();
        for id in ids {
            self.expect_consumers(&id, now);
            let Some(mut scene) = self.scene(&id, now) else { continue };
            let members: Vec<(String, i32)> =
                scene.group.members().map(|(id, member)| (id.clone(), member.session_timeout_ms)).collect();
            for (member, timeout_ms) in &members {
                scene.watch(member, *timeout_ms);
            }
            // The allowed size may have been lowered meanwhile.
            if members.len() > scene.options.max_size {
                scene.prepare_rebalance();
                steps.push(scene.step);
            }
        }
        steps
    }

    fn apply_to_consumer_group(&mut self, id: &Arc<str>, record: &ConsumerRecord, now: Now) {
        let is_consumer_group = self.consumer_group(id).is_some();
        if !is_consumer_group && record.is_tombstone() {
            return;
        }
        let group = self.groups.entry(Arc::clone(id)).or_insert_with(|| Group::new(now.wall));
        if !is_consumer_group {
            group.kind = Kind::Consumer(Box::default());
            group.seen = 0;
        }
        if let Kind::Consumer(consumer) = &mut group.kind
            && !consumer.apply(record)
        {
            self.forget(id, now);
        }
    }

    /// A group is gone; if it has offsets these remain, as those of a consumer without a group.
    fn forget(&mut self, id: &Arc<str>, now: Now) {
        let in_transaction = self.open_transactions.values().any(|groups| groups.contains_key(id));
        match self.groups.get_mut(id) {
            Some(group) if in_transaction || group.offsets.all().next().is_some() => {
                group.kind = Group::new(now.wall).kind;
            }
            _ => drop(self.groups.remove(id)),
        }
    }

    /// A consumer group has become a classic group.
    fn downgrade(&mut self, id: &Arc<str>, rebalance: bool, now: Now) -> Step {
        let Some(mut scene) = self.scene(id, now) else { return Step::default() };
        let members: Vec<(String, i32)> =
            scene.group.members().map(|(id, member)| (id.clone(), member.session_timeout_ms)).collect();
        for (member, timeout_ms) in &members {
            scene.watch(member, *timeout_ms);
        }
        if rebalance {
            scene.prepare_rebalance();
        }
        scene.step
    }

    fn creation_failed(&mut self, group: &Arc<str>, error: GroupError, now: Now) -> Step {
        let mut step = Step::default();
        if let Some(gone) = self.groups.get_mut(group).and_then(Group::classic_mut) {
            self.timers.cancel_phases(group);
            let ids: Vec<String> = gone.members().map(|(id, _)| id.clone()).collect();
            for id in ids {
                if let Some(token) = gone.take_join(&id) {
                    step.replies.push((token, refuse(error, "")));
                }
            }
            self.forget(group, now);
        }
        step
    }
}

impl Step {
    pub(super) fn reply(token: Token, reply: Reply) -> Self {
        Self { replies: vec![(token, reply)], pending: None }
    }
}

pub(super) fn refuse(error: GroupError, member_id: &str) -> Reply {
    Reply::Join(Err(JoinRefused { error, member_id: member_id.to_owned() }))
}
