//! From the classic protocol to the new one and back, without a stop: the first member that speaks the other protocol
//! takes the group over, and the last that leaves takes it back.
//!
//! Members of the classic protocol stay in a consumer group as they are: what they were told in their generation is what
//! they have, and the epoch goes on from it.

use super::ConsumerGroup;
use super::group::ConsumerMember;
use crate::coordinator::group::classic::{ClassicGroup, Member, State, Token};
use crate::coordinator::group::consumer_protocol::{Assignment, CONSUMER, NamedPartitions, Subscription};
use crate::coordinator::group::describe::numbers;
use crate::coordinator::group::machine::{GroupMachine, Now, Reply, refuse};
use crate::coordinator::group::records::{
    ClassicSide, ConsumerGroupValue, ConsumerMemberValue, ConsumerRecord, CurrentValue, GroupRecord, MemberState,
    Partitions, TargetEpochValue,
};
use crate::coordinator::group::types::{GroupError, Refusal};
use bytes::Bytes;
use millrace_metadata::Image;
use millrace_model::Timestamp;
use std::sync::Arc;

impl GroupMachine {
    /// A group of the classic protocol as a consumer group, and the records that make it one.
    ///
    /// # Errors
    /// [`GroupError::GroupIdNotFound`] where it cannot be one, which is what its new member hears.
    pub(super) fn upgraded(
        &self,
        id: &Arc<str>,
        classic: &ClassicGroup,
    ) -> Result<(ConsumerGroup, Vec<GroupRecord>), Refusal> {
        let mut records = vec![GroupRecord::Group { group: Arc::clone(id), value: None }];
        let mut group = ConsumerGroup::default();
        if classic.state() == State::Empty {
            return Ok((group, records));
        }
        let cannot = |why: &str| {
            let message = format!("Cannot upgrade classic group {id} to consumer group because {why}.");
            Refusal::new(GroupError::GroupIdNotFound, message)
        };
        if !self.options.consumer_upgrade {
            return Err(cannot("online upgrade is disabled"));
        }
        if !classic.is_consumer_group() {
            return Err(cannot("the group does not use the consumer embedded protocol"));
        }
        if classic.len() > self.options.consumer_max_size {
            return Err(cannot("the group size exceeds the consumer group maximum size"));
        }
        let image = self.images.image();
        let protocol = classic.protocol.clone().or_else(|| classic.select_protocol()).unwrap_or_default();
        let mut members = Vec::with_capacity(classic.len());
        for (member_id, member) in classic.members() {
            let malformed = || cannot("the embedded consumer protocol is malformed");
            let subscription = Subscription::read(&member.metadata(&protocol)).ok_or_else(malformed)?;
            let assignment = Assignment::read(&member.assignment).ok_or_else(malformed)?;
            if assignment.has_user_data {
                return Err(Refusal::new(
                    GroupError::GroupIdNotFound,
                    format!(
                        "Cannot upgrade classic group {id} to consumer group because an unsupported custom assignor is \
                         in use. Please refer to the documentation or switch to a default assignor before \
                         re-attempting the upgrade."
                    ),
                ));
            }
            members.push(settled(member_id, member, subscription, &assignment, (classic.generation, &image)));
        }
        for record in records_of(&members, classic.generation) {
            group.apply(&record);
            records.push(GroupRecord::Consumer { group: Arc::clone(id), record });
        }
        tracing::info!(group = %id, members = members.len(), "classic group becomes a consumer group");
        Ok((group, records))
    }

    /// Answers whoever waits for the classic group's next generation: there will be none.
    /// The members' sessions begin anew.
    pub(super) fn dismiss_parked(&mut self, id: &Arc<str>, now: Now) -> Vec<(Token, Reply)> {
        let mut replies = Vec::new();
        if let Some(mut scene) = self.scene(id, now) {
            let sessions: Vec<(String, i32)> =
                scene.group.members().map(|(id, member)| (id.clone(), member.session_timeout_ms)).collect();
            for (member, timeout_ms) in sessions {
                scene.watch(&member, timeout_ms);
            }
        }
        let Some(classic) = self.groups.get_mut(id).and_then(|group| group.classic_mut()) else { return replies };
        let members: Vec<String> = classic.members().map(|(id, _)| id.clone()).collect();
        for member in members {
            let sync = classic.member_mut(&member).and_then(|member| member.awaiting_sync.take());
            replies.extend(sync.map(|token| (token, Reply::Sync(Err(GroupError::RebalanceInProgress)))));
            let join = classic.take_join(&member);
            replies.extend(join.map(|token| (token, refuse(GroupError::RebalanceInProgress, &member))));
        }
        replies
    }

    /// Whether the group goes back to the classic protocol when these members are gone.
    pub(super) fn may_downgrade(&self, group: &ConsumerGroup, leaving: &[Arc<str>]) -> bool {
        let left = group.members().len().saturating_sub(leaving.len());
        group.are_all_classic_but(leaving)
            && left > 0
            && self.options.consumer_downgrade
            && left <= self.options.max_size
    }
}

/// A member of a classic group as it is in a consumer group: it has what it was given.
fn settled(
    id: &str,
    member: &Member,
    subscription: Subscription,
    assignment: &Assignment,
    (epoch, image): (i32, &Image),
) -> ConsumerMember {
    let told = ConsumerMemberValue {
        instance_id: member.instance_id.clone(),
        rack: subscription.rack,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: subscription.topics.into_iter().collect(),
        regex: String::new(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        assignor: None,
        classic: Some(ClassicSide {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
    };
    let has = with_ids(&assignment.partitions, image).into_iter();
    let assigned =
        has.map(|(topic, partitions)| (topic, partitions.into_iter().map(|index| (index, epoch)).collect())).collect();
    let state = MemberState::Stable;
    let current = CurrentValue { epoch, previous_epoch: epoch, state, assigned, revoking: Default::default() };
    ConsumerMember { id: id.into(), told, current }
}

fn records_of(members: &[ConsumerMember], epoch: i32) -> Vec<ConsumerRecord> {
    let told = |member: &ConsumerMember| ConsumerRecord::Member(Arc::clone(&member.id), Some(member.told.clone()));
    let target = |member: &ConsumerMember| {
        ConsumerRecord::Target(Arc::clone(&member.id), Some(numbers(&member.current.assigned)))
    };
    let current =
        |member: &ConsumerMember| ConsumerRecord::Current(Arc::clone(&member.id), Some(member.current.clone()));
    let mut records: Vec<ConsumerRecord> = members.iter().map(told).collect();
    records.push(ConsumerRecord::Group(Some(ConsumerGroupValue { epoch, metadata_hash: 0 })));
    records.extend(members.iter().map(target));
    // When the generation began is not known, and the member that takes the group over is not to wait.
    records.push(ConsumerRecord::TargetEpoch(Some(TargetEpochValue { epoch, at: Timestamp::new(0) })));
    records.extend(members.iter().map(current));
    records
}

/// The records that make a consumer group, without the members that leave, one of the classic protocol.
pub(super) fn downgraded(
    id: &Arc<str>,
    group: &ConsumerGroup,
    leaving: &[Arc<str>],
    image: &Image,
) -> Vec<GroupRecord> {
    let mut classic = ClassicGroup::new(Timestamp::NONE);
    classic.protocol_type = Some(CONSUMER.to_owned());
    classic.generation = group.value.epoch;
    for member in group.members().filter(|member| !leaving.contains(&member.id)) {
        let Some(side) = &member.told.classic else { continue };
        let version = side.protocols.first().map_or(0, |protocol| Subscription::version_of(&protocol.metadata));
        let target = group.target(&member.id).cloned().unwrap_or_default();
        let as_classic = Member {
            instance_id: member.told.instance_id.clone(),
            client_id: member.told.client_id.clone(),
            client_host: member.told.client_host.clone(),
            rebalance_timeout_ms: member.told.rebalance_timeout_ms,
            session_timeout_ms: side.session_timeout_ms,
            protocols: side.protocols.clone(),
            assignment: assignment(version, &target, image),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        };
        classic.add(member.id.to_string(), as_classic);
    }
    classic.protocol = classic.select_protocol();
    let mut records = group.tombstones(id);
    let value = classic.to_record(|_, member| member.assignment.clone());
    records.push(GroupRecord::Group { group: Arc::clone(id), value: Some(value) });
    tracing::info!(group = %id, members = classic.len(), "consumer group becomes a classic group");
    records
}

/// Partitions as a member of the classic protocol reads them.
pub(super) fn assignment(version: i16, partitions: &Partitions, image: &Image) -> Bytes {
    let named = partitions.iter().filter_map(|(topic, indexes)| {
        image.topic_by_id(*topic).map(|topic| (topic.name.as_str(), indexes.iter().copied().collect()))
    });
    Assignment::write(version, &named.collect::<Vec<_>>())
}

/// Partitions by the ids of their topics; those of topics that are gone are left out.
pub(super) fn with_ids(named: &NamedPartitions, image: &Image) -> Partitions {
    let mut all = Partitions::new();
    for (name, partitions) in named {
        if let Some(topic) = image.topic(name) {
            all.entry(topic.id).or_default().extend(partitions);
        }
    }
    all
}
