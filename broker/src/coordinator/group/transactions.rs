//! Offsets that are committed as part of a producer's transaction, and the transaction's end.
//!
//! They wait beside the group's offsets until the marker comes; readers that ask for stable offsets are told so meanwhile.

use super::classic::Token;
use super::machine::{Action, GroupMachine, Kind, Now, Pending, Reply, Step};
use super::types::{EndOfTransaction, GroupError, OffsetCommit, TxnOffsetCommit};
use crate::coordinator::runtime::machine::Envelope;

impl GroupMachine {
    pub(super) fn commit_in_transaction(&mut self, token: Token, ask: TxnOffsetCommit, now: Now) -> Step {
        let TxnOffsetCommit { commit, producer_id, producer_epoch, guard } = ask;
        if let Err(error) = self.validate_transactional(&commit) {
            return Step::reply(token, Reply::Commit(Err(error)));
        }
        let mut step = self.offset_records(token, commit, now);
        if let Some(pending) = &mut step.pending {
            pending.envelope = Envelope::Transaction { id: producer_id, epoch: producer_epoch, guard };
            pending.set_action(Action::ApplyInTransaction { producer: producer_id });
        }
        step
    }

    /// A producer that does not say on whose behalf it commits is believed. A stale epoch has the code that producers knew
    /// before there were member epochs.
    fn validate_transactional(&self, commit: &OffsetCommit) -> Result<(), GroupError> {
        let (member, instance) = (commit.member_id.as_str(), commit.instance_id.as_deref());
        match self.groups.get(&commit.group).map(|group| &group.kind) {
            Some(Kind::Classic(group)) => group.validate_commit(member, instance, commit.generation, true),
            Some(Kind::Consumer(group)) => match group.validate_commit(commit, true, false) {
                Err(GroupError::StaleMemberEpoch) => Err(GroupError::IllegalGeneration),
                outcome => outcome,
            },
            None if commit.generation < 0 => Ok(()),
            None => Err(GroupError::IllegalGeneration),
        }
    }

    pub(super) fn transaction_ends(token: Token, end: EndOfTransaction) -> Step {
        let EndOfTransaction { marker, strict } = end;
        let action = Action::EndTransaction { producer: marker.producer_id, committed: marker.committed };
        let mut pending = Pending::new(Vec::new(), vec![(token, Reply::EndTransaction(Ok(())))], action);
        pending.envelope = Envelope::Marker { marker, strict };
        Step { replies: Vec::new(), pending: Some(pending) }
    }
}
