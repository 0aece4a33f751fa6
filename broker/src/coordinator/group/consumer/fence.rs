//! How members go: they leave, fall silent, or do not give up what they must.

use super::ConsumerGroup;
use super::draft::Draft;
use super::group::{AWAY, LEFT};
use super::heartbeat::{check_instance, unknown};
use crate::coordinator::group::classic::Token;
use crate::coordinator::group::machine::{Action, GroupMachine, Kind, Now, Pending, Reply, Step};
use crate::coordinator::group::records::{ConsumerRecord, CurrentValue, Epochs, GroupRecord, MemberState};
use crate::coordinator::group::timers::{Due, Key};
use crate::coordinator::group::types::{Beat, ConsumerHeartbeat, GroupError, LeaveGroup, Left, Refusal};
use std::borrow::Cow;
use std::sync::Arc;

impl GroupMachine {
    pub(in crate::coordinator::group) fn consumer_group(&self, id: &str) -> Option<&ConsumerGroup> {
        match &self.groups.get(id)?.kind {
            Kind::Consumer(group) => Some(group),
            Kind::Classic(_) => None,
        }
    }

    pub(super) fn consumer_leave(&mut self, token: Token, beat: &ConsumerHeartbeat) -> Result<Step, Refusal> {
        let Some(group) = self.consumer_group(&beat.group) else {
            let message = match self.groups.contains_key(&beat.group) {
                true => format!("Group {} is not a consumer group.", beat.group),
                false => format!("Group {} not found.", beat.group),
            };
            return Err(Refusal::new(GroupError::GroupIdNotFound, message));
        };
        let member = match &beat.instance_id {
            None => group.member(&beat.member_id).ok_or_else(|| unknown(&beat.member_id, &beat.group))?,
            Some(instance) => {
                let unknown =
                    || Refusal::new(GroupError::UnknownMemberId, format!("Instance id {instance} is unknown."));
                let member = group.static_member(instance).ok_or_else(unknown)?;
                check_instance(member, &beat.member_id, instance)?;
                member
            }
        };
        let id = Arc::clone(&member.id);
        let reply = Reply::ConsumerHeartbeat(Ok(Beat {
            member_id: beat.member_id.clone(),
            epoch: beat.epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        }));
        if beat.epoch == LEFT || beat.instance_id.is_none() {
            tracing::info!(group = %beat.group, member = %id, "member leaves");
            return Ok(self.fence(&beat.group, &[id], vec![(token, reply)]));
        }
        // It will be back before its session ends: nobody else gets its partitions.
        tracing::info!(group = %beat.group, member = %id, "static member leaves for a while");
        let away = CurrentValue { epoch: AWAY, revoking: Epochs::new(), ..member.current.clone() };
        let record = ConsumerRecord::Current(id, Some(away));
        let records = vec![GroupRecord::Consumer { group: Arc::clone(&beat.group), record }];
        Ok(Step { replies: Vec::new(), pending: Some(Pending::new(records, vec![(token, reply)], Action::Apply)) })
    }

    /// Removes members. Where only members of the classic protocol are left the group changes over to it.
    pub(super) fn fence(&mut self, id: &Arc<str>, members: &[Arc<str>], held: Vec<(Token, Reply)>) -> Step {
        for member in members {
            self.timers.cancel_member(id, member);
        }
        let image = self.images.image();
        let Some(group) = self.consumer_group(id).filter(|_| !members.is_empty()) else {
            return Step { replies: held, pending: None };
        };
        if self.may_downgrade(group, members) {
            let records = super::migrate::downgraded(id, group, members, &image);
            let action = Action::Downgrade { group: Arc::clone(id), rebalance: true };
            return Step { replies: Vec::new(), pending: Some(Pending::new(records, held, action)) };
        }
        let regexes: Vec<String> =
            members.iter().filter_map(|member| group.member(member)).map(|member| member.told.regex.clone()).collect();
        let mut draft = Draft::new(id, Cow::Borrowed(group), Vec::new(), &image);
        for member in members {
            draft.remove(member);
        }
        for regex in &regexes {
            draft.drop_unused_regex(regex);
        }
        draft.renew(true, true);
        Step { replies: Vec::new(), pending: Some(Pending::new(draft.into_records(), held, Action::Apply)) }
    }

    /// The log has been replayed: the members' deadlines begin anew.
    pub(in crate::coordinator::group) fn expect_consumers(&mut self, id: &Arc<str>, now: Now) {
        let Some(group) = self.consumer_group(id) else { return };
        let members: Vec<_> = group.members().cloned().collect();
        let (own_session_ms, _) = self.consumer_timeouts(id);
        for member in members {
            let key = |make: fn(Arc<str>, String) -> Key| make(Arc::clone(id), member.id.to_string());
            let session_ms = match &member.told.classic {
                Some(side) => side.session_timeout_ms,
                None => own_session_ms,
            };
            self.timers.set(key(Key::Session), now.after(session_ms), Due::Session);
            if member.current.state == MemberState::UnrevokedPartitions && !member.is_classic() {
                let due = Due::Revocation { epoch: member.current.epoch };
                self.timers.set(key(Key::Revocation), now.after(member.told.rebalance_timeout_ms), due);
            }
        }
    }

    /// A deadline of a member has passed; `epoch` is the one it was to leave by giving up partitions, if it is
    /// about that.
    pub(in crate::coordinator::group) fn consumer_overdue(
        &mut self,
        id: &Arc<str>,
        member: &str,
        epoch: Option<i32>,
        reason: &'static str,
    ) -> Step {
        let known = self.consumer_group(id).and_then(|group| group.member(member));
        let is_due = |epoch| {
            known.is_some_and(|member| {
                member.current.epoch == epoch && member.current.state == MemberState::UnrevokedPartitions
            })
        };
        match known.filter(|_| epoch.is_none_or(is_due)) {
            None => Step::default(),
            Some(known) => {
                let known = Arc::clone(&known.id);
                tracing::info!(group = %id, member, reason, "member is fenced");
                self.fence(id, &[known], Vec::new())
            }
        }
    }

    /// LeaveGroup to a consumer group, from members of the classic protocol and from administrators.
    pub(in crate::coordinator::group) fn leave_consumer_group(&mut self, token: Token, leave: LeaveGroup) -> Step {
        let Some(group) = self.consumer_group(&leave.group) else { return Step::default() };
        let mut gone: Vec<Arc<str>> = Vec::new();
        let mut left = Vec::with_capacity(leave.members.len());
        for leaving in leave.members {
            let (id, instance) = (leaving.member_id, leaving.instance_id);
            let found = match &instance {
                None => group.member(&id).ok_or(GroupError::UnknownMemberId),
                Some(instance) => match group.static_member(instance) {
                    None => Err(GroupError::UnknownMemberId),
                    Some(member) if !id.is_empty() && *member.id != *id => Err(GroupError::FencedInstanceId),
                    Some(member) => Ok(member),
                },
            };
            if let Ok(member) = found
                && !gone.contains(&member.id)
            {
                tracing::info!(
                    group = %leave.group, member = %member.id,
                    reason = leaving.reason.as_deref().unwrap_or("not provided"), "member leaves"
                );
                gone.push(Arc::clone(&member.id));
            }
            left.push(Left { member_id: id, instance_id: instance, error: found.err() });
        }
        self.fence(&leave.group, &gone, vec![(token, Reply::Leave(Ok(left)))])
    }
}
