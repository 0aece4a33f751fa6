//! One classic group as data: its members, the protocol they agree on, and the state it is in.
//!
//! ```text
//!             first join                   all joined, or time is up             leader synced, append committed
//!   Empty ───────────────▶ Preparing ─────────────────────────▶ Completing ─────────────────────────▶ Stable
//!     ▲                   Rebalance ◀──────── join, leave, ──── Rebalance                              │
//!     └─ nobody joined ───┘   ▲               expiry                                                   │
//!                             └────────────────────────────────────────────────────────────────────────┘
//! ```
//! Invariants: a static member's instance id maps to exactly one member; `supported` counts, for every protocol, the
//! members that offer it; `awaiting_join` is the number of members with a parked JoinGroup; a protocol is chosen
//! exactly while the group is Completing or Stable. A group that is gone is not here (Kafka's `Dead`).
//!
//! Timers, records and answers are the business of [`crate::coordinator::group::machine`].

use super::member::{Member, State, Token};
use crate::coordinator::group::consumer_protocol::{CONSUMER, Subscription};
use crate::coordinator::group::records::{GroupValue, MemberValue};
use crate::coordinator::group::types::{GroupError, Joined, JoinedMember, MemberDescription, Protocol};
use bytes::Bytes;
use millrace_model::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A group of the classic protocol.
#[derive(Clone, Debug)]
pub struct ClassicGroup {
    state: State,
    /// The rebalance that begins from Empty waits for more members (`group.initial.rebalance.delay.ms`).
    initial: bool,
    /// When the state changed last; −1 if unknown.
    pub state_since: Timestamp,
    /// None for a group that only stores offsets.
    pub protocol_type: Option<String>,
    /// The chosen protocol.
    pub protocol: Option<String>,
    /// The generation; 0 before the first.
    pub generation: i32,
    /// The leader's member id.
    pub leader: Option<String>,
    members: BTreeMap<String, Member>,
    static_members: BTreeMap<String, String>,
    /// Ids that were handed out but have not joined yet.
    pending_joins: BTreeSet<String>,
    /// Members of the current generation that have not synced.
    pub pending_syncs: BTreeSet<String>,
    supported: BTreeMap<String, usize>,
    awaiting_join: usize,
    /// Somebody joined while the initial rebalance was being delayed.
    pub new_member_added: bool,
    /// What the members consume, where that can be told from their subscriptions.
    subscribed: Option<BTreeSet<String>>,
}

impl ClassicGroup {
    /// A group nobody has joined.
    pub fn new(now: Timestamp) -> Self {
        Self {
            state: State::Empty,
            initial: false,
            state_since: now,
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_joins: BTreeSet::new(),
            pending_syncs: BTreeSet::new(),
            supported: BTreeMap::new(),
            awaiting_join: 0,
            new_member_added: false,
            subscribed: None,
        }
    }

    /// The group as it was stored: Stable if it has members.
    pub fn from_record(value: &GroupValue) -> Self {
        let mut group = Self::new(value.state_since);
        group.generation = value.generation;
        let protocol = value.protocol.clone().unwrap_or_default();
        for stored in &value.members {
            let member = Member {
                instance_id: stored.instance_id.clone(),
                client_id: stored.client_id.clone(),
                client_host: stored.client_host.clone(),
                rebalance_timeout_ms: stored.rebalance_timeout_ms,
                session_timeout_ms: stored.session_timeout_ms,
                protocols: vec![Protocol { name: protocol.clone(), metadata: stored.subscription.clone() }],
                assignment: stored.assignment.clone(),
                awaiting_join: None,
                awaiting_sync: None,
                is_new: false,
            };
            group.add(stored.member_id.clone(), member);
        }
        group.state = if value.members.is_empty() { State::Empty } else { State::Stable };
        group.protocol_type = Some(value.protocol_type.clone()).filter(|kind| !kind.is_empty());
        group.protocol.clone_from(&value.protocol);
        group.leader.clone_from(&value.leader);
        group.subscribed = group.subscriptions();
        group
    }

    /// The group as it is stored, with assignments that may not be the members' yet.
    pub fn to_record(&self, assignment: impl Fn(&str, &Member) -> Bytes) -> GroupValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|(id, member)| MemberValue {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: assignment(id, member),
        });
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since: self.state_since,
            members: members.collect(),
        }
    }

    /// The state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether the rebalance that is being prepared is the group's first since it was empty.
    pub const fn is_initial_rebalance(&self) -> bool {
        self.initial && matches!(self.state, State::PreparingRebalance)
    }

    /// Moves to another state.
    pub fn transition(&mut self, to: State, now: Timestamp) {
        self.initial = self.state == State::Empty && to == State::PreparingRebalance;
        self.state = to;
        self.state_since = now;
    }

    /// The members, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.members.iter()
    }

    /// The members, to be changed; counts are the caller's care only for fields that are not counted.
    pub fn members_mut(&mut self) -> impl Iterator<Item = (&String, &mut Member)> {
        self.members.iter_mut()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// One member.
    pub fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    /// One member, to be changed (not its protocols and not its parked join: they are counted).
    pub fn member_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    /// The member that has this instance id.
    pub fn static_member(&self, instance_id: &str) -> Option<&String> {
        self.static_members.get(instance_id)
    }

    /// Whether this member leads.
    pub fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Hands out an id that is expected to join.
    pub fn add_pending(&mut self, member_id: String) {
        self.pending_joins.insert(member_id);
    }

    /// Whether this id was handed out and has not joined yet.
    pub fn is_pending(&self, member_id: &str) -> bool {
        self.pending_joins.contains(member_id)
    }

    /// How many members have a parked JoinGroup.
    pub const fn awaiting_join(&self) -> usize {
        self.awaiting_join
    }

    /// Whether nobody is missing: all members have rejoined and every id handed out has joined.
    pub fn all_joined(&self) -> bool {
        self.members.len() == self.awaiting_join && self.pending_joins.is_empty()
    }

    /// The time the slowest member may take to rejoin.
    pub fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or_default().max(0)
    }

    /// Adds a member; the first leads and sets the protocol type, which the caller has set for it.
    pub fn add(&mut self, id: String, member: Member) {
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        self.pending_joins.remove(&id);
        self.count_protocols(&member.protocols, true);
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.members.insert(id, member);
    }

    /// Removes a member or an id that has not joined; another member leads if it was the leader.
    pub fn remove(&mut self, id: &str) -> Option<Member> {
        let removed = self.members.remove(id);
        if let Some(member) = &removed {
            self.count_protocols(&member.protocols, false);
            self.awaiting_join -= usize::from(member.awaiting_join.is_some());
            if let Some(instance) = &member.instance_id {
                self.static_members.remove(instance);
            }
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_joins.remove(id);
        self.pending_syncs.remove(id);
        removed
    }

    /// Gives a static member's place to a new id. Returns the parked requests of the old one.
    pub fn replace_static(&mut self, instance: &str, old: &str, new: &str) -> (Option<Token>, Option<Token>) {
        let Some(mut member) = self.members.remove(old) else { return (None, None) };
        let parked = (member.awaiting_join.take(), member.awaiting_sync.take());
        self.awaiting_join -= usize::from(parked.0.is_some());
        member.is_new = false;
        self.members.insert(new.to_owned(), member);
        if self.is_leader(old) {
            self.leader = Some(new.to_owned());
        }
        self.static_members.insert(instance.to_owned(), new.to_owned());
        parked
    }

    /// What a JoinGroup says of a member that is here already. Returns the JoinGroup of its that was parked before.
    pub fn update(
        &mut self,
        id: &str,
        protocols: Vec<Protocol>,
        (rebalance_timeout_ms, session_timeout_ms): (i32, i32),
        parked: Option<Token>,
    ) -> Option<Token> {
        let member = self.members.get_mut(id)?;
        let before = std::mem::replace(&mut member.protocols, protocols.clone());
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = session_timeout_ms;
        let token = std::mem::replace(&mut member.awaiting_join, parked);
        self.awaiting_join += usize::from(parked.is_some());
        self.awaiting_join -= usize::from(token.is_some());
        self.count_protocols(&before, false);
        self.count_protocols(&protocols, true);
        token
    }

    /// Takes a member's parked JoinGroup, to answer it.
    pub fn take_join(&mut self, id: &str) -> Option<Token> {
        let token = self.members.get_mut(id)?.awaiting_join.take();
        self.awaiting_join -= usize::from(token.is_some());
        token
    }

    /// Makes sure that the leader is a member that rejoined. False where nobody has, or nobody is there.
    pub fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else { return false };
        if self.members.get(leader).is_some_and(|member| member.awaiting_join.is_some()) {
            return true;
        }
        let joined = self.members.iter().find(|(_, member)| member.awaiting_join.is_some());
        match joined.map(|(id, _)| id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// Whether a member with these protocols may join the others.
    pub fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.support(&protocol.name) == self.members.len())
    }

    /// The protocol most members prefer among those that all of them offer.
    pub fn select_protocol(&self) -> Option<String> {
        let mut votes = BTreeMap::<&str, usize>::new();
        for member in self.members.values() {
            let choice = member.protocols.iter().find(|offered| self.support(&offered.name) == self.members.len());
            if let Some(choice) = choice {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        // The first of equals wins, so that the choice does not depend on anything but the votes.
        let mut best: Option<(&str, usize)> = None;
        for (name, count) in votes {
            if best.is_none_or(|(_, most)| count > most) {
                best = Some((name, count));
            }
        }
        best.map(|(name, _)| name.to_owned())
    }

    /// The next generation begins: Completing with its members, Empty without any.
    pub fn next_generation(&mut self, now: Timestamp) {
        self.generation = self.generation.wrapping_add(1).max(0);
        self.protocol = self.select_protocol();
        self.subscribed = self.subscriptions();
        self.pending_syncs.clear();
        self.transition(if self.members.is_empty() { State::Empty } else { State::CompletingRebalance }, now);
    }

    /// What a member that joined is told; the leader learns of everybody.
    pub fn joined(&self, member_id: &str, with_members: bool) -> Joined {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter().filter(|_| with_members).map(|(id, member)| JoinedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        });
        Joined {
            member_id: member_id.to_owned(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            members: members.collect(),
        }
    }

    /// The members as an administrator sees them; subscriptions only once the group is stable.
    pub fn describe_members(&self) -> Vec<MemberDescription> {
        let stable = self.state == State::Stable;
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let describe = |(id, member): (&String, &Member)| MemberDescription {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if stable { member.metadata(protocol) } else { Bytes::new() },
            assignment: member.assignment.clone(),
        };
        self.members.iter().map(describe).collect()
    }

    /// Whether a request names a member rightly.
    ///
    /// # Errors
    /// [`GroupError::UnknownMemberId`], and [`GroupError::FencedInstanceId`] where another member has its instance id.
    pub fn validate_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance) = instance_id {
            match self.static_members.get(instance) {
                None => return Err(GroupError::UnknownMemberId),
                Some(current) if current != member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    /// Whether the group may store offsets for this member.
    ///
    /// # Errors
    /// What the member is to be told instead.
    pub fn validate_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        transactional: bool,
    ) -> Result<(), GroupError> {
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.validate_member(member_id, instance_id)?;
            if generation != self.generation {
                return Err(GroupError::IllegalGeneration);
            }
        } else if !transactional && self.state != State::Empty {
            return Err(GroupError::UnknownMemberId);
        }
        if !transactional && self.state == State::CompletingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether members consume this topic; a consumer group whose subscriptions cannot be read consumes everything.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer_group(),
        }
    }

    /// Since when an offset of this group counts as unused; none while it is in use.
    pub fn unused_since(&self, committed_at: Timestamp) -> Option<Timestamp> {
        match (&self.protocol_type, self.state) {
            (None, _) => Some(committed_at),
            (Some(_), State::Empty) if self.state_since == Timestamp::NONE => Some(committed_at),
            (Some(_), State::Empty) => Some(self.state_since),
            (Some(_), State::Stable) if self.is_consumer_group() && self.subscribed.is_some() => Some(committed_at),
            (Some(_), _) => None,
        }
    }

    /// Whether there is nobody in it and nobody on the way.
    pub fn is_deserted(&self) -> bool {
        self.state == State::Empty && self.pending_joins.is_empty()
    }

    /// Whether the members speak the consumer protocol.
    pub fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    fn support(&self, protocol: &str) -> usize {
        self.supported.get(protocol).copied().unwrap_or_default()
    }

    fn count_protocols(&mut self, protocols: &[Protocol], add: bool) {
        for protocol in protocols {
            if add {
                *self.supported.entry(protocol.name.clone()).or_default() += 1;
            } else if let Some(count) = self.supported.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(&protocol.name);
                }
            }
        }
    }

    fn subscriptions(&self) -> Option<BTreeSet<String>> {
        if !self.is_consumer_group() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(Subscription::topics_of(&member.metadata(protocol))?);
        }
        Some(topics)
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
