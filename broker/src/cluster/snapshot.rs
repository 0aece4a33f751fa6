//! The snapshot file: one frame with a JSON record of the image and of where in the log it stands. It is replaced
//! in one step and durable before the log is shortened.

use super::error::ClusterError;
use super::frame;
use super::types::SnapshotMeta;
use millrace_metadata::Image;
use millrace_storage::io::Disk;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const VERSION: u32 = 1;

/// What the file holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SnapshotRecord {
    version: u32,
    pub(super) meta: SnapshotMeta,
    pub(super) image: Image,
}

impl SnapshotRecord {
    pub(super) const fn new(meta: SnapshotMeta, image: Image) -> Self {
        Self { version: VERSION, meta, image }
    }
}

/// Where it lies.
#[derive(Clone, Debug)]
pub(super) struct SnapshotFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl SnapshotFile {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, path: dir.join("snapshot") }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn write(&self, record: &SnapshotRecord) -> io::Result<()> {
        let payload = serde_json::to_vec(record)?;
        let frame = frame::encode(&payload)
            .ok_or_else(|| io::Error::other(format!("a snapshot of {} bytes", payload.len())))?;
        self.disk.replace_synced(&self.path, &frame)
    }

    pub(super) fn read(&self) -> Result<Option<SnapshotRecord>, ClusterError> {
        let corrupt = |reason: String| ClusterError::Corrupt { path: self.path.clone(), offset: 0, reason };
        let bytes = match self.disk.read(&self.path, frame::MAX_PAYLOAD as u64 + 64) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ClusterError::Io { operation: "read", path: self.path.clone(), source }),
        };
        let (payload, rest) = frame::decode(&bytes).ok_or_else(|| corrupt("no whole record".to_owned()))?;
        let record: SnapshotRecord =
            serde_json::from_slice(payload).map_err(|error| corrupt(format!("no snapshot: {error}")))?;
        if record.version != VERSION || !rest.is_empty() {
            return Err(corrupt(format!("version {} and {} bytes more", record.version, rest.len())));
        }
        Ok(Some(record))
    }
}
