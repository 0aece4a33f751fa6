//! The topic's rules, held against a batch, and what the topic's settings make of it.

use super::error::AppendError;
use super::stage::RecordRejection;
use crate::config::kafka_keys::{CompressionType, TimestampType, TopicSettings};
use millrace_model::codec::Compression;
use millrace_model::validate::{self, Invalid, Rules};
use millrace_model::{Batch, Timestamp, rewrite};

/// Checks a batch as its producer sent it. Returns the largest timestamp that it should have been sent with, where the
/// header says otherwise.
///
/// # Errors
/// Why it must not be appended.
pub(super) fn produced(
    batch: &Batch,
    settings: &TopicSettings,
    now: Timestamp,
) -> Result<Option<Timestamp>, AppendError> {
    fits(batch, settings)?;
    match validate::batch(batch, &rules(settings), now) {
        Ok(checked) => Ok(checked.restamp),
        Err(invalid) => Err(refusal(invalid)),
    }
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
        .map_err(|error| AppendError::Invalid { records: Vec::new(), message: error.to_string() })?;
    fits(&batch, settings)?;
    Ok(batch)
}

/// Holds `max.message.bytes` against a batch.
pub(super) fn fits(batch: &Batch, settings: &TopicSettings) -> Result<(), AppendError> {
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

fn refusal(invalid: Invalid) -> AppendError {
    let (about_time, message) = (invalid.is_timestamp(), invalid.to_string());
    match invalid {
        Invalid::Corrupt(error) => AppendError::Corrupt(error),
        Invalid::Faults { faults, .. } => {
            let records = faults
                .into_iter()
                .map(|fault| RecordRejection { index: fault.index, reason: fault.why.to_string() })
                .collect();
            if about_time {
                AppendError::InvalidTimestamp { records, message }
            } else {
                AppendError::Invalid { records, message }
            }
        }
        Invalid::Header { .. } | Invalid::Codec(_) | Invalid::Records(_) => {
            AppendError::Invalid { records: Vec::new(), message }
        }
    }
}
