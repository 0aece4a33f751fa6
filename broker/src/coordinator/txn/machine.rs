//! The transactional ids of one partition of `__transaction_state` as a pure state machine.
//!
//! Invariants:
//! - State changes when its record is committed, never before; what could not be stored has not happened.
//! - A transaction that is prepared is ended by its markers, whatever happens to this node: they are asked for once the
//!   record is committed, and again by whoever replays it.
//! - Who asks has a name that fits a record, and a timeout within bounds: `TxnCoordinator` asks for nobody else.
//! - Between a prepared and a completed record nothing else is stored about a transactional id.

use super::decide::{self, End, Init};
use super::records::{Txn, TxnRecord};
use super::types::{
    AddPartitions, EndTxn, Identity, InitProducer, ListTxns, ProducerIdentity, TxnDescription, TxnError, TxnOptions,
    TxnPartition, TxnState, WriteMarkers,
};
use crate::coordinator::runtime::machine::{KeyValue, Machine, Now, Refusal, Step, Tick, Token};
use millrace_model::{LeaderEpoch, Offset, ProducerId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Records of one append at most, where deadlines of many transactional ids fall together.
const AT_ONCE: usize = 1_000;

/// Anything the coordinator can be asked.
#[derive(Clone, Debug)]
pub enum Request {
    /// See [`InitProducer`].
    Init(InitProducer),
    /// Partitions become part of the transaction.
    Add(AddPartitions),
    /// Are the partitions part of the transaction?
    Verify(AddPartitions),
    /// See [`EndTxn`].
    End(EndTxn),
    /// All markers are written that end the transaction which this producer has prepared.
    MarkersWritten {
        /// The transactional id.
        id: Arc<str>,
        /// Whom the markers name.
        producer: ProducerIdentity,
    },
    /// Describes a transactional id.
    Describe(Arc<str>),
    /// See [`ListTxns`].
    List(ListTxns),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named by its request")]
pub enum Reply {
    Init(Result<Identity, TxnError>),
    Add(Result<(), TxnError>),
    Verify(Result<Vec<(TxnPartition, Option<TxnError>)>, TxnError>),
    End(Result<Identity, TxnError>),
    MarkersWritten(Result<(), TxnError>),
    Describe(Result<TxnDescription, TxnError>),
    List(Result<Vec<TxnDescription>, TxnError>),
}

impl Reply {
    fn failed(&self, error: TxnError) -> Self {
        match self {
            Self::Init(_) => Self::Init(Err(error)),
            Self::Add(_) => Self::Add(Err(error)),
            Self::Verify(_) => Self::Verify(Err(error)),
            Self::End(_) => Self::End(Err(error)),
            Self::MarkersWritten(_) => Self::MarkersWritten(Err(error)),
            Self::Describe(_) => Self::Describe(Err(error)),
            Self::List(_) => Self::List(Err(error)),
        }
    }
}

/// Records on their way into the log, and who waits for them.
#[derive(Debug)]
pub struct Pending {
    /// The records, in order.
    pub records: Vec<TxnRecord>,
    held: Option<(Token, Reply)>,
}

type TxnStep = Step<Reply, Pending>;

/// The transactional ids of one partition.
#[derive(Debug)]
pub struct TxnMachine {
    options: TxnOptions,
    txns: BTreeMap<Arc<str>, Txn>,
    coordinator_epoch: i32,
    work: Vec<WriteMarkers>,
    timeouts_at: Tick,
    expiry_at: Tick,
}

impl TxnMachine {
    /// What is known of a transactional id.
    pub fn txn(&self, id: &str) -> Option<&Txn> {
        self.txns.get(id)
    }

    fn store(id: Arc<str>, txn: Txn, token: Token, reply: Reply) -> TxnStep {
        let records = vec![TxnRecord { id, value: Some(txn) }];
        Step { replies: Vec::new(), pending: Some(Pending { records, held: Some((token, reply)) }) }
    }

    fn init(&self, token: Token, ask: InitProducer, now: Now) -> TxnStep {
        match decide::init(self.txns.get(&ask.id), &ask, now.wall) {
            Ok(Init::Ready(txn)) => {
                let is = Identity::Is(txn.producer());
                Self::store(ask.id, txn, token, Reply::Init(Ok(is)))
            }
            // The client comes again, and finds the transaction ended then.
            Ok(Init::Fence(txn)) => Self::store(ask.id, txn, token, Reply::Init(Err(TxnError::Concurrent))),
            Ok(Init::NeedsFreshId) => reply(token, Reply::Init(Ok(Identity::NeedsFreshId))),
            Err(error) => reply(token, Reply::Init(Err(error))),
        }
    }

    fn add(&self, token: Token, ask: AddPartitions, now: Now) -> TxnStep {
        match decide::add(self.txns.get(&ask.id), &ask, now.wall) {
            Ok(Some(txn)) => Self::store(ask.id, txn, token, Reply::Add(Ok(()))),
            Ok(None) => reply(token, Reply::Add(Ok(()))),
            Err(error) => reply(token, Reply::Add(Err(error))),
        }
    }

    fn verify(&self, ask: AddPartitions) -> Result<Vec<(TxnPartition, Option<TxnError>)>, TxnError> {
        let txn = decide::open_to(self.txns.get(&ask.id), ask.producer)?;
        let verdict = |partition: TxnPartition| {
            let is_part = txn.partitions.contains(&partition);
            (partition, (!is_part).then_some(TxnError::Abortable))
        };
        Ok(ask.partitions.into_iter().map(verdict).collect())
    }

    fn end(&self, token: Token, ask: EndTxn, now: Now) -> TxnStep {
        match decide::end(self.txns.get(&ask.id), &ask, now.wall) {
            Ok(End::Prepare(txn)) => {
                let is = Identity::Is(txn.next_producer());
                Self::store(ask.id, txn, token, Reply::End(Ok(is)))
            }
            Ok(End::Again(producer)) => reply(token, Reply::End(Ok(Identity::Is(producer)))),
            Ok(End::NeedsFreshId) => reply(token, Reply::End(Ok(Identity::NeedsFreshId))),
            Err(error) => reply(token, Reply::End(Err(error))),
        }
    }

    fn markers_written(&self, token: Token, id: Arc<str>, producer: ProducerIdentity, now: Now) -> TxnStep {
        match self.txns.get(&id) {
            Some(txn) if txn.state.is_prepared() && txn.producer() == producer => {
                let complete = txn.complete(now.wall);
                Self::store(id, complete, token, Reply::MarkersWritten(Ok(())))
            }
            // It is complete already.
            _ => reply(token, Reply::MarkersWritten(Ok(()))),
        }
    }

    fn list(&self, ask: &ListTxns, now: Now) -> Vec<TxnDescription> {
        let wanted = |txn: &Txn| {
            (ask.states.is_empty() || ask.states.contains(&txn.state))
                && (ask.producers.is_empty() || ask.producers.contains(&txn.producer_id))
                && (ask.longer_than_ms < 0 || now.wall.since(txn.started) > ask.longer_than_ms)
        };
        self.txns.iter().filter(|(_, txn)| wanted(txn)).map(|(id, txn)| describe(id, txn)).collect()
    }

    /// Takes a record that is committed.
    fn apply(&mut self, record: TxnRecord) {
        match record.value {
            Some(txn) => drop(self.txns.insert(record.id, txn)),
            None => drop(self.txns.remove(&record.id)),
        }
    }

    fn ask_for_markers(&mut self, id: &Arc<str>) {
        let Some(txn) = self.txns.get(id).filter(|txn| txn.state.is_prepared()) else { return };
        self.work.push(WriteMarkers {
            id: Arc::clone(id),
            producer: txn.producer(),
            commit: txn.state == TxnState::PrepareCommit,
            coordinator_epoch: self.coordinator_epoch,
            version: txn.version,
            partitions: txn.partitions.clone(),
        });
    }

    /// Aborts transactions whose time is over.
    fn abort_overdue(&mut self, now: Now) -> TxnStep {
        let overdue = self.txns.iter().filter(|(_, txn)| txn.is_overdue(now.wall));
        let fenced = overdue.map(|(id, txn)| {
            tracing::info!(transactional_id = %id, producer = %txn.producer_id, "a transaction took too long and is aborted");
            TxnRecord { id: Arc::clone(id), value: Some(txn.fence(now.wall)) }
        });
        let records: Vec<_> = fenced.take(AT_ONCE).collect();
        self.timeouts_at = self.next(records.len(), self.options.timeout_check_interval_ms, now);
        unasked(records)
    }

    fn forget_expired(&mut self, now: Now) -> TxnStep {
        let after_ms = self.options.expiration_ms;
        let expired = self.txns.iter().filter(|(_, txn)| txn.is_expired(now.wall, after_ms));
        let records: Vec<_> =
            expired.take(AT_ONCE).map(|(id, _)| TxnRecord { id: Arc::clone(id), value: None }).collect();
        self.expiry_at = self.next(records.len(), self.options.expiration_check_interval_ms, now);
        unasked(records)
    }

    /// When to look again: soon, where there was more than fits one append.
    fn next(&self, found: usize, interval_ms: u64, now: Now) -> Tick {
        now.tick.saturating_add(if found == AT_ONCE { 1 } else { interval_ms })
    }
}

impl Machine for TxnMachine {
    type Options = TxnOptions;
    type Request = Request;
    type Reply = Reply;
    type Pending = Pending;
    type Work = WriteMarkers;

    const WHAT: &'static str = "transactions";

    fn new(options: TxnOptions) -> Self {
        let (timeouts_at, expiry_at) = (options.timeout_check_interval_ms, options.expiration_check_interval_ms);
        Self { options, txns: BTreeMap::new(), coordinator_epoch: 0, work: Vec::new(), timeouts_at, expiry_at }
    }

    fn refused(request: &Request, why: Refusal) -> Reply {
        let error = why.into();
        match request {
            Request::Init(_) => Reply::Init(Err(error)),
            Request::Add(_) => Reply::Add(Err(error)),
            Request::Verify(_) => Reply::Verify(Err(error)),
            Request::End(_) => Reply::End(Err(error)),
            Request::MarkersWritten { .. } => Reply::MarkersWritten(Err(error)),
            Request::Describe(_) => Reply::Describe(Err(error)),
            Request::List(_) => Reply::List(Err(error)),
        }
    }

    fn shares_append(_request: &Request) -> bool {
        false
    }

    fn records(pending: &Pending) -> Vec<KeyValue> {
        pending.records.iter().map(TxnRecord::encode).collect()
    }

    fn handle(&mut self, token: Token, request: Request, now: Now) -> TxnStep {
        match request {
            Request::Init(ask) => self.init(token, ask, now),
            Request::Add(ask) => self.add(token, ask, now),
            Request::Verify(ask) => reply(token, Reply::Verify(self.verify(ask))),
            Request::End(ask) => self.end(token, ask, now),
            Request::MarkersWritten { id, producer } => self.markers_written(token, id, producer, now),
            Request::Describe(id) => {
                let described = self.txns.get(&id).map(|txn| describe(&id, txn));
                reply(token, Reply::Describe(described.ok_or(TxnError::IdNotFound)))
            }
            Request::List(ask) => reply(token, Reply::List(Ok(self.list(&ask, now)))),
        }
    }

    fn conclude(&mut self, pending: Pending, outcome: Result<Offset, Refusal>, now: Now) -> TxnStep {
        let Pending { records, held } = pending;
        let held = held.into_iter();
        if let Err(why) = outcome {
            let replies = held.map(|(token, reply)| (token, reply.failed(why.into()))).collect();
            return Step { replies, pending: None };
        }
        let mut follows = Vec::new();
        for record in records {
            let id = Arc::clone(&record.id);
            self.apply(record);
            match self.txns.get(&id) {
                // There is nobody to be told.
                Some(txn) if txn.state.is_prepared() && txn.partitions.is_empty() => {
                    follows.push(TxnRecord { id, value: Some(txn.complete(now.wall)) });
                }
                _ => self.ask_for_markers(&id),
            }
        }
        Step { replies: held.collect(), ..unasked(follows) }
    }

    fn next_deadline(&self) -> Option<Tick> {
        Some(self.timeouts_at.min(self.expiry_at))
    }

    fn expire(&mut self, now: Now) -> Option<TxnStep> {
        if self.timeouts_at <= now.tick {
            return Some(self.abort_overdue(now));
        }
        (self.expiry_at <= now.tick).then(|| self.forget_expired(now))
    }

    fn replay(
        &mut self,
        (key, value): (&[u8], Option<&[u8]>),
        _at: Offset,
        _transaction: Option<ProducerId>,
        _now: Now,
    ) -> Result<(), String> {
        if let Some(record) = TxnRecord::decode(key, value).map_err(|error| error.to_string())? {
            self.apply(record);
        }
        Ok(())
    }

    fn loaded(&mut self, epoch: LeaderEpoch, now: Now) -> Vec<TxnStep> {
        self.coordinator_epoch = epoch.get();
        self.timeouts_at = now.tick.saturating_add(self.options.timeout_check_interval_ms);
        self.expiry_at = now.tick.saturating_add(self.options.expiration_check_interval_ms);
        let prepared: Vec<_> =
            self.txns.iter().filter(|(_, txn)| txn.state.is_prepared()).map(|(id, _)| Arc::clone(id)).collect();
        prepared.iter().for_each(|id| self.ask_for_markers(id));
        // A step, so that the work is taken.
        vec![Step::default()]
    }

    fn take_work(&mut self) -> Vec<WriteMarkers> {
        std::mem::take(&mut self.work)
    }
}

fn reply(token: Token, reply: Reply) -> TxnStep {
    Step { replies: vec![(token, reply)], pending: None }
}

/// Records that nobody waits for.
fn unasked(records: Vec<TxnRecord>) -> TxnStep {
    let pending = (!records.is_empty()).then_some(Pending { records, held: None });
    Step { replies: Vec::new(), pending }
}

fn describe(id: &Arc<str>, txn: &Txn) -> TxnDescription {
    TxnDescription {
        id: Arc::clone(id),
        state: txn.state,
        timeout_ms: txn.timeout_ms,
        started: txn.started,
        producer: txn.producer(),
        partitions: txn.partitions.clone(),
    }
}
