//! Going from batch header to batch header through a segment's bytes, without a read per header.

use crate::StorageError;
use crate::io::DiskFile;
use millrace_model::batch::{HEADER_LEN, check_crc};
use millrace_model::{BatchHeader, Offset};
use std::path::Path;

/// For finding one offset: a page or two hold what there is between two index entries.
pub(crate) const LOOKUP: usize = 8 << 10;
/// For going through much of a segment.
pub(crate) const SCAN: usize = 256 << 10;
/// For one header.
pub(crate) const HEADER_ONLY: usize = HEADER_LEN;

/// What stands at a position.
#[derive(Debug)]
pub(crate) enum Step {
    /// A whole batch.
    Batch(BatchHeader),
    /// The bytes end here, after a whole batch.
    End,
    /// What follows is not a whole batch.
    Torn(String),
}

/// A walk over `file` from a batch's first byte up to `end`.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    file: &'a dyn DiskFile,
    path: &'a Path,
    position: u64,
    end: u64,
    next: Offset,
    buffer: Vec<u8>,
    buffered_from: u64,
    ahead: usize,
    check: bool,
}

impl<'a> Walk<'a> {
    /// A walk whose first batch begins at `position` and has no offset below `from`. `ahead` bytes are read at a time;
    /// with `check`, whole batches are read and their checksums compared.
    pub(crate) fn new(
        file: &'a dyn DiskFile,
        path: &'a Path,
        position: u64,
        end: u64,
        from: Offset,
        ahead: usize,
        check: bool,
    ) -> Self {
        Self { file, path, position, end, next: from, buffer: Vec::new(), buffered_from: position, ahead, check }
    }

    /// Where the next batch begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Looks at the batch at the position and steps over it. Does not move past [`Step::End`] and [`Step::Torn`].
    pub(crate) fn step(&mut self) -> Result<Step, StorageError> {
        let left = self.end.saturating_sub(self.position);
        if left == 0 {
            return Ok(Step::End);
        }
        if left < HEADER_LEN as u64 {
            return Ok(Step::Torn(format!("{left} bytes are left where a batch needs at least {HEADER_LEN}")));
        }
        let header = match BatchHeader::parse(self.bytes(HEADER_LEN)?) {
            Ok(header) => header,
            Err(error) => return Ok(Step::Torn(error.to_string())),
        };
        let len = header.total_len();
        if len as u64 > left {
            return Ok(Step::Torn(format!("{left} bytes are left where a batch needs {len}")));
        }
        if header.base_offset < self.next {
            return Ok(Step::Torn(format!("base offset {} where at least {} is due", header.base_offset, self.next)));
        }
        if self.check
            && let Err(error) = check_crc(&header, self.bytes(len)?)
        {
            return Ok(Step::Torn(error.to_string()));
        }
        self.position += len as u64;
        self.next = header.next_offset();
        // Headers of large batches are far apart: reading what lies between them would be waste.
        if !self.check && len > self.ahead / 2 {
            self.ahead = HEADER_LEN;
        }
        Ok(Step::Batch(header))
    }

    /// `len` bytes at the position, which the caller knows to be before the end.
    fn bytes(&mut self, len: usize) -> Result<&[u8], StorageError> {
        let from = usize::try_from(self.position - self.buffered_from).unwrap_or(usize::MAX);
        if from.checked_add(len).is_none_or(|to| to > self.buffer.len()) {
            let most = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
            self.buffer.resize(len.max(self.ahead.min(most)), 0);
            self.buffered_from = self.position;
            let read =
                self.file.read_at(self.position, &mut self.buffer).map_err(StorageError::io("read", self.path))?;
            self.buffer.truncate(read);
            return self.buffer.get(..len).ok_or_else(|| self.short(len));
        }
        self.buffer.get(from..from + len).ok_or_else(|| self.short(len))
    }

    fn short(&self, len: usize) -> StorageError {
        StorageError::Corrupt {
            path: self.path.to_owned(),
            position: self.position,
            reason: format!("the file ends before the {len} bytes that were there"),
        }
    }
}
