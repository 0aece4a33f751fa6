//! The ordered attachments of a topic, and what becomes of a batch in them. Runs on a guest thread.
//!
//! A plugin's *refusal* of a record and its *fault* over one end alike, by the attachment's policy: `reject` fails the
//! batch and names the records, `drop` leaves them out, `pass` stores them as they came. A fault says nothing of the record
//! that caused it, so the batch is halved until the record is found, within a bounded time; what is not resolved by then
//! counts as faulty. Where a call ran out of time, nothing is tried again.

use super::Inner;
use crate::metrics::PluginMetrics;
use crate::partition::{RecordRejection, StageOutcome};
use bytes::Bytes;
use millrace_metadata::{Attachment, FaultPolicy};
use millrace_model::batch::HEADER_LEN;
use millrace_model::builder::Section;
use millrace_model::codec::Compression;
use millrace_model::{Batch, Clock, rewrite};
use millrace_plugin_host::{Applied, Attachment as Attached, Fault, OnRejection, Records};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How long the search for a faulty record may take, in multiples of the attachment's time for one call.
const SEARCH: u32 = 4;
/// Nanoseconds between two log lines about faults of one attachment.
const QUIET: u64 = 1_000_000_000;
/// Index buffers that are kept for the next batch.
const KEPT: usize = 4;

#[derive(Debug)]
pub(super) struct Pipeline {
    attachments: Vec<Link>,
    clock: Arc<dyn Clock>,
    unfolded_bytes: usize,
    buffers: Mutex<Vec<Records>>,
}

/// An attachment in the pipeline.
#[derive(Debug)]
struct Link {
    attached: Attached,
    policy: FaultPolicy,
    metrics: Arc<PluginMetrics>,
    faults: AtomicU64,
    logged: AtomicU64,
}

/// Why a batch is refused.
struct Refusal {
    records: Vec<RecordRejection>,
    message: String,
}

impl From<Refusal> for StageOutcome {
    fn from(refusal: Refusal) -> Self {
        Self::Rejected { records: refusal.records, message: refusal.message }
    }
}

fn malformed(reason: impl std::fmt::Display) -> Refusal {
    Refusal { records: Vec::new(), message: format!("the batch cannot be read: {reason}") }
}

impl Pipeline {
    pub(super) fn new(plugins: &Inner, topic: &str, attachments: &[Attachment]) -> Result<Self, String> {
        let start = |attachment: &Attachment| {
            let attached = plugins.attach(topic, attachment).map_err(|fault| match fault {
                crate::config::plan::Fault::Component(reason)
                | crate::config::plan::Fault::Config(reason)
                | crate::config::plan::Fault::Limits(reason) => reason,
            })?;
            let metrics = plugins.metrics.plugin(&attachment.plugin.to_string(), topic, "produce");
            let (faults, logged) = (AtomicU64::new(0), AtomicU64::new(0));
            Ok(Link { attached, policy: attachment.on_fault, metrics, faults, logged })
        };
        Ok(Self {
            attachments: attachments.iter().map(start).collect::<Result<_, String>>()?,
            clock: Arc::clone(&plugins.clock),
            unfolded_bytes: plugins.unfolded_bytes,
            buffers: Mutex::default(),
        })
    }

    pub(super) fn run(&self, batch: &Batch) -> StageOutcome {
        let mut records = self.buffers().pop().unwrap_or_default();
        let outcome = self.transform(batch, &mut records);
        records.clear();
        let mut buffers = self.buffers();
        if buffers.len() < KEPT {
            buffers.push(records);
        }
        match outcome {
            Ok(None) => StageOutcome::Unchanged,
            Ok(Some(batch)) => StageOutcome::Replaced(batch),
            Err(refusal) => refusal.into(),
        }
    }

    /// The batch that is stored instead, if it is another.
    fn transform(&self, batch: &Batch, records: &mut Records) -> Result<Option<Batch>, Refusal> {
        let header = batch.header();
        let plain = rewrite::plain_records(batch, self.unfolded_bytes).map_err(malformed)?;
        let base = header.base_timestamp.get();
        records.parse(plain, header.records_count, base).map_err(malformed)?;
        if (0..records.len()).any(|i| records.offset_delta(i) != i32::try_from(i).ok()) {
            return Err(malformed("its records are not numbered from 0"));
        }
        // The records so far with the header's room before them, where they are no longer the batch's own.
        let mut changed: Option<(Bytes, i32, i64)> = None;
        for link in &self.attachments {
            let applied = self.ask(link, records)?;
            if !applied.changed {
                continue;
            }
            let (count, latest) = (applied.count, applied.max_timestamp);
            let bytes = Bytes::from(applied.into_bytes());
            records.parse(bytes.slice(HEADER_LEN..), count, base).map_err(malformed)?;
            changed = Some((bytes, count, latest));
            if count == 0 {
                break;
            }
        }
        let Some((bytes, count, latest)) = changed else { return Ok(None) };
        // With this the bytes have one owner again, and are taken over without a copy.
        records.clear();
        let section = Section::encoded(bytes.into(), count, Some(latest.saturating_sub(base)));
        let codec = Compression::of(header.attributes).map_err(malformed)?;
        rewrite::replace_records(header, section, codec, None).map(Some).map_err(malformed)
    }

    /// One attachment's turn.
    fn ask(&self, link: &Link, records: &Records) -> Result<Applied, Refusal> {
        let mut turn = Turn {
            link,
            records,
            clock: &*self.clock,
            out: Applied::with_capacity(records.data().len()),
            refused: Vec::new(),
            failed: None,
            until: None,
            calls: 0,
            guest_ns: 0,
        };
        for range in records.chunks(link.attached.call_bytes()) {
            turn.settle(range);
            if turn.failed.is_some() {
                break;
            }
        }
        turn.count();
        turn.end()
    }

    fn buffers(&self) -> std::sync::MutexGuard<'_, Vec<Records>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attachment over one batch.
struct Turn<'a> {
    link: &'a Link,
    records: &'a Records,
    clock: &'a dyn Clock,
    out: Applied,
    /// Records for which the batch fails.
    refused: Vec<RecordRejection>,
    /// Why the batch fails as a whole.
    failed: Option<String>,
    /// When the search for faulty records ends.
    until: Option<u64>,
    calls: u64,
    guest_ns: u64,
}

impl Turn<'_> {
    /// Asks about a range, and on a fault finds out whose it is.
    fn settle(&mut self, range: Range<usize>) {
        let Err(fault) = self.call(range.clone()) else { return };
        self.link.report(&fault, self.clock.monotonic_ns());
        if fault.is_of_records() && range.len() > 1 && self.may_search() {
            let middle = range.start + range.len() / 2;
            self.settle(range.start..middle);
            self.settle(middle..range.end);
        } else {
            self.blame(range, &fault);
        }
    }

    fn call(&mut self, range: Range<usize>) -> Result<(), Fault> {
        let began = self.clock.monotonic_ns();
        let answer = self.link.attached.call(self.records, range.clone());
        self.guest_ns = self.guest_ns.saturating_add(self.clock.monotonic_ns().saturating_sub(began));
        self.calls += 1;
        let answer = answer?;
        let on_rejection = match self.link.policy {
            FaultPolicy::Pass => OnRejection::Pass,
            _ => OnRejection::Drop,
        };
        self.records.apply(range.clone(), &answer, on_rejection, &mut self.out)?;
        if self.rejects() {
            for rejection in answer.rejected() {
                self.refuse(range.start + rejection.index as usize, rejection.reason.clone());
            }
        }
        Ok(())
    }

    /// Whether the batch fails for the sake of one record. Policies that no pipeline takes are read as the strictest.
    fn rejects(&self) -> bool {
        !matches!(self.link.policy, FaultPolicy::Drop | FaultPolicy::Pass)
    }

    fn refuse(&mut self, index: usize, reason: String) {
        let index = self.records.offset_delta(index).unwrap_or_default();
        self.refused.push(RecordRejection { index, reason });
    }

    fn may_search(&mut self) -> bool {
        let now = self.clock.monotonic_ns();
        let time = self.link.attached.options().limits.time.saturating_mul(SEARCH);
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        now < *self.until.get_or_insert(now.saturating_add(time))
    }

    /// Does with a range that the plugin has failed on what the policy says.
    fn blame(&mut self, range: Range<usize>, fault: &Fault) {
        match self.link.policy {
            FaultPolicy::Pass => self.records.keep(range, &mut self.out),
            // What the host could not do is no reason to lose a record.
            FaultPolicy::Drop if !fault.is_of_host() => self.out.changed = true,
            _ if range.len() == 1 && fault.is_of_records() => self.refuse(range.start, fault.to_string()),
            _ => self.failed = Some(format!("{}: {fault}", self.link.attached.options().name)),
        }
    }

    fn count(&self) {
        let metrics = &self.link.metrics;
        let (all, left) = (self.records.len() as u64, u64::try_from(self.out.count).unwrap_or(0));
        // Of a batch that is refused nothing comes out.
        let refused = self.failed.is_some() || !self.refused.is_empty();
        let left = if refused { 0 } else { left };
        let replaced = if refused { 0 } else { u64::try_from(self.out.replaced).unwrap_or(0) };
        metrics.calls.inc_by(self.calls);
        metrics.nanoseconds.inc_by(self.guest_ns);
        metrics.records.inc_by(all);
        metrics.kept.inc_by(left);
        metrics.dropped.inc_by(all.saturating_sub(left));
        metrics.changed.inc_by(replaced);
    }

    fn end(self) -> Result<Applied, Refusal> {
        let name = &self.link.attached.options().name;
        if let Some(message) = self.failed {
            return Err(Refusal { records: self.refused, message });
        }
        let Some(first) = self.refused.first() else { return Ok(self.out) };
        let (count, of) = (self.refused.len(), self.records.len());
        let message = format!("{name} refuses {count} of {of} records; record {}: {}", first.index, first.reason);
        Err(Refusal { records: self.refused, message })
    }
}

impl Link {
    /// Says what went wrong, but not for each of a storm of batches.
    fn report(&self, fault: &Fault, now: u64) {
        self.metrics.fault(fault.kind());
        let faults = self.faults.fetch_add(1, Ordering::Relaxed) + 1;
        let before = self.logged.load(Ordering::Relaxed);
        let is_due = faults == 1 || now.saturating_sub(before) >= QUIET;
        if is_due && self.logged.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let options = self.attached.options();
            tracing::warn!(plugin = &*options.name, topic = &*options.topic, %fault, faults, "plugin failed");
        }
    }
}
