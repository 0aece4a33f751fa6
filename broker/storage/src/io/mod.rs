//! The disk behind a seam: everything storage (and whoever else keeps files) asks of a file system.
//!
//! Invariants that implementations keep:
//! - What `write_all_at` wrote is seen by every later `read_at`, and survives the end of the process.
//! - What `sync_data` returned for survives a power loss; so do the names in a directory after `sync_dir`.
//! - A failed write may have written any prefix. Nothing else changes a file behind its handle's back.

mod os;
mod resident;
pub mod sim;

pub use os::OsDisk;
pub(crate) use resident::Resident;

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// To read and write; made if it is not there.
    Create,
    /// To read and write; made if it is not there, emptied if it is.
    Truncate,
}

/// What is known of a name without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Bytes.
    pub len: u64,
    /// Milliseconds since 1970 of the last write.
    pub modified_ms: i64,
}

/// A lock on a directory's lock file; dropping it unlocks.
pub trait Lock: Send + Sync + fmt::Debug {}

/// A file system.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes one directory; its parent is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and its parents where they are missing.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Gives a file or a directory another name, in place of what had that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all that is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// What is known of a name.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// Makes the names in a directory survive a power loss.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Takes the lock at `path`, or `None` where someone else has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
    /// What tells one boot of the machine from the next; `None` where that is not known.
    fn boot_id(&self) -> Option<String>;

    /// The bytes of the volume that a name is on, and those of them that are free for us.
    fn space(&self, _path: &Path) -> io::Result<(u64, u64)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// All bytes of a file that is at most `limit` long.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path, Open::Read)?;
        let len = file.len()?;
        if len > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{len} bytes, at most {limit} expected")));
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Replaces a file in one step, without asking that it survives a power loss.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let fresh = with_suffix(path, ".tmp");
        self.open(&fresh, Open::Truncate)?.write_all_at(0, &mut [IoSlice::new(bytes)])?;
        self.rename(&fresh, path)
    }

    /// Replaces a file in one step that survives a power loss.
    fn replace_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let fresh = with_suffix(path, ".tmp");
        let file = self.open(&fresh, Open::Truncate)?;
        file.write_all_at(0, &mut [IoSlice::new(bytes)])?;
        file.sync_data()?;
        drop(file);
        self.rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }
}

/// An open file. Positions are explicit: there is no cursor to share.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Reads until `into` is full or the file ends; returns how much it read.
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize>;
    /// As `read_at`, and fails with [`io::ErrorKind::WouldBlock`] where that would wait for the disk. Where the system cannot tell,
    /// it waits.
    fn read_resident_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `from` at `position`. The slices are used up.
    fn write_all_at(&self, position: u64, from: &mut [IoSlice<'_>]) -> io::Result<()>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes an empty file `len` bytes long, all zeros, and sets the room for them aside where the file system can.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Returns once everything written survives a power loss.
    fn sync_data(&self) -> io::Result<()>;
    /// Whether a read of these bytes would not wait for the disk. Where the system cannot tell, `true`.
    fn is_resident(&self, position: u64, len: u64) -> bool;
    /// The descriptor, for sendfile; `None` where there is none (simulation).
    fn as_fd(&self) -> Option<BorrowedFd<'_>>;
}

/// `path` with `suffix` at the end of its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
