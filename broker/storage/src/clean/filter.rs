//! What stays of one batch.
//!
//! Kafka's rules: a record stays while no later one has its key; a tombstone stays until the delete horizon of its batch,
//! which is set when a round first meets it (KIP-534: the batch's base timestamp, with a bit of its attributes); a record
//! without a key goes; so do an aborted transaction's records, at once, and its marker once the horizon is over. The batch
//! that says how far a producer is, and the last one of a segment, stay as empty headers.
//!
//! Offsets, sequences and the batch's range never change.

use super::map::OffsetMap;
use super::transactions::{Marker, Transactions};
use crate::transactions::AbortedTransaction;
use millrace_model::batch::{Attributes, HEADER_LEN};
use millrace_model::builder::{BuildError, Section};
use millrace_model::codec::{CodecError, Compression, decompress};
use millrace_model::record::encode::RecordParts;
use millrace_model::record::{RecordError, RecordView, Records};
use millrace_model::{Batch, BatchHeader, Offset, ProducerEpoch, ProducerId, Timestamp, rewrite};
use std::collections::BTreeMap;
use thiserror::Error;

/// Why a batch cannot be cleaned.
#[derive(Debug, Error)]
pub(super) enum FilterError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// The last thing that an active producer wrote: the batch that holds this offset, or a marker in this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastWritten {
    pub(crate) offset: Option<Offset>,
    pub(crate) epoch: ProducerEpoch,
}

/// Which batch says how far each active producer is.
pub(crate) type LastOfProducers = BTreeMap<ProducerId, LastWritten>;

/// What becomes of a batch.
#[derive(Debug)]
pub(super) enum Kept {
    AsItIs,
    Changed(Batch),
    Gone,
}

/// Holds batches against what is known of the log.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    pub(super) map: &'a OffsetMap,
    pub(super) producers: &'a LastOfProducers,
    pub(super) now: Timestamp,
    pub(super) delete_retention_ms: i64,
    pub(super) unfolded_limit: usize,
}

impl Filter<'_> {
    /// What becomes of the batch, and the entry that the cleaned segment's transaction index gets for it. With `keep`, a
    /// batch that loses all of its records stays as an empty header.
    pub(super) fn batch(
        &self,
        header: &BatchHeader,
        bytes: &[u8],
        transactions: &mut Transactions,
        keep: bool,
    ) -> Result<(Kept, Option<AbortedTransaction>), FilterError> {
        let control = header.attributes.is_control();
        let (mut unfolded, mut entry) = (Vec::new(), None);
        let section = unfold(header, bytes, self.unfolded_limit, &mut unfolded)?;
        let idle = if control {
            let record = Records::new(section, header.records_count).next().transpose()?;
            let (idle, kept) = transactions.marker(header, record.map(|record| Marker::of(record.key())));
            entry = kept;
            idle
        } else {
            transactions.is_aborted(header)
        };
        let horizon = header.attributes.has_delete_horizon().then_some(header.base_timestamp);
        let is_over = horizon.is_some_and(|horizon| horizon <= self.now);
        let all_go = idle && (!control || is_over);
        let keep = keep || self.is_last_of_producer(header);

        let mut stay = Vec::with_capacity(usize::try_from(header.records_count).unwrap_or(0).min(section.len()));
        let mut tombstones = false;
        for record in Records::new(section, header.records_count) {
            let record = record?;
            let stays = !all_go && (control || self.stays(header, &record, horizon));
            tombstones |= stays && record.value().is_none();
            stay.push(stays);
        }
        let staying = stay.iter().filter(|stays| **stays).count();
        let fresh_horizon = ((tombstones || (idle && control)) && horizon.is_none())
            .then(|| self.now.plus_ms(self.delete_retention_ms));
        let kept = match staying {
            0 if !keep => Kept::Gone,
            0 if header.records_count == 0 => Kept::AsItIs,
            0 => Kept::Changed(empty(header)?),
            all if all == stay.len() && fresh_horizon.is_none() => Kept::AsItIs,
            _ => Kept::Changed(rebuild(header, section, &stay, fresh_horizon)?),
        };
        Ok((kept, entry))
    }

    fn stays(&self, header: &BatchHeader, record: &RecordView<'_>, horizon: Option<Timestamp>) -> bool {
        let offset = header.base_offset.plus(record.offset_delta().into());
        if offset > self.map.latest() {
            return true;
        }
        let Some(key) = record.key() else { return false };
        let readable = record.value().is_some() || horizon.is_none_or(|horizon| self.now < horizon);
        readable && !self.map.supersedes(key, offset)
    }

    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        header.producer_id.is_some()
            && self.producers.get(&header.producer_id).is_some_and(|last| match last.offset {
                Some(offset) => header.last_offset() == offset,
                None => header.attributes.is_control() && header.producer_epoch == last.epoch,
            })
    }
}

/// The records of a batch, unfolded into `into` where they are compressed.
pub(super) fn unfold<'a>(
    header: &BatchHeader,
    bytes: &'a [u8],
    limit: usize,
    into: &'a mut Vec<u8>,
) -> Result<&'a [u8], CodecError> {
    let section = bytes.get(HEADER_LEN..).unwrap_or_default();
    match Compression::of(header.attributes)? {
        Compression::None => Ok(section),
        _ if header.records_count == 0 => Ok(&[]),
        codec => {
            decompress(codec, section, limit, into)?;
            Ok(into)
        }
    }
}

fn empty(header: &BatchHeader) -> Result<Batch, BuildError> {
    // Without records the base timestamp means nothing, so the bit that gives it a meaning goes too.
    let header = BatchHeader { attributes: header.attributes.with_delete_horizon(false), ..*header };
    rewrite::replace_records(&header, Section::default(), Compression::None, None)
}

/// The batch with only the records that stay, under its codec. A fresh horizon takes the place of the base timestamp.
fn rebuild(
    header: &BatchHeader,
    section: &[u8],
    stay: &[bool],
    horizon: Option<Timestamp>,
) -> Result<Batch, FilterError> {
    let mut header = *header;
    let codec = Compression::of(header.attributes)?;
    let shift = horizon.map(|horizon| header.base_timestamp.since(horizon));
    if let Some(horizon) = horizon {
        header.base_timestamp = horizon;
        header.attributes = Attributes::with_delete_horizon(header.attributes, true);
    }
    let mut kept = Section::with_capacity(section.len());
    for (record, stays) in Records::new(section, header.records_count).zip(stay) {
        let record = record?;
        match shift {
            _ if !stays => {}
            None => kept.copy(&record)?,
            Some(shift) => kept.push(&RecordParts {
                offset_delta: record.offset_delta(),
                timestamp_delta: record.timestamp_delta().saturating_add(shift),
                key: record.key(),
                value: record.value(),
                headers: record.headers().into(),
            })?,
        }
    }
    Ok(rewrite::replace_records(&header, kept, codec, None)?)
}
