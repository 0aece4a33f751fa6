//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup.
//!
//! Source: KIP-62, KIP-345 (static members), KIP-394 (a new member joins twice), KIP-559, KIP-800, KIP-814; and the
//! answers of Kafka 4.3 where these leave room.

use super::rebalance::Scene;
use super::{Member, State, Token};
use crate::coordinator::group::machine::{Action, Group, GroupMachine, Now, Pending, Replacement, Reply, Step, refuse};
use crate::coordinator::group::records::{GroupRecord, GroupValue};
use crate::coordinator::group::timers::Key;
use crate::coordinator::group::types::{
    GroupError, Heartbeat, JoinGroup, LeaveGroup, Leaving, Left, SyncGroup, Synced,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A new member whose first JoinGroup is parked sends no heartbeats; it is given this long.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 5 * 60_000;

/// The longest string that a stored group can hold.
const LONGEST: usize = i16::MAX as usize;

impl GroupMachine {
    pub(in crate::coordinator::group) fn join(&mut self, token: Token, join: JoinGroup, now: Now) -> Step {
        if let Err(error) = self.validate_join(&join) {
            return Step::reply(token, refuse(error, &join.member_id));
        }
        let id = Arc::clone(&join.group);
        let cleared = self.clear_empty_consumer_group(&id);
        if cleared.is_none() && self.consumer_group(&id).is_some() {
            return self.join_consumer_group(token, join, now);
        }
        let is_new_group = cleared.is_some() || !self.groups.contains_key(&id);
        if is_new_group {
            if !join.member_id.is_empty() {
                return Step::reply(token, refuse(GroupError::UnknownMemberId, &join.member_id));
            }
            let offsets = self.groups.remove(&id).map(|group| group.offsets).unwrap_or_default();
            self.groups.insert(Arc::clone(&id), Group { offsets, ..Group::new(now.wall) });
        }
        let Some(mut scene) = self.scene(&id, now) else { return Step::default() };
        if !scene.accepts(&join.member_id) {
            scene.remove(&join.member_id);
            scene.reply(token, refuse(GroupError::GroupMaxSizeReached, ""));
        } else if join.member_id.is_empty() {
            scene.join_new(token, join);
        } else {
            scene.join_known(token, join);
        }
        let mut step = scene.step;
        if is_new_group && step.pending.is_none() {
            let value = GroupValue {
                protocol_type: String::new(),
                generation: 0,
                protocol: None,
                leader: None,
                state_since: now.wall,
                members: Vec::new(),
            };
            let mut records = cleared.unwrap_or_default();
            records.push(GroupRecord::Group { group: Arc::clone(&id), value: Some(value) });
            let held = std::mem::take(&mut step.replies);
            step.pending = Some(Pending::new(records, held, Action::Create { group: id }));
        }
        step
    }

    fn validate_join(&self, join: &JoinGroup) -> Result<(), GroupError> {
        if join.group.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        let allowed = self.options.min_session_timeout_ms..=self.options.max_session_timeout_ms;
        if !allowed.contains(&join.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let strings = [&join.member_id, &join.protocol_type, &join.client_id, &join.client_host];
        let mut lengths = strings.into_iter().chain(&join.instance_id).map(String::len);
        if lengths.any(|length| length > LONGEST) || join.protocols.iter().any(|offered| offered.name.len() > LONGEST) {
            return Err(GroupError::InconsistentProtocol);
        }
        Ok(())
    }

    pub(in crate::coordinator::group) fn sync(&mut self, token: Token, sync: SyncGroup, now: Now) -> Step {
        let refused = |error| Step::reply(token, Reply::Sync(Err(error)));
        if sync.group.is_empty() {
            return refused(GroupError::InvalidGroupId);
        }
        let id = Arc::clone(&sync.group);
        let Some(mut scene) = self.scene(&id, now) else { return refused(GroupError::UnknownMemberId) };
        if let Err(error) = scene.validate_sync(&sync) {
            return refused(error);
        }
        match scene.group.state() {
            State::Empty => refused(GroupError::UnknownMemberId),
            State::PreparingRebalance => refused(GroupError::RebalanceInProgress),
            State::CompletingRebalance => {
                scene.sync_awaiting_leader(token, sync);
                scene.step
            }
            State::Stable => {
                scene.synced(&sync.member_id);
                let synced = Synced {
                    protocol_type: scene.group.protocol_type.clone(),
                    protocol: scene.group.protocol.clone(),
                    assignment: scene.group.member(&sync.member_id).map(|m| m.assignment.clone()).unwrap_or_default(),
                };
                scene.reply(token, Reply::Sync(Ok(synced)));
                scene.step
            }
        }
    }

    pub(in crate::coordinator::group) fn heartbeat(&mut self, beat: &Heartbeat, now: Now) -> Result<(), GroupError> {
        if beat.group.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        let mut scene = self.scene(&beat.group, now).ok_or(GroupError::UnknownMemberId)?;
        scene.group.validate_member(&beat.member_id, beat.instance_id.as_deref())?;
        if beat.generation != scene.group.generation {
            return Err(GroupError::IllegalGeneration);
        }
        scene.alive(&beat.member_id);
        match scene.group.state() {
            State::Empty => Err(GroupError::UnknownMemberId),
            State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            // A member may send heartbeats as soon as it has joined.
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    pub(in crate::coordinator::group) fn leave(&mut self, token: Token, leave: LeaveGroup, now: Now) -> Step {
        if leave.group.is_empty() {
            return Step::reply(token, Reply::Leave(Err(GroupError::InvalidGroupId)));
        }
        let Some(mut scene) = self.scene(&leave.group, now) else {
            let unknown = |gone: Leaving| Left {
                member_id: gone.member_id,
                instance_id: gone.instance_id,
                error: Some(GroupError::UnknownMemberId),
            };
            return Step::reply(token, Reply::Leave(Ok(leave.members.into_iter().map(unknown).collect())));
        };
        let left: Vec<Left> = leave.members.into_iter().map(|member| scene.leave(member)).collect();
        if left.iter().any(|left| left.error.is_none()) {
            match scene.group.state() {
                State::Stable | State::CompletingRebalance => scene.rebalance_or_complete(),
                State::PreparingRebalance => scene.maybe_complete_join(),
                State::Empty => {}
            }
        }
        let mut step = scene.step;
        let reply = (token, Reply::Leave(Ok(left)));
        match &mut step.pending {
            Some(pending) => pending.hold(vec![reply]),
            None => step.replies.push(reply),
        }
        step
    }
}

impl Scene<'_> {
    /// Whether the group has room for this member.
    fn accepts(&self, member_id: &str) -> bool {
        let max = self.options.max_size;
        match self.group.state() {
            State::Empty => true,
            // Who waits already stays; the last to rejoin are turned away where the group has grown too large.
            State::PreparingRebalance => {
                self.group.member(member_id).is_some_and(|member| member.awaiting_join.is_some())
                    || self.group.awaiting_join() < max
            }
            State::CompletingRebalance | State::Stable => {
                self.group.member(member_id).is_some() || self.group.len() < max
            }
        }
    }

    fn join_new(&mut self, token: Token, join: JoinGroup) {
        if !self.group.supports(&join.protocol_type, &join.protocols) {
            return self.reply(token, refuse(GroupError::InconsistentProtocol, ""));
        }
        match &join.instance_id {
            Some(instance) => {
                let new = format!("{instance}-{}", join.fresh);
                match self.group.static_member(instance).cloned() {
                    Some(old) => self.replace_static(token, &old, new, join),
                    None => self.add(token, new, join),
                }
            }
            None => {
                let new = format!("{}-{}", join.client_id, join.fresh);
                if join.requires_known_member_id {
                    self.group.add_pending(new.clone());
                    self.watch(&new, join.session_timeout_ms);
                    self.reply(token, refuse(GroupError::MemberIdRequired, &new));
                } else {
                    self.add(token, new, join);
                }
            }
        }
    }

    fn join_known(&mut self, token: Token, join: JoinGroup) {
        let id = join.member_id.clone();
        if !self.group.supports(&join.protocol_type, &join.protocols) {
            return self.reply(token, refuse(GroupError::InconsistentProtocol, &id));
        }
        if self.group.is_pending(&id) && join.instance_id.is_none() {
            return self.add(token, id, join);
        }
        if let Err(error) = self.group.validate_member(&id, join.instance_id.as_deref()) {
            return self.reply(token, refuse(error, &id));
        }
        let leads = self.group.is_leader(&id);
        let unchanged = self.group.member(&id).is_some_and(|member| member.protocols == join.protocols);
        match self.group.state() {
            // It may have missed the answer to its first JoinGroup.
            State::CompletingRebalance if unchanged => {
                let joined = self.group.joined(&id, leads);
                self.reply(token, Reply::Join(Ok(joined)));
            }
            State::Stable if unchanged && !leads => {
                let joined = self.group.joined(&id, false);
                self.reply(token, Reply::Join(Ok(joined)));
            }
            // The leader joins again to have partitions assigned anew, though its subscription may be the same.
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => self.rejoin(token, &id, join),
            State::Empty => self.reply(token, refuse(GroupError::UnknownMemberId, &id)),
        }
    }

    fn add(&mut self, token: Token, id: String, join: JoinGroup) {
        if self.group.is_initial_rebalance() {
            self.group.new_member_added = true;
        }
        if self.group.is_empty() {
            self.group.protocol_type = Some(join.protocol_type);
        }
        tracing::info!(
            group = %self.id, member = id, reason = join.reason.as_deref().unwrap_or("not provided"), "member joins"
        );
        let member = Member {
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols,
            assignment: Bytes::new(),
            awaiting_join: Some(token),
            awaiting_sync: None,
            is_new: true,
        };
        self.watch(&id, NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.group.add(id, member);
        self.rebalance_or_complete();
    }

    fn rejoin(&mut self, token: Token, id: &str, join: JoinGroup) {
        self.update(token, id, join);
        self.rebalance_or_complete();
    }

    fn update(&mut self, token: Token, id: &str, join: JoinGroup) {
        let timeouts = (join.rebalance_timeout_ms, join.session_timeout_ms);
        let superseded = self.group.update(id, join.protocols, timeouts, Some(token));
        if let Some(superseded) = superseded {
            // Its client has given up on it and asked again.
            self.reply(superseded, refuse(GroupError::RebalanceInProgress, id));
        }
    }

    /// A static member is back without its id: its place goes to a new one, and where nothing else changes the group
    /// does not rebalance.
    fn replace_static(&mut self, token: Token, old: &str, new: String, join: JoinGroup) {
        let Some(before) = self.group.member(old).cloned() else { return };
        let Some(instance) = join.instance_id.clone() else { return };
        tracing::info!(group = %self.id, instance, old, new, "static member is back under a new id");
        let leader_before = self.group.leader.clone();
        let supports_skipping_assignment = join.supports_skipping_assignment;
        let (parked_join, parked_sync) = self.group.replace_static(&instance, old, &new);
        if let Some(parked) = parked_join {
            self.reply(parked, refuse(GroupError::FencedInstanceId, old));
        }
        if let Some(parked) = parked_sync {
            self.reply(parked, Reply::Sync(Err(GroupError::FencedInstanceId)));
        }
        self.forget(old);
        self.watch(&new, before.session_timeout_ms);
        self.update(token, &new, join);
        match self.group.state() {
            State::Stable if self.group.select_protocol() == self.group.protocol => {
                let value = self.group.to_record(|_, member| member.assignment.clone());
                let record = GroupRecord::Group { group: Arc::clone(self.id), value: Some(value) };
                let replacement = Replacement {
                    group: Arc::clone(self.id),
                    instance,
                    old: old.to_owned(),
                    new,
                    before,
                    leader_before,
                    supports_skipping_assignment,
                };
                let action = Action::Replace(Box::new(replacement));
                self.step.pending = Some(Pending::new(vec![record], Vec::new(), action));
            }
            State::Stable | State::Empty => self.rebalance_or_complete(),
            // The leader may have been told of the old id already.
            State::CompletingRebalance => self.prepare_rebalance(),
            State::PreparingRebalance => self.maybe_complete_join(),
        }
    }

    fn validate_sync(&self, sync: &SyncGroup) -> Result<(), GroupError> {
        self.group.validate_member(&sync.member_id, sync.instance_id.as_deref())?;
        if sync.generation != self.group.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs = |asked: &Option<String>, ours: &Option<String>| {
            asked.as_ref().zip(ours.as_ref()).is_some_and(|(asked, ours)| asked != ours)
        };
        if differs(&sync.protocol_type, &self.group.protocol_type) || differs(&sync.protocol, &self.group.protocol) {
            return Err(GroupError::InconsistentProtocol);
        }
        Ok(())
    }

    /// A member has synced; with the last one the deadline falls.
    fn synced(&mut self, member: &str) {
        self.group.pending_syncs.remove(member);
        if self.group.pending_syncs.is_empty() {
            self.timers.cancel(&Key::Sync(Arc::clone(self.id)));
        }
    }

    fn sync_awaiting_leader(&mut self, token: Token, sync: SyncGroup) {
        let superseded = self.group.member_mut(&sync.member_id).and_then(|m| m.awaiting_sync.replace(token));
        if let Some(superseded) = superseded {
            self.reply(superseded, Reply::Sync(Err(GroupError::RebalanceInProgress)));
        }
        self.synced(&sync.member_id);
        if self.group.is_leader(&sync.member_id) {
            let mut assignment: BTreeMap<String, Bytes> = sync.assignments.into_iter().collect();
            assignment.retain(|member, _| self.group.member(member).is_some());
            let value = self.group.to_record(|id, _| assignment.get(id).cloned().unwrap_or_default());
            let record = GroupRecord::Group { group: Arc::clone(self.id), value: Some(value) };
            let action = Action::Assign { group: Arc::clone(self.id), generation: self.group.generation, assignment };
            self.step.pending = Some(Pending::new(vec![record], Vec::new(), action));
        }
    }

    fn leave(&mut self, leaving: Leaving) -> Left {
        let Leaving { member_id, instance_id, reason } = leaving;
        let known = if member_id.is_empty() {
            // An administrator removes a static member.
            let named = instance_id.as_deref().and_then(|instance| self.group.static_member(instance)).cloned();
            named.ok_or(GroupError::UnknownMemberId)
        } else if self.group.is_pending(&member_id) {
            Ok(member_id.clone())
        } else {
            self.group.validate_member(&member_id, instance_id.as_deref()).map(|()| member_id.clone())
        };
        if let Ok(member) = &known {
            tracing::info!(
                group = %self.id, member, reason = reason.as_deref().unwrap_or("not provided"), "member leaves"
            );
            self.remove(member);
        }
        Left { member_id, instance_id, error: known.err() }
    }
}
