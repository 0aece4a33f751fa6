//! What must hold of a batch before it may enter a log.
//!
//! Kafka's broker walks every record of every batch, decompressing where it
//! must. Here the records are walked where that is nearly free or where the
//! answer depends on them:
//!
//! | what | how far it looks |
//! |---|---|
//! | checksum, format, offset range against count, control bit, base sequence | header, one pass over the bytes |
//! | uncompressed batch | every record, always: its structure, its offset delta |
//! | keys of a compacted topic | every record, decompressed |
//! | `message.timestamp.before.max.ms`, where it is set | every record, decompressed: a header does not tell the smallest timestamp |
//! | `message.timestamp.after.max.ms` | the header's largest timestamp; every record only to name the culprits |
//! | compressed batch otherwise | the header, and the codec's frame by its blocks' lengths: what is inside stays as the producer wrote it |
//!
//! So two things that Kafka finds are not found in a compressed batch that
//! nothing else makes us open: blocks or records that are malformed inside a
//! correct frame and a correct checksum, and a largest timestamp that is not the
//! records' largest (Kafka corrects it silently). Both need a broken producer, and harm only the
//! consumers of that partition, who get what was produced.
//! [`Rules::open_compressed`] asks for the full walk. And one thing is stricter
//! than in Kafka, which renumbers or lets through: offset deltas that do not
//! count 0, 1, 2… are refused.
//!
//! Source: Kafka's produce documentation, KIP-467 (record errors), KIP-937
//! (timestamp bounds).

use crate::Timestamp;
use crate::batch::{Batch, BatchError, BatchHeader, HEADER_LEN};
use crate::codec::{self, CodecError, Compression};
use crate::record::{RecordError, Records};
use crate::rewrite;
use thiserror::Error;

/// Faults that are listed; the rest is only counted.
pub const MOST_FAULTS: usize = 1000;

/// Whose timestamps a topic keeps (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The broker's.
    LogAppendTime,
}

/// What a topic asks of its batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whose timestamps are kept.
    pub timestamp_type: TimestampType,
    /// How far a record's timestamp may lie in the past (`message.timestamp.before.max.ms`).
    pub before_max_ms: i64,
    /// How far it may lie in the future (`message.timestamp.after.max.ms`).
    pub after_max_ms: i64,
    /// Whether every record needs a key: the topic is compacted.
    pub keys_required: bool,
    /// Whether compressed batches are opened even where nothing asks for it.
    pub open_compressed: bool,
    /// How many bytes a batch's records may unfold to.
    pub unfolded_limit: usize,
}

impl Default for Rules {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            timestamp_type: TimestampType::CreateTime,
            before_max_ms: i64::MAX,
            after_max_ms: 3_600_000,
            keys_required: false,
            open_compressed: false,
            unfolded_limit: 256 << 20,
        }
    }
}

/// Why a batch is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    /// The bytes are damaged (`CORRUPT_MESSAGE`).
    #[error(transparent)]
    Corrupt(#[from] BatchError),
    /// The header contradicts itself or is not a producer's to write (`INVALID_RECORD`).
    #[error("{field} is {value}, which a produced batch may not have")]
    Header {
        /// The field or the contradiction.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// The codec does not exist or its data are malformed (`INVALID_RECORD`).
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The records are not what the header says (`INVALID_RECORD`).
    #[error(transparent)]
    Records(#[from] RecordError),
    /// Some records are refused, with all that makes the whole batch fail
    /// (`INVALID_TIMESTAMP` where one of them is for its timestamp, else `INVALID_RECORD`).
    #[error("{total} records are refused, the first because {}", first_fault(.faults))]
    Faults {
        /// The first [`MOST_FAULTS`] of them.
        faults: Vec<RecordFault>,
        /// How many there are.
        total: usize,
    },
}

impl Invalid {
    /// Whether the answer is `INVALID_TIMESTAMP`.
    pub fn is_timestamp(&self) -> bool {
        let Self::Faults { faults, .. } = self else { return false };
        faults.iter().any(|fault| matches!(fault.why, Fault::Timestamp { .. } | Fault::TimestampType))
    }
}

fn first_fault(faults: &[RecordFault]) -> String {
    faults.first().map(|fault| format!("record {}: {}", fault.index, fault.why)).unwrap_or_default()
}

/// One refused record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFault {
    /// Its index in the batch.
    pub index: i32,
    /// Why.
    pub why: Fault,
}

/// Why a record is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// A record without a key, for a compacted topic.
    #[error("a compacted topic takes no record without a key")]
    NoKey,
    /// A timestamp out of bounds.
    #[error("timestamp {timestamp} is not within [{earliest}, {latest}]")]
    Timestamp {
        /// The record's timestamp.
        timestamp: Timestamp,
        /// The earliest that is allowed now.
        earliest: Timestamp,
        /// The latest that is allowed now.
        latest: Timestamp,
    },
    /// The producer claims the broker's right to stamp.
    #[error("a producer may not set the timestamp type LogAppendTime")]
    TimestampType,
    /// An offset delta out of line.
    #[error("its offset delta is {found}")]
    OffsetDelta {
        /// What the record says.
        found: i32,
    },
}

/// What was found out of a batch that may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The largest timestamp as the batch must be stamped with it, if its
    /// header says otherwise: for [`rewrite::stamp_create_time`].
    pub restamp: Option<Timestamp>,
}

/// What must hold of the header of a batch that a client produced.
///
/// # Errors
/// [`Invalid::Header`], and [`Invalid::Codec`] for a codec that does not exist.
pub fn produced_header(header: &BatchHeader) -> Result<(), Invalid> {
    let refuse = |field, value| Err(Invalid::Header { field, value });
    let count = i64::from(header.records_count);
    if header.base_offset.get() != 0 {
        return refuse("base offset", header.base_offset.get());
    }
    if count <= 0 {
        return refuse("records count", count);
    }
    if i64::from(header.last_offset_delta) + 1 != count {
        return refuse("last offset delta, against the records count,", header.last_offset_delta.into());
    }
    if header.attributes.is_control() {
        return refuse("attributes (control batch)", header.attributes.bits().into());
    }
    if header.producer_id.is_some() && header.base_sequence < 0 {
        return refuse("base sequence, with a producer id,", header.base_sequence.into());
    }
    Compression::of(header.attributes)?;
    Ok(())
}

/// Checks a batch that a client produced, as far as `rules` ask for it.
///
/// # Errors
/// [`Invalid`]: the batch must not be appended.
pub fn batch(batch: &Batch, rules: &Rules, now: Timestamp) -> Result<Checked, Invalid> {
    let header = batch.header();
    batch.check_crc()?;
    produced_header(header)?;
    let bounds = Bounds::new(rules, header, now);
    if !needs_records(header, rules, &bounds) {
        codec::check_frame(Compression::of(header.attributes)?, batch.bytes().get(HEADER_LEN..).unwrap_or_default())?;
        return Ok(Checked { restamp: None });
    }
    let plain = rewrite::plain_records(batch, rules.unfolded_limit)?;
    walk(header, &plain, rules, &bounds, Deltas::Counted)
}

/// Checks what the broker itself made of a batch that was checked before: records may be missing or changed, keys and
/// timestamps included. A fault's index is the record's place in the batch as it was produced.
///
/// # Errors
/// [`Invalid`]: the batch must not be appended.
pub fn replaced(batch: &Batch, rules: &Rules, now: Timestamp) -> Result<(), Invalid> {
    let header = batch.header();
    let bounds = Bounds::new(rules, header, now);
    let asked =
        rules.keys_required || bounds.earliest > Timestamp::new(i64::MIN) || header.max_timestamp > bounds.latest;
    if header.records_count == 0 || !asked {
        return Ok(());
    }
    let plain = rewrite::plain_records(batch, rules.unfolded_limit)?;
    walk(header, &plain, rules, &bounds, Deltas::WithGaps).map(drop)
}

/// Whether the answer depends on more than the header.
fn needs_records(header: &BatchHeader, rules: &Rules, bounds: &Bounds) -> bool {
    header.attributes.codec() == 0
        || rules.open_compressed
        || rules.keys_required
        || header.attributes.is_log_append_time()
        || bounds.earliest > Timestamp::new(i64::MIN)
        || header.max_timestamp > bounds.latest
}

/// The timestamps that are allowed; all of them where the broker stamps.
struct Bounds {
    earliest: Timestamp,
    latest: Timestamp,
    /// The producer set the broker's timestamp type on a topic where the broker stamps anyway.
    usurped: bool,
    /// The one timestamp that counts for all records, where the producer said so.
    fixed: Option<Timestamp>,
}

impl Bounds {
    fn new(rules: &Rules, header: &BatchHeader, now: Timestamp) -> Self {
        let claimed = header.attributes.is_log_append_time();
        if rules.timestamp_type == TimestampType::LogAppendTime {
            let (earliest, latest) = (Timestamp::new(i64::MIN), Timestamp::new(i64::MAX));
            return Self { earliest, latest, usurped: claimed, fixed: None };
        }
        // A bound of 2^63−1 is none, however the clock stands.
        let earliest = if rules.before_max_ms == i64::MAX {
            Timestamp::new(i64::MIN)
        } else {
            now.plus_ms(rules.before_max_ms.saturating_neg())
        };
        let fixed = claimed.then_some(header.max_timestamp);
        Self { earliest, latest: now.plus_ms(rules.after_max_ms), usurped: false, fixed }
    }

    #[inline]
    fn fault(&self, timestamp: Timestamp) -> Option<Fault> {
        if timestamp == Timestamp::NONE || (self.earliest <= timestamp && timestamp <= self.latest) {
            // As Kafka has it, a batch without timestamps may not claim the type either.
            let claims_nothing = timestamp == Timestamp::NONE && self.fixed.is_some();
            return (self.usurped || claims_nothing).then_some(Fault::TimestampType);
        }
        Some(Fault::Timestamp { timestamp, earliest: self.earliest, latest: self.latest })
    }
}

/// What the records' offset deltas are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deltas {
    /// 0, 1, 2…
    Counted,
    /// Those of the records that are left.
    WithGaps,
}

fn walk(
    header: &BatchHeader,
    plain: &[u8],
    rules: &Rules,
    bounds: &Bounds,
    deltas: Deltas,
) -> Result<Checked, Invalid> {
    let mut faults = Vec::new();
    let mut total = 0;
    let mut max_timestamp = Timestamp::NONE;
    for (record, place) in Records::new(plain, header.records_count).zip(0i32..) {
        let record = record?;
        let index = if deltas == Deltas::Counted { place } else { record.offset_delta() };
        let timestamp = bounds.fixed.unwrap_or_else(|| header.base_timestamp.plus_ms(record.timestamp_delta()));
        max_timestamp = max_timestamp.max(timestamp);
        let why = if record.offset_delta() != index {
            Some(Fault::OffsetDelta { found: record.offset_delta() })
        } else if rules.keys_required && record.key().is_none() {
            Some(Fault::NoKey)
        } else {
            bounds.fault(timestamp)
        };
        if let Some(why) = why {
            total += 1;
            if faults.len() < MOST_FAULTS {
                faults.push(RecordFault { index, why });
            }
        }
    }
    if total > 0 {
        return Err(Invalid::Faults { faults, total });
    }
    let stamped = rules.timestamp_type == TimestampType::LogAppendTime;
    let as_it_is = header.max_timestamp == max_timestamp && bounds.fixed.is_none();
    Ok(Checked { restamp: (!stamped && !as_it_is).then_some(max_timestamp) })
}
