//! Which of a log's transactions are open, and which were aborted.
//!
//! `.txnindex`, Kafka's format; one entry for each transaction whose abort marker stands in the segment, in the order of the
//! markers:
//!
//! ```text
//! 0   version             i16 = 0
//! 2   producer id         i64
//! 10  first offset        i64   of the transaction, in this segment or an earlier one
//! 18  last offset         i64   the marker
//! 26  last stable offset  i64   as of the marker
//! ```
//! An entry is written before its marker is: one whose marker never came lies at or behind the log's end, where nobody
//! looks, and goes with the next start. After a power loss
//! those behind the producer snapshot are written anew from the log.

use crate::StorageError;
use crate::io::Open;
use crate::reader::LogReader;
use crate::segment::{Access, Kind, Segment};
use crate::{FileSlice, ReadError};
use millrace_model::{Offset, ProducerId};
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

const VERSION: i16 = 0;
pub(crate) const ENTRY: usize = 34;
/// Entries that one read brings in.
const PAGE: u32 = 64;

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Its producer.
    pub producer_id: ProducerId,
    /// Its first record.
    pub first_offset: Offset,
    /// Its marker.
    pub last_offset: Offset,
    /// What was stable when the marker was written.
    pub last_stable_offset: Offset,
}

impl AbortedTransaction {
    pub(crate) fn encode(&self) -> [u8; ENTRY] {
        let mut entry = [0; ENTRY];
        let (version, numbers) = entry.split_at_mut(2);
        version.copy_from_slice(&VERSION.to_be_bytes());
        let fields =
            [self.producer_id.get(), self.first_offset.get(), self.last_offset.get(), self.last_stable_offset.get()];
        for (place, field) in numbers.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        entry
    }

    pub(crate) fn decode(entry: &[u8]) -> Option<Self> {
        let (version, mut numbers) = entry.get(..ENTRY)?.split_first_chunk()?;
        if i16::from_be_bytes(*version) != VERSION {
            return None;
        }
        let mut next = || {
            let (number, rest) = numbers.split_first_chunk()?;
            numbers = rest;
            Some(i64::from_be_bytes(*number))
        };
        Some(Self {
            producer_id: ProducerId::new(next()?),
            first_offset: Offset::new(next()?),
            last_offset: Offset::new(next()?),
            last_stable_offset: Offset::new(next()?),
        })
    }

    /// The entry that stands at `position` of the index at `path`.
    pub(crate) fn at(entry: &[u8], path: &Path, position: u64) -> Result<Self, StorageError> {
        let reason = || "no aborted transaction".to_owned();
        Self::decode(entry).ok_or_else(|| StorageError::Corrupt { path: path.into(), position, reason: reason() })
    }
}

/// The transactions of a log that readers of committed records must not pass yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transactions {
    /// First offsets, each with the marker that ended the transaction, as long as that is not committed; none where it is open.
    undecided: BTreeMap<Offset, Option<Offset>>,
}

impl Transactions {
    pub(crate) fn begin(&mut self, first: Offset) {
        self.undecided.insert(first, None);
    }

    pub(crate) fn end(&mut self, first: Offset, marker: Offset) {
        self.undecided.insert(first, Some(marker));
    }

    /// There is no such transaction.
    pub(crate) fn forget(&mut self, first: Offset) {
        self.undecided.remove(&first);
    }

    /// The first offset that is not decided; markers count once they are before `committed`.
    pub(crate) fn first_unstable(&mut self, committed: Offset) -> Option<Offset> {
        while let Some(first) = self.undecided.first_entry() {
            match first.get() {
                Some(marker) if *marker < committed => drop(first.remove()),
                _ => return Some(*first.key()),
            }
        }
        None
    }

    /// The first offset of an open transaction other than the one that begins at `own`.
    pub(crate) fn stable_without(&self, own: Offset) -> Option<Offset> {
        let mut open = self.undecided.iter().filter(|(first, marker)| marker.is_none() && **first != own);
        open.next().map(|(first, _)| *first)
    }
}

impl Segment {
    /// How many aborted transactions the segment's index names.
    fn aborted_count(self: &Arc<Self>) -> Result<u32, StorageError> {
        if let Some(known) = self.aborted_entries() {
            return Ok(known);
        }
        let path = self.path(Kind::Aborted);
        // It is opened, not asked for by its name: that may be another segment's by then.
        let entries = match self.open(Kind::Aborted, Open::Write) {
            Ok(file) => {
                let len = file.len().map_err(StorageError::io("stat", path))?;
                u32::try_from(len / ENTRY as u64).unwrap_or(u32::MAX - 1)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(StorageError::io("open", path)(error)),
        };
        // The writer counts before it adds to what a reader may be counting at the same time.
        Ok(self.found_aborted_entries(entries))
    }

    /// Adds an entry to the index. The writer's alone.
    pub(crate) fn push_aborted(self: &Arc<Self>, entry: &AbortedTransaction) -> Result<(), StorageError> {
        let entries = self.aborted_count()?;
        let path = self.path(Kind::Aborted);
        let file = self.open(Kind::Aborted, Open::Create).map_err(StorageError::io("create", &path))?;
        file.write_all_at(u64::from(entries) * ENTRY as u64, &mut [IoSlice::new(&entry.encode())])
            .map_err(StorageError::io("write", path))?;
        self.set_aborted_entries(entries + 1);
        Ok(())
    }

    /// Whether the index has an entry for the marker at `at`.
    pub(crate) fn has_aborted(self: &Arc<Self>, at: Offset, access: Access<'_>) -> Result<bool, StorageError> {
        let entries = self.aborted_count()?;
        let place = self.aborted_before(at, entries, access)?;
        Ok(place < entries && self.aborted_entry(place, access)?.last_offset == at)
    }

    /// Cuts entries whose marker is at `from` or later. The writer's alone.
    pub(crate) fn trim_aborted(self: &Arc<Self>, from: Offset, access: Access<'_>) -> Result<(), StorageError> {
        let entries = self.aborted_count()?;
        if entries == 0 {
            return Ok(());
        }
        let keep = crate::index::partition_point(entries, |at| match self.aborted_entry(at, access) {
            Ok(entry) => Ok(entry.last_offset < from),
            // What a power loss left at the end.
            Err(StorageError::Corrupt { .. }) => Ok(false),
            Err(error) => Err(error),
        })?;
        if keep == entries {
            return Ok(());
        }
        let path = self.path(Kind::Aborted);
        let file = self.open(Kind::Aborted, Open::Write).map_err(StorageError::io("open", &path))?;
        file.set_len(u64::from(keep) * ENTRY as u64).map_err(StorageError::io("cut", path))?;
        self.set_aborted_entries(keep);
        Ok(())
    }

    fn aborted_entry(self: &Arc<Self>, at: u32, access: Access<'_>) -> Result<AbortedTransaction, StorageError> {
        let mut entry = [0; ENTRY];
        let path = self.path(Kind::Aborted);
        let position = u64::from(at) * ENTRY as u64;
        let file = self.read_file(Kind::Aborted, access)?;
        let read = file.read_at(position, &mut entry).map_err(StorageError::io("read", &path))?;
        AbortedTransaction::at(entry.get(..read).unwrap_or_default(), &path, position)
    }

    /// How many of the first `entries` entries have their marker before `offset`.
    fn aborted_before(self: &Arc<Self>, offset: Offset, entries: u32, access: Access<'_>) -> Result<u32, StorageError> {
        crate::index::partition_point(entries, |at| Ok(self.aborted_entry(at, access)?.last_offset < offset))
    }

    /// Hands over the entries whose marker is at `from` or later, until `each` has enough.
    pub(crate) fn visit_aborted(
        self: &Arc<Self>,
        from: Offset,
        access: Access<'_>,
        mut each: impl FnMut(AbortedTransaction) -> bool,
    ) -> Result<bool, StorageError> {
        let entries = self.aborted_count()?;
        if entries == 0 {
            return Ok(true);
        }
        let mut at = self.aborted_before(from, entries, access)?;
        let (file, path) = (self.read_file(Kind::Aborted, access)?, self.path(Kind::Aborted));
        let mut page = vec![0; ENTRY * PAGE as usize];
        while at < entries {
            let want = ENTRY * (entries - at).min(PAGE) as usize;
            let position = u64::from(at) * ENTRY as u64;
            let into = page.get_mut(..want).unwrap_or_default();
            let read = file.read_at(position, into).map_err(StorageError::io("read", &path))?;
            for entry in into.get(..read).unwrap_or_default().chunks_exact(ENTRY) {
                let Some(entry) = AbortedTransaction::decode(entry) else {
                    return Err(StorageError::Corrupt { path, position, reason: "no aborted transaction".to_owned() });
                };
                if !each(entry) {
                    return Ok(false);
                }
            }
            if read < want {
                break;
            }
            at += PAGE;
        }
        Ok(true)
    }
}

impl LogReader {
    /// As [`Self::read`], with the aborted transactions of which records may be among those that are read. There may be some
    /// that begin behind them; none is missing.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn read_committed(
        &self,
        from: Offset,
        upto: Offset,
        max_bytes: u32,
        at_least_one_batch: bool,
    ) -> Result<(FileSlice, Vec<AbortedTransaction>), ReadError> {
        loop {
            let segments = self.segments();
            let slice = self.read(from, upto, max_bytes, at_least_one_batch)?;
            let aborted = if slice.is_empty() { Ok(Vec::new()) } else { self.aborted_in(&segments, from, &slice) };
            // The cleaner takes aborted records and what says so away together: one from before and the other from after
            // would show them.
            if self.is_current(&segments) {
                return Ok((slice, aborted?));
            }
        }
    }

    fn aborted_in(
        &self,
        segments: &[Arc<Segment>],
        from: Offset,
        slice: &FileSlice,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let upto = self.end_of(segments, slice)?;
        let mut found = Vec::new();
        self.visit_aborted_in(segments, from, |entry| {
            if entry.first_offset < upto {
                found.push(entry);
            }
            entry.last_stable_offset < upto
        })?;
        Ok(found)
    }

    /// Hands over the aborted transactions whose marker is at `from` or later, in the order of the markers, until `each`
    /// has enough.
    ///
    /// # Errors
    /// As the disk says.
    pub fn visit_aborted(&self, from: Offset, each: impl FnMut(AbortedTransaction) -> bool) -> Result<(), ReadError> {
        self.visit_aborted_in(&self.segments(), from, each)
    }

    fn visit_aborted_in(
        &self,
        segments: &[Arc<Segment>],
        from: Offset,
        mut each: impl FnMut(AbortedTransaction) -> bool,
    ) -> Result<(), ReadError> {
        let first = segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        for segment in segments.iter().skip(first) {
            if !segment.visit_aborted(from, self.access(), &mut each)? {
                break;
            }
        }
        Ok(())
    }

    /// An offset that no record in the slice reaches.
    fn end_of(&self, segments: &[Arc<Segment>], slice: &FileSlice) -> Result<Offset, ReadError> {
        let at = segments.partition_point(|segment| segment.base <= slice.segment());
        let next = segments.get(at).map_or_else(|| self.end_offset(), |next| next.base);
        let segment = at.checked_sub(1).and_then(|at| segments.get(at));
        // Where the slice's segment has become part of another one, its positions mean nothing there.
        let Some(segment) = segment.filter(|segment| segment.base == slice.segment()) else { return Ok(next) };
        let end = slice.position() + u64::from(slice.len());
        Ok(segment.offset_from(end, self.access())?.unwrap_or(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_kafkas_bytes_and_reads_back() {
        let entry = AbortedTransaction {
            producer_id: ProducerId::new(1),
            first_offset: Offset::new(2),
            last_offset: Offset::new(3),
            last_stable_offset: Offset::new(4),
        };
        let bytes = entry.encode();
        let mut expected = vec![0, 0];
        for number in 1_i64..=4 {
            expected.extend(number.to_be_bytes());
        }
        assert_eq!(&bytes[..], &expected[..]);
        assert_eq!(AbortedTransaction::decode(&bytes), Some(entry));
        assert_eq!(AbortedTransaction::decode(&bytes[..33]), None);
        assert_eq!(AbortedTransaction::decode(&[1; ENTRY]), None, "a version that is not known");
    }

    #[test]
    fn an_older_open_transaction_holds_back_those_decided_after_it() {
        let mut transactions = Transactions::default();
        transactions.begin(Offset::new(5));
        transactions.begin(Offset::new(7));
        transactions.end(Offset::new(7), Offset::new(9));
        assert_eq!(transactions.first_unstable(Offset::new(10)), Some(Offset::new(5)));
        assert_eq!(transactions.stable_without(Offset::new(5)), None);
        transactions.end(Offset::new(5), Offset::new(10));
        assert_eq!(transactions.first_unstable(Offset::new(10)), Some(Offset::new(5)), "its marker is not committed");
        assert_eq!(transactions.first_unstable(Offset::new(11)), None);
        assert_eq!(transactions, Transactions::default());
    }
}
