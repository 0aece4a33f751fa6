//! The records of `__transaction_state`, byte for byte as Kafka writes and reads them.
//!
//! ```text
//! key    version i16 = 0, transactional id (string with two bytes of length)
//! value  version i16, producer id i64, producer epoch i16, timeout i32, state i8,
//!        partitions (null in state Empty): topic, partition numbers
//!        last update i64, start i64
//!        from version 1 on, in compact forms, tagged: 0 previous producer id i64, 1 next producer id i64,
//!        2 the client's transaction version i16
//! ```
//! Written: value 1. A key without a value is a tombstone.
//!
//! Source: `TransactionLogKey.json` and `TransactionLogValue.json` among Kafka's message definitions; KIP-890.

use super::types::{TxnPartition, TxnState, TxnVersion};
use bytes::{BufMut, Bytes, BytesMut};
use millrace_model::{ProducerEpoch, ProducerId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use thiserror::Error;

/// Why bytes are not a record of this topic.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TxnRecordError {
    /// The bytes end within a field.
    #[error("the {0} ends before the record does")]
    Short(&'static str),
    /// A number that the field cannot have.
    #[error("the {field} is {value}")]
    Value {
        /// The field.
        field: &'static str,
        /// What stands there.
        value: i64,
    },
    /// A string is not UTF-8.
    #[error("the {0} is not UTF-8")]
    Utf8(&'static str),
}

/// A transactional id and its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Who writes.
    pub producer_id: ProducerId,
    /// Its epoch; −1 before the first.
    pub producer_epoch: ProducerEpoch,
    /// The producer id before this one; −1 for none.
    pub previous_id: ProducerId,
    /// The producer id that follows once the transaction is complete; −1 for none.
    pub next_id: ProducerId,
    /// The epoch before this one, where a retried request may still name it. Not stored.
    pub last_epoch: ProducerEpoch,
    /// How long a transaction may take.
    pub timeout_ms: i32,
    /// Its state.
    pub state: TxnState,
    /// What it touches.
    pub partitions: BTreeSet<TxnPartition>,
    /// When it began; −1 where none is open.
    pub started: Timestamp,
    /// When any of this changed last.
    pub updated: Timestamp,
    /// How the client does transactions.
    pub version: TxnVersion,
}

/// One record of the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnRecord {
    /// The transactional id.
    pub id: Arc<str>,
    /// None: it is forgotten.
    pub value: Option<Txn>,
}

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 1;
const LONGEST_ID: usize = i16::MAX as usize;

impl TxnRecord {
    /// Whether a transactional id fits a key.
    pub fn fits(id: &str) -> bool {
        id.len() <= LONGEST_ID
    }

    /// The record's key and value.
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        let mut key = BytesMut::with_capacity(4 + self.id.len());
        key.put_i16(KEY_VERSION);
        key.put_u16(u16::try_from(self.id.len()).unwrap_or(u16::MAX));
        key.put_slice(self.id.as_bytes());
        (key.freeze(), self.value.as_ref().map(encode_value))
    }

    /// Reads a record. `None` for a key of a kind that is not known.
    ///
    /// # Errors
    /// [`TxnRecordError`] names the field that cannot be.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self>, TxnRecordError> {
        let mut from = Reader { bytes: key, compact: false };
        if from.i16("key version")? != KEY_VERSION {
            return Ok(None);
        }
        let id = from.string("transactional id")?;
        Ok(Some(Self { id, value: value.map(decode_value).transpose()? }))
    }
}

const fn number(state: TxnState) -> i8 {
    match state {
        TxnState::Empty => 0,
        TxnState::Ongoing => 1,
        TxnState::PrepareCommit => 2,
        TxnState::PrepareAbort => 3,
        TxnState::CompleteCommit => 4,
        TxnState::CompleteAbort => 5,
    }
}

fn encode_value(txn: &Txn) -> Bytes {
    let mut to = BytesMut::with_capacity(64);
    to.put_i16(VALUE_VERSION);
    to.put_i64(txn.producer_id.get());
    to.put_i16(txn.producer_epoch.get());
    to.put_i32(txn.timeout_ms);
    to.put_i8(number(txn.state));
    if txn.state == TxnState::Empty {
        varint(&mut to, 0);
    } else {
        let mut topics = BTreeMap::<&Arc<str>, Vec<i32>>::new();
        for (topic, partition) in &txn.partitions {
            topics.entry(topic).or_default().push(*partition);
        }
        varint(&mut to, topics.len() + 1);
        for (topic, partitions) in topics {
            varint(&mut to, topic.len() + 1);
            to.put_slice(topic.as_bytes());
            varint(&mut to, partitions.len() + 1);
            partitions.into_iter().for_each(|partition| to.put_i32(partition));
            varint(&mut to, 0);
        }
    }
    to.put_i64(txn.updated.get());
    to.put_i64(txn.started.get());
    let ids = [(0, txn.previous_id), (1, txn.next_id)];
    let given = ids.iter().filter(|(_, id)| id.is_some()).count();
    varint(&mut to, given + usize::from(txn.version != TxnVersion::V0));
    for (tag, id) in ids.iter().filter(|(_, id)| id.is_some()) {
        varint(&mut to, *tag);
        varint(&mut to, 8);
        to.put_i64(id.get());
    }
    if txn.version != TxnVersion::V0 {
        varint(&mut to, 2);
        varint(&mut to, 2);
        to.put_i16(txn.version.level());
    }
    to.freeze()
}

fn decode_value(bytes: &[u8]) -> Result<Txn, TxnRecordError> {
    let mut from = Reader { bytes, compact: false };
    let version = from.i16("value version")?;
    if version < 0 {
        return Err(TxnRecordError::Value { field: "value version", value: version.into() });
    }
    // Later versions only add tagged fields (KIP-915).
    from.compact = version >= 1;
    let producer_id = ProducerId::new(from.i64("producer id")?);
    let producer_epoch = ProducerEpoch::new(from.i16("producer epoch")?);
    let timeout_ms = from.i32("timeout")?;
    let state = from.i8("state")?;
    let state = TxnState::ALL
        .into_iter()
        .find(|known| number(*known) == state)
        .ok_or(TxnRecordError::Value { field: "state", value: state.into() })?;
    let mut txn = Txn {
        producer_id,
        producer_epoch,
        previous_id: ProducerId::NONE,
        next_id: ProducerId::NONE,
        last_epoch: ProducerEpoch::NONE,
        timeout_ms,
        state,
        partitions: from.partitions()?,
        updated: Timestamp::new(from.i64("last update")?),
        started: Timestamp::new(from.i64("start")?),
        version: TxnVersion::V0,
    };
    from.tagged(|tag, mut field| {
        match tag {
            0 => txn.previous_id = ProducerId::new(field.i64("previous producer id")?),
            1 => txn.next_id = ProducerId::new(field.i64("next producer id")?),
            2 => txn.version = TxnVersion::of_level(field.i16("client's transaction version")?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(txn)
}

fn varint(to: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        to.put_u8(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    to.put_u8(u8::try_from(value).unwrap_or(0));
}

struct Reader<'a> {
    bytes: &'a [u8],
    compact: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], TxnRecordError> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(TxnRecordError::Short(field))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], TxnRecordError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(TxnRecordError::Short(field))?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn i8(&mut self, field: &'static str) -> Result<i8, TxnRecordError> {
        self.array(field).map(i8::from_be_bytes)
    }

    fn i16(&mut self, field: &'static str) -> Result<i16, TxnRecordError> {
        self.array(field).map(i16::from_be_bytes)
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, TxnRecordError> {
        self.array(field).map(i32::from_be_bytes)
    }

    fn i64(&mut self, field: &'static str) -> Result<i64, TxnRecordError> {
        self.array(field).map(i64::from_be_bytes)
    }

    fn varint(&mut self, field: &'static str) -> Result<u32, TxnRecordError> {
        let mut value = 0_u32;
        for shift in (0..32).step_by(7) {
            let [byte] = self.array(field)?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(TxnRecordError::Value { field, value: value.into() })
    }

    /// The count of an array; −1 for null.
    fn count(&mut self, field: &'static str) -> Result<i64, TxnRecordError> {
        if self.compact { Ok(i64::from(self.varint(field)?) - 1) } else { Ok(self.i32(field)?.into()) }
    }

    fn string(&mut self, field: &'static str) -> Result<Arc<str>, TxnRecordError> {
        let length = if self.compact { i64::from(self.varint(field)?) - 1 } else { self.i16(field)?.into() };
        let length = usize::try_from(length).map_err(|_| TxnRecordError::Value { field, value: length })?;
        let text = std::str::from_utf8(self.take(length, field)?).map_err(|_| TxnRecordError::Utf8(field))?;
        Ok(text.into())
    }

    fn partitions(&mut self) -> Result<BTreeSet<TxnPartition>, TxnRecordError> {
        let mut partitions = BTreeSet::new();
        for _ in 0..self.count("partitions")? {
            let topic = self.string("topic")?;
            for _ in 0..self.count("partition numbers")? {
                partitions.insert((Arc::clone(&topic), self.i32("partition number")?));
            }
            self.tagged(|_, _| Ok(()))?;
        }
        Ok(partitions)
    }

    fn tagged(
        &mut self,
        mut each: impl FnMut(u32, Reader<'a>) -> Result<(), TxnRecordError>,
    ) -> Result<(), TxnRecordError> {
        if !self.compact {
            return Ok(());
        }
        for _ in 0..self.varint("tagged fields")? {
            let tag = self.varint("tag")?;
            let length = self.varint("tagged field")? as usize;
            each(tag, Reader { bytes: self.take(length, "tagged field")?, compact: true })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txn() -> Txn {
        Txn {
            producer_id: ProducerId::new(7),
            producer_epoch: ProducerEpoch::new(3),
            previous_id: ProducerId::NONE,
            next_id: ProducerId::NONE,
            last_epoch: ProducerEpoch::NONE,
            timeout_ms: 60_000,
            state: TxnState::Ongoing,
            partitions: [("t".into(), 0), ("t".into(), 2)].into(),
            started: Timestamp::new(5),
            updated: Timestamp::new(6),
            version: TxnVersion::V2,
        }
    }

    #[test]
    fn an_ongoing_transaction_has_kafkas_bytes() {
        let record = TxnRecord { id: "id".into(), value: Some(txn()) };
        let (key, value) = record.encode();
        assert_eq!(&key[..], b"\0\0\0\x02id");
        let mut expected = vec![0, 1];
        expected.extend(7_i64.to_be_bytes());
        expected.extend(3_i16.to_be_bytes());
        expected.extend(60_000_i32.to_be_bytes());
        expected.extend([1, 2, 2, b't', 3, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
        expected.extend(6_i64.to_be_bytes());
        expected.extend(5_i64.to_be_bytes());
        expected.extend([1, 2, 2, 0, 2]);
        assert_eq!(value.as_deref(), Some(&expected[..]));
        assert_eq!(TxnRecord::decode(&key, value.as_deref()), Ok(Some(record)));
    }

    #[test]
    fn version_0_reads_and_tombstones_and_unknown_keys_are_told_apart() {
        let mut value = vec![0, 0];
        value.extend(7_i64.to_be_bytes());
        value.extend(3_i16.to_be_bytes());
        value.extend(60_000_i32.to_be_bytes());
        value.extend([1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2]);
        value.extend(6_i64.to_be_bytes());
        value.extend(5_i64.to_be_bytes());
        let read = TxnRecord::decode(b"\0\0\0\x01x", Some(&value)).unwrap().unwrap();
        assert_eq!(read.value, Some(Txn { version: TxnVersion::V0, ..txn() }));
        assert_eq!(TxnRecord::decode(b"\0\0\0\x01x", None), Ok(Some(TxnRecord { id: "x".into(), value: None })));
        assert_eq!(TxnRecord::decode(b"\0\x01\0\x01x", None), Ok(None));
    }

    #[test]
    fn all_states_and_ids_read_back_and_cut_records_are_errors() {
        for state in TxnState::ALL {
            let partitions = if state == TxnState::Empty { BTreeSet::new() } else { txn().partitions };
            let value =
                Txn { state, partitions, previous_id: ProducerId::new(1), next_id: ProducerId::new(2), ..txn() };
            let record = TxnRecord { id: "id".into(), value: Some(value) };
            let (key, value) = record.encode();
            let value = value.unwrap();
            assert_eq!(TxnRecord::decode(&key, Some(&value)), Ok(Some(record)));
            for end in 0..value.len() {
                assert!(TxnRecord::decode(&key, Some(&value[..end])).is_err(), "cut at {end}");
            }
            for at in 0..value.len() {
                for byte in [0, 0x7f, 0x80, 0xff] {
                    let mut mangled = value.to_vec();
                    mangled[at] = byte;
                    let _ = TxnRecord::decode(&key, Some(&mangled));
                }
            }
        }
    }
}
