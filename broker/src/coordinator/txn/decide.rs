//! What becomes of one transactional id. Pure: from what is known of it and a request to what is stored next.
//!
//! ```text
//!            add               end                      markers written
//!   Empty ───────▶ Ongoing ──────────▶ PrepareCommit ───────────────────▶ CompleteCommit ─┐
//!     ▲              ▲  └────────────▶ PrepareAbort  ───────────────────▶ CompleteAbort  ─┤
//!     └── init ──────┴──────────────── add ───────────────────────────────────────────────┘
//! ```
//! Epochs: a client of version 2 has a new one with every transaction, which the markers carry already; others with
//! every InitProducerId. The last epoch of a producer id is never given to a client, so that whoever had the one before
//! can still be fenced.

use super::records::Txn;
use super::types::{AddPartitions, EndTxn, InitProducer, ProducerIdentity, TxnError, TxnState, TxnVersion};
use millrace_model::{ProducerEpoch, ProducerId, Timestamp};

/// The version whose rules hold where no client asks.
const OURS: TxnVersion = TxnVersion::V2;

/// What InitProducerId comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Init {
    /// The producer is this from now on.
    Ready(Txn),
    /// Its open transaction is aborted first.
    Fence(Txn),
    /// A producer id is needed that nobody has.
    NeedsFreshId,
}

/// What EndTxn comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The transaction ends.
    Prepare(Txn),
    /// It had ended so before; this is who the producer is.
    Again(ProducerIdentity),
    /// A producer id is needed that nobody has.
    NeedsFreshId,
}

impl Txn {
    fn new(producer_id: ProducerId, timeout_ms: i32, now: Timestamp) -> Self {
        Self {
            producer_id,
            producer_epoch: ProducerEpoch::NONE,
            previous_id: ProducerId::NONE,
            next_id: ProducerId::NONE,
            last_epoch: ProducerEpoch::NONE,
            timeout_ms,
            state: TxnState::Empty,
            partitions: Default::default(),
            started: Timestamp::NONE,
            updated: now,
            version: TxnVersion::V0,
        }
    }

    /// Who writes.
    pub(super) const fn producer(&self) -> ProducerIdentity {
        ProducerIdentity { id: self.producer_id, epoch: self.producer_epoch }
    }

    /// Who will write once the transaction is complete.
    pub(super) fn next_producer(&self) -> ProducerIdentity {
        match self.next_id.is_some() {
            true => ProducerIdentity { id: self.next_id, epoch: ProducerEpoch::new(0) },
            false => self.producer(),
        }
    }

    /// Whether its time is over.
    pub(super) fn is_overdue(&self, now: Timestamp) -> bool {
        self.state == TxnState::Ongoing && now.since(self.started) > self.timeout_ms.into()
    }

    /// Whether it has not been used for so long that it is forgotten.
    pub(super) fn is_expired(&self, now: Timestamp, after_ms: i64) -> bool {
        let idle = matches!(self.state, TxnState::Empty | TxnState::CompleteCommit | TxnState::CompleteAbort);
        idle && now.since(self.updated) >= after_ms
    }

    /// The markers are written.
    pub(super) fn complete(&self, now: Timestamp) -> Self {
        let state = match self.state {
            TxnState::PrepareCommit => TxnState::CompleteCommit,
            _ => TxnState::CompleteAbort,
        };
        let previous_id = self.producer_id;
        let mut next = Self { state, partitions: Default::default(), updated: now, previous_id, ..self.clone() };
        if self.version.bumps_epoch() && self.next_id.is_some() {
            next.producer_id = self.next_id;
            next.producer_epoch = ProducerEpoch::new(0);
        }
        next.next_id = ProducerId::NONE;
        next
    }

    /// Nobody answers for the transaction any more: it is aborted, and whoever had its epoch begins anew with InitProducerId.
    pub(super) fn fence(&self, now: Timestamp) -> Self {
        self.prepare(false, OURS, ProducerId::NONE, now)
    }

    fn prepare(&self, commit: bool, version: TxnVersion, next_id: ProducerId, now: Timestamp) -> Self {
        let state = if commit { TxnState::PrepareCommit } else { TxnState::PrepareAbort };
        let previous_id = self.producer_id;
        let mut next = Self { state, next_id, previous_id, updated: now, version, ..self.clone() };
        if version.bumps_epoch() {
            // What is at its end already stays there: an abort must always be possible.
            next.producer_epoch = ProducerEpoch::new(self.producer_epoch.get().saturating_add(1));
            next.last_epoch = self.producer_epoch;
        }
        if self.state != TxnState::Ongoing {
            // A client of version 2 may abort what it has not begun.
            next.started = now;
        }
        next
    }
}

/// Whether there is no epoch left for a client.
pub(super) fn is_exhausted(epoch: ProducerEpoch) -> bool {
    epoch.get() >= i16::MAX - 1
}

pub(super) fn init(known: Option<&Txn>, ask: &InitProducer, now: Timestamp) -> Result<Init, TxnError> {
    let Some(txn) = known else {
        let Some(fresh) = ask.fresh else { return Ok(Init::NeedsFreshId) };
        return increment(&Txn::new(fresh, ask.timeout_ms, now), ask, now);
    };
    if let Some(expected) = ask.expected
        && expected.id != txn.producer_id
        && !(expected.id == txn.previous_id && is_exhausted(expected.epoch))
    {
        return Err(TxnError::Fenced);
    }
    match txn.state {
        TxnState::PrepareCommit | TxnState::PrepareAbort => Err(TxnError::Concurrent),
        TxnState::Ongoing => Ok(Init::Fence(txn.fence(now))),
        TxnState::Empty | TxnState::CompleteCommit | TxnState::CompleteAbort => {
            let as_expected = ask.expected.is_none_or(|expected| expected.epoch == txn.producer_epoch);
            if !is_exhausted(txn.producer_epoch) || !as_expected {
                return increment(txn, ask, now);
            }
            let Some(fresh) = ask.fresh else { return Ok(Init::NeedsFreshId) };
            let last = if ask.expected.is_some() { txn.producer_epoch } else { ProducerEpoch::NONE };
            let mut next = begin_anew(txn, ask, now);
            (next.producer_id, next.producer_epoch, next.last_epoch) = (fresh, ProducerEpoch::new(0), last);
            Ok(Init::Ready(next))
        }
    }
}

fn begin_anew(txn: &Txn, ask: &InitProducer, now: Timestamp) -> Txn {
    Txn {
        timeout_ms: ask.timeout_ms,
        state: TxnState::Empty,
        partitions: Default::default(),
        started: Timestamp::NONE,
        updated: now,
        previous_id: txn.producer_id,
        ..txn.clone()
    }
}

fn increment(txn: &Txn, ask: &InitProducer, now: Timestamp) -> Result<Init, TxnError> {
    let current = txn.producer_epoch;
    let (epoch, last) = match ask.expected {
        None => (current.get() + 1, ProducerEpoch::NONE),
        Some(expected) if current == ProducerEpoch::NONE || expected.epoch == current => (current.get() + 1, current),
        // A repeated request, whose answer got lost.
        Some(expected) if expected.epoch == txn.last_epoch => (current.get(), txn.last_epoch),
        Some(_) => return Err(TxnError::Fenced),
    };
    let next = begin_anew(txn, ask, now);
    Ok(Init::Ready(Txn { producer_epoch: ProducerEpoch::new(epoch), last_epoch: last, ..next }))
}

/// The transaction with the partitions; none where it has them already.
pub(super) fn add(known: Option<&Txn>, ask: &AddPartitions, now: Timestamp) -> Result<Option<Txn>, TxnError> {
    let txn = open_to(known, ask.producer)?;
    if txn.state == TxnState::Ongoing && ask.partitions.is_subset(&txn.partitions) {
        return Ok(None);
    }
    let started = if txn.state == TxnState::Ongoing { txn.started } else { now };
    let mut next = Txn {
        state: TxnState::Ongoing,
        started,
        updated: now,
        version: ask.version,
        previous_id: txn.producer_id,
        ..txn.clone()
    };
    next.partitions.extend(ask.partitions.iter().cloned());
    Ok(Some(next))
}

/// The transaction, where this producer may go on with it.
pub(super) fn open_to(known: Option<&Txn>, producer: ProducerIdentity) -> Result<&Txn, TxnError> {
    let txn = known.filter(|txn| txn.producer_id == producer.id).ok_or(TxnError::IdMapping)?;
    if txn.producer_epoch != producer.epoch {
        return Err(TxnError::Fenced);
    }
    if txn.state.is_prepared() { Err(TxnError::Concurrent) } else { Ok(txn) }
}

pub(super) fn end(known: Option<&Txn>, ask: &EndTxn, now: Timestamp) -> Result<End, TxnError> {
    let txn = known.ok_or(TxnError::IdMapping)?;
    if ask.version.bumps_epoch() { end_v2(txn, ask, now) } else { end_v1(txn, ask, now) }
}

fn end_v1(txn: &Txn, ask: &EndTxn, now: Timestamp) -> Result<End, TxnError> {
    if txn.producer_id != ask.producer.id {
        return Err(TxnError::IdMapping);
    }
    if txn.producer_epoch != ask.producer.epoch {
        return Err(TxnError::Fenced);
    }
    match (txn.state, ask.commit) {
        (TxnState::Ongoing, _) => Ok(End::Prepare(txn.prepare(ask.commit, ask.version, ProducerId::NONE, now))),
        (TxnState::CompleteCommit, true) | (TxnState::CompleteAbort, false) => Ok(End::Again(txn.producer())),
        (TxnState::PrepareCommit, true) | (TxnState::PrepareAbort, false) => Err(TxnError::Concurrent),
        _ => Err(TxnError::InvalidState),
    }
}

/// The epoch tells a repeated request from the next one: the first has moved it.
fn end_v2(txn: &Txn, ask: &EndTxn, now: Timestamp) -> Result<End, TxnError> {
    let (current, got) = (txn.producer_epoch.get(), ask.producer.epoch.get());
    let after_overflow = txn.previous_id == ask.producer.id && got == i16::MAX - 1 && current == 0;
    let after_bump = got.checked_add(1) == Some(current);
    if txn.producer_id != ask.producer.id && !after_overflow {
        return Err(TxnError::IdMapping);
    }
    let again = after_bump || after_overflow;
    let is_valid = match txn.state {
        TxnState::Ongoing | TxnState::Empty => got == current,
        TxnState::PrepareCommit | TxnState::PrepareAbort => after_bump,
        TxnState::CompleteCommit | TxnState::CompleteAbort => again || got == current,
    };
    if !is_valid {
        return Err(TxnError::Fenced);
    }
    match (txn.state, ask.commit) {
        (TxnState::CompleteCommit, true) | (TxnState::CompleteAbort, false) if again => Ok(End::Again(txn.producer())),
        (TxnState::PrepareCommit, true) | (TxnState::PrepareAbort, false) => Err(TxnError::Concurrent),
        (TxnState::Ongoing, _) => Ok(prepare_v2(txn, ask, now)),
        // Nothing was written in this transaction; the epoch moves all the same.
        (TxnState::Empty | TxnState::CompleteAbort, false) => Ok(prepare_v2(txn, ask, now)),
        (TxnState::CompleteCommit, false) if !again => Ok(prepare_v2(txn, ask, now)),
        _ => Err(TxnError::InvalidState),
    }
}

fn prepare_v2(txn: &Txn, ask: &EndTxn, now: Timestamp) -> End {
    if !is_exhausted(txn.producer_epoch) {
        return End::Prepare(txn.prepare(ask.commit, ask.version, ProducerId::NONE, now));
    }
    match ask.fresh {
        Some(fresh) => End::Prepare(txn.prepare(ask.commit, ask.version, fresh, now)),
        None => End::NeedsFreshId,
    }
}
