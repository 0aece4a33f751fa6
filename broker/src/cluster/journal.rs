//! The raft log and the vote in one file of frames, each a JSON record.
//!
//! The first record is a [`Record::Header`], which alone makes a valid file; the others follow in the order
//! in which things happened, and replaying them gives the [`State`]. Every append is one frame
//! and one fsync, so a crash can leave only the last frame torn. To forget a prefix that a snapshot
//! covers, the file is replaced by one whose header holds the rest.
//!
//! A fresh journal is not synced: nothing was promised yet, and the first append syncs file and directory.
//! If power goes before, the file may be there without a whole header, and is formatted again.

use super::error::ClusterError;
use super::frame;
use super::types::{Entry, LogId, Vote};
use millrace_storage::io::{Disk, DiskFile, Open};
use openraft::RaftLogId;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const VERSION: u32 = 1;

/// A journal that grew beyond this was not written here: snapshots keep it far smaller.
const MAX_FILE: u64 = 1 << 30;

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Record {
    /// How things stood when the file was made.
    Header { version: u32, node: u64, vote: Option<Vote>, purged: Option<LogId>, entries: Vec<Entry> },
    /// Entries at the end.
    Entries(Vec<Entry>),
    /// A new vote.
    Vote(Vote),
    /// Entries from this index on are no more.
    Truncate { since: u64 },
}

/// What the records add up to.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) node: u64,
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    pub(super) entries: VecDeque<Entry>,
}

impl State {
    pub(super) fn last(&self) -> Option<LogId> {
        self.entries.back().map(|entry| *entry.get_log_id()).or(self.purged)
    }

    /// The index the next entry must have.
    fn next_index(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }

    pub(super) fn header(&self) -> Record {
        Record::Header {
            version: VERSION,
            node: self.node,
            vote: self.vote,
            purged: self.purged,
            entries: self.entries.iter().cloned().collect(),
        }
    }

    pub(super) fn replay(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Header { version, .. } if version != VERSION => {
                return Err(format!("format version {version} is not {VERSION}"));
            }
            Record::Header { node, vote, purged, entries, .. } => {
                *self = Self { node, vote, purged, entries: VecDeque::new() };
                self.push(entries)?;
            }
            Record::Entries(entries) => self.push(entries)?,
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Truncate { since } => self.truncate(since),
        }
        Ok(())
    }

    pub(super) fn push(&mut self, entries: Vec<Entry>) -> Result<(), String> {
        for entry in entries {
            let (index, next) = (entry.get_log_id().index, self.next_index());
            if index != next {
                return Err(format!("entry {index} stands where {next} should"));
            }
            self.entries.push_back(entry);
        }
        Ok(())
    }

    pub(super) fn truncate(&mut self, since: u64) {
        self.entries.retain(|entry| entry.get_log_id().index < since);
    }

    pub(super) fn purge(&mut self, upto: LogId) {
        if self.purged < Some(upto) {
            self.purged = Some(upto);
        }
        self.entries.retain(|entry| entry.get_log_id().index > upto.index);
    }
}

/// The file's writer.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    end: u64,
    /// Whether the file's name survives a power loss.
    named: bool,
}

impl Journal {
    /// Opens the journal that is there; `None` where there is none, or one that was never used.
    pub(super) fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Option<(Self, State)>, ClusterError> {
        let failed = |operation| move |source| ClusterError::Io { operation, path: path.to_owned(), source };
        let bytes = match disk.read(path, MAX_FILE) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read")(error)),
        };
        let Some((state, end)) = read(path, &bytes)? else { return Ok(None) };
        let file = disk.open(path, Open::Write).map_err(failed("open"))?;
        let torn = bytes.len() - end;
        if torn > 0 {
            tracing::warn!(path = %path.display(), offset = end, bytes = torn, "cut a torn end off the metadata log");
            file.set_len(end as u64).map_err(failed("cut"))?;
        }
        // What is read counts as committed, so it must be as durable as if it had been acked. Clean files cost little.
        file.sync_data().map_err(failed("sync"))?;
        Ok(Some((Self { disk, path: path.to_owned(), file, end: end as u64, named: false }, state)))
    }

    /// Makes a fresh journal.
    pub(super) fn format(disk: Arc<dyn Disk>, path: &Path, state: &State) -> Result<Self, ClusterError> {
        let failed = |source| ClusterError::Io { operation: "create", path: path.to_owned(), source };
        let frame = encode(&state.header()).map_err(failed)?;
        disk.replace(path, &frame).map_err(failed)?;
        let file = disk.open(path, Open::Write).map_err(failed)?;
        Ok(Self { disk, path: path.to_owned(), file, end: frame.len() as u64, named: false })
    }

    /// Bytes in the file.
    pub(super) const fn len(&self) -> u64 {
        self.end
    }

    /// Appends a frame; when this returns it is durable. After a failure nothing has happened, and the call may be
    /// repeated: it writes the same bytes again, so that a sync has something to do.
    pub(super) fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        let written = self.write(frame);
        match written {
            Ok(()) => self.end += frame.len() as u64,
            // If even this fails, what is left behind the end is torn, and cut or overwritten later.
            Err(_) => drop(self.file.set_len(self.end)),
        }
        written
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.file.write_all_at(self.end, &mut [IoSlice::new(frame)])?;
        self.file.sync_data()?;
        if !self.named {
            // The directory itself may be as new as the file.
            for dir in self.path.ancestors().skip(1).take(2).filter(|dir| !dir.as_os_str().is_empty()) {
                self.disk.sync_dir(dir)?;
            }
            self.named = true;
        }
        Ok(())
    }

    /// Puts a file that holds `frame` alone in the journal's place.
    pub(super) fn replace(&mut self, frame: &[u8]) -> io::Result<()> {
        let mut fresh = self.path.clone().into_os_string();
        fresh.push(".tmp");
        let fresh = PathBuf::from(fresh);
        let file = self.disk.open(&fresh, Open::Truncate)?;
        file.write_all_at(0, &mut [IoSlice::new(frame)])?;
        file.sync_data()?;
        self.disk.rename(&fresh, &self.path)?;
        // From here on the new file is the journal. Its name is made durable at the latest by the next append.
        self.file = file;
        self.end = frame.len() as u64;
        self.named = self.path.parent().is_none_or(|dir| self.disk.sync_dir(dir).is_ok());
        Ok(())
    }
}

/// A record in its frame.
pub(super) fn encode(record: &Record) -> io::Result<Vec<u8>> {
    let payload = serde_json::to_vec(record)?;
    frame::encode(&payload).ok_or_else(|| io::Error::other(format!("a record of {} bytes", payload.len())))
}

/// Replays the file's frames; also where the valid part ends. `None` for a file without a header.
fn read(path: &Path, bytes: &[u8]) -> Result<Option<(State, usize)>, ClusterError> {
    let corrupt =
        |offset: usize, reason| ClusterError::Corrupt { path: path.to_owned(), offset: offset as u64, reason };
    let mut state = State::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let offset = bytes.len() - rest.len();
        let Some((payload, following)) = frame::decode(rest) else {
            if rest.get(1..).is_some_and(frame::any_in) {
                return Err(corrupt(offset, "a damaged record with valid ones behind it".to_owned()));
            }
            return Ok((offset > 0).then_some((state, offset)));
        };
        let record: Record =
            serde_json::from_slice(payload).map_err(|error| corrupt(offset, format!("no record: {error}")))?;
        if matches!(record, Record::Header { .. }) != (offset == 0) {
            return Err(corrupt(offset, "a header stands in front, and only there".to_owned()));
        }
        state.replay(record).map_err(|reason| corrupt(offset, reason))?;
        rest = following;
    }
    Ok((!bytes.is_empty()).then_some((state, bytes.len())))
}
