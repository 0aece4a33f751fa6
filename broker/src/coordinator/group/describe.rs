//! What administrators hear of groups.

use super::classic::State;
use super::consumer::{ConsumerGroup, ConsumerMember};
use super::machine::{Group, GroupMachine, Kind};
use super::records::{CurrentValue, Epochs, Partitions};
use super::types::{ConsumerGroupDescription, ConsumerMemberDescription, GroupDescription, GroupError, GroupOverview};
use std::sync::Arc;

impl GroupMachine {
    pub(super) fn list(&self, states: &[String], types: &[String]) -> Vec<GroupOverview> {
        let wanted = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let overview = |(id, group): (&Arc<str>, &Group)| {
            let (kind, protocol_type) = match &group.kind {
                Kind::Classic(classic) => ("classic", classic.protocol_type.clone().unwrap_or_default()),
                Kind::Consumer(_) => ("consumer", "consumer".to_owned()),
            };
            GroupOverview { group: Arc::clone(id), protocol_type, state: group.state(), kind }
        };
        let shown = self.groups.iter().map(overview);
        shown.filter(|group| wanted(states, group.state) && wanted(types, group.kind)).collect()
    }

    /// DescribeGroups knows only classic groups.
    pub(super) fn describe(&self, ids: &[Arc<str>]) -> Vec<GroupDescription> {
        let describe = |id: &Arc<str>| match self.groups.get(id).map(|group| &group.kind) {
            None => GroupDescription::refused(id, GroupError::GroupIdNotFound),
            Some(Kind::Consumer(_)) => GroupDescription::refused(id, GroupError::WrongType),
            Some(Kind::Classic(classic)) => GroupDescription {
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

    /// ConsumerGroupDescribe knows only consumer groups.
    pub(super) fn describe_consumer(&self, ids: &[Arc<str>]) -> Vec<ConsumerGroupDescription> {
        let describe = |id: &Arc<str>| match self.groups.get(id).map(|group| &group.kind) {
            // A classic group may go without a name, a consumer group may not.
            _ if id.is_empty() => ConsumerGroupDescription::refused(id, GroupError::InvalidGroupId),
            None => ConsumerGroupDescription::refused(id, GroupError::GroupIdNotFound),
            Some(Kind::Classic(_)) => ConsumerGroupDescription::refused(id, GroupError::WrongType),
            Some(Kind::Consumer(group)) => self.describe_one(id, group),
        };
        ids.iter().map(describe).collect()
    }

    fn describe_one(&self, id: &Arc<str>, group: &ConsumerGroup) -> ConsumerGroupDescription {
        let default = self.options.consumer_assignors.first().map(String::as_str);
        ConsumerGroupDescription {
            group: Arc::clone(id),
            state: group.state(),
            epoch: group.value.epoch,
            assignment_epoch: group.target_epoch,
            assignor: group.preferred_assignor().or(default).unwrap_or_default().to_owned(),
            members: group.members().map(|member| describe_member(group, member)).collect(),
            error: None,
        }
    }
}

fn describe_member(group: &ConsumerGroup, member: &ConsumerMember) -> ConsumerMemberDescription {
    ConsumerMemberDescription {
        member_id: member.id.to_string(),
        instance_id: member.told.instance_id.clone(),
        rack: member.told.rack.clone(),
        epoch: member.current.epoch,
        client_id: member.told.client_id.clone(),
        client_host: member.told.client_host.clone(),
        topics: member.told.topics.iter().cloned().collect(),
        regex: member.told.regex.clone(),
        assignment: had(&member.current),
        target: group.target(&member.id).map(|target| Partitions::clone(target)).unwrap_or_default(),
        is_classic: member.is_classic(),
    }
}

/// What a member has: what it was given, and what it has not given up yet.
fn had(current: &CurrentValue) -> Partitions {
    let mut had = numbers(&current.assigned);
    for (topic, partitions) in &current.revoking {
        had.entry(*topic).or_default().extend(partitions.keys());
    }
    had
}

/// Partitions without their epochs.
pub(super) fn numbers(epochs: &Epochs) -> Partitions {
    epochs.iter().map(|(topic, partitions)| (*topic, partitions.keys().copied().collect())).collect()
}

impl ConsumerGroupDescription {
    pub(super) fn refused(id: &Arc<str>, error: GroupError) -> Self {
        Self {
            group: Arc::clone(id),
            state: "",
            epoch: 0,
            assignment_epoch: 0,
            assignor: String::new(),
            members: Vec::new(),
            error: Some(error),
        }
    }
}
