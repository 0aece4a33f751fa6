//! Whole batches of a segment, one after the other, through a buffer.

use crate::StorageError;
use crate::io::DiskFile;
use millrace_model::BatchHeader;
use millrace_model::batch::{HEADER_LEN, check_crc};
use std::path::PathBuf;
use std::sync::Arc;

/// A segment being read. Every batch's checksum is compared: what is broken must not be copied under a new one.
#[derive(Debug)]
pub(super) struct Batches {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    /// Where in the file the next batch begins, and where the last one ends.
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    /// Where in the buffer the next batch begins.
    at: usize,
    ahead: usize,
}

impl Batches {
    /// The batches from `position` to `end`, read `ahead` bytes at a time.
    pub(super) fn new(file: Arc<dyn DiskFile>, path: PathBuf, position: u64, end: u64, ahead: usize) -> Self {
        Self { file, path, position, end, buffer: Vec::new(), at: 0, ahead: ahead.max(HEADER_LEN) }
    }

    /// Whether there are no more batches.
    pub(super) const fn is_over(&self) -> bool {
        self.position >= self.end
    }

    /// Where the last batch ends.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Where the next batch begins.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// The next batch: its header and all of its bytes.
    pub(super) fn next(&mut self) -> Result<Option<(BatchHeader, &[u8])>, StorageError> {
        if self.is_over() {
            return Ok(None);
        }
        let at = self.fill(HEADER_LEN)?;
        let header = BatchHeader::parse(self.buffer.get(at..).unwrap_or_default())
            .map_err(|error| self.corrupt(error.to_string()))?;
        let len = header.total_len();
        let at = self.fill(len)?;
        let bytes = self.buffer.get(at..at + len).unwrap_or_default();
        if let Err(error) = check_crc(&header, bytes) {
            return Err(self.corrupt(error.to_string()));
        }
        self.position += len as u64;
        self.at = at + len;
        Ok(Some((header, self.buffer.get(at..at + len).unwrap_or_default())))
    }

    /// Has `len` bytes from the position on in the buffer; returns where.
    fn fill(&mut self, len: usize) -> Result<usize, StorageError> {
        if self.buffer.len().saturating_sub(self.at) >= len {
            return Ok(self.at);
        }
        let left = self.end.saturating_sub(self.position);
        if (len as u64) > left {
            return Err(self.corrupt(format!("{left} bytes are left where a batch needs {len}")));
        }
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.ahead).max(len);
        self.buffer.resize(want, 0);
        // One large batch does not keep its memory.
        self.buffer.shrink_to(want.max(self.ahead));
        self.at = 0;
        let read = self.file.read_at(self.position, &mut self.buffer).map_err(StorageError::io("read", &self.path))?;
        self.buffer.truncate(read);
        if read < len {
            return Err(self.corrupt(format!("the file ends {} bytes early", len - read)));
        }
        Ok(0)
    }

    /// What is wrong with the batch at `position`.
    pub(super) fn corrupt_at(&self, position: u64, reason: String) -> StorageError {
        StorageError::Corrupt { path: self.path.clone(), position, reason }
    }

    fn corrupt(&self, reason: String) -> StorageError {
        self.corrupt_at(self.position, reason)
    }
}
