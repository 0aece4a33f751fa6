//! The phases of a rebalance: joining, completing, expiring.
//!
//! A [`Scene`] is one group with what it needs to act: deadlines, options, the time, and the step that comes of it.

use super::{ClassicGroup, State, Token};
use crate::coordinator::group::machine::{Action, GroupMachine, Now, Pending, Replacement, Reply, Step, refuse};
use crate::coordinator::group::records::GroupRecord;
use crate::coordinator::group::timers::{Due, Key, Timers};
use crate::coordinator::group::types::{GroupError, GroupOptions, Joined, Synced};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One group on stage.
pub(in crate::coordinator::group) struct Scene<'a> {
    pub id: &'a Arc<str>,
    pub group: &'a mut ClassicGroup,
    pub timers: &'a mut Timers,
    pub options: &'a GroupOptions,
    pub now: Now,
    pub step: Step,
}

impl GroupMachine {
    pub(in crate::coordinator::group) fn scene<'a>(&'a mut self, id: &'a Arc<str>, now: Now) -> Option<Scene<'a>> {
        let group = self.groups.get_mut(id)?.classic_mut()?;
        Some(Scene { id, group, timers: &mut self.timers, options: &self.options, now, step: Step::default() })
    }

    pub(in crate::coordinator::group) fn session_expired(&mut self, group: &Arc<str>, member: &str, now: Now) -> Step {
        let Some(mut scene) = self.scene(group, now) else { return Step::default() };
        if scene.group.is_pending(member) {
            tracing::info!(group = %group, member, "member never joined with the id it was given");
            scene.group.remove(member);
            scene.complete_if_all_joined();
        } else if scene.group.member(member).is_some_and(|member| !member.is_excused()) {
            tracing::info!(group = %group, member, "member's session expired");
            scene.remove(member);
            match scene.group.state() {
                State::Stable | State::CompletingRebalance => scene.rebalance_or_complete(),
                State::PreparingRebalance => scene.complete_if_all_joined(),
                State::Empty => {}
            }
        }
        scene.step
    }

    pub(in crate::coordinator::group) fn join_expired(&mut self, group: &Arc<str>, due: Due, now: Now) -> Step {
        let Some(mut scene) = self.scene(group, now) else { return Step::default() };
        match due {
            Due::InitialJoin { delay_ms, remaining_ms } if scene.group.new_member_added && remaining_ms != 0 => {
                scene.group.new_member_added = false;
                let next = scene.options.initial_rebalance_delay_ms.min(remaining_ms);
                let due = Due::InitialJoin { delay_ms: next, remaining_ms: (remaining_ms - delay_ms).max(0) };
                scene.set(Key::Join(Arc::clone(group)), next, due);
            }
            _ => scene.complete_join(),
        }
        scene.step
    }

    pub(in crate::coordinator::group) fn sync_expired(&mut self, group: &Arc<str>, generation: i32, now: Now) -> Step {
        let Some(mut scene) = self.scene(group, now) else { return Step::default() };
        let running = matches!(scene.group.state(), State::CompletingRebalance | State::Stable);
        if generation == scene.group.generation && running && !scene.group.pending_syncs.is_empty() {
            let late = std::mem::take(&mut scene.group.pending_syncs);
            tracing::info!(group = %group, generation, members = ?late, "members never synced");
            for member in &late {
                scene.remove(member);
            }
            scene.prepare_rebalance();
        }
        scene.step
    }

    /// The leader's assignment is stored, or could not be.
    pub(in crate::coordinator::group) fn assigned(
        &mut self,
        group: &Arc<str>,
        generation: i32,
        mut assignment: BTreeMap<String, Bytes>,
        error: Option<GroupError>,
        now: Now,
    ) -> Step {
        let Some(mut scene) = self.scene(group, now) else { return Step::default() };
        if scene.group.state() != State::CompletingRebalance || scene.group.generation != generation {
            return scene.step;
        }
        match error {
            None => {
                for (id, member) in scene.group.members_mut() {
                    member.assignment = assignment.remove(id).unwrap_or_default();
                }
                scene.answer_syncs(None);
                scene.group.transition(State::Stable, now.wall);
                tracing::info!(group = %group, generation, members = scene.group.len(), "group is stable");
            }
            Some(error) => {
                scene.reset_assignments(error);
                scene.prepare_rebalance();
            }
        }
        scene.step
    }

    /// A static member's new id is stored, or could not be.
    pub(in crate::coordinator::group) fn replaced(
        &mut self,
        replaced: Replacement,
        error: Option<GroupError>,
        now: Now,
    ) -> Step {
        let Some(mut scene) = self.scene(&replaced.group, now) else { return Step::default() };
        let Some(token) = scene.group.take_join(&replaced.new) else { return scene.step };
        if let Some(error) = error {
            scene.forget(&replaced.new);
            scene.group.replace_static(&replaced.instance, &replaced.new, &replaced.old);
            let timeouts = (replaced.before.rebalance_timeout_ms, replaced.before.session_timeout_ms);
            scene.group.update(&replaced.old, replaced.before.protocols, timeouts, None);
            scene.group.leader = replaced.leader_before;
            scene.watch(&replaced.old, timeouts.1);
            scene.reply(token, refuse(error, ""));
        } else if replaced.supports_skipping_assignment {
            let leads = scene.group.is_leader(&replaced.new);
            let joined = Joined { skip_assignment: leads, ..scene.group.joined(&replaced.new, leads) };
            scene.reply(token, Reply::Join(Ok(joined)));
        } else {
            // Under its old id the member does not know itself as the leader, and so computes no assignment.
            let leader = replaced.leader_before.unwrap_or_default();
            let joined = Joined { leader, ..scene.group.joined(&replaced.new, false) };
            scene.reply(token, Reply::Join(Ok(joined)));
        }
        scene.step
    }
}

impl Scene<'_> {
    pub fn reply(&mut self, token: Token, reply: Reply) {
        self.step.replies.push((token, reply));
    }

    fn set(&mut self, key: Key, after_ms: i32, due: Due) {
        let after = u64::try_from(after_ms).unwrap_or_default();
        self.timers.set(key, self.now.tick.saturating_add(after), due);
    }

    /// A member's session ends after this time unless it is watched again.
    pub fn watch(&mut self, member: &str, timeout_ms: i32) {
        self.set(Key::Session(Arc::clone(self.id), member.to_owned()), timeout_ms, Due::Session);
    }

    /// A member gave a sign of life.
    pub fn alive(&mut self, member: &str) {
        if let Some(timeout_ms) = self.group.member(member).map(|member| member.session_timeout_ms) {
            self.watch(member, timeout_ms);
        }
    }

    pub fn forget(&mut self, member: &str) {
        self.timers.cancel(&Key::Session(Arc::clone(self.id), member.to_owned()));
    }

    /// Removes a member. A request of its that is parked is answered so that it joins again if it is still there.
    pub fn remove(&mut self, member: &str) {
        self.forget(member);
        if let Some(removed) = self.group.remove(member) {
            if let Some(token) = removed.awaiting_join {
                self.reply(token, refuse(GroupError::UnknownMemberId, ""));
            }
            if let Some(token) = removed.awaiting_sync {
                self.reply(token, Reply::Sync(Err(GroupError::UnknownMemberId)));
            }
        }
    }

    /// Begins a rebalance where none is being prepared, or ends the one that is if nobody is missing.
    pub fn rebalance_or_complete(&mut self) {
        if self.group.state() == State::PreparingRebalance {
            self.maybe_complete_join();
        } else {
            self.prepare_rebalance();
        }
    }

    /// Ends the join phase if nobody is missing; a first rebalance waits for its delay instead.
    pub fn maybe_complete_join(&mut self) {
        if !self.group.is_initial_rebalance() {
            self.complete_if_all_joined();
        }
    }

    fn complete_if_all_joined(&mut self) {
        if self.group.state() == State::PreparingRebalance && self.group.all_joined() {
            self.complete_join();
        }
    }

    pub fn prepare_rebalance(&mut self) {
        if self.group.state() == State::CompletingRebalance {
            self.reset_assignments(GroupError::RebalanceInProgress);
        }
        self.group.pending_syncs.clear();
        self.timers.cancel(&Key::Sync(Arc::clone(self.id)));
        let initial = self.group.state() == State::Empty;
        self.group.transition(State::PreparingRebalance, self.now.wall);
        tracing::info!(group = %self.id, generation = self.group.generation, initial, "preparing to rebalance");
        let timeout_ms = self.group.rebalance_timeout_ms();
        if initial {
            let delay_ms = self.options.initial_rebalance_delay_ms;
            let due = Due::InitialJoin { delay_ms, remaining_ms: timeout_ms.saturating_sub(delay_ms).max(0) };
            self.set(Key::Join(Arc::clone(self.id)), delay_ms, due);
        } else if self.group.all_joined() {
            self.complete_join();
        } else {
            self.set(Key::Join(Arc::clone(self.id)), timeout_ms, Due::Join);
        }
    }

    fn reset_assignments(&mut self, error: GroupError) {
        for (_, member) in self.group.members_mut() {
            member.assignment = Bytes::new();
        }
        self.answer_syncs(Some(error));
    }

    fn answer_syncs(&mut self, error: Option<GroupError>) {
        let (protocol_type, protocol) = (self.group.protocol_type.clone(), self.group.protocol.clone());
        let mut answered = Vec::new();
        for (id, member) in self.group.members_mut() {
            let Some(token) = member.awaiting_sync.take() else { continue };
            let synced = error.map_or_else(
                || {
                    let (protocol_type, protocol) = (protocol_type.clone(), protocol.clone());
                    Ok(Synced { protocol_type, protocol, assignment: member.assignment.clone() })
                },
                Err,
            );
            self.step.replies.push((token, Reply::Sync(synced)));
            answered.push(id.clone());
        }
        // A session that ran out while the answer was ours to give was excused: it begins anew.
        for id in answered {
            self.alive(&id);
        }
    }

    /// Ends the join phase: dynamic members that did not rejoin are out, the next generation begins.
    fn complete_join(&mut self) {
        self.timers.cancel(&Key::Join(Arc::clone(self.id)));
        let missing = self.group.members().filter(|(_, m)| m.awaiting_join.is_none() && m.instance_id.is_none());
        let missing: Vec<String> = missing.map(|(id, _)| id.clone()).collect();
        for member in &missing {
            tracing::info!(group = %self.id, member, "member did not rejoin in time");
            self.remove(member);
        }
        if !self.group.elect_joined_leader() && !self.group.is_empty() {
            // Only static members are left and none is back: wait until one is or their sessions expire.
            let timeout_ms = self.group.rebalance_timeout_ms();
            self.set(Key::Join(Arc::clone(self.id)), timeout_ms, Due::Join);
            return;
        }
        self.group.next_generation(self.now.wall);
        if self.group.state() == State::Empty {
            tracing::info!(group = %self.id, generation = self.group.generation, "group is empty");
            let value = self.group.to_record(|_, member| member.assignment.clone());
            let record = GroupRecord::Group { group: Arc::clone(self.id), value: Some(value) };
            self.step.pending = Some(Pending::new(vec![record], Vec::new(), Action::Keep));
        } else {
            self.announce_generation();
        }
    }

    fn announce_generation(&mut self) {
        let ids: Vec<String> = self.group.members().map(|(id, _)| id.clone()).collect();
        for id in ids {
            if let Some(token) = self.group.take_join(&id) {
                let joined = self.group.joined(&id, self.group.is_leader(&id));
                self.reply(token, Reply::Join(Ok(joined)));
            }
            self.alive(&id);
            if let Some(member) = self.group.member_mut(&id) {
                member.is_new = false;
            }
            self.group.pending_syncs.insert(id);
        }
        let timeout_ms = self.group.rebalance_timeout_ms();
        let due = Due::Sync { generation: self.group.generation };
        self.set(Key::Sync(Arc::clone(self.id)), timeout_ms, due);
    }
}
