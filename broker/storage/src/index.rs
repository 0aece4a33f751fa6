//! The sparse indexes of a segment: what an entry is, and when one is made.
//!
//! ```text
//! .index      8 bytes an entry: offset relative to the segment's first i32, position i32. The entry names the last offset of
//!             the batch that begins at the position.
//! .timeindex  12 bytes an entry: the largest timestamp so far i64, relative last offset of the batch that has it i32.
//! ```
//!
//! Both grow strictly from entry to entry.

use crate::StorageError;
use millrace_model::{BatchHeader, Offset, Timestamp};

pub(crate) const INDEX_ENTRY: u64 = 8;
pub(crate) const TIME_ENTRY: u64 = 12;

/// The largest timestamp of a segment, and the last offset of the batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaxTimestamp {
    pub(crate) timestamp: Timestamp,
    pub(crate) offset: Offset,
}

pub(crate) fn padded(entry: &[u8]) -> [u8; 12] {
    let mut out = [0; 12];
    for (to, from) in out.iter_mut().zip(entry) {
        *to = *from;
    }
    out
}

/// Relative offset and position.
pub(crate) fn parse_index(entry: &[u8; 12]) -> (i32, u32) {
    let [a, b, c, d, e, f, g, h, ..] = *entry;
    (i32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

/// Timestamp and relative offset.
pub(crate) fn parse_time(entry: &[u8; 12]) -> (Timestamp, i32) {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *entry;
    (Timestamp::new(i64::from_be_bytes([a, b, c, d, e, f, g, h])), i32::from_be_bytes([i, j, k, l]))
}

/// How many of `0..len` satisfy `holds`, which holds for a prefix.
pub(crate) fn partition_point(
    len: u32,
    mut holds: impl FnMut(u32) -> Result<bool, StorageError>,
) -> Result<u32, StorageError> {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Decides which batches get an index entry, by Kafka's rule: the first one after `interval` bytes without.
#[derive(Debug)]
pub(crate) struct IndexBuilder {
    base: Offset,
    pub(crate) interval: u32,
    bytes_since: u64,
    pub(crate) max: MaxTimestamp,
    last_time_entry: Timestamp,
    pub(crate) index_entries: u32,
    pub(crate) time_entries: u32,
    /// Entries not yet in the files.
    pub(crate) index: Vec<u8>,
    pub(crate) time: Vec<u8>,
}

impl IndexBuilder {
    pub(crate) fn new(base: Offset, interval: u32) -> Self {
        Self {
            base,
            interval,
            bytes_since: 0,
            max: MaxTimestamp { timestamp: Timestamp::NONE, offset: base },
            last_time_entry: Timestamp::NONE,
            index_entries: 0,
            time_entries: 0,
            index: Vec::new(),
            time: Vec::new(),
        }
    }

    /// Goes on after entries that are in the files already. `max` is what the last time entry says.
    pub(crate) fn resume(&mut self, index_entries: u32, time_entries: u32, max: Option<MaxTimestamp>) {
        self.index_entries = index_entries;
        self.time_entries = time_entries;
        if let Some(max) = max {
            self.max = max;
            self.last_time_entry = max.timestamp;
        }
    }

    /// Takes note of the batch that begins at `position`; its records are numbered from `base_offset`.
    pub(crate) fn batch(&mut self, header: &BatchHeader, base_offset: Offset, position: u64) {
        let last_offset = base_offset.plus(header.last_offset_delta.into());
        // A batch that lost its records keeps its timestamps, but no record has them.
        if header.records_count > 0 && header.max_timestamp > self.max.timestamp {
            self.max = MaxTimestamp { timestamp: header.max_timestamp, offset: last_offset };
        }
        if self.bytes_since > u64::from(self.interval) {
            self.index.extend_from_slice(&self.relative(last_offset).to_be_bytes());
            self.index.extend_from_slice(&u32::try_from(position).unwrap_or(u32::MAX).to_be_bytes());
            self.index_entries += 1;
            self.time_entry();
            self.bytes_since = 0;
        }
        self.bytes_since += header.total_len() as u64;
    }

    /// The batch at the last index entry is walked over again: it was counted when its entry was made.
    pub(crate) fn rewalk(&mut self, header: &BatchHeader) {
        self.bytes_since += header.total_len() as u64;
    }

    /// The last time entry of a segment names its largest timestamp.
    pub(crate) fn finish(&mut self) {
        self.time_entry();
    }

    fn time_entry(&mut self) {
        if self.max.timestamp > self.last_time_entry {
            self.time.extend_from_slice(&self.max.timestamp.get().to_be_bytes());
            self.time.extend_from_slice(&self.relative(self.max.offset).to_be_bytes());
            self.time_entries += 1;
            self.last_time_entry = self.max.timestamp;
        }
    }

    fn relative(&self, offset: Offset) -> i32 {
        // The log rolls before an offset is further than an i32 from the segment's first.
        i32::try_from(offset.since(self.base)).unwrap_or(i32::MAX)
    }
}
