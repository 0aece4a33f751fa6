//! The single writer: what happens to a batch between the producer and the log, in this order.
//!
//! 1. Checksum and form are checked on the batch as produced, before its turn comes ([`Candidate`]).
//! 2. The producer's sequence is checked, on the batch as produced: a retry is recognised whatever the stage makes of it.
//! 3. The attached stage sees the batch; it may replace or refuse it. What replaces it is held against the topic's rules again.
//! 4. The topic's timestamp type and codec are applied.
//! 5. Before the first batch of another generation of the stage, the generation and the log's end are noted durably.
//! 6. Offsets are assigned and the batch is appended.
//!
//! The writer is held from 2 to 6, so the next batch's sequence is checked against a log that has this one.

use super::beside::beside;
use super::error::AppendError;
use super::facts::{Appended, Claim, Facts, Origin};
use super::stage::{BatchStage, Generation, StageContext, StageOutcome};
use super::validate;
use crate::config::kafka_keys::{TimestampType, TopicSettings};
use millrace_model::batch::add_sequence;
use millrace_model::{Batch, Offset, Timestamp};
use millrace_storage::{Generations, Log, ProducerError, SequenceCheck};
use std::sync::Arc;

/// A batch whose form has been checked.
pub(super) struct Candidate {
    batch: Batch,
    origin: Origin,
    claim: Claim,
    now: Timestamp,
    /// The largest timestamp, where the producer had it wrong.
    restamp: Option<Timestamp>,
}

impl Candidate {
    /// Step 1.
    pub(super) fn check(partition: &Facts, batch: Batch, origin: Origin, claim: Claim) -> Result<Self, AppendError> {
        let now = partition.options.clock.now();
        let restamp = match origin {
            Origin::Client => validate::produced(&batch, &partition.name, &partition.settings.load(), now)?,
            Origin::Coordinator => None,
        };
        Ok(Self { batch, origin, claim, now, restamp })
    }

    pub(super) const fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether it goes on where its producer's last batch among those before it ends; `None` where there is none.
    fn follows(&self, before: &[Self]) -> Option<bool> {
        let header = self.batch.header();
        let earlier = before.iter().rev().map(|it| it.batch.header());
        let last = earlier.into_iter().find(|it| it.producer_id == header.producer_id)?;
        Some(
            last.producer_epoch == header.producer_epoch
                && add_sequence(last.last_sequence(), 1) == header.base_sequence,
        )
    }
}

/// A batch that is in the log, and how far the log must be flushed before it is acked.
pub(super) struct Written {
    pub(super) appended: Appended,
    pub(super) flush_upto: Option<Offset>,
    /// A segment was closed.
    pub(super) rolled: bool,
}

/// The only owner of a partition's log.
#[derive(Debug)]
pub(super) struct Writer {
    /// Taken when the partition leaves this node: what is queued behind then gets no more into it.
    log: Option<Log>,
    stage: Option<Arc<dyn BatchStage>>,
    generation: Generation,
    generations: Generations,
}

impl Writer {
    pub(super) fn new(
        log: Log,
        stage: Option<Arc<dyn BatchStage>>,
        generation: Generation,
        generations: Generations,
    ) -> Self {
        Self { log: Some(log), stage, generation, generations }
    }

    /// Another stage from the next batch on.
    pub(super) fn set_stage(&mut self, stage: Option<Arc<dyn BatchStage>>, generation: Generation) {
        (self.stage, self.generation) = (stage, generation);
    }

    /// The log, as long as the partition is this node's.
    pub(super) fn log(&mut self) -> Result<&mut Log, AppendError> {
        self.log.as_mut().ok_or(AppendError::NotLeader)
    }

    /// Takes the log away: nothing is appended after this.
    pub(super) fn take_log(&mut self) -> Option<Log> {
        self.log.take()
    }

    /// Whether a batch from there goes to the log without waiting for a stage, or for the note that there is none any more.
    pub(super) fn is_direct(&self, origin: Origin) -> bool {
        origin == Origin::Coordinator || (self.stage.is_none() && !self.must_begin())
    }

    fn must_begin(&self) -> bool {
        self.generations.must_begin(self.generation.number, &self.generation.plugins)
    }

    /// Notes durably from which offset on this generation handles the records.
    async fn begin_generation(&mut self, partition: &Facts) -> Result<(), AppendError> {
        let at = self.log()?.end_offset();
        let Generation { number, plugins } = &self.generation;
        let next = self.generations.begin(*number, plugins, at, partition.log_start());
        let job = next.clone();
        beside(&*partition.options.offload, move || job.write()).await.ok_or(AppendError::NotLeader)??;
        self.generations.adopt(&next);
        partition.show_generations(self.generations.entries());
        tracing::info!(
            partition = %partition.name, generation = number, plugins = %plugins, first_offset = %at,
            "another generation of plugins",
        );
        Ok(())
    }

    /// Steps 2, 4 and 6.
    pub(super) fn write_now(&mut self, partition: &Facts, candidate: Candidate) -> Result<Written, AppendError> {
        match self.recognise(partition, &candidate)? {
            Some(duplicate) => Ok(duplicate),
            None => self.store(partition, candidate),
        }
    }

    /// Steps 2, 4 and 6 for producers' batches that came together, with one write: all of them or, where anything at all is
    /// the matter with one, none. Each is then to be written by itself, and hears what it is.
    pub(super) fn write_together(&mut self, partition: &Facts, candidates: &[Candidate]) -> Option<Vec<Written>> {
        let log = self.log().ok()?;
        let settings = partition.settings.load();
        let mut batches = Vec::with_capacity(candidates.len());
        for (at, candidate) in candidates.iter().enumerate() {
            let header = candidate.batch.header();
            // Where a transaction is open matters to each batch of one.
            if header.attributes.is_transactional() {
                return None;
            }
            let before = candidates.get(..at).unwrap_or_default();
            let in_order = !header.producer_id.is_some()
                || candidate
                    .follows(before)
                    .unwrap_or_else(|| matches!(log.check_producer(header), Ok(SequenceCheck::New)));
            if !in_order {
                return None;
            }
            batches
                .push(validate::as_stored(candidate.batch.clone(), candidate.restamp, &settings, candidate.now).ok()?);
        }
        // The log takes back what it could not write.
        let appended = log.append(&batches, partition.leader_epoch()).ok()?;
        let end = appended.last_offset.next();
        partition.advance(end, |committed| log.first_unstable(committed));
        partition.options.counts.appended(batches.len() as u64, batches.iter().map(records).sum(), appended.bytes);
        let flush_upto = must_flush(partition, end).then_some(end);
        let (log_start, stamps) = (partition.log_start(), stamps(&settings));
        let mut base_offset = appended.base_offset;
        let written = candidates.iter().zip(batches).enumerate().map(|(at, (candidate, batch))| {
            let last_offset = base_offset.plus(batch.header().last_offset_delta.into());
            let log_append_time = stamps.then_some(candidate.now);
            let rolled = at == 0 && appended.rolled;
            let appended = Appended { base_offset, last_offset, log_append_time, log_start, duplicate: false };
            base_offset = last_offset.next();
            Written { appended, flush_upto, rolled }
        });
        Some(written.collect())
    }

    /// Steps 2 to 6.
    pub(super) async fn write(&mut self, partition: &Facts, mut candidate: Candidate) -> Result<Written, AppendError> {
        if let Some(duplicate) = self.recognise(partition, &candidate)? {
            return Ok(duplicate);
        }
        if let (Some(stage), Origin::Client) = (&self.stage, candidate.origin) {
            let topic = Arc::clone(&partition.topic);
            let context = StageContext { topic, partition: partition.id.partition, now: candidate.now };
            match stage.run(candidate.batch.clone(), context).await {
                StageOutcome::Unchanged => {}
                StageOutcome::Replaced(batch) => {
                    validate::replaced(&batch, &partition.name, &partition.settings.load(), candidate.now)?;
                    // Its largest timestamp was taken from its own records.
                    candidate = Candidate { batch, restamp: None, ..candidate };
                }
                StageOutcome::Rejected { records, message } => return Err(AppendError::Invalid { records, message }),
            }
        }
        if candidate.origin == Origin::Client && self.must_begin() {
            self.begin_generation(partition).await?;
        }
        self.store(partition, candidate)
    }

    /// Step 2. A batch that is in the log already needs no more.
    fn recognise(&mut self, partition: &Facts, candidate: &Candidate) -> Result<Option<Written>, AppendError> {
        let log = self.log()?;
        let (batch, header) = (&candidate.batch, candidate.batch.header());
        if !header.producer_id.is_some() {
            return Ok(None);
        }
        if candidate.origin == Origin::Coordinator {
            log.check_coordinators(batch, candidate.claim.strict)?;
            admit(partition, candidate)?;
            return Ok(None);
        }
        match log.check_producer(header)? {
            SequenceCheck::New => {
                in_turn(partition, candidate)?;
                admit(partition, candidate).map(|()| None)
            }
            SequenceCheck::Duplicate { base_offset, last_offset, timestamp } => Ok(Some(Written {
                appended: Appended {
                    base_offset,
                    last_offset,
                    // Whose ever time that was: Kafka says it either way.
                    log_append_time: Some(timestamp),
                    log_start: partition.log_start(),
                    duplicate: true,
                },
                flush_upto: must_flush(partition, partition.log_end()).then(|| last_offset.next()),
                rolled: false,
            })),
        }
    }

    /// Steps 4 and 6.
    fn store(&mut self, partition: &Facts, candidate: Candidate) -> Result<Written, AppendError> {
        let Candidate { batch, origin, claim, now, restamp } = candidate;
        let settings = partition.settings.load();
        let batch = match origin {
            Origin::Client => validate::as_stored(batch, restamp, &settings, now)?,
            Origin::Coordinator => batch,
        };
        let log = self.log()?;
        let appended = log
            .append(std::slice::from_ref(&batch), partition.leader_epoch())
            .inspect_err(|error| partition.report_failure(error, now))?;
        let header = batch.header();
        partition.options.counts.appended(1, records(&batch), appended.bytes);
        if header.attributes.is_control() {
            partition.gate.ended(header.producer_id, header.producer_epoch, claim.strict);
        } else if header.attributes.is_transactional() && header.producer_id.is_some() {
            partition.gate.opened(header.producer_id, header.producer_epoch);
        }
        let end = appended.last_offset.next();
        partition.advance(end, |committed| log.first_unstable(committed));
        Ok(Written {
            appended: Appended {
                base_offset: appended.base_offset,
                last_offset: appended.last_offset,
                log_append_time: stamps(&settings).then_some(now),
                log_start: partition.log_start(),
                duplicate: false,
            },
            flush_upto: must_flush(partition, end).then_some(end),
            rolled: appended.rolled,
        })
    }
}

/// A batch does not overtake one that was refused for the moment.
fn in_turn(partition: &Facts, candidate: &Candidate) -> Result<(), AppendError> {
    let header = candidate.batch.header();
    if !header.attributes.is_transactional() {
        return Ok(());
    }
    let (id, epoch, got) = (header.producer_id, header.producer_epoch, header.base_sequence);
    match partition.gate.postponed(id, epoch) {
        Some(expected) if got > expected => Err(ProducerError::OutOfOrder { id, epoch, expected, got }.into()),
        _ => Ok(()),
    }
}

/// A batch of a transaction is appended where the transaction is open on this partition, or its coordinator has agreed;
/// without `transaction.partition.verification.enable` anywhere.
fn admit(partition: &Facts, candidate: &Candidate) -> Result<(), AppendError> {
    let header = candidate.batch.header();
    if !header.attributes.is_transactional() || header.attributes.is_control() {
        return Ok(());
    }
    if !partition.settings.load().verifies_transactions {
        return Ok(());
    }
    let (id, epoch) = (header.producer_id, header.producer_epoch);
    match partition.gate.admits(id, epoch, candidate.claim.guard) {
        true => Ok(()),
        false => Err(AppendError::NotInTransaction { id, epoch }),
    }
}

/// Whether so much is written and not on the disk that `flush.messages` asks for a flush before the ack.
fn must_flush(partition: &Facts, end: Offset) -> bool {
    let every = partition.settings.load().flush_messages;
    every.is_some_and(|every| end.since(partition.flushed()) >= i64::try_from(every).unwrap_or(i64::MAX))
}

fn records(batch: &Batch) -> u64 {
    u64::try_from(batch.header().records_count).unwrap_or(0)
}

fn stamps(settings: &TopicSettings) -> bool {
    settings.timestamp_type == TimestampType::LogAppendTime
}
