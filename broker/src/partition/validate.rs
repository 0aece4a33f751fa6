//! The topic's rules, held against a batch, and what the topic's settings make of it.

use super::error::AppendError;
use super::stage::RecordRejection;
use crate::config::kafka_keys::{CompressionType, TimestampType, TopicSettings};
use millrace_model::codec::Compression;
use millrace_model::validate::{self, Fault, Invalid, RecordFault, Rules};
use millrace_model::{Batch, Timestamp, rewrite};

/// Checks a batch as its producer sent it. Returns the largest timestamp that it should have been sent with, where the
/// header says otherwise.
///
/// # Errors
/// Why it must not be appended.
pub(super) fn produced(
    batch: &Batch,
    partition: &str,
    settings: &TopicSettings,
    now: Timestamp,
) -> Result<Option<Timestamp>, AppendError> {
    fits(batch, settings)?;
    match validate::batch(batch, &rules(settings), now) {
        Ok(checked) => Ok(checked.restamp),
        Err(invalid) => Err(refusal(invalid, partition)),
    }
}

/// Checks what a stage made of such a batch. A stage may do with records what it likes, but nothing that their topic does not
/// take: without its key a record would go with the next round of cleaning, and one from the far future would never expire.
///
/// # Errors
/// Why it must not be appended.
pub(super) fn replaced(
    batch: &Batch,
    partition: &str,
    settings: &TopicSettings,
    now: Timestamp,
) -> Result<(), AppendError> {
    fits(batch, settings)?;
    validate::replaced(batch, &rules(settings), now).map_err(|invalid| refusal(invalid, partition))
}

/// The batch as the topic stores it: stamped and compressed as its settings say.
///
/// # Errors
/// Where it does not compress, or is too large then.
pub(super) fn as_stored(
    batch: Batch,
    restamp: Option<Timestamp>,
    settings: &TopicSettings,
    now: Timestamp,
) -> Result<Batch, AppendError> {
    let batch = match (settings.timestamp_type, restamp) {
        (TimestampType::LogAppendTime, _) => rewrite::stamp_log_append_time(batch, now),
        (TimestampType::CreateTime, Some(max)) => rewrite::stamp_create_time(batch, max),
        (TimestampType::CreateTime, None) => batch,
    };
    let (codec, level) = match settings.compression {
        CompressionType::Producer => return Ok(batch),
        CompressionType::Uncompressed => (Compression::None, None),
        CompressionType::Gzip(level) => (Compression::Gzip, level),
        CompressionType::Snappy => (Compression::Snappy, None),
        CompressionType::Lz4(level) => (Compression::Lz4, Some(level)),
        CompressionType::Zstd(level) => (Compression::Zstd, Some(level)),
    };
    let limit = Rules::default().unfolded_limit;
    let batch = rewrite::recompress(&batch, codec, level, limit)
        .map_err(|error| AppendError::Malformed { message: error.to_string() })?;
    fits(&batch, settings)?;
    Ok(batch)
}

/// Holds `max.message.bytes` against a batch.
fn fits(batch: &Batch, settings: &TopicSettings) -> Result<(), AppendError> {
    let (size, limit) = (batch.bytes().len(), usize::try_from(settings.max_message_bytes).unwrap_or(usize::MAX));
    if size > limit { Err(AppendError::TooLarge { size, limit }) } else { Ok(()) }
}

fn rules(settings: &TopicSettings) -> Rules {
    Rules {
        timestamp_type: match settings.timestamp_type {
            TimestampType::CreateTime => validate::TimestampType::CreateTime,
            TimestampType::LogAppendTime => validate::TimestampType::LogAppendTime,
        },
        before_max_ms: settings.timestamp_before_max_ms,
        after_max_ms: settings.timestamp_after_max_ms,
        keys_required: settings.compact,
        ..Rules::default()
    }
}

fn refusal(invalid: Invalid, partition: &str) -> AppendError {
    let (about_time, message) = (invalid.is_timestamp(), invalid.to_string());
    match invalid {
        Invalid::Corrupt(error) => AppendError::Corrupt(error),
        Invalid::Codec(error) => AppendError::Undecodable(error),
        Invalid::Header { .. } | Invalid::Records(_) => AppendError::Malformed { message },
        Invalid::Faults { faults, .. } if about_time => {
            let message = "One or more records have been rejected due to invalid timestamp".to_owned();
            AppendError::InvalidTimestamp { records: rejections(faults, partition), message }
        }
        Invalid::Faults { faults, total } => {
            let records = rejections(faults, partition);
            let shown = records.iter().take(3);
            let shown: Vec<_> =
                shown.map(|it| format!("RecordError(batchIndex={}, message='{}')", it.index, it.reason)).collect();
            let message = format!(
                "One or more records have been rejected due to {total} record errors in total, and only showing the \
                 first three errors at most: [{}]",
                shown.join(", ")
            );
            AppendError::Invalid { records, message }
        }
    }
}

/// In Kafka's words, for clients show them.
fn rejections(faults: Vec<RecordFault>, partition: &str) -> Vec<RecordRejection> {
    let one = |RecordFault { index, why }| {
        let reason = match why {
            Fault::NoKey => {
                format!("Compacted topic cannot accept message without key in topic partition {partition}")
            }
            Fault::Timestamp { timestamp, earliest, latest } => format!(
                "Timestamp {timestamp} of message with offset {index} is out of range. The timestamp should be within \
                 [{earliest}, {latest}]"
            ),
            Fault::TimestampType | Fault::OffsetDelta { .. } => why.to_string(),
        };
        RecordRejection { index, reason }
    };
    faults.into_iter().map(one).collect()
}
