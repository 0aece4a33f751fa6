//! The replay of a partition into a state machine.
//!
//! Records of a transaction wait in the machine until its marker comes. A record that cannot be read is left out with
//! a line in the log: one bad record must not take down what stands beside it.

use super::log::ShardLog;
use super::machine::{Machine, Now};
use bytes::Bytes;
use millrace_model::codec::{self, Compression};
use millrace_model::control::Marker;
use millrace_model::record::Records;
use millrace_model::{Batch, BatchError, Offset};
use thiserror::Error;

/// No batch of the broker's own unpacks to more than this.
const LARGEST_SECTION: usize = 256 * 1024 * 1024;

/// Why a partition could not be replayed.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The log could not be read.
    #[error("reading at offset {at}: {reason}")]
    Read {
        /// Where.
        at: Offset,
        /// Why.
        reason: String,
    },
    /// A batch is damaged.
    #[error("the batch at offset {at}: {source}")]
    Batch {
        /// Where.
        at: Offset,
        /// How.
        source: BatchError,
    },
}

/// Replays everything that is committed. Returns how many records there were.
///
/// # Errors
/// [`LoadError`]; the machine is then of no use.
pub async fn replay<M: Machine>(log: &dyn ShardLog, machine: &mut M, now: Now) -> Result<usize, LoadError> {
    let (mut at, end) = (log.start(), log.end());
    let mut records = 0;
    while at < end {
        let mut bytes = log.read(at, end).await.map_err(|reason| LoadError::Read { at, reason })?;
        let mut next = at;
        loop {
            let batch = match Batch::split_from(&mut bytes) {
                Ok(batch) => batch,
                Err(BatchError::Short { .. }) => break,
                Err(source) => return Err(LoadError::Batch { at: next, source }),
            };
            batch.check_crc().map_err(|source| LoadError::Batch { at: batch.header().base_offset, source })?;
            if batch.header().base_offset >= end {
                break;
            }
            next = batch.header().next_offset();
            records += replay_batch(&batch, machine, now);
        }
        if next <= at {
            // Nothing more is there: what is left of the range was compacted away.
            break;
        }
        at = next;
        tokio::task::yield_now().await;
    }
    Ok(records)
}

fn replay_batch<M: Machine>(batch: &Batch, machine: &mut M, now: Now) -> usize {
    let header = batch.header();
    let section = match unpack(batch) {
        Ok(section) => section,
        Err(error) => {
            tracing::error!(offset = %header.base_offset, error, "a batch of the coordinator's log is left out");
            return 0;
        }
    };
    if header.attributes.is_control() {
        if let Some(marker) = Marker::read(header, &section) {
            machine.replay_marker(marker.producer_id, marker.committed);
        }
        return 0;
    }
    let transaction = header.attributes.is_transactional().then_some(header.producer_id);
    let mut count = 0;
    for record in Records::new(&section, header.records_count) {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(offset = %header.base_offset, %error, "the rest of a batch is left out");
                break;
            }
        };
        let at = header.base_offset.plus(record.offset_delta().into());
        let key = record.key().unwrap_or_default();
        if let Err(error) = machine.replay((key, record.value()), at, transaction, now) {
            tracing::error!(offset = %at, error, "a record of the coordinator's log is left out");
        }
        count += 1;
    }
    count
}

fn unpack(batch: &Batch) -> Result<Bytes, String> {
    let section = batch.records_section();
    let codec = Compression::of(batch.header().attributes).map_err(|error| error.to_string())?;
    if codec == Compression::None {
        return Ok(section);
    }
    let mut unpacked = Vec::new();
    codec::decompress(codec, &section, LARGEST_SECTION, &mut unpacked).map_err(|error| error.to_string())?;
    Ok(unpacked.into())
}
