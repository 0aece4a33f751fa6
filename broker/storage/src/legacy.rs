//! Telling messages of the formats before record batches from what a crash left behind.
//!
//! ```text
//! offset i64 · size i32 · CRC-32 of what follows u32 · magic i8 = 0 or 1 · attributes i8 · …
//! ```
//!
//! Kafka wrote v0 until 0.9 and v1 until 0.10, and keeps such segments for as long as retention does. They are not read here,
//! and must not be taken for a torn end either: that would be cut off, and was acked.

use crate::StorageError;
use crate::io::DiskFile;
use std::path::Path;

/// Offset and size.
const BEFORE: usize = 12;
/// Checksum, magic, attributes, and the lengths of key and value.
const SMALLEST: u64 = 14;
const READ: usize = 64 << 10;

/// The format of the message at `position`, if there is a whole one of an old format.
pub(crate) fn format_at(file: &dyn DiskFile, path: &Path, position: u64, end: u64) -> Result<Option<i8>, StorageError> {
    let mut head = [0; BEFORE + 5];
    if end.saturating_sub(position) < BEFORE as u64 + SMALLEST {
        return Ok(None);
    }
    file.read_at(position, &mut head).map_err(StorageError::io("read", path))?;
    let [o0, o1, o2, o3, o4, o5, o6, o7, s0, s1, s2, s3, c0, c1, c2, c3, magic] = head;
    let offset = i64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
    let size = u64::from(u32::from_be_bytes([s0, s1, s2, s3]));
    let room = end - position - BEFORE as u64;
    if offset < 0 || magic > 1 || !(SMALLEST..=room).contains(&size) {
        return Ok(None);
    }
    let from = position + BEFORE as u64 + 4;
    let found = crc32(file, path, from, size - 4)?;
    Ok((found == u32::from_be_bytes([c0, c1, c2, c3])).then_some(magic.cast_signed()))
}

/// CRC-32 (not CRC-32C) of a part of a file.
fn crc32(file: &dyn DiskFile, path: &Path, mut from: u64, len: u64) -> Result<u32, StorageError> {
    let end = from + len;
    let mut crc = crc32fast::Hasher::new();
    let mut buffer = vec![0; usize::try_from(len).unwrap_or(READ).min(READ)];
    while from < end {
        let wanted = usize::try_from(end - from).unwrap_or(READ).min(READ);
        let into = buffer.get_mut(..wanted).unwrap_or_default();
        let read = file.read_at(from, into).map_err(StorageError::io("read", path))?;
        if read == 0 {
            break;
        }
        crc.update(into.get(..read).unwrap_or_default());
        from += read as u64;
    }
    Ok(crc.finalize())
}
