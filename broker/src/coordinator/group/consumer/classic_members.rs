//! Members of the classic protocol in a consumer group: JoinGroup brings them to their targets, SyncGroup tells them what
//! they have, and a heartbeat whether to join again.
//!
//! The generation such a member knows is its epoch. It is asked to join again when there is a newer assignment, and
//! again when what it waits for is free; within a rebalance timeout it has to, and then to sync.

use super::ConsumerGroup;
use super::draft::Draft;
use super::group::ConsumerMember;
use super::heartbeat::step_of;
use super::migrate::{assignment, downgraded, with_ids};
use crate::cluster::base64url;
use crate::coordinator::group::classic::Token;
use crate::coordinator::group::consumer_protocol::{CONSUMER, Subscription};
use crate::coordinator::group::describe::numbers;
use crate::coordinator::group::machine::{Action, GroupMachine, Now, Pending, Reply, Step, refuse};
use crate::coordinator::group::records::{ClassicSide, ConsumerMemberValue, ConsumerRecord, GroupRecord, MemberState};
use crate::coordinator::group::timers::{Due, Key};
use crate::coordinator::group::types::{GroupError, Heartbeat, JoinGroup, Joined, SyncGroup, Synced};
use std::borrow::Cow;
use std::sync::Arc;

impl GroupMachine {
    pub(in crate::coordinator::group) fn join_consumer_group(
        &mut self,
        token: Token,
        join: JoinGroup,
        now: Now,
    ) -> Step {
        let id = if join.member_id.is_empty() { base64url(join.fresh.as_bytes()) } else { join.member_id.clone() };
        self.join_as_classic(token, &id, &join, now).unwrap_or_else(|error| Step::reply(token, refuse(error, "")))
    }

    fn join_as_classic(&mut self, token: Token, id: &str, join: &JoinGroup, now: Now) -> Result<Step, GroupError> {
        let image = self.images.image();
        if !self.options.consumer_upgrade && !self.options.consumer_downgrade {
            return Err(GroupError::InconsistentProtocol);
        }
        let group = self.consumer_group(&join.group).ok_or(GroupError::NotAvailable)?;
        let topics_may_differ = self.groups.get(&join.group).is_none_or(|group| group.seen != image.index());
        let mut draft = Draft::new(&join.group, Cow::Borrowed(group), Vec::new(), &image);
        draft.check_room(id, &self.options)?;
        let mut offered = join.protocols.iter().map(|protocol| protocol.name.as_str());
        let first = join.protocols.first().ok_or(GroupError::InconsistentProtocol)?;
        if join.protocol_type != CONSUMER || !group.supports(&mut offered) {
            return Err(GroupError::InconsistentProtocol);
        }
        if join.member_id.is_empty() && join.instance_id.is_none() && join.requires_known_member_id {
            return Ok(Step::reply(token, refuse(GroupError::MemberIdRequired, id)));
        }
        let subscription = Subscription::read(&first.metadata).ok_or(GroupError::InconsistentProtocol)?;
        let taken_over = join.instance_id.as_deref().and_then(|instance| group.static_member(instance)).cloned();
        let downgrades =
            taken_over.as_ref().is_some_and(|old| self.may_downgrade_to(group, std::slice::from_ref(&old.id)));
        let before = find(&mut draft, id, join)?;
        let owned = with_ids(&subscription.owned, &image);
        let told = told(&before.told, join, subscription);
        draft.tell(&before, &told);
        let changed_regexes = draft
            .follow_regexes((&before.told.regex, ""), topics_may_differ, now.wall)
            .map_err(|_| GroupError::InvalidRegularExpression)?;
        let has_new_subscription = before.told.topics != told.topics || changed_regexes;
        draft.renew(has_new_subscription, topics_may_differ);
        let member = ConsumerMember { told, ..ConsumerMember::clone(&before) };
        if !downgrades {
            draft.retarget(&self.options, now.wall);
        }
        let mut current = before.current.clone();
        if !downgrades || !has_new_subscription {
            current = step_of(&draft, &image, &member, Some(&owned), has_new_subscription)?;
        }
        if current != before.current {
            draft.push(ConsumerRecord::Current(Arc::clone(&member.id), Some(current.clone())));
        }
        let joined = joined(&member, current.epoch, first.name.clone());
        let held = vec![(token, Reply::Join(Ok(joined)))];
        if downgrades {
            let mut records = Vec::new();
            let after = draft.group().clone();
            records.extend(draft.into_records());
            records.extend(downgraded(&join.group, &after, &[], &image));
            let action = Action::Downgrade { group: Arc::clone(&join.group), rebalance: has_new_subscription };
            return Ok(Step { replies: Vec::new(), pending: Some(Pending::new(records, held, action)) });
        }
        let records = draft.into_records();
        self.timers.cancel(&Key::Rejoin(Arc::clone(&join.group), id.to_owned()));
        let session = Key::Session(Arc::clone(&join.group), id.to_owned());
        self.timers.set(session, now.after(join.session_timeout_ms), Due::Session);
        let sync = Key::MemberSync(Arc::clone(&join.group), id.to_owned());
        self.timers.set(sync, now.after(join.rebalance_timeout_ms), Due::Session);
        if records.is_empty() {
            return Ok(Step { replies: held, pending: None });
        }
        Ok(Step { replies: Vec::new(), pending: Some(Pending::new(records, held, Action::Apply)) })
    }

    /// Whether the group goes back to the classic protocol when a member of that protocol takes this one's place.
    fn may_downgrade_to(&self, group: &ConsumerGroup, replaced: &[Arc<str>]) -> bool {
        group.are_all_classic_but(replaced)
            && self.options.consumer_downgrade
            && group.members().len() <= self.options.max_size
    }

    pub(in crate::coordinator::group) fn sync_consumer_group(
        &mut self,
        sync: &SyncGroup,
        now: Now,
    ) -> Result<Synced, GroupError> {
        let group = self.consumer_group(&sync.group).ok_or(GroupError::NotAvailable)?;
        let member = classic_member(group, &sync.member_id, sync.instance_id.as_deref(), sync.generation)?;
        let Some(side) = &member.told.classic else { return Err(GroupError::UnknownMemberId) };
        let offered = side.protocols.first();
        let protocol = offered.map(|protocol| protocol.name.clone());
        if sync.protocol_type.as_ref().is_some_and(|kind| kind != CONSUMER)
            || sync.protocol.is_some() && sync.protocol != protocol
        {
            return Err(GroupError::InconsistentProtocol);
        }
        let (session_ms, rebalance_ms) = (side.session_timeout_ms, member.told.rebalance_timeout_ms);
        let key = |make: fn(Arc<str>, String) -> Key| make(Arc::clone(&sync.group), sync.member_id.clone());
        if group.target_epoch > member.current.epoch && member.current.state != MemberState::UnrevokedPartitions {
            self.timers.set_if_absent(key(Key::Rejoin), now.after(rebalance_ms), Due::Session);
            return Err(GroupError::RebalanceInProgress);
        }
        let image = self.images.image();
        let version = offered.map_or(0, |protocol| Subscription::version_of(&protocol.metadata));
        let assignment = assignment(version, &numbers(&member.current.assigned), &image);
        self.timers.cancel(&key(Key::MemberSync));
        self.timers.set(key(Key::Session), now.after(session_ms), Due::Session);
        Ok(Synced { protocol_type: Some(CONSUMER.to_owned()), protocol, assignment })
    }

    pub(in crate::coordinator::group) fn beat_consumer_group(
        &mut self,
        beat: &Heartbeat,
        now: Now,
    ) -> Result<(), GroupError> {
        let group = self.consumer_group(&beat.group).ok_or(GroupError::NotAvailable)?;
        let member = classic_member(group, &beat.member_id, beat.instance_id.as_deref(), beat.generation)?;
        let session_ms = member.told.classic.as_ref().map_or(0, |side| side.session_timeout_ms);
        let rebalance_ms = member.told.rebalance_timeout_ms;
        let must_rejoin = member.current.epoch < group.target_epoch
            || match member.current.state {
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => !group.waits_for_others(member),
                MemberState::Stable | MemberState::Unknown => false,
            };
        let key = |make: fn(Arc<str>, String) -> Key| make(Arc::clone(&beat.group), beat.member_id.clone());
        self.timers.set(key(Key::Session), now.after(session_ms), Due::Session);
        if must_rejoin {
            self.timers.set_if_absent(key(Key::Rejoin), now.after(rebalance_ms), Due::Session);
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Makes room for a classic group where a consumer group has nobody left. The records say so.
    pub(in crate::coordinator::group) fn clear_empty_consumer_group(&self, id: &Arc<str>) -> Option<Vec<GroupRecord>> {
        self.consumer_group(id).filter(|group| group.is_empty()).map(|group| group.tombstones(id))
    }
}

fn joined(member: &ConsumerMember, generation: i32, protocol: String) -> Joined {
    Joined {
        member_id: member.id.to_string(),
        generation,
        protocol_type: Some(CONSUMER.to_owned()),
        protocol: Some(protocol),
        leader: String::new(),
        skip_assignment: false,
        members: Vec::new(),
    }
}

fn classic_member<'a>(
    group: &'a ConsumerGroup,
    member_id: &str,
    instance_id: Option<&str>,
    generation: i32,
) -> Result<&'a ConsumerMember, GroupError> {
    let member = match instance_id {
        None => group.member(member_id).ok_or(GroupError::UnknownMemberId)?,
        Some(instance) => {
            let member = group.static_member(instance).ok_or(GroupError::UnknownMemberId)?;
            if *member.id != *member_id {
                return Err(GroupError::FencedInstanceId);
            }
            member
        }
    };
    if !member.is_classic() {
        return Err(GroupError::UnknownMemberId);
    }
    if member.current.epoch != generation {
        return Err(GroupError::IllegalGeneration);
    }
    Ok(member)
}

/// The member that joins. A static member without an id takes its instance's place from whoever has it.
fn find(draft: &mut Draft<'_>, id: &str, join: &JoinGroup) -> Result<Arc<ConsumerMember>, GroupError> {
    let fresh = || Arc::new(ConsumerMember::new(id.into()));
    let known = draft.group().member(id).cloned();
    let Some(instance) = &join.instance_id else { return Ok(known.unwrap_or_else(fresh)) };
    match draft.group().static_member(instance).cloned() {
        None if join.member_id.is_empty() => Ok(known.unwrap_or_else(fresh)),
        None => Err(GroupError::UnknownMemberId),
        Some(old) if join.member_id.is_empty() => Ok(draft.replace(&old, id.into())),
        Some(member) if *member.id == *id => Ok(member),
        Some(_) => Err(GroupError::FencedInstanceId),
    }
}

fn told(before: &ConsumerMemberValue, join: &JoinGroup, subscription: Subscription) -> ConsumerMemberValue {
    ConsumerMemberValue {
        instance_id: join.instance_id.clone().or_else(|| before.instance_id.clone()),
        rack: subscription.rack.or_else(|| before.rack.clone()),
        client_id: join.client_id.clone(),
        client_host: join.client_host.clone(),
        topics: subscription.topics.into_iter().collect(),
        regex: String::new(),
        rebalance_timeout_ms: join.rebalance_timeout_ms,
        assignor: before.assignor.clone(),
        classic: Some(ClassicSide { session_timeout_ms: join.session_timeout_ms, protocols: join.protocols.clone() }),
    }
}
