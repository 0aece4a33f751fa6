//! Transaction markers: control batches of one record that end a producer's transaction.
//!
//! ```text
//! key    version i16 = 0, type i16 (0 abort, 1 commit)
//! value  version i16 = 0, coordinator epoch i32
//! ```
//! A batch carries the producer's id and epoch, no sequence (−1), and the bits for transactional and control.
//!
//! Source: KIP-98; `EndTxnMarker.json` among Kafka's message definitions.

use crate::builder::{BatchBuilder, BuildError};
use crate::record::Records;
use crate::record::encode::HeaderSource;
use crate::{Batch, BatchHeader, ProducerEpoch, ProducerId, Timestamp};

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// Whether its records count.
    pub committed: bool,
    /// The epoch of the coordinator that decided it.
    pub coordinator_epoch: i32,
}

impl Marker {
    /// The batch that says so.
    ///
    /// # Errors
    /// None that could come of these few bytes.
    pub fn batch(&self, now: Timestamp) -> Result<Batch, BuildError> {
        let key = [0, 0, 0, u8::from(self.committed)];
        let mut value = [0; 6];
        if let Some(epoch) = value.last_chunk_mut() {
            *epoch = self.coordinator_epoch.to_be_bytes();
        }
        let builder = BatchBuilder::new().producer(self.producer_id, self.producer_epoch, -1);
        let mut builder = builder.transactional().control();
        builder.append(now, Some(&key), Some(&value), HeaderSource::None)?;
        builder.build()
    }

    /// Reads a control batch from its header and its records, which are never compressed. `None` for control records of
    /// another kind.
    pub fn read(header: &BatchHeader, section: &[u8]) -> Option<Self> {
        if !header.attributes.is_control() || !header.producer_id.is_some() {
            return None;
        }
        let record = Records::new(section, header.records_count).next()?.ok()?;
        let committed = match record.key()? {
            [_, _, 0, 0, ..] => false,
            [_, _, 0, 1, ..] => true,
            _ => return None,
        };
        let epoch = record.value()?.get(2..6)?.first_chunk()?;
        Some(Self {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            committed,
            coordinator_epoch: i32::from_be_bytes(*epoch),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_reads_back_and_has_kafkas_size() {
        for committed in [false, true] {
            let marker = Marker {
                producer_id: ProducerId::new(4),
                producer_epoch: ProducerEpoch::new(2),
                committed,
                coordinator_epoch: 7,
            };
            let batch = marker.batch(Timestamp::new(1_000)).unwrap();
            // DumpLogSegments shows Kafka's own markers with this size.
            assert_eq!(batch.bytes().len(), 78);
            let header = batch.header();
            assert!(header.attributes.is_control() && header.attributes.is_transactional());
            assert_eq!((header.base_sequence, header.records_count), (-1, 1));
            assert_eq!(Marker::read(header, &batch.records_section()), Some(marker));
        }
    }

    #[test]
    fn other_control_records_and_cut_ones_are_no_markers() {
        let build = |key: &[u8], value: Option<&[u8]>| {
            let mut builder = BatchBuilder::new().producer(ProducerId::new(1), ProducerEpoch::new(0), -1).control();
            builder.append(Timestamp::new(1), Some(key), value, HeaderSource::None).unwrap();
            builder.build().unwrap()
        };
        for batch in [build(&[0, 0, 0, 2], Some(&[0; 6])), build(&[0, 0, 0, 1], Some(&[0; 5])), build(&[0], None)] {
            assert_eq!(Marker::read(batch.header(), &batch.records_section()), None);
        }
    }
}
