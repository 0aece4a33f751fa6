//! The groups' state machine as the runtime hosts it.

use super::classic::Token;
use super::machine::{GroupMachine, Images, Now, Pending, Reply, Request, Step};
use super::records::GroupRecord;
use super::timers::Tick;
use super::{GroupError, GroupOptions};
use crate::coordinator::runtime::machine::{Envelope, KeyValue, Machine, Refusal};
use millrace_model::{LeaderEpoch, Offset, ProducerId};
use std::sync::Arc;

/// What the groups of a partition are set up with.
#[derive(Clone, Debug)]
pub struct GroupSetup {
    /// Their settings.
    pub options: GroupOptions,
    /// Where the cluster's topics are looked up.
    pub images: Arc<dyn Images>,
}

impl Machine for GroupMachine {
    type Options = GroupSetup;
    type Request = Request;
    type Reply = Reply;
    type Pending = Pending;
    type Work = std::convert::Infallible;

    const WHAT: &'static str = "groups";

    fn new(setup: GroupSetup) -> Self {
        Self::new(setup.options, setup.images)
    }

    fn refused(request: &Request, why: Refusal) -> Reply {
        request.refused(why.into())
    }

    fn shares_append(request: &Request) -> bool {
        request.is_commit()
    }

    fn records(pending: &Pending) -> Vec<KeyValue> {
        pending.records.iter().filter_map(GroupRecord::encode).collect()
    }

    fn envelope(pending: &Pending) -> Envelope {
        pending.envelope
    }

    fn handle(&mut self, token: Token, request: Request, now: Now) -> Step {
        self.handle(token, request, now)
    }

    fn conclude(&mut self, pending: Pending, outcome: Result<Offset, Refusal>, now: Now) -> Step {
        self.conclude(pending, outcome.map_err(GroupError::from), now)
    }

    fn next_deadline(&self) -> Option<Tick> {
        self.next_deadline()
    }

    fn expire(&mut self, now: Now) -> Option<Step> {
        self.expire(now)
    }

    fn replay(
        &mut self,
        (key, value): (&[u8], Option<&[u8]>),
        at: Offset,
        transaction: Option<ProducerId>,
        now: Now,
    ) -> Result<(), String> {
        let record = GroupRecord::decode(key, value).map_err(|error| error.to_string())?;
        self.apply(record, at, transaction.unwrap_or(ProducerId::NONE), now);
        Ok(())
    }

    fn replay_marker(&mut self, producer: ProducerId, committed: bool) {
        self.end_transaction(producer, committed);
    }

    fn loaded(&mut self, _epoch: LeaderEpoch, now: Now) -> Vec<Step> {
        self.loaded(now)
    }
}

impl From<Refusal> for GroupError {
    fn from(why: Refusal) -> Self {
        match why {
            Refusal::NotAvailable => Self::NotAvailable,
            Refusal::Loading => Self::Loading,
            Refusal::NotCoordinator => Self::NotCoordinator,
            Refusal::TooLarge => Self::TooLarge,
            Refusal::Fenced => Self::ProducerFenced,
            Refusal::NotInTransaction => Self::InvalidTransaction,
        }
    }
}
