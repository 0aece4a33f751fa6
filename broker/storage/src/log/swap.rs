//! Putting a cleaned segment in the place of those that it was made of.
//!
//! Invariant: as long as `<base>.log.swap` is there, the cleaned segment is whole and synced, and whoever opens the log puts it
//! in place of every segment between its base and its end. So each step here may be the last one before a crash.

use super::Log;
use crate::StorageError;
use crate::clean::{CleanOptions, Cleanable, Cleaned, EXTENSIONS, Round, SWAP, remove};
use crate::io::{Open, with_suffix};
use crate::segment::Dir;
use crate::tail::Border;
use crate::walk::{SCAN, Step, Walk};
use millrace_model::{Offset, Timestamp};
use std::io;
use std::sync::Arc;

impl Log {
    /// A round of cleaning over what [`crate::LogReader::cleanable`] found.
    pub fn clean(&self, options: CleanOptions, cleanable: &Cleanable, now: Timestamp) -> Round {
        Round::new(&self.reader(), self.config.clone(), options, cleanable, self.producers.last_written(), now)
    }

    /// Puts a cleaned segment in place of those that it was made of; these go as retention's do. `false`, and nothing is done, where one
    /// of them is not part of the log any more: the round is to be given up then.
    ///
    /// # Errors
    /// As the disk says; the log then takes no more writes until it is opened again, which finishes the swap.
    pub fn swap_in(&mut self, cleaned: Cleaned, now: Timestamp) -> Result<bool, StorageError> {
        let Cleaned { sources, segment } = cleaned;
        let list = self.shared.segments.load_full();
        let place = sources.first().and_then(|first| list.iter().position(|other| Arc::ptr_eq(first, other)));
        let replaced = place.and_then(|at| list.get(at..at + sources.len()));
        let whole = replaced.is_some_and(|part| part.iter().zip(&sources).all(|(a, b)| Arc::ptr_eq(a, b)));
        let Some(place) = place.filter(|_| whole) else {
            remove(&self.shared, segment.base, SWAP);
            return Ok(false);
        };
        let mut after = Vec::clone(&list);
        after.splice(place..place + sources.len(), [Arc::clone(&segment)]);
        let done = self.remove_segments(&sources, now).and_then(|()| put_in_place(&self.shared.dir, segment.base));
        if let Err(error) = done {
            self.fail();
            return Err(error);
        }
        // Borders within the old files mean nothing in the new one: they go before the new list is seen.
        let border = Border { offset: self.end, segment: self.active.base(), position: self.active.size };
        self.shared.tail.reset(border);
        self.shared.segments.store(Arc::new(after));
        self.unsynced.retain(|other| !sources.iter().any(|source| Arc::ptr_eq(source, other)));
        Ok(true)
    }
}

/// Gives the files of a cleaned segment their names, the log file last.
fn put_in_place(dir: &Dir, base: Offset) -> Result<(), StorageError> {
    for extension in EXTENSIONS {
        let path = dir.file(base, extension);
        let swap = with_suffix(&path, SWAP);
        match dir.disk.rename(&swap, &path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StorageError::io("rename", swap)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Finishes the swaps that a crash interrupted: `swaps` are the cleaned segments' first offsets, `segments` all the others'.
pub(super) fn finish(dir: &Dir, swaps: &[Offset], segments: &[Offset]) -> Result<(), StorageError> {
    for &base in swaps {
        let end = end_of(dir, base)?;
        tracing::info!(path = %dir.path.display(), %base, %end, "the swap of a cleaned segment is finished");
        for &covered in segments.iter().filter(|other| **other > base && **other < end) {
            for extension in EXTENSIONS {
                let path = dir.file(covered, extension);
                match dir.disk.remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(StorageError::io("remove", path)(error));
                    }
                    _ => {}
                }
            }
        }
        // What the covered segments were must not come back beside it.
        dir.disk.sync_dir(&dir.path).map_err(StorageError::io("sync", &dir.path))?;
        put_in_place(dir, base)?;
    }
    dir.disk.sync_dir(&dir.path).map_err(StorageError::io("sync", &dir.path))
}

/// Where a cleaned segment ends: its last batch is always there.
fn end_of(dir: &Dir, base: Offset) -> Result<Offset, StorageError> {
    let path = with_suffix(&dir.file(base, "log"), SWAP);
    let file = dir.disk.open(&path, Open::Read).map_err(StorageError::io("open", &path))?;
    let size = file.len().map_err(StorageError::io("stat", &path))?;
    let mut walk = Walk::new(&*file, &path, 0, size, base, SCAN, false);
    let mut end = base;
    loop {
        let position = walk.position();
        match walk.step()? {
            Step::Batch(header) => end = header.next_offset(),
            Step::End => return Ok(end),
            Step::Torn(reason) => return Err(StorageError::Corrupt { path, position, reason }),
        }
    }
}
