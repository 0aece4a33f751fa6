//! What idempotent producers wrote last, so that a retried batch is recognised and a gap is refused (KIP-98).
//!
//! A snapshot is Kafka's (version 1):
//!
//! ```text
//! 0  version      i16 = 1
//! 2  crc          u32   CRC-32C of all that follows
//! 6  entry count  i32
//!    producer id i64, epoch i16, last sequence i32, last offset i64, offset delta i32, timestamp i64,
//!    coordinator epoch i32, first offset of the current transaction i64 (−1: none)
//! ```
//!
//! Kafka keeps one batch of each producer in it. Here a producer has an entry for each of its last five batches, oldest
//! first, so that a retry is recognised after a restart too; Kafka, reading such a file, is left with the last one.

use crate::ProducerError;
use crate::clean::{LastOfProducers, LastWritten};
use crate::transactions::{AbortedTransaction, Transactions};
use millrace_model::batch::add_sequence;
use millrace_model::control::Marker;
use millrace_model::{BatchHeader, Offset, ProducerEpoch, ProducerId, Timestamp};
use std::collections::BTreeMap;

/// How many batches of a producer are remembered: as many as a client may have in flight.
const REMEMBERED: usize = 5;
const ENTRY_LEN: usize = 46;
const ENTRIES_FROM: usize = 10;
const CRC_FROM: usize = 6;

/// What a batch's sequence numbers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceCheck {
    /// It is to be appended.
    New,
    /// It is in the log already: this is where.
    Duplicate {
        /// The first record's offset.
        base_offset: Offset,
        /// The last record's offset.
        last_offset: Offset,
        /// The batch's largest timestamp.
        timestamp: Timestamp,
    },
}

/// A producer as the log knows it, for who asks (DescribeProducers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerFacts {
    /// The producer.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Its last record's sequence; −1 where it wrote none in this epoch.
    pub last_sequence: i32,
    /// When it last wrote.
    pub last_timestamp: Timestamp,
    /// The coordinator's epoch in its last transaction marker; −1 for none.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins.
    pub transaction_start: Option<Offset>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Written {
    last_sequence: i32,
    last_offset: i64,
    offset_delta: i32,
    timestamp: i64,
}

impl Written {
    fn first_sequence(&self) -> i32 {
        // Sequences wrap at 2³¹.
        self.last_sequence.wrapping_sub(self.offset_delta) & i32::MAX
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    /// Oldest first; the first `len` count.
    written: [Written; REMEMBERED],
    len: u8,
    coordinator_epoch: i32,
    transaction_start: Option<Offset>,
    last_timestamp: Timestamp,
}

impl Producer {
    fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            written: [Written::default(); REMEMBERED],
            len: 0,
            coordinator_epoch: -1,
            transaction_start: None,
            last_timestamp: Timestamp::NONE,
        }
    }

    fn written(&self) -> &[Written] {
        self.written.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn push(&mut self, written: Written) {
        if usize::from(self.len) == REMEMBERED {
            self.written.rotate_left(1);
        } else {
            self.len += 1;
        }
        if let Some(last) = usize::from(self.len).checked_sub(1).and_then(|last| self.written.get_mut(last)) {
            *last = written;
        }
    }

    fn within_transaction(&self, id: ProducerId, transactional: bool) -> Result<SequenceCheck, ProducerError> {
        match self.transaction_start {
            Some(start) if !transactional => Err(ProducerError::InTransaction { id, start }),
            _ => Ok(SequenceCheck::New),
        }
    }

    fn enter(&mut self, epoch: ProducerEpoch) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.len = 0;
        }
    }
}

/// All producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers(BTreeMap<ProducerId, Producer>, Transactions);

impl Producers {
    /// Holds a client's batch against what its producer wrote before.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<SequenceCheck, ProducerError> {
        let id = header.producer_id;
        if !id.is_some() {
            return Ok(SequenceCheck::New);
        }
        if header.producer_epoch < ProducerEpoch::new(0) || header.base_sequence < 0 {
            let (epoch, sequence) = (header.producer_epoch, header.base_sequence);
            return Err(ProducerError::Malformed { id, epoch, sequence });
        }
        // A producer that is not known may begin anywhere: its records may have been deleted.
        let Some(producer) = self.0.get(&id) else { return Ok(SequenceCheck::New) };
        if header.producer_epoch < producer.epoch {
            return Err(ProducerError::Fenced { id, current: producer.epoch, got: header.producer_epoch });
        }
        let got = header.base_sequence;
        let transactional = header.attributes.is_transactional();
        let out_of_order =
            |expected| Err(ProducerError::OutOfOrder { id, epoch: header.producer_epoch, expected, got });
        if header.producer_epoch > producer.epoch {
            return match got {
                0 => producer.within_transaction(id, transactional),
                _ => out_of_order(0),
            };
        }
        let last_sequence = header.last_sequence();
        let known = producer.written().iter().rev();
        if let Some(written) = known.into_iter().find(|w| w.first_sequence() == got && w.last_sequence == last_sequence)
        {
            return Ok(SequenceCheck::Duplicate {
                base_offset: Offset::new(written.last_offset - i64::from(written.offset_delta)),
                last_offset: Offset::new(written.last_offset),
                timestamp: Timestamp::new(written.timestamp),
            });
        }
        // After nothing but a transaction marker, as after a new epoch, sequences begin at 0.
        let expected = producer.written().last().map_or(0, |last| add_sequence(last.last_sequence, 1));
        if got == expected { producer.within_transaction(id, transactional) } else { out_of_order(expected) }
    }

    /// Holds a batch of a coordinator's against what its producer wrote before: part of a transaction, or its end. A `strict`
    /// marker has an epoch that no record of its producer has yet (KIP-890).
    pub(crate) fn check_coordinators(
        &self,
        header: &BatchHeader,
        marker: Option<&Marker>,
        strict: bool,
    ) -> Result<(), ProducerError> {
        let id = header.producer_id;
        let Some(producer) = self.0.get(&id) else { return Ok(()) };
        let too_old = header.producer_epoch < producer.epoch
            || (strict && header.producer_epoch == producer.epoch && producer.transaction_start.is_some());
        if too_old {
            return Err(ProducerError::Fenced { id, current: producer.epoch, got: header.producer_epoch });
        }
        match marker {
            Some(marker) if marker.coordinator_epoch < producer.coordinator_epoch => {
                let (current, got) = (producer.coordinator_epoch, marker.coordinator_epoch);
                Err(ProducerError::CoordinatorFenced { id, current, got })
            }
            _ => Ok(()),
        }
    }

    /// What stands in the index of aborted transactions once this marker is at `at`; none where it aborts nothing.
    pub(crate) fn aborted_by(&self, marker: &Marker, at: Offset) -> Option<AbortedTransaction> {
        let first_offset = self.0.get(&marker.producer_id)?.transaction_start.filter(|_| !marker.committed)?;
        Some(AbortedTransaction {
            producer_id: marker.producer_id,
            first_offset,
            last_offset: at,
            last_stable_offset: self.1.stable_without(first_offset).unwrap_or(at.next()),
        })
    }

    /// The first offset that is not decided, as far as everything before `committed` is on all replicas.
    pub(crate) fn first_unstable(&mut self, committed: Offset) -> Option<Offset> {
        self.1.first_unstable(committed)
    }

    /// Notes a batch that is in the log. `base_offset` is where it went, `marker` what it says if it is a marker.
    pub(crate) fn update(&mut self, header: &BatchHeader, base_offset: Offset, marker: Option<&Marker>) {
        if !header.producer_id.is_some() {
            return;
        }
        let producer = self.0.entry(header.producer_id).or_insert_with(|| Producer::new(header.producer_epoch));
        if header.producer_epoch < producer.epoch {
            return;
        }
        producer.enter(header.producer_epoch);
        producer.last_timestamp = header.max_timestamp;
        if header.attributes.is_control() {
            if let Some(marker) = marker {
                producer.coordinator_epoch = marker.coordinator_epoch;
                if let Some(first) = producer.transaction_start.take() {
                    self.1.end(first, base_offset);
                }
            }
            return;
        }
        if header.attributes.is_transactional() && producer.transaction_start.is_none() {
            producer.transaction_start = Some(base_offset);
            self.1.begin(base_offset);
        }
        // A coordinator's own batches have no sequence.
        if header.base_sequence < 0 {
            return;
        }
        producer.push(Written {
            last_sequence: header.last_sequence(),
            last_offset: base_offset.plus(header.last_offset_delta.into()).get(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp.get(),
        });
    }

    /// The transactions that are open, by their first offsets.
    pub(crate) fn open_transactions(&self) -> impl Iterator<Item = (ProducerId, Offset)> {
        self.0.iter().filter_map(|(id, producer)| Some((*id, producer.transaction_start?)))
    }

    /// The producer's transaction is not open: it was decided, and nothing of it is left.
    pub(crate) fn forget_transaction(&mut self, id: ProducerId) {
        if let Some(first) = self.0.get_mut(&id).and_then(|producer| producer.transaction_start.take()) {
            self.1.forget(first);
        }
    }

    /// Forgets producers that have been idle for `after_ms`.
    pub(crate) fn expire(&mut self, now: Timestamp, after_ms: i64) {
        self.0.retain(|_, producer| {
            producer.transaction_start.is_some() || now.since(producer.last_timestamp) < after_ms
        });
    }

    /// Which batch says how far each producer is: cleaning keeps it.
    pub(crate) fn last_written(&self) -> LastOfProducers {
        let last = |producer: &Producer| LastWritten {
            offset: producer.written().last().map(|last| Offset::new(last.last_offset)),
            epoch: producer.epoch,
        };
        self.0.iter().map(|(&id, producer)| (id, last(producer))).collect()
    }

    /// All producers.
    pub(crate) fn facts(&self) -> impl Iterator<Item = ProducerFacts> {
        self.0.iter().map(|(&id, producer)| ProducerFacts {
            id,
            epoch: producer.epoch,
            last_sequence: producer.written().last().map_or(-1, |last| last.last_sequence),
            last_timestamp: producer.last_timestamp,
            coordinator_epoch: producer.coordinator_epoch,
            transaction_start: producer.transaction_start,
        })
    }

    /// The bytes of a snapshot.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ENTRIES_FROM + self.0.len() * ENTRY_LEN * 2);
        out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut count = 0_i32;
        for (&id, producer) in &self.0 {
            let nothing = [Written {
                last_sequence: -1,
                last_offset: -1,
                offset_delta: 0,
                timestamp: producer.last_timestamp.get(),
            }];
            let written = if producer.len == 0 { &nothing } else { producer.written() };
            for (i, one) in written.iter().enumerate() {
                // The producer's own time stands in its last entry: a marker moves it without a batch.
                let last = i + 1 == written.len();
                let timestamp = if last { producer.last_timestamp.get() } else { one.timestamp };
                out.extend_from_slice(&id.get().to_be_bytes());
                out.extend_from_slice(&producer.epoch.get().to_be_bytes());
                out.extend_from_slice(&one.last_sequence.to_be_bytes());
                out.extend_from_slice(&one.last_offset.to_be_bytes());
                out.extend_from_slice(&one.offset_delta.to_be_bytes());
                out.extend_from_slice(&timestamp.to_be_bytes());
                out.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
                out.extend_from_slice(&producer.transaction_start.map_or(-1, Offset::get).to_be_bytes());
                count += 1;
            }
        }
        put(&mut out, CRC_FROM, count.to_be_bytes());
        let crc = millrace_model::batch::crc(out.get(CRC_FROM..).unwrap_or_default());
        put(&mut out, 2, crc.to_be_bytes());
        out
    }

    /// Reads a snapshot's bytes; the error says what is wrong with them.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut read = Reader(bytes);
        let version = i16::from_be_bytes(read.take()?);
        if version != 1 {
            return Err(format!("snapshot version {version} is not known"));
        }
        let expected = u32::from_be_bytes(read.take()?);
        let found = millrace_model::batch::crc(read.0);
        if found != expected {
            return Err(format!("checksum {found:#010x} does not match the snapshot's {expected:#010x}"));
        }
        let count = i32::from_be_bytes(read.take()?);
        if usize::try_from(count).ok().and_then(|count| count.checked_mul(ENTRY_LEN)) != Some(read.0.len()) {
            return Err(format!("{count} entries do not take {} bytes", read.0.len()));
        }
        let mut producers = Self::default();
        for _ in 0..count {
            producers.decode_entry(&mut read)?;
        }
        // What the last entry of each says counts: an earlier one that says otherwise would leave a transaction open for good.
        for first in producers.0.values().filter_map(|producer| producer.transaction_start) {
            producers.1.begin(first);
        }
        Ok(producers)
    }

    fn decode_entry(&mut self, read: &mut Reader<'_>) -> Result<(), String> {
        let id = ProducerId::new(i64::from_be_bytes(read.take()?));
        let epoch = ProducerEpoch::new(i16::from_be_bytes(read.take()?));
        let last_sequence = i32::from_be_bytes(read.take()?);
        let last_offset = i64::from_be_bytes(read.take()?);
        let offset_delta = i32::from_be_bytes(read.take()?);
        let timestamp = i64::from_be_bytes(read.take()?);
        let coordinator_epoch = i32::from_be_bytes(read.take()?);
        let transaction_start = i64::from_be_bytes(read.take()?);
        let producer = self.0.entry(id).or_insert_with(|| Producer::new(epoch));
        producer.enter(epoch);
        producer.coordinator_epoch = coordinator_epoch;
        producer.transaction_start = (transaction_start >= 0).then(|| Offset::new(transaction_start));
        producer.last_timestamp = Timestamp::new(timestamp);
        if last_offset >= 0 {
            producer.push(Written { last_sequence, last_offset, offset_delta, timestamp });
        }
        Ok(())
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (field, rest) =
            self.0.split_first_chunk().ok_or_else(|| format!("{} bytes are left of {N}", self.0.len()))?;
        self.0 = rest;
        Ok(*field)
    }
}

fn put<const N: usize>(out: &mut [u8], from: usize, field: [u8; N]) {
    if let Some(place) = out.get_mut(from..from + N) {
        place.copy_from_slice(&field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_model::LeaderEpoch;
    use millrace_model::batch::Attributes;

    /// `00000000000000005007.snapshot` of Kafka 4.3.1: one producer with one batch.
    const KAFKAS: &str = "00019249ef0100000001000000000000000000000000138e000000000000138e00000049000001a1fdbf5eb9ffffffffffffffffffffffff";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    fn header(epoch: i16, sequence: i32, records: i32) -> BatchHeader {
        BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: 100,
            leader_epoch: LeaderEpoch::NONE,
            crc: 0,
            attributes: Attributes::new(0),
            last_offset_delta: records - 1,
            base_timestamp: Timestamp::new(1000),
            max_timestamp: Timestamp::new(1000),
            producer_id: ProducerId::new(9),
            producer_epoch: ProducerEpoch::new(epoch),
            base_sequence: sequence,
            records_count: records,
        }
    }

    #[test]
    fn a_transaction_that_a_producers_last_entry_does_not_name_is_not_open() {
        let mut snapshot = Producers::default();
        let mut with = header(0, 0, 1);
        with.attributes = Attributes::new(0).with_transactional(true);
        snapshot.update(&with, Offset::new(3), None);
        snapshot.update(&BatchHeader { base_sequence: 1, ..with }, Offset::new(4), None);
        let mut bytes = snapshot.encode();
        let last = bytes.len() - 8;
        put(&mut bytes, last, (-1_i64).to_be_bytes());
        let crc = millrace_model::batch::crc(&bytes[CRC_FROM..]);
        put(&mut bytes, 2, crc.to_be_bytes());
        let mut read = Producers::decode(&bytes).unwrap();
        assert_eq!(read.facts().next().unwrap().transaction_start, None);
        assert_eq!(read.first_unstable(Offset::new(9)), None, "nothing would ever end it");
    }

    #[test]
    fn kafkas_snapshot_reads_and_is_written_back_byte_for_byte() {
        let producers = Producers::decode(&bytes(KAFKAS)).unwrap();
        let facts: Vec<_> = producers.facts().collect();
        assert_eq!((facts[0].id.get(), facts[0].epoch.get(), facts[0].last_sequence), (0, 0, 5006));
        assert_eq!(producers.encode(), bytes(KAFKAS));
    }

    #[test]
    fn a_damaged_snapshot_is_refused_whatever_byte_is_hit() {
        let good = bytes(KAFKAS);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(Producers::decode(&bad).is_err(), "byte {at}");
            assert!(Producers::decode(&good[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn sequences_wrap_and_epochs_fence_as_kafka_has_it() {
        let mut producers = Producers::default();
        let first = header(0, i32::MAX - 1, 3);
        assert_eq!(producers.check(&first), Ok(SequenceCheck::New), "a producer that is not known begins anywhere");
        producers.update(&first, Offset::new(10), None);
        assert_eq!(first.last_sequence(), 0);
        assert_eq!(producers.check(&header(0, 1, 1)), Ok(SequenceCheck::New));
        let SequenceCheck::Duplicate { base_offset, last_offset, .. } = producers.check(&first).unwrap() else {
            panic!()
        };
        assert_eq!((base_offset.get(), last_offset.get()), (10, 12));
        assert!(matches!(
            producers.check(&header(0, 2, 1)),
            Err(ProducerError::OutOfOrder { expected: 1, got: 2, .. })
        ));
        assert!(matches!(producers.check(&header(1, 5, 1)), Err(ProducerError::OutOfOrder { expected: 0, .. })));
        assert_eq!(producers.check(&header(1, 0, 1)), Ok(SequenceCheck::New));
        producers.update(&header(1, 0, 1), Offset::new(13), None);
        assert!(matches!(producers.check(&header(0, 1, 1)), Err(ProducerError::Fenced { .. })));
        assert!(matches!(producers.check(&header(-1, 0, 1)), Err(ProducerError::Malformed { .. })));
        assert_eq!(Producers::decode(&producers.encode()), Ok(producers.clone()));
        producers.expire(Timestamp::new(5000), 4000);
        assert_eq!(producers.facts().count(), 0);
    }

    fn transactional(epoch: i16, sequence: i32) -> BatchHeader {
        BatchHeader { attributes: Attributes::new(0).with_transactional(true), ..header(epoch, sequence, 2) }
    }

    fn marker(epoch: i16, committed: bool) -> (BatchHeader, Marker) {
        let attributes = Attributes::new(0).with_transactional(true).with_control(true);
        let header = BatchHeader { attributes, ..header(epoch, -1, 1) };
        let (producer_id, producer_epoch) = (header.producer_id, header.producer_epoch);
        (header, Marker { producer_id, producer_epoch, committed, coordinator_epoch: 3 })
    }

    #[test]
    fn a_transaction_holds_the_stable_offset_until_its_marker_is_committed() {
        let mut producers = Producers::default();
        producers.update(&transactional(0, 0), Offset::new(10), None);
        producers.update(&transactional(0, 2), Offset::new(12), None);
        assert_eq!(producers.first_unstable(Offset::new(14)), Some(Offset::new(10)));
        let refused = producers.check(&header(0, 4, 1));
        assert!(matches!(refused, Err(ProducerError::InTransaction { .. })), "{refused:?}");
        let read = Producers::decode(&producers.encode()).unwrap();
        assert_eq!(read, producers, "a snapshot knows of the open transaction");

        let (header, end) = marker(1, false);
        let aborted = producers.aborted_by(&end, Offset::new(14)).unwrap();
        assert_eq!((aborted.first_offset.get(), aborted.last_offset.get()), (10, 14));
        assert_eq!(aborted.last_stable_offset.get(), 15);
        producers.update(&header, Offset::new(14), Some(&end));
        assert_eq!(producers.first_unstable(Offset::new(14)), Some(Offset::new(10)), "the marker is not committed");
        assert_eq!(producers.first_unstable(Offset::new(15)), None);
        assert_eq!(producers.aborted_by(&end, Offset::new(15)), None, "there is nothing left to abort");
        assert_eq!(producers.check(&transactional(1, 0)), Ok(SequenceCheck::New), "the marker's epoch begins anew");
        assert!(matches!(producers.check(&transactional(0, 4)), Err(ProducerError::Fenced { .. })));
    }

    #[test]
    fn markers_of_an_older_epoch_or_an_older_coordinator_are_refused() {
        let mut producers = Producers::default();
        producers.update(&transactional(1, 0), Offset::new(0), None);
        let check = |producers: &Producers, epoch, strict| {
            let (header, marker) = marker(epoch, true);
            producers.check_coordinators(&header, Some(&marker), strict)
        };
        assert!(matches!(check(&producers, 0, false), Err(ProducerError::Fenced { .. })));
        assert!(check(&producers, 1, false).is_ok());
        assert!(matches!(check(&producers, 1, true), Err(ProducerError::Fenced { .. })), "a repeated marker");
        assert!(check(&producers, 2, true).is_ok());
        let (header, end) = marker(2, true);
        producers.update(&header, Offset::new(2), Some(&end));
        let old = Marker { coordinator_epoch: 2, ..end };
        let refused = producers.check_coordinators(&header, Some(&old), false);
        assert!(matches!(refused, Err(ProducerError::CoordinatorFenced { current: 3, got: 2, .. })));
    }
}
