//! What all partitions of a node share: one directory, as Kafka lays it out.
//!
//! ```text
//! .lock                              held while a process uses the directory
//! .kafka_cleanshutdown               the last user went in order; removed before anything is written
//! meta.properties                    cluster id, node id, directory id
//! recovery-point-offset-checkpoint   per partition: what lies before is synced
//! log-start-offset-checkpoint        per partition: the first offset, where it is within a segment
//! replication-offset-checkpoint      per partition: the high watermark
//! cleaner-offset-checkpoint          per compacted partition: what lies before is clean
//! boot-id                            the boot of the machine in which all logs were last known to be whole (not Kafka's)
//! <topic>-<partition>/               a log; `partition.metadata` in it names the topic's id
//! <topic>-<partition>.<id>-delete/   a log on its way out
//! <topic>-<partition>.<id>-stray/    a log of a topic that the cluster does not know; nothing looks at it, nothing removes it
//! ```
//!
//! Invariant: `boot-id` names a boot only once every log was opened in it ([`DataDir::mark_recovered`]). So a process that dies
//! while it recovers from a power loss leaves the old one, and the next start recovers again.

mod checkpoints;
mod meta;

pub use checkpoints::{Checkpoint, CheckpointWriter};
pub use meta::{Meta, decode_uuid, encode_uuid};

use checkpoints::{LIMIT as CHECKPOINT_LIMIT, Offsets, read_checkpoint, read_text};
use meta::{parse_partition_meta, partition_meta};

use crate::epochs::Epochs;
use crate::io::{Disk, Lock, Open};
use crate::log::EPOCHS_FILE;
use crate::segment::FileCache;
use crate::{DeletedDir, OpenContext, StorageError};
use millrace_model::{LeaderEpoch, Offset, PartitionId, TopicId};
use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const LOCK: &str = ".lock";
const CLEAN: &str = ".kafka_cleanshutdown";
const META: &str = "meta.properties";
const BOOT: &str = "boot-id";
const PARTITION_META: &str = "partition.metadata";
const DELETED: &str = "-delete";
const STRAY: &str = "-stray";
const MAX_FILE_NAME: usize = 255;
const SMALL_FILE: u64 = 1 << 20;

/// A partition's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDir {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The topic's id, where `partition.metadata` names one.
    pub topic_id: Option<TopicId>,
    /// Where it is.
    pub path: PathBuf,
}

/// A node's data directory, locked for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    _lock: Box<dyn Lock>,
    clean: bool,
    same_boot: bool,
    foreign: bool,
    meta: Option<Meta>,
    recovery_points: Offsets,
    log_starts: Offsets,
    high_watermarks: Offsets,
    cleaned: Offsets,
    files: Arc<FileCache>,
    checkpoint_turn: Arc<Mutex<()>>,
}

impl DataDir {
    /// Locks the directory (made if it is not there) and reads what the last user left. The mark of a clean shutdown is taken away.
    ///
    /// # Errors
    /// [`StorageError::InUse`] where another process has it; else as the disk says.
    pub fn open(disk: Arc<dyn Disk>, path: PathBuf) -> Result<Self, StorageError> {
        disk.create_dir_all(&path).map_err(StorageError::io("create", &path))?;
        let lock_path = path.join(LOCK);
        let lock = disk.lock(&lock_path).map_err(StorageError::io("lock", lock_path))?;
        let Some(lock) = lock else { return Err(StorageError::InUse { path }) };
        let clean_path = path.join(CLEAN);
        let clean = disk.stat(&clean_path).is_ok();
        if clean {
            disk.remove_file(&clean_path).map_err(StorageError::io("remove", clean_path))?;
            disk.sync_dir(&path).map_err(StorageError::io("sync", &path))?;
        }
        let boot = read_text(&*disk, &path.join(BOOT), SMALL_FILE)?;
        let foreign = boot.is_none();
        let same_boot = boot.is_some_and(|boot| disk.boot_id().is_some_and(|now| now == boot.trim()));
        let meta = read_text(&*disk, &path.join(META), SMALL_FILE)?.map(|text| Meta::from_text(&text));
        let offsets = |checkpoint| read_checkpoint(&*disk, &path, checkpoint);
        Ok(Self {
            recovery_points: offsets(Checkpoint::RecoveryPoint)?,
            log_starts: offsets(Checkpoint::LogStart)?,
            high_watermarks: offsets(Checkpoint::HighWatermark)?,
            cleaned: offsets(Checkpoint::Cleaned)?,
            checkpoint_turn: Arc::default(),
            _lock: lock,
            clean,
            same_boot,
            foreign,
            meta,
            files: Arc::default(),
            disk,
            path,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last user went in order.
    pub const fn was_clean(&self) -> bool {
        self.clean
    }

    /// Whether the machine has not been restarted since all logs were last known to be whole.
    pub const fn same_boot(&self) -> bool {
        self.same_boot
    }

    /// Whose directory it is; `None` for a new one.
    pub const fn meta(&self) -> Option<&Meta> {
        self.meta.as_ref()
    }

    /// Writes down whose directory it is.
    ///
    /// # Errors
    /// As the disk says.
    pub fn set_meta(&mut self, meta: Meta) -> Result<(), StorageError> {
        let path = self.path.join(META);
        self.disk.replace_synced(&path, meta.to_text().as_bytes()).map_err(StorageError::io("write", path))?;
        self.meta = Some(meta);
        Ok(())
    }

    /// The partitions' directories, sorted by name.
    ///
    /// # Errors
    /// As the disk says.
    pub fn partitions(&self) -> Result<Vec<PartitionDir>, StorageError> {
        let mut partitions = Vec::new();
        for name in self.disk.list(&self.path).map_err(StorageError::io("list", &self.path))? {
            let Some((topic, partition)) = name.rsplit_once('-') else { continue };
            let (Ok(partition @ 0..), false) = (partition.parse::<i32>(), topic.is_empty()) else { continue };
            let path = self.path.join(&name);
            if !self.disk.stat(&path).is_ok_and(|stat| stat.is_dir) {
                continue;
            }
            let meta = read_text(&*self.disk, &path.join(PARTITION_META), SMALL_FILE)?;
            partitions.push(PartitionDir {
                topic: topic.to_owned(),
                partition: PartitionId::new(partition),
                topic_id: meta.as_deref().and_then(parse_partition_meta),
                path,
            });
        }
        Ok(partitions)
    }

    /// Logs that were deleted, but not removed yet, when the last user went.
    ///
    /// # Errors
    /// As the disk says.
    pub fn deleted(&self) -> Result<Vec<DeletedDir>, StorageError> {
        let names = self.disk.list(&self.path).map_err(StorageError::io("list", &self.path))?;
        let going = names.into_iter().filter(|name| name.ends_with(DELETED));
        Ok(going.map(|name| DeletedDir::new(Arc::clone(&self.disk), self.path.join(name))).collect())
    }

    /// Where a partition's directory is, or would be.
    pub fn partition_path(&self, topic: &str, partition: PartitionId) -> PathBuf {
        self.path.join(format!("{topic}-{partition}"))
    }

    /// Makes a partition's directory and says how to open the log in it. What is there already stays as it is; what does not
    /// say that it is this topic's is moved aside.
    ///
    /// # Errors
    /// As the disk says.
    pub fn create_partition(
        &self,
        topic: &str,
        partition: PartitionId,
        id: TopicId,
    ) -> Result<(PathBuf, OpenContext), StorageError> {
        let path = self.partition_path(topic, partition);
        let mut fresh = self.create_dir(&path)?;
        let mut named = false;
        if !fresh {
            named = match self.named(&path)? {
                Some(other) if other == id => true,
                // What has an id is some other topic's, and what has none but files is nobody knows whose.
                Some(_) => return self.make_room(&path, topic, partition, id),
                None if self.is_bare(&path)? => false,
                None => return self.make_room(&path, topic, partition, id),
            };
            fresh = !named;
        }
        if !named {
            let text = partition_meta(id);
            let meta = path.join(PARTITION_META);
            self.disk
                .open(&meta, Open::Truncate)
                .and_then(|file| file.write_all_at(0, &mut [IoSlice::new(text.as_bytes())]))
                .map_err(StorageError::io("write", meta))?;
        }
        Ok((path, OpenContext { fresh, ..self.context(topic, partition) }))
    }

    /// Moves what is in a new partition's way aside and makes the directory.
    fn make_room(
        &self,
        path: &Path,
        topic: &str,
        partition: PartitionId,
        id: TopicId,
    ) -> Result<(PathBuf, OpenContext), StorageError> {
        let aside = set_aside(&*self.disk, path, STRAY)?;
        tracing::warn!(directory = %path.display(), aside = %aside.display(), "the directory of another topic was in the way");
        self.create_partition(topic, partition, id)
    }

    fn named(&self, path: &Path) -> Result<Option<TopicId>, StorageError> {
        let text = read_text(&*self.disk, &path.join(PARTITION_META), SMALL_FILE)?;
        Ok(text.as_deref().and_then(parse_partition_meta))
    }

    /// Whether there is nothing in the directory that somebody could miss.
    ///
    /// # Errors
    /// As the disk says.
    pub fn is_bare(&self, path: &Path) -> Result<bool, StorageError> {
        let names = self.disk.list(path).map_err(StorageError::io("list", path))?;
        Ok(names.iter().all(|name| name == PARTITION_META))
    }

    /// Writes the topic's id into a directory that lost it, or never had it. Survives a power loss.
    ///
    /// # Errors
    /// As the disk says.
    pub fn name(&self, dir: &PartitionDir, id: TopicId) -> Result<(), StorageError> {
        let path = dir.path.join(PARTITION_META);
        self.disk.replace_synced(&path, partition_meta(id).as_bytes()).map_err(StorageError::io("write", path))
    }

    /// Gives a directory that belongs to no topic of the cluster another name, under which nothing looks at it: `-stray`,
    /// as Kafka does. Returns that name.
    ///
    /// # Errors
    /// As the disk says.
    pub fn set_astray(&self, dir: &PartitionDir) -> Result<PathBuf, StorageError> {
        set_aside(&*self.disk, &dir.path, STRAY)
    }

    /// Gives the directory of a deleted topic the name under which [`DataDir::deleted`] finds it.
    ///
    /// # Errors
    /// As the disk says.
    pub fn set_deleted(&self, dir: &PartitionDir) -> Result<PathBuf, StorageError> {
        set_aside(&*self.disk, &dir.path, DELETED)
    }

    /// The newest leader epoch that the partition's log knows of; `None` where nothing is written down.
    ///
    /// # Errors
    /// As the disk says.
    pub fn last_epoch(&self, dir: &PartitionDir) -> Result<Option<LeaderEpoch>, StorageError> {
        let text = read_text(&*self.disk, &dir.path.join(EPOCHS_FILE), CHECKPOINT_LIMIT)?;
        let epochs = text.as_deref().and_then(Epochs::from_text);
        Ok(epochs.map(|epochs| epochs.latest()).filter(|epoch| *epoch >= LeaderEpoch::new(0)))
    }

    /// Whether no broker of ours has served from the directory yet: what stands in it is Kafka's, or nobody's.
    pub const fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// `false` where it is there already.
    fn create_dir(&self, path: &Path) -> Result<bool, StorageError> {
        match self.disk.create_dir(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(StorageError::io("create", path)(error)),
        }
    }

    /// How to open a log that the last user left.
    pub fn context(&self, topic: &str, partition: PartitionId) -> OpenContext {
        let key = (topic.to_owned(), partition);
        OpenContext {
            fresh: false,
            clean_shutdown: self.clean,
            same_boot: self.same_boot,
            recovery_point: self.recovery_points.get(&key).copied(),
            log_start: self.log_starts.get(&key).copied(),
            foreign: self.foreign,
            files: Arc::clone(&self.files),
        }
    }

    /// The high watermark that the last user left.
    pub fn high_watermark(&self, topic: &str, partition: PartitionId) -> Option<Offset> {
        self.high_watermarks.get(&(topic.to_owned(), partition)).copied()
    }

    /// Before which offset the records are clean, as the last user left it.
    pub fn cleaned(&self, topic: &str, partition: PartitionId) -> Option<Offset> {
        self.cleaned.get(&(topic.to_owned(), partition)).copied()
    }

    /// Forgets what the last user left of partitions that are not there any more, also on the disk: one that comes under the
    /// name of an old one would be cut to where that began.
    ///
    /// # Errors
    /// As the disk says.
    pub fn forget_missing(&mut self) -> Result<(), StorageError> {
        let there: BTreeSet<_> = self.partitions()?.into_iter().map(|it| (it.topic, it.partition)).collect();
        let writer = self.checkpoint_writer();
        for (checkpoint, offsets) in [
            (Checkpoint::RecoveryPoint, &mut self.recovery_points),
            (Checkpoint::LogStart, &mut self.log_starts),
            (Checkpoint::HighWatermark, &mut self.high_watermarks),
            (Checkpoint::Cleaned, &mut self.cleaned),
        ] {
            let before = offsets.len();
            offsets.retain(|partition, _| there.contains(partition));
            if offsets.len() < before {
                let left = offsets.iter().map(|((topic, partition), offset)| (topic, *partition, *offset));
                writer.write(checkpoint, || left)?;
            }
        }
        Ok(())
    }

    /// Bounds the open files of all logs.
    pub const fn files(&self) -> &Arc<FileCache> {
        &self.files
    }

    /// Notes that every log has been opened: until the machine is restarted, what is written is there.
    ///
    /// # Errors
    /// As the disk says.
    pub fn mark_recovered(&self) -> Result<(), StorageError> {
        let Some(boot) = self.disk.boot_id().filter(|_| !self.same_boot) else { return Ok(()) };
        let path = self.path.join(BOOT);
        self.disk.replace_synced(&path, format!("{boot}\n").as_bytes()).map_err(StorageError::io("write", path))
    }

    /// Writes checkpoints without the data directory itself, for instance on another thread.
    pub fn checkpoint_writer(&self) -> CheckpointWriter {
        let turn = Arc::clone(&self.checkpoint_turn);
        CheckpointWriter { disk: Arc::clone(&self.disk), dir: self.path.clone(), turn }
    }

    /// Marks the shutdown as clean: every log was closed without an error, and the checkpoints are written.
    ///
    /// # Errors
    /// As the disk says.
    pub fn mark_clean(&self) -> Result<(), StorageError> {
        let path = self.path.join(CLEAN);
        self.disk.replace_synced(&path, b"{\"version\":0,\"brokerEpoch\":-1}").map_err(StorageError::io("write", path))
    }
}

/// Gives a partition's directory a name that is not a partition's, in Kafka's form: `<topic>-<partition>.<unique><suffix>`.
fn set_aside(disk: &dyn Disk, path: &Path, suffix: &str) -> Result<PathBuf, StorageError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut names = (0_u64..).map(|unique| {
        let suffix = format!(".{unique:032x}{suffix}");
        let kept: String = name.chars().take(MAX_FILE_NAME.saturating_sub(suffix.len())).collect();
        path.with_file_name(format!("{kept}{suffix}"))
    });
    // There are more numbers than directories.
    let aside = names.find(|name| disk.stat(name).is_err()).unwrap_or_default();
    disk.rename(path, &aside).map_err(StorageError::io("rename", path))?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::{Crash, SimDisk};

    const P0: PartitionId = PartitionId::new(0);

    fn open(disk: &SimDisk) -> DataDir {
        DataDir::open(Arc::new(disk.clone()), PathBuf::from("/data")).unwrap()
    }

    #[test]
    fn a_second_user_is_refused_until_the_first_is_gone() {
        let disk = SimDisk::new(0);
        let first = open(&disk);
        let second = DataDir::open(Arc::new(disk.clone()), PathBuf::from("/data"));
        assert!(matches!(second, Err(StorageError::InUse { .. })));
        drop(first);
        open(&disk);
    }

    #[test]
    fn a_clean_end_is_told_from_a_crash_and_a_crash_from_a_power_loss() {
        let disk = SimDisk::new(0);
        let dir = open(&disk);
        assert!(!dir.was_clean() && !dir.same_boot());
        dir.mark_recovered().unwrap();
        dir.mark_clean().unwrap();
        drop(dir);
        let dir = open(&disk);
        assert!(dir.was_clean() && dir.same_boot());
        let disk = disk.restart(Crash::Process);
        let dir = open(&disk);
        assert!(!dir.was_clean() && dir.same_boot(), "the mark is gone with its first reader");
        let disk = disk.restart(Crash::Power);
        let dir = open(&disk);
        assert!(!dir.was_clean() && !dir.same_boot());
        let disk = disk.restart(Crash::Process);
        assert!(!open(&disk).same_boot(), "it died before every log was recovered");
    }

    #[test]
    fn partitions_checkpoints_and_meta_read_back() {
        let disk = SimDisk::new(0);
        let mut dir = open(&disk);
        let id = decode_uuid("dGVzdC1pZC0xMjM0NTY3OA").unwrap();
        let (path, context) = dir.create_partition("a-topic-2", P0, id).unwrap();
        assert!(context.fresh);
        assert_eq!(path, PathBuf::from("/data/a-topic-2-0"));
        assert!(!dir.create_partition("a-topic-2", P0, id).unwrap().1.fresh);
        disk.create_dir(Path::new("/data/x-1.0123-delete")).unwrap();
        disk.create_dir(Path::new("/data/plain")).unwrap();
        let writer = dir.checkpoint_writer();
        writer
            .write(Checkpoint::RecoveryPoint, || [("a-topic-2", P0, Offset::new(42)), ("b", P0, Offset::ZERO)])
            .unwrap();
        writer.write(Checkpoint::LogStart, || [("a-topic-2", P0, Offset::new(41))]).unwrap();
        writer.write(Checkpoint::HighWatermark, || [("a-topic-2", P0, Offset::new(40))]).unwrap();
        let meta = Meta { cluster_id: Some("c".into()), node_id: Some(3), directory_id: Some("d".into()) };
        dir.set_meta(meta.clone()).unwrap();
        drop(dir);
        let mut dir = open(&disk);
        assert_eq!(dir.meta(), Some(&meta));
        let there = PartitionDir { topic: "a-topic-2".into(), partition: P0, topic_id: Some(id), path };
        assert_eq!(dir.partitions().unwrap(), [there]);
        assert_eq!(dir.deleted().unwrap().len(), 1);
        assert_eq!(dir.context("a-topic-2", P0).recovery_point, Some(Offset::new(42)));
        assert_eq!(dir.high_watermark("a-topic-2", P0), Some(Offset::new(40)));
        assert_eq!(dir.context("b", P0).recovery_point, Some(Offset::ZERO));
        disk.remove_dir_all(Path::new("/data/a-topic-2-0")).unwrap();
        dir.create_partition("b", P0, id).unwrap();
        dir.forget_missing().unwrap();
        assert_eq!(dir.context("a-topic-2", P0).recovery_point, None);
        drop(dir);
        let dir = open(&disk);
        assert_eq!(dir.context("a-topic-2", P0).log_start, None);
        assert_eq!(dir.high_watermark("a-topic-2", P0), None);
        assert_eq!(dir.context("b", P0).recovery_point, Some(Offset::ZERO));
    }

    #[test]
    fn a_directory_of_another_topic_of_the_name_makes_room() {
        let disk = SimDisk::new(0);
        let dir = open(&disk);
        let (old, new) = (TopicId::new(uuid::Uuid::from_u128(1)), TopicId::new(uuid::Uuid::from_u128(2)));
        let (path, _) = dir.create_partition("t", P0, old).unwrap();
        disk.open(&path.join("00000000000000000000.log"), Open::Create).unwrap();
        assert!(!dir.create_partition("t", P0, old).unwrap().1.fresh);
        let (path, context) = dir.create_partition("t", P0, new).unwrap();
        assert!(context.fresh);
        assert_eq!(disk.list(&path).unwrap(), [PARTITION_META]);
        assert!(dir.deleted().unwrap().is_empty(), "nothing says that anybody deleted it");
        let aside = Path::new("/data/t-0.00000000000000000000000000000000-stray");
        assert_eq!(disk.list(aside).unwrap(), ["00000000000000000000.log", PARTITION_META]);
        // Without an id but with files it may be anybody's; without files it is what a crash left of a new one.
        disk.remove_file(&path.join(PARTITION_META)).unwrap();
        assert!(dir.create_partition("t", P0, new).unwrap().1.fresh);
        disk.remove_file(&path.join(PARTITION_META)).unwrap();
        disk.open(&path.join("00000000000000000000.log"), Open::Create).unwrap();
        assert!(dir.create_partition("t", P0, new).unwrap().1.fresh);
        assert_eq!(disk.list(&path).unwrap(), [PARTITION_META]);
        assert_eq!(disk.list(Path::new("/data")).unwrap().iter().filter(|name| name.ends_with(STRAY)).count(), 2);
    }

    #[test]
    fn a_directory_that_says_whose_it_is_stays_as_it_is() {
        let disk = SimDisk::new(0);
        let dir = open(&disk);
        let id = decode_uuid("dGVzdC1pZC0xMjM0NTY3OA").unwrap();
        // Without the newline at the end, as Kafka writes it.
        let text = b"version: 0\ntopic_id: dGVzdC1pZC0xMjM0NTY3OA";
        let meta = Path::new("/data/t-0").join(PARTITION_META);
        disk.create_dir(Path::new("/data/t-0")).unwrap();
        disk.replace(&meta, text).unwrap();
        disk.replace(Path::new("/data/t-0/leader-epoch-checkpoint"), b"0\n2\n0 0\n7 15\n").unwrap();
        let before = disk.operations();
        assert!(!dir.create_partition("t", P0, id).unwrap().1.fresh);
        assert_eq!(disk.operations(), before + 1, "only the attempt to create the directory");
        assert_eq!(disk.read(&meta, 100).unwrap(), text);
        let there = dir.partitions().unwrap().remove(0);
        assert_eq!(dir.last_epoch(&there).unwrap(), Some(LeaderEpoch::new(7)));
    }

    #[test]
    fn the_longest_name_can_be_set_aside() {
        let disk = SimDisk::new(0);
        let dir = open(&disk);
        let id = decode_uuid("dGVzdC1pZC0xMjM0NTY3OA").unwrap();
        for count in 1..3 {
            dir.create_partition(&"x".repeat(249), P0, id).unwrap();
            let aside = dir.set_astray(&dir.partitions().unwrap().remove(0)).unwrap();
            let name = aside.file_name().unwrap().to_str().unwrap();
            assert!(name.len() == MAX_FILE_NAME && name.ends_with(STRAY), "{name}");
            assert!(dir.partitions().unwrap().is_empty());
            assert_eq!(
                disk.list(Path::new("/data")).unwrap().iter().filter(|name| name.ends_with(STRAY)).count(),
                count
            );
        }
    }
}
