//! A file of which only what is in memory can be read.

use super::DiskFile;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Reads fail with [`io::ErrorKind::WouldBlock`] where they would wait for the disk.
#[derive(Debug)]
pub(crate) struct Resident(Arc<dyn DiskFile>);

impl Resident {
    pub(crate) const fn new(file: Arc<dyn DiskFile>) -> Self {
        Self(file)
    }
}

impl DiskFile for Resident {
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_resident_at(position, into)
    }

    fn read_resident_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_resident_at(position, into)
    }

    fn write_all_at(&self, position: u64, from: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.0.write_all_at(position, from)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn is_resident(&self, position: u64, len: u64) -> bool {
        self.0.is_resident(position, len)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_fd()
    }
}
