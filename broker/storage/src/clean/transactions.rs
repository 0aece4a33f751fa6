//! Which batches of the part that is cleaned belong to aborted transactions, and which markers still mark something.
//!
//! What was aborted is read from the segments' transaction indexes.
//!
//! Batches are shown in the order of the log. The part that is cleaned ends before the last stable offset, so each of its
//! transactions is decided: one that is not named here is committed.

use crate::StorageError;
use crate::segment::{Dir, Segment};
use crate::transactions::{AbortedTransaction, ENTRY};
use millrace_model::{BatchHeader, Offset, ProducerId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

/// A segment of the smallest batches, every other one a transaction's, has no more entries than this takes.
const INDEX_LIMIT: u64 = 512 << 20;

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Abort,
    Commit,
    /// A kind that does not end a transaction.
    Other,
}

impl Marker {
    /// From the record's key: a version and a type, both i16.
    pub(super) fn of(key: Option<&[u8]>) -> Self {
        match key {
            Some([_, _, 0, 0, ..]) => Self::Abort,
            Some([_, _, 0, 1, ..]) => Self::Commit,
            _ => Self::Other,
        }
    }
}

/// The entries of these segments' indexes that have to do with the offsets from `from` up to `upto`, in order of their
/// first offsets.
pub(super) fn aborted(
    dir: &Dir,
    segments: &[Arc<Segment>],
    from: Offset,
    upto: Offset,
) -> Result<VecDeque<AbortedTransaction>, StorageError> {
    let mut found = Vec::new();
    for segment in segments {
        let path = dir.file(segment.base, "txnindex");
        let bytes = match dir.disk.read(&path, INDEX_LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(StorageError::io("read", &path)(error)),
        };
        // What follows the last whole entry was being written when a process died; it speaks of nothing before `upto`.
        for (entry, at) in bytes.as_chunks::<ENTRY>().0.iter().zip(0..) {
            let entry = AbortedTransaction::at(entry, &path, at * ENTRY as u64)?;
            if entry.first_offset < upto && entry.last_offset >= from {
                found.push(entry);
            }
        }
    }
    found.sort_by_key(|entry| entry.first_offset);
    Ok(found.into())
}

/// The transactions of the batches that were shown.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// Aborted ones that have not begun.
    waiting: VecDeque<AbortedTransaction>,
    /// Aborted ones whose marker has not come, and whether a batch of theirs has.
    aborted: BTreeMap<ProducerId, (AbortedTransaction, bool)>,
    /// Producers with batches of a committed transaction whose marker has not come.
    committed: BTreeSet<ProducerId>,
}

impl Transactions {
    pub(super) fn new(aborted: VecDeque<AbortedTransaction>) -> Self {
        Self { waiting: aborted, ..Self::default() }
    }

    /// Whether the data batch belongs to an aborted transaction.
    pub(super) fn is_aborted(&mut self, header: &BatchHeader) -> bool {
        self.begin(header.last_offset());
        if !header.attributes.is_transactional() {
            return false;
        }
        if let Some((_, seen)) = self.aborted.get_mut(&header.producer_id) {
            *seen = true;
            return true;
        }
        self.committed.insert(header.producer_id);
        false
    }

    /// Whether the marker (`None` for a control batch that was emptied) marks nothing any more, and the index entry that is
    /// to be kept for it.
    pub(super) fn marker(
        &mut self,
        header: &BatchHeader,
        marker: Option<Marker>,
    ) -> (bool, Option<AbortedTransaction>) {
        self.begin(header.last_offset());
        match marker {
            None => (true, None),
            Some(Marker::Other) => (false, None),
            Some(Marker::Commit) => (!self.committed.remove(&header.producer_id), None),
            Some(Marker::Abort) => match self.aborted.remove(&header.producer_id) {
                Some((entry, true)) => (false, Some(entry)),
                _ => (true, None),
            },
        }
    }

    fn begin(&mut self, upto: Offset) {
        while let Some(entry) = self.waiting.pop_front_if(|entry| entry.first_offset <= upto) {
            self.aborted.entry(entry.producer_id).or_insert((entry, false));
        }
    }
}
