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
use super::offsets::{OffsetStore, StoredOffset};
use super::records::GroupRecord;
use super::timers::{Due, Key, Tick, Timers};
use super::types::{
    FetchedTopic, GroupDescription, GroupError, GroupOptions, GroupOverview, Heartbeat, JoinGroup, JoinRefused, Joined,
    LeaveGroup, Left, OffsetCommit, OffsetDelete, OffsetFetch, SyncGroup, Synced, TopicOutcome,
};
use bytes::Bytes;
use millrace_model::{Offset, ProducerId, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The time, twice: for records, and for deadlines.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The wall clock.
    pub wall: Timestamp,
    /// The clock that only goes forward.
    pub tick: Tick,
}

/// Anything the coordinator can be asked.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is named by its request type")]
pub enum Request {
    Join(Box<JoinGroup>),
    Sync(SyncGroup),
    Heartbeat(Heartbeat),
    Leave(LeaveGroup),
    Commit(OffsetCommit),
    Fetch(OffsetFetch),
    DeleteOffsets(OffsetDelete),
    DeleteGroups(Vec<Arc<str>>),
    List { states: Vec<String>, types: Vec<String> },
    Describe(Vec<Arc<str>>),
    TopicsDeleted(Vec<Arc<str>>),
}

impl Request {
    /// Whether this may share an append with other commits.
    pub const fn is_commit(&self) -> bool {
        matches!(self, Self::Commit(_))
    }

    /// The answer that refuses it.
    pub fn refused(&self, error: GroupError) -> Reply {
        match self {
            Self::Join(join) => Reply::Join(Err(JoinRefused { error, member_id: join.member_id.clone() })),
            Self::Sync(_) => Reply::Sync(Err(error)),
            // A heartbeat to a group that is being loaded is taken on trust.
            Self::Heartbeat(_) if error == GroupError::Loading => Reply::Heartbeat(Ok(())),
            Self::Heartbeat(_) => Reply::Heartbeat(Err(error)),
            Self::Leave(_) => Reply::Leave(Err(error)),
            Self::Commit(_) => Reply::Commit(Err(error)),
            Self::Fetch(_) => Reply::Fetch(Err(error)),
            Self::DeleteOffsets(_) => Reply::DeleteOffsets(Err(error)),
            Self::DeleteGroups(groups) => {
                Reply::DeleteGroups(groups.iter().map(|group| (Arc::clone(group), Some(error))).collect())
            }
            Self::List { .. } => Reply::List(Err(error)),
            Self::Describe(groups) => Reply::Describe(groups.iter().map(|id| dead(id, error)).collect()),
            Self::TopicsDeleted(_) => Reply::Done,
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named by its request")]
pub enum Reply {
    Join(Result<Joined, JoinRefused>),
    Sync(Result<Synced, GroupError>),
    Heartbeat(Result<(), GroupError>),
    Leave(Result<Vec<Left>, GroupError>),
    Commit(Result<Vec<TopicOutcome>, GroupError>),
    Fetch(Result<Vec<FetchedTopic>, GroupError>),
    DeleteOffsets(Result<Vec<TopicOutcome>, GroupError>),
    DeleteGroups(Vec<(Arc<str>, Option<GroupError>)>),
    List(Result<Vec<GroupOverview>, GroupError>),
    Describe(Vec<GroupDescription>),
    Done,
}

impl Reply {
    /// What is answered instead where the records could not be stored.
    fn failed(self, error: GroupError) -> Self {
        match self {
            Self::Join(_) => Self::Join(Err(JoinRefused { error, member_id: String::new() })),
            Self::Leave(_) => Self::Leave(Err(error)),
            Self::Commit(_) => Self::Commit(Err(error)),
            Self::DeleteOffsets(_) => Self::DeleteOffsets(Err(error)),
            Self::DeleteGroups(groups) => {
                Self::DeleteGroups(groups.into_iter().map(|(id, before)| (id, before.or(Some(error)))).collect())
            }
            other => other,
        }
    }
}

/// What one request, or one deadline, leads to.
#[derive(Debug, Default)]
pub struct Step {
    /// Answers that can go out now.
    pub replies: Vec<(Token, Reply)>,
    /// Records to be appended, and what follows.
    pub pending: Option<Pending>,
}

/// Records on their way into the log.
#[derive(Debug)]
pub struct Pending {
    /// The records, in order.
    pub records: Vec<GroupRecord>,
    held: Vec<(Token, Reply)>,
    action: Action,
}

impl Pending {
    pub(super) fn new(records: Vec<GroupRecord>, held: Vec<(Token, Reply)>, action: Action) -> Self {
        Self { records, held, action }
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
    /// A group was created; without its record it goes away again.
    Create { group: Arc<str> },
    /// The leader's assignment.
    Assign { group: Arc<str>, generation: i32, assignment: BTreeMap<String, Bytes> },
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

/// A group and its offsets.
#[derive(Debug)]
pub(super) struct Group {
    pub classic: ClassicGroup,
    pub offsets: OffsetStore,
}

impl Group {
    pub fn new(now: Timestamp) -> Self {
        Self { classic: ClassicGroup::new(now), offsets: OffsetStore::default() }
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
}

impl GroupMachine {
    /// A machine without groups.
    pub fn new(options: GroupOptions) -> Self {
        Self { options, groups: BTreeMap::new(), open_transactions: BTreeMap::new(), timers: Timers::default() }
    }

    /// Takes a request.
    pub fn handle(&mut self, token: Token, request: Request, now: Now) -> Step {
        match request {
            Request::Join(join) => self.join(token, *join, now),
            Request::Sync(sync) => self.sync(token, sync, now),
            Request::Heartbeat(beat) => Step::reply(token, Reply::Heartbeat(self.heartbeat(&beat, now))),
            Request::Leave(leave) => self.leave(token, leave, now),
            Request::Commit(commit) => self.commit(token, commit, now),
            Request::Fetch(fetch) => Step::reply(token, Reply::Fetch(Ok(self.fetch(&fetch)))),
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
            (Key::Session(group, member), _) => self.session_expired(&group, &member, now),
            (Key::Join(group), due) => self.join_expired(&group, due, now),
            (Key::Sync(group), Due::Sync { generation }) => self.sync_expired(&group, generation, now),
            (Key::Expiry, _) => self.expire_offsets(now),
            (Key::Sync(_), _) => Step::default(),
        })
    }

    /// Goes on after an append: with the offset of its first record, or with the reason why there is none.
    pub fn conclude(&mut self, pending: Pending, outcome: Result<Offset, GroupError>, now: Now) -> Step {
        let Pending { records, held, action } = pending;
        let mut step = match (action, outcome) {
            (Action::Keep, _) | (Action::Apply, Err(_)) | (Action::Create { .. }, Ok(_)) => Step::default(),
            (Action::Apply, Ok(base)) => {
                for (record, delta) in records.into_iter().zip(0..) {
                    self.apply(record, base.plus(delta), ProducerId::NONE, now);
                }
                Step::default()
            }
            (Action::Create { group }, Err(error)) => self.creation_failed(&group, error),
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
                let classic = ClassicGroup::from_record(&value);
                self.groups.entry(group).or_insert_with(|| Group::new(now.wall)).classic = classic;
            }
            GroupRecord::Group { group, value: None } => {
                self.timers.cancel_phases(&group);
                self.groups.remove(&group);
            }
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

    fn creation_failed(&mut self, group: &Arc<str>, error: GroupError) -> Step {
        let mut step = Step::default();
        if let Some(mut gone) = self.groups.remove(group) {
            self.timers.cancel_phases(group);
            let ids: Vec<String> = gone.classic.members().map(|(id, _)| id.clone()).collect();
            for id in ids {
                if let Some(token) = gone.classic.take_join(&id) {
                    step.replies.push((token, refuse(error, "")));
                }
            }
        }
        step
    }

    fn list(&self, states: &[String], types: &[String]) -> Vec<GroupOverview> {
        const KIND: &str = "classic";
        let wanted = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        if !wanted(types, KIND) {
            return Vec::new();
        }
        let shown = self.groups.iter().filter(|(_, group)| wanted(states, group.classic.state().name()));
        let overview = |(id, group): (&Arc<str>, &Group)| GroupOverview {
            group: Arc::clone(id),
            protocol_type: group.classic.protocol_type.clone().unwrap_or_default(),
            state: group.classic.state().name(),
            kind: KIND,
        };
        shown.map(overview).collect()
    }

    fn describe(&self, ids: &[Arc<str>]) -> Vec<GroupDescription> {
        let describe = |id: &Arc<str>| match self.groups.get(id) {
            None => dead(id, GroupError::GroupIdNotFound),
            Some(Group { classic, .. }) => GroupDescription {
                group: Arc::clone(id),
                state: classic.state().name(),
                protocol_type: classic.protocol_type.clone().unwrap_or_default(),
                protocol: match classic.state() {
                    State::Stable => classic.protocol.clone().unwrap_or_default(),
                    _ => String::new(),
                },
                members: classic.describe_members(),
                error: None,
            },
        };
        ids.iter().map(describe).collect()
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

fn dead(id: &Arc<str>, error: GroupError) -> GroupDescription {
    GroupDescription {
        group: Arc::clone(id),
        state: if error == GroupError::GroupIdNotFound { "Dead" } else { "" },
        protocol_type: String::new(),
        protocol: String::new(),
        members: Vec::new(),
        error: Some(error),
    }
}
