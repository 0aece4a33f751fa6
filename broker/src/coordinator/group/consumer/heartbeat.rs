//! ConsumerGroupHeartbeat: members join, are brought to their targets, and stay.

use super::ConsumerGroup;
use super::draft::Draft;
use super::group::{AWAY, ConsumerMember, LEFT};
use super::reconcile::{self, Goal};
use crate::coordinator::group::classic::Token;
use crate::coordinator::group::describe::numbers;
use crate::coordinator::group::machine::{Action, GroupMachine, Kind, Now, Pending, Reply, Step};
use crate::coordinator::group::records::{
    ConsumerMemberValue, ConsumerRecord, CurrentValue, GroupRecord, MemberState, Partitions,
};
use crate::coordinator::group::timers::{Due, Key};
use crate::coordinator::group::types::{Beat, ConsumerHeartbeat, GroupError, Refusal};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// The longest name that a record's key can hold.
const LONGEST: usize = i16::MAX as usize;

impl GroupMachine {
    pub(in crate::coordinator::group) fn consumer_heartbeat(
        &mut self,
        token: Token,
        mut beat: ConsumerHeartbeat,
        now: Now,
    ) -> Step {
        let refused = |refusal| Step::reply(token, Reply::ConsumerHeartbeat(Err(refusal)));
        if let Err(refusal) = self.validate_beat(&beat) {
            return refused(refusal);
        }
        if beat.member_id.is_empty() {
            beat.member_id = beat.fresh.to_string();
        }
        let outcome = if matches!(beat.epoch, LEFT | AWAY) {
            self.consumer_leave(token, &beat)
        } else {
            self.consumer_beat(token, &beat, now)
        };
        outcome.unwrap_or_else(refused)
    }

    fn validate_beat(&self, beat: &ConsumerHeartbeat) -> Result<(), Refusal> {
        let invalid = |reason: &str| Err(Refusal::new(GroupError::InvalidRequest, reason));
        let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
        if beat.member_id.is_empty() && (beat.requires_member_id || beat.epoch != 0) {
            return invalid("MemberId can't be empty.");
        }
        if beat.group.is_empty() {
            return invalid("GroupId can't be empty.");
        }
        if is_empty(&beat.instance_id) {
            return invalid("InstanceId can't be empty.");
        }
        if is_empty(&beat.rack) {
            return invalid("RackId can't be empty.");
        }
        if beat.member_id.len() > LONGEST || beat.regex.as_ref().is_some_and(|regex| regex.len() > LONGEST) {
            return invalid("A text is longer than what can be stored.");
        }
        match beat.epoch {
            0 if beat.rebalance_timeout_ms == -1 => {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            0 if beat.owned.as_ref().is_none_or(|owned| !owned.is_empty()) => {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            0 if beat.topics.is_none() && beat.regex.is_none() => {
                return invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                );
            }
            AWAY if beat.instance_id.is_none() => return invalid("InstanceId can't be null."),
            ..AWAY => return invalid("MemberEpoch is invalid."),
            _ => {}
        }
        match &beat.assignor {
            Some(name) if !self.options.consumer_assignors.contains(name) => {
                let known = self.options.consumer_assignors.join(", ");
                let message = format!("ServerAssignor {name} is not supported. Supported assignors: {known}.");
                Err(Refusal::new(GroupError::UnsupportedAssignor, message))
            }
            _ => Ok(()),
        }
    }

    fn consumer_beat(&mut self, token: Token, beat: &ConsumerHeartbeat, now: Now) -> Result<Step, Refusal> {
        let image = self.images.image();
        let (group, records) = self.group_for(beat)?;
        let is_upgrade = !records.is_empty();
        let topics_may_differ = self.groups.get(&beat.group).is_none_or(|group| group.seen != image.index());
        let mut draft = Draft::new(&beat.group, group, records, &image);
        draft.check_room(&beat.member_id, &self.options)?;
        let before = find(&mut draft, beat)?;
        let told = updated(&before.told, beat);
        draft.tell(&before, &told);
        let regexes = (before.told.regex.as_str(), told.regex.as_str());
        let changed_regexes = draft.follow_regexes(regexes, topics_may_differ, now.wall).map_err(|reason| {
            let message = format!("SubscribedTopicRegex `{}` is not a valid regular expression: {reason}.", told.regex);
            Refusal::new(GroupError::InvalidRegularExpression, message)
        })?;
        let has_new_subscription = before.told.topics != told.topics || changed_regexes;
        let must = draft.group().value.epoch == 0 || has_new_subscription;
        let renewed = draft.renew(must, topics_may_differ);
        draft.retarget(&self.options, now.wall);
        let member = ConsumerMember { told, ..ConsumerMember::clone(&before) };
        let current = step_of(&draft, &image, &member, beat.owned.as_ref(), has_new_subscription)?;
        if current != before.current {
            draft.push_last(ConsumerRecord::Current(Arc::clone(&member.id), Some(current.clone())));
        }
        let records = draft.into_records();
        if !renewed && let Some(group) = self.groups.get_mut(&beat.group) {
            group.seen = image.index();
        }
        self.expect_signs_of_life(&beat.group, &member, &before.current, &current, now);
        let replies = if is_upgrade { self.dismiss_parked(&beat.group, now) } else { Vec::new() };
        let reply = Reply::ConsumerHeartbeat(Ok(self.beat_reply(beat, &before.current, current, &member)));
        Ok(after(records, replies, token, reply))
    }

    /// The group a member asks for, and records that make one of the classic protocol into it.
    fn group_for(&self, beat: &ConsumerHeartbeat) -> Result<(Cow<'_, ConsumerGroup>, Vec<GroupRecord>), Refusal> {
        let not_found = |message| Err(Refusal::new(GroupError::GroupIdNotFound, message));
        match self.groups.get(&beat.group).map(|group| &group.kind) {
            Some(Kind::Consumer(group)) => Ok((Cow::Borrowed(&**group), Vec::new())),
            Some(Kind::Classic(classic)) if beat.epoch == 0 => {
                let (group, records) = self.upgraded(&beat.group, classic)?;
                Ok((Cow::Owned(group), records))
            }
            None if beat.epoch == 0 => Ok((Cow::Owned(ConsumerGroup::default()), Vec::new())),
            Some(Kind::Classic(_)) => not_found(format!("Group {} is not a consumer group.", beat.group)),
            None => not_found(format!("Consumer group {} not found.", beat.group)),
        }
    }

    /// How long members of a group may be silent, and how often they are to send heartbeats, in milliseconds.
    pub(super) fn consumer_timeouts(&self, group: &str) -> (i32, i32) {
        let settings = self.options.consumer.over(self.images.image().group_config(group));
        let ms = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
        (ms(settings.consumer_session_timeout), ms(settings.consumer_heartbeat_interval))
    }

    fn expect_signs_of_life(
        &mut self,
        group: &Arc<str>,
        member: &ConsumerMember,
        before: &CurrentValue,
        current: &CurrentValue,
        now: Now,
    ) {
        let (session_ms, _) = self.consumer_timeouts(group);
        let key = Key::Session(Arc::clone(group), member.id.to_string());
        self.timers.set(key, now.after(session_ms), Due::Session);
        if before != current {
            let key = Key::Revocation(Arc::clone(group), member.id.to_string());
            if current.state == MemberState::UnrevokedPartitions {
                let due = Due::Revocation { epoch: current.epoch };
                self.timers.set(key, now.after(member.told.rebalance_timeout_ms), due);
            } else {
                self.timers.cancel(&key);
            }
        }
    }

    fn beat_reply(
        &self,
        beat: &ConsumerHeartbeat,
        before: &CurrentValue,
        current: CurrentValue,
        member: &ConsumerMember,
    ) -> Beat {
        let subscribes = beat.topics.is_some() || beat.regex.is_some();
        // A member that says all of itself has lost track, and is told all.
        let is_full = beat.rebalance_timeout_ms != -1 && subscribes && beat.owned.is_some();
        let is_told = beat.epoch == 0 || is_full || before.assigned != current.assigned;
        Beat {
            member_id: member.id.to_string(),
            epoch: current.epoch,
            heartbeat_interval_ms: self.consumer_timeouts(&beat.group).1,
            assignment: is_told.then(|| numbers(&current.assigned)),
        }
    }
}

/// The step of a member on a draft.
pub(super) fn step_of(
    draft: &Draft<'_>,
    image: &millrace_metadata::Image,
    member: &ConsumerMember,
    reported: Option<&Partitions>,
    has_new_subscription: bool,
) -> Result<CurrentValue, GroupError> {
    let group = draft.group();
    let nothing = Arc::default();
    let target = group.target(&member.id).unwrap_or(&nothing);
    let goal = Goal { epoch: group.target_epoch, target, reported, has_new_subscription };
    reconcile::step(group, image, member, goal)
}

/// A reply that waits for records, where there are any.
pub(super) fn after(records: Vec<GroupRecord>, mut replies: Vec<(Token, Reply)>, token: Token, reply: Reply) -> Step {
    if records.is_empty() {
        replies.push((token, reply));
        return Step { replies, pending: None };
    }
    Step { replies, pending: Some(Pending::new(records, vec![(token, reply)], Action::Apply)) }
}

/// The member that asks; one that joins is made, one that takes a static member's place has it.
fn find(draft: &mut Draft<'_>, beat: &ConsumerHeartbeat) -> Result<Arc<ConsumerMember>, Refusal> {
    let joins = beat.epoch == 0;
    let id = beat.member_id.as_str();
    let Some(instance) = &beat.instance_id else {
        return match draft.group().member(id) {
            Some(member) => check_epoch(member, beat).map(|()| Arc::clone(member)),
            None if joins => Ok(Arc::new(ConsumerMember::new(id.into()))),
            None => Err(unknown(id, &beat.group)),
        };
    };
    match draft.group().static_member(instance).cloned() {
        None if joins => {
            let known = draft.group().member(id).cloned();
            Ok(known.unwrap_or_else(|| Arc::new(ConsumerMember::new(id.into()))))
        }
        None => Err(Refusal::new(GroupError::UnknownMemberId, format!("Instance id {instance} is unknown."))),
        Some(old) if joins => {
            if !old.is_classic() && old.current.epoch != AWAY {
                let message = format!(
                    "Static member {id} with instance id {instance} cannot join the group because the instance id is \
                     owned by {} member.",
                    old.id
                );
                return Err(Refusal::new(GroupError::UnreleasedInstanceId, message));
            }
            Ok(draft.replace(&old, id.into()))
        }
        Some(member) => {
            check_instance(&member, id, instance)?;
            check_epoch(&member, beat).map(|()| member)
        }
    }
}

pub(super) fn unknown(id: &str, group: &str) -> Refusal {
    Refusal::new(GroupError::UnknownMemberId, format!("Member {id} is not a member of group {group}."))
}

pub(super) fn check_instance(member: &ConsumerMember, id: &str, instance: &str) -> Result<(), Refusal> {
    if *member.id == *id {
        return Ok(());
    }
    let message = format!("Static member {id} with instance id {instance} was fenced by member {}.", member.id);
    Err(Refusal::new(GroupError::FencedInstanceId, message))
}

/// A member may be one epoch behind where the answer that would have told it the new one was lost: then it has nothing
/// that is not its own.
fn check_epoch(member: &ConsumerMember, beat: &ConsumerHeartbeat) -> Result<(), Refusal> {
    let current = &member.current;
    let has_only_its_own = || {
        beat.owned.as_ref().is_some_and(|owned| {
            owned.iter().all(|(topic, partitions)| {
                let own = current.assigned.get(topic);
                partitions.iter().all(|partition| own.is_some_and(|own| own.contains_key(partition)))
            })
        })
    };
    let fenced = |how: &str| {
        let (theirs, ours) = (beat.epoch, current.epoch);
        let message = format!(
            "The consumer group member has a {how} member epoch ({theirs}) than the one known by the group coordinator \
             ({ours}). The member must abandon all its partitions and rejoin."
        );
        Err(Refusal::new(GroupError::FencedMemberEpoch, message))
    };
    match beat.epoch.cmp(&current.epoch) {
        _ if beat.epoch == 0 => Ok(()),
        Ordering::Equal => Ok(()),
        Ordering::Greater => fenced("greater"),
        Ordering::Less if beat.epoch == current.previous_epoch && has_only_its_own() => Ok(()),
        Ordering::Less => fenced("smaller"),
    }
}

/// What the member says of itself now; what it leaves out stays.
fn updated(before: &ConsumerMemberValue, beat: &ConsumerHeartbeat) -> ConsumerMemberValue {
    let rebalance_timeout_ms = match beat.rebalance_timeout_ms {
        -1 => before.rebalance_timeout_ms,
        timeout => timeout,
    };
    ConsumerMemberValue {
        instance_id: beat.instance_id.clone().or_else(|| before.instance_id.clone()),
        rack: beat.rack.clone().or_else(|| before.rack.clone()),
        client_id: beat.client_id.clone(),
        client_host: beat.client_host.clone(),
        topics: beat.topics.clone().map_or_else(|| before.topics.clone(), |topics| topics.into_iter().collect()),
        regex: beat.regex.clone().unwrap_or_else(|| before.regex.clone()),
        rebalance_timeout_ms,
        assignor: beat.assignor.clone().or_else(|| before.assignor.clone()),
        classic: None,
    }
}
