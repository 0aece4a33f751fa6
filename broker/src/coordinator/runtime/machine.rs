//! What a state machine is to the runtime: requests, records and deadlines go in, answers and records come out.
//!
//! ```text
//! (request, now) ──▶ handle ──▶ Step { replies, pending: records + what follows from them }
//!                                          │ the shard appends the records and waits for the commit
//!                                          ▼
//!                               conclude(pending, outcome, now) ──▶ Step …
//! ```
//! Invariants of every machine:
//! - It never waits, reads a clock, draws a random number or touches a log.
//! - Between a step with pending records and its `conclude` it is handed nothing but further requests for which
//!   [`Machine::shares_append`] holds.
//! - Every token handed in comes back in exactly one reply, in time.

use crate::partition::{Claim, Guard};
use bytes::Bytes;
use millrace_model::builder::{BatchBuilder, BuildError};
use millrace_model::record::encode::HeaderSource;
use millrace_model::{Batch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, control};
use std::fmt::Debug;
use thiserror::Error;

/// Milliseconds of a clock that only goes forward. (Wall time stands in records; deadlines must not jump with it.)
pub type Tick = u64;

/// The time, twice: for records, and for deadlines.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The wall clock.
    pub wall: Timestamp,
    /// The clock that only goes forward.
    pub tick: Tick,
}

impl Now {
    /// The deadline that is so many milliseconds away.
    pub fn after(self, ms: i32) -> Tick {
        self.tick.saturating_add(u64::try_from(ms).unwrap_or_default())
    }
}

/// Stands for who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

/// Why the runtime itself refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The shard is stopping, or its log cannot be written right now.
    #[error("the coordinator is not available")]
    NotAvailable,
    /// The partition is still being replayed.
    #[error("the coordinator is loading")]
    Loading,
    /// Another broker leads the partition.
    #[error("this broker is not the coordinator")]
    NotCoordinator,
    /// The records are too large for the log.
    #[error("the records do not fit into a batch")]
    TooLarge,
    /// The log has seen a newer epoch of the producer, or of the coordinator that decides for it.
    #[error("a newer epoch has written")]
    Fenced,
    /// The records belong to a transaction that is not open here.
    #[error("the records belong to a transaction that is not open here")]
    NotInTransaction,
}

/// What one request, or one deadline, leads to.
#[derive(Debug)]
pub struct Step<R, P> {
    /// Answers that can go out now.
    pub replies: Vec<(Token, R)>,
    /// Records to be appended, and what follows.
    pub pending: Option<P>,
}

impl<R, P> Default for Step<R, P> {
    fn default() -> Self {
        Self { replies: Vec::new(), pending: None }
    }
}

/// A record's key and value.
pub type KeyValue = (Bytes, Option<Bytes>);

/// What the batch around records is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Envelope {
    /// Nobody's but the coordinator's.
    #[default]
    Plain,
    /// Part of a producer's transaction; the records count once it commits.
    Transaction {
        /// The producer.
        id: ProducerId,
        /// Its epoch.
        epoch: ProducerEpoch,
        /// That the transaction's coordinator has agreed, where it was asked.
        guard: Option<Guard>,
    },
    /// The end of a producer's transaction; there are no other records.
    Marker {
        /// What it says.
        marker: control::Marker,
        /// Its epoch is newer than that of all records of the transaction (KIP-890).
        strict: bool,
    },
}

impl Envelope {
    /// What the partition is told beside the batch.
    pub const fn claim(self) -> Claim {
        match self {
            Self::Plain => Claim { guard: None, strict: false },
            Self::Transaction { guard, .. } => Claim { guard, strict: false },
            Self::Marker { strict, .. } => Claim { guard: None, strict },
        }
    }

    /// Makes the batch.
    ///
    /// # Errors
    /// Where the records do not fit into one.
    pub fn seal<'a>(
        self,
        now: Timestamp,
        records: impl IntoIterator<Item = &'a KeyValue>,
    ) -> Result<Batch, BuildError> {
        let mut builder = match self {
            Self::Plain => BatchBuilder::new(),
            Self::Transaction { id, epoch, .. } => BatchBuilder::new().producer(id, epoch, -1).transactional(),
            Self::Marker { marker, .. } => return marker.batch(now),
        };
        for (key, value) in records {
            builder.append(now, Some(key), value.as_deref(), HeaderSource::None)?;
        }
        builder.build()
    }
}

/// A coordinator's state machine over one partition of its topic.
pub trait Machine: Sized + Send + Debug + 'static {
    /// What it is set up with.
    type Options: Clone + Send + Sync + Debug + 'static;
    /// What it can be asked.
    type Request: Send + Debug + 'static;
    /// What it answers.
    type Reply: Send + Debug + 'static;
    /// Records on their way into the log, and what is done once the log has spoken.
    type Pending: Send + Sync + Debug + 'static;
    /// Work that is to be done outside; what comes of it is handed in as a request.
    type Work: Send + Debug + 'static;

    /// What it keeps, for the log.
    const WHAT: &'static str;

    /// A machine that knows nothing yet.
    fn new(options: Self::Options) -> Self;

    /// The answer that refuses a request.
    fn refused(request: &Self::Request, why: Refusal) -> Self::Reply;

    /// Whether a request may share an append with others of its kind.
    fn shares_append(request: &Self::Request) -> bool;

    /// The records of a step.
    fn records(pending: &Self::Pending) -> Vec<KeyValue>;

    /// What the batch around them is.
    fn envelope(_pending: &Self::Pending) -> Envelope {
        Envelope::Plain
    }

    /// Takes a request.
    fn handle(&mut self, token: Token, request: Self::Request, now: Now) -> Step<Self::Reply, Self::Pending>;

    /// Goes on after an append: with the offset of its first record, or with the reason why there is none.
    fn conclude(
        &mut self,
        pending: Self::Pending,
        outcome: Result<Offset, Refusal>,
        now: Now,
    ) -> Step<Self::Reply, Self::Pending>;

    /// When [`Self::expire`] has something to do.
    fn next_deadline(&self) -> Option<Tick>;

    /// Handles one deadline that has been reached; none once all are.
    fn expire(&mut self, now: Now) -> Option<Step<Self::Reply, Self::Pending>>;

    /// Takes a record from the log; `transaction` is the producer whose open transaction it belongs to.
    ///
    /// # Errors
    /// What is wrong with the record; it is left out.
    fn replay(
        &mut self,
        record: (&[u8], Option<&[u8]>),
        at: Offset,
        transaction: Option<ProducerId>,
        now: Now,
    ) -> Result<(), String>;

    /// Takes the end of a transaction from the log.
    fn replay_marker(&mut self, _producer: ProducerId, _committed: bool) {}

    /// The log has been replayed; this node leads its partition in this epoch.
    fn loaded(&mut self, epoch: LeaderEpoch, now: Now) -> Vec<Step<Self::Reply, Self::Pending>>;

    /// Takes the work that has come up.
    fn take_work(&mut self) -> Vec<Self::Work> {
        Vec::new()
    }
}
