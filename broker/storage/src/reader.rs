//! Reading a log beside its writer.
//!
//! A reader takes a snapshot of two things: the end of the log (see `tail`) and the list of segments. Bytes before that end do not
//! change while they are part of the log, so nothing has to be locked while they are sent. A segment that retention takes away meanwhile
//! stays readable for who has it open; where a follower's log is cut back, what was cut may be seen as it was or as it became, as with Kafka.

use crate::epochs::Epochs;
use crate::io::DiskFile;
use crate::segment::{Access, Dir, FileCache, Kind, Segment};
use crate::tail::{Border, Tail};
use crate::walk::{LOOKUP, Step, Walk};
use crate::{ReadError, StorageError};
use arc_swap::ArcSwap;
use bytes::Bytes;
use millrace_model::batch::HEADER_LEN;
use millrace_model::codec::{Compression, decompress};
use millrace_model::record::Records;
use millrace_model::{BatchHeader, LeaderEpoch, Offset, Timestamp};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// So close to the end the bytes were written moments ago: asking whether they are in memory costs more than it tells.
const JUST_WRITTEN: u64 = 1 << 20;
/// What one batch may unpack to when a timestamp is looked for in it.
const UNPACKED_LIMIT: usize = 128 << 20;
const WARM_CHUNK: usize = 256 << 10;

/// What the writer shows its readers.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: Arc<Dir>,
    pub(crate) cache: Arc<FileCache>,
    /// In order of their offsets; the last one is written to. Never empty.
    pub(crate) segments: ArcSwap<Vec<Arc<Segment>>>,
    pub(crate) tail: Tail,
    pub(crate) start: AtomicI64,
    pub(crate) epochs: ArcSwap<Epochs>,
    /// An earlier failure: no more writes.
    pub(crate) failed: AtomicBool,
}

impl Shared {
    pub(crate) fn start(&self) -> Offset {
        Offset::new(self.start.load(Ordering::Acquire))
    }

    /// For who may wait for the disk.
    pub(crate) fn access(&self) -> Access<'_> {
        Access { cache: &self.cache, waits: true }
    }

    pub(crate) fn failed(&self) -> StorageError {
        StorageError::Failed { path: self.dir.path.clone() }
    }
}

/// Bytes of a segment as they stand on disk, ready for sendfile. The file stays readable for as long as the slice lives.
#[derive(Clone, Debug)]
pub struct FileSlice {
    file: Option<Arc<dyn DiskFile>>,
    position: u64,
    len: u32,
    segment: Offset,
    just_written: bool,
}

impl FileSlice {
    /// No bytes.
    pub const fn empty() -> Self {
        Self { file: None, position: 0, len: 0, segment: Offset::ZERO, just_written: true }
    }

    /// The file; `None` for an empty slice.
    pub fn file(&self) -> Option<&Arc<dyn DiskFile>> {
        self.file.as_ref()
    }

    /// Where in the file.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The first offset of the segment that it is a part of.
    pub(crate) const fn segment(&self) -> Offset {
        self.segment
    }

    /// Bytes.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes themselves; fewer, where the log was cut back meanwhile.
    ///
    /// # Errors
    /// As the disk says.
    pub fn to_bytes(&self) -> Result<Bytes, StorageError> {
        let Some(file) = &self.file else { return Ok(Bytes::new()) };
        let mut bytes = vec![0; self.len as usize];
        let read = file.read_at(self.position, &mut bytes).map_err(StorageError::io("read", PathBuf::new()))?;
        bytes.truncate(read);
        Ok(bytes.into())
    }

    /// Whether sending the bytes would not wait for the disk.
    pub fn is_hot(&self) -> bool {
        self.just_written || self.file.as_ref().is_none_or(|file| file.is_resident(self.position, u64::from(self.len)))
    }

    /// Reads the bytes in; on a thread that may wait.
    ///
    /// # Errors
    /// As the disk says.
    pub fn warm(&self) -> Result<(), StorageError> {
        let Some(file) = &self.file else { return Ok(()) };
        let end = self.position + u64::from(self.len);
        let mut chunk = vec![0; WARM_CHUNK.min(self.len as usize)];
        let mut at = self.position;
        while at < end {
            let want = chunk.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            let into = chunk.get_mut(..want).unwrap_or_default();
            match file.read_at(at, into).map_err(StorageError::io("read", PathBuf::new()))? {
                0 => break,
                read => at += read as u64,
            }
        }
        Ok(())
    }
}

struct Found<'a> {
    segment: &'a Arc<Segment>,
    position: u64,
    batch_end: u64,
}

/// Reads a log beside its writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(crate) shared: Arc<Shared>,
    /// Whether it may wait for the disk.
    pub(crate) waits: bool,
}

impl LogReader {
    /// This reader for who must not wait for the disk: where it would have to, it says [`ReadError::Cold`]. Whether the bytes that a
    /// slice names are in memory is [`FileSlice::is_hot`]'s to say.
    #[must_use]
    pub fn without_waiting(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), waits: false }
    }

    /// The first offset.
    pub fn start_offset(&self) -> Offset {
        self.shared.start()
    }

    /// The offset after the last.
    pub fn end_offset(&self) -> Offset {
        self.shared.tail.end().offset
    }

    /// Bytes of all segments.
    pub fn size(&self) -> u64 {
        self.shared.segments.load().iter().map(|segment| segment.size()).sum()
    }

    /// Looks up how old the segments are, on a thread that may wait: what retention asks is in memory then.
    ///
    /// # Errors
    /// As the disk says.
    pub fn learn_ages(&self) -> Result<(), ReadError> {
        let segments = self.segments();
        segments.iter().try_for_each(|segment| segment.max_timestamp(self.access()).map(drop)).map_err(ReadError::from)
    }

    /// The whole batches from the one that holds `from` on, up to `upto` (exclusive; exact at batch borders), all of one segment
    /// and at most `max_bytes`, or one batch if `at_least_one_batch`. Empty at the end. Kafka's answers may end within a batch.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] outside of the log.
    pub fn read(
        &self,
        from: Offset,
        upto: Offset,
        max_bytes: u32,
        at_least_one_batch: bool,
    ) -> Result<FileSlice, ReadError> {
        let end = self.shared.tail.end();
        let start = self.start_offset();
        if from < start || from > end.offset {
            return Err(ReadError::OutOfRange { offset: from, start, end: end.offset });
        }
        let upto = upto.min(end.offset);
        if from >= upto {
            return Ok(FileSlice::empty());
        }
        loop {
            let segments = self.shared.segments.load_full();
            let found = self.slice(&segments, from, upto, end, max_bytes, at_least_one_batch);
            // Retention may have taken the segment away in this moment, or the cleaner put another one in its place.
            let start = self.start_offset();
            if from < start {
                return Err(ReadError::OutOfRange { offset: from, start, end: end.offset });
            }
            if self.is_current(&segments) {
                return Ok(found?);
            }
        }
    }

    /// Whether these are the log's segments. What was found in them by the names of their files is theirs then: the cleaner
    /// gives names anew, also those of files that are to go.
    pub(crate) fn is_current(&self, segments: &Arc<Vec<Arc<Segment>>>) -> bool {
        Arc::ptr_eq(segments, &self.shared.segments.load())
    }

    /// Looks something up in the segments, once more where they changed meanwhile.
    pub(crate) fn look_up<T>(&self, look: impl Fn(&[Arc<Segment>]) -> T) -> T {
        loop {
            let segments = self.shared.segments.load_full();
            let found = look(&segments);
            if self.is_current(&segments) {
                return found;
            }
        }
    }

    fn slice(
        &self,
        segments: &[Arc<Segment>],
        from: Offset,
        upto: Offset,
        end: Border,
        max_bytes: u32,
        at_least_one_batch: bool,
    ) -> Result<FileSlice, StorageError> {
        let Some(found) = self.locate(segments, from, end)? else { return Ok(FileSlice::empty()) };
        let limit = self.limit(segments, found.segment, upto, end)?;
        if found.batch_end > limit {
            return Ok(FileSlice::empty());
        }
        let wanted = found.position + u64::from(max_bytes);
        let upto = if wanted >= limit {
            limit
        } else if wanted > found.batch_end {
            // Bytes of a batch that does not fit would be sent for nothing, and then once more.
            found.segment.border_before(wanted, limit, self.access())?.max(found.batch_end)
        } else if at_least_one_batch || wanted == found.batch_end {
            found.batch_end
        } else {
            return Ok(FileSlice::empty());
        };
        let len = upto - found.position;
        Ok(FileSlice {
            file: Some(found.segment.read_file(Kind::Log, self.shared.access())?),
            position: found.position,
            segment: found.segment.base,
            len: u32::try_from(len).unwrap_or(u32::MAX),
            just_written: found.segment.base == end.segment && end.position - found.position <= JUST_WRITTEN,
        })
    }

    /// The batch that holds `from`, or the first one after it.
    fn locate<'a>(
        &self,
        segments: &'a [Arc<Segment>],
        from: Offset,
        end: Border,
    ) -> Result<Option<Found<'a>>, StorageError> {
        if let Some((border, after)) = self.shared.tail.find(from)
            && let Some(segment) = segments.iter().rev().find(|segment| segment.base == border.segment)
        {
            let batch_end = if after.segment == border.segment { after.position } else { segment.size() };
            return Ok(Some(Found { segment, position: border.position, batch_end }));
        }
        let first = segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        for segment in segments.iter().skip(first) {
            if let Some((position, header)) = segment.find(from, self.size_at(segment, end), self.access())? {
                return Ok(Some(Found { segment, position, batch_end: position + header.total_len() as u64 }));
            }
        }
        Ok(None)
    }

    /// Where in `segment` the batches before `upto` end.
    fn limit(
        &self,
        segments: &[Arc<Segment>],
        segment: &Arc<Segment>,
        upto: Offset,
        end: Border,
    ) -> Result<u64, StorageError> {
        let size = self.size_at(segment, end);
        let next = segments.get(segments.partition_point(|other| other.base <= segment.base));
        if upto == end.offset || next.is_some_and(|next| next.base <= upto) {
            return Ok(size);
        }
        if let Some((border, _)) = self.shared.tail.find(upto)
            && border.segment == segment.base
        {
            return Ok(border.position);
        }
        Ok(segment.find(upto, size, self.access())?.map_or(size, |(position, _)| position))
    }

    fn size_at(&self, segment: &Segment, end: Border) -> u64 {
        // The end may be older than the list: what was the active segment then can be another one by now.
        if segment.base == end.segment && !segment.is_cleaned() { end.position } else { segment.size() }
    }

    pub(crate) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.shared.segments.load_full()
    }

    pub(crate) fn access(&self) -> Access<'_> {
        Access { waits: self.waits, ..self.shared.access() }
    }

    /// The first record with this timestamp or a later one: its offset and timestamp. Reads and unpacks a batch.
    ///
    /// # Errors
    /// As the disk says.
    pub fn offset_for_timestamp(&self, target: Timestamp) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        self.look_up(|segments| self.offset_for_timestamp_in(segments, target))
    }

    fn offset_for_timestamp_in(
        &self,
        segments: &[Arc<Segment>],
        target: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let (start, end) = (self.start_offset(), self.shared.tail.end());
        for (i, segment) in segments.iter().enumerate() {
            if segments.get(i + 1).is_some_and(|next| next.base <= start) {
                continue;
            }
            let access = self.access();
            if segment.max_timestamp(access)?.is_none_or(|max| max.timestamp < target) {
                continue;
            }
            let from = segment.time_floor(target, access)?.max(start);
            let size = self.size_at(segment, end);
            let found = self.first_record(
                segment,
                from,
                size,
                |offset, timestamp| timestamp >= target && offset >= start,
                |header| header.max_timestamp >= target,
            )?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp. Reads and unpacks a batch.
    ///
    /// # Errors
    /// As the disk says.
    pub fn max_timestamp(&self) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        self.look_up(|segments| self.max_timestamp_in(segments))
    }

    fn max_timestamp_in(&self, segments: &[Arc<Segment>]) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let end = self.shared.tail.end();
        let mut best = None;
        for segment in segments.iter() {
            if let Some(max) = segment.max_timestamp(self.access())?
                && best.is_none_or(|(_, timestamp, _)| max.timestamp > timestamp)
            {
                best = Some((segment, max.timestamp, max.offset));
            }
        }
        let Some((segment, timestamp, offset)) = best else { return Ok(None) };
        let size = self.size_at(segment, end);
        Ok(self.first_record(
            segment,
            offset,
            size,
            |_, found| found == timestamp,
            |header| header.max_timestamp == timestamp,
        )?)
    }

    /// The first record for which `wanted` holds, in a batch for which `may_hold` does, from the batch that holds `from` on.
    fn first_record(
        &self,
        segment: &Arc<Segment>,
        from: Offset,
        size: u64,
        wanted: impl Fn(Offset, Timestamp) -> bool,
        may_hold: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Option<(Offset, Timestamp)>, StorageError> {
        let access = self.access();
        let Some((position, _)) = segment.find(from, size, access)? else { return Ok(None) };
        let (file, path) = (segment.read_file(Kind::Log, access)?, segment.path(Kind::Log));
        let mut walk = Walk::new(&*file, &path, position, size, segment.base, LOOKUP, false);
        loop {
            let position = walk.position();
            let header = match walk.step()? {
                Step::Batch(header) => header,
                Step::End => return Ok(None),
                Step::Torn(reason) => return Err(StorageError::Corrupt { path, position, reason }),
            };
            if !may_hold(&header) {
                continue;
            }
            let mut batch = vec![0; header.total_len()];
            file.read_at(position, &mut batch).map_err(StorageError::io("read", &path))?;
            let found = scan_records(&header, batch.get(HEADER_LEN..).unwrap_or_default(), &wanted)
                .map_err(|reason| StorageError::Corrupt { path: path.clone(), position, reason })?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// The largest epoch not above `epoch`, and the offset where it ends; (−1, −1) where that is not known (KIP-101, KIP-320).
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        self.shared.epochs.load().end_of(epoch, self.end_offset())
    }

    /// The newest epoch; −1 before the first.
    pub fn latest_epoch(&self) -> LeaderEpoch {
        self.shared.epochs.load().latest()
    }

    /// Whether an earlier failure keeps the log from being written.
    pub fn is_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }
}

fn scan_records(
    header: &BatchHeader,
    section: &[u8],
    wanted: impl Fn(Offset, Timestamp) -> bool,
) -> Result<Option<(Offset, Timestamp)>, String> {
    let codec = Compression::of(header.attributes).map_err(|error| error.to_string())?;
    let mut unpacked = Vec::new();
    let section = if codec == Compression::None {
        section
    } else {
        decompress(codec, section, UNPACKED_LIMIT, &mut unpacked).map_err(|error| error.to_string())?;
        &unpacked
    };
    for record in Records::new(section, header.records_count) {
        let record = record.map_err(|error| error.to_string())?;
        let offset = header.base_offset.plus(record.offset_delta().into());
        let timestamp = if header.attributes.is_log_append_time() {
            header.max_timestamp
        } else {
            header.base_timestamp.plus_ms(record.timestamp_delta())
        };
        if wanted(offset, timestamp) {
            return Ok(Some((offset, timestamp)));
        }
    }
    Ok(None)
}
