//! Offsets of all partitions in a file each, as Kafka writes them.

use crate::StorageError;
use crate::checkpoint_text;
use crate::io::Disk;
use crate::segment::lock;
use millrace_model::{Offset, PartitionId};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A million partitions with names of the greatest length.
pub(super) const LIMIT: u64 = 300 << 20;

/// The per-partition offsets that outlive a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// What lies before is synced.
    RecoveryPoint,
    /// The first offset.
    LogStart,
    /// The high watermark.
    HighWatermark,
    /// What lies before is clean.
    Cleaned,
}

impl Checkpoint {
    const fn file(self) -> &'static str {
        match self {
            Self::RecoveryPoint => "recovery-point-offset-checkpoint",
            Self::LogStart => "log-start-offset-checkpoint",
            Self::HighWatermark => "replication-offset-checkpoint",
            Self::Cleaned => "cleaner-offset-checkpoint",
        }
    }
}

pub(super) type Offsets = BTreeMap<(String, PartitionId), Offset>;

/// Writes a data directory's checkpoints.
#[derive(Clone, Debug)]
pub struct CheckpointWriter {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    /// Held from the look at the offsets until they are written: a file never goes back to older ones.
    pub(super) turn: Arc<Mutex<()>>,
}

impl CheckpointWriter {
    /// Replaces a checkpoint: the offsets of all partitions, which are gathered when it is this one's turn. Survives a power
    /// loss.
    ///
    /// # Errors
    /// As the disk says.
    pub fn write<N: AsRef<str>, I: IntoIterator<Item = (N, PartitionId, Offset)>>(
        &self,
        checkpoint: Checkpoint,
        offsets: impl FnOnce() -> I,
    ) -> Result<(), StorageError> {
        let _turn = lock(&self.turn);
        let mut lines = String::new();
        let mut count = 0;
        for (topic, partition, offset) in offsets() {
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{} {partition} {offset}", topic.as_ref());
            count += 1;
        }
        let path = self.dir.join(checkpoint.file());
        let text = format!("0\n{count}\n{lines}");
        self.disk.replace_synced(&path, text.as_bytes()).map_err(StorageError::io("write", path))
    }
}

pub(super) fn read_checkpoint(disk: &dyn Disk, dir: &Path, checkpoint: Checkpoint) -> Result<Offsets, StorageError> {
    let path = dir.join(checkpoint.file());
    let Some(text) = read_text(disk, &path, LIMIT)? else { return Ok(Offsets::new()) };
    Ok(parse_checkpoint(&text).unwrap_or_else(|| {
        // Every use of an offset has a safe answer for a missing one: look at everything.
        tracing::warn!(path = %path.display(), "checkpoint cannot be read and is ignored");
        Offsets::new()
    }))
}

fn parse_checkpoint(text: &str) -> Option<Offsets> {
    // Kafka makes the cleaner's when it starts and writes it when it has cleaned.
    if text.is_empty() {
        return Some(Offsets::new());
    }
    let lines = checkpoint_text::lines(text)?;
    let mut offsets = Offsets::new();
    for line in &lines {
        let mut fields = line.split_ascii_whitespace();
        let key = (fields.next()?.to_owned(), PartitionId::new(fields.next()?.parse().ok()?));
        offsets.insert(key, Offset::new(fields.next()?.parse().ok().filter(|offset| *offset >= 0)?));
    }
    // No partition stands there twice.
    (offsets.len() == lines.len()).then_some(offsets)
}

/// A file's text; `None` where there is none.
pub(super) fn read_text(disk: &dyn Disk, path: &Path, limit: u64) -> Result<Option<String>, StorageError> {
    match disk.read(path, limit) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_checkpoints_are_no_checkpoints() {
        assert_eq!(parse_checkpoint("0\n1\nt 0 5\n").unwrap().len(), 1);
        assert_eq!(parse_checkpoint(""), Some(Offsets::new()), "as Kafka makes it");
        for broken in ["0\n1\nt 0 5", "1\n0\n", "0\n2\nt 0 5\n", "0\n1\nt 0 -5\n", "0\n1\nt 0\n", "0\nx\n"] {
            assert_eq!(parse_checkpoint(broken), None, "{broken:?}");
        }
    }
}
