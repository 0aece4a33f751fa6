//! The machine's own file system.

use super::{Disk, DiskFile, Lock, Open, Stat};
use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

/// Slices that one system call takes.
const IOV_MAX: usize = 1024;

#[derive(Debug)]
struct OsFile(File);

#[derive(Debug)]
struct OsLock {
    _file: File,
}

impl Lock for OsLock {}

impl Disk for OsDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let flags = match how {
            Open::Read => OFlags::RDONLY,
            Open::Write => OFlags::RDWR,
            Open::Create => OFlags::RDWR | OFlags::CREATE,
            Open::Truncate => OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC,
        };
        let fd = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))?;
        Ok(Arc::new(OsFile(fd.into())))
    }

    fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        let volume = rustix::fs::statvfs(path)?;
        Ok((volume.f_blocks.saturating_mul(volume.f_frsize), volume.f_bavail.saturating_mul(volume.f_frsize)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        // A name that is not UTF-8 is none of ours.
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let stat = rustix::fs::stat(path)?;
        Ok(Stat {
            is_dir: rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir(),
            len: u64::try_from(stat.st_size).unwrap_or(0),
            modified_ms: stat
                .st_mtime
                .saturating_mul(1000)
                .saturating_add(i64::try_from(stat.st_mtime_nsec / 1_000_000).unwrap_or(0)),
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        // flock keeps out a second opener within this process too; the POSIX lock is the one that Kafka takes.
        let taken = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .and_then(|()| rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive));
        match taken {
            Ok(()) => Ok(Some(Box::new(OsLock { _file: file }))),
            Err(Errno::WOULDBLOCK | Errno::ACCESS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn boot_id(&self) -> Option<String> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let id = id.trim();
        (!id.is_empty()).then(|| id.to_owned())
    }
}

/// Reads until `into` is full or the file ends.
fn fill(
    mut position: u64,
    mut into: &mut [u8],
    read: impl Fn(u64, &mut [u8]) -> Result<usize, Errno>,
) -> io::Result<usize> {
    let mut total = 0;
    while !into.is_empty() {
        match read(position, into) {
            Ok(0) => break,
            Ok(read) => {
                total += read;
                position += read as u64;
                into = into.get_mut(read..).unwrap_or_default();
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(total)
}

impl DiskFile for OsFile {
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        fill(position, into, |at, into| rustix::io::pread(&self.0, into, at))
    }

    fn read_resident_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        let resident = |at, into: &mut [u8]| {
            rustix::io::preadv2(&self.0, &mut [IoSliceMut::new(into)], at, ReadWriteFlags::NOWAIT)
        };
        match fill(position, into, resident) {
            // Not every file system knows how.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.read_at(position, into),
            read => read,
        }
    }

    fn write_all_at(&self, mut position: u64, from: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut left = from;
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let now = left.get(..left.len().min(IOV_MAX)).unwrap_or_default();
            match rustix::io::pwritev(&self.0, now, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    position += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(rustix::fs::fstat(&self.0)?.st_size).unwrap_or(0))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        loop {
            return match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
                Err(Errno::INTR) => continue,
                // A file with holes reads the same.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.0.set_len(len),
                done => Ok(done?),
            };
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn is_resident(&self, position: u64, len: u64) -> bool {
        // The first and the last byte stand for the rest: reads are sequential and the kernel reads ahead.
        let probe = |at| {
            let mut byte = [0];
            let mut into = [IoSliceMut::new(&mut byte)];
            !matches!(rustix::io::preadv2(&self.0, &mut into, at, ReadWriteFlags::NOWAIT), Err(Errno::WOULDBLOCK))
        };
        len == 0 || (probe(position) && probe(position + len - 1))
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}
