//! What Kafka's metadata log in the data directory says about the topics: its newest snapshot and what came after.
//!
//! The log is read, never written. Only all of it counts: where anything is missing or cannot be read, there are no facts,
//! because a config that was overlooked may be the one that keeps records.

use super::kraft::{self, Fact};
use millrace_model::batch::HEADER_LEN;
use millrace_model::record::Records;
use millrace_model::{Batch, BatchHeader, TopicId};
use millrace_storage::io::{Disk, DiskFile, Open};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What Kafka's controller keeps its own facts in; they are not ours.
pub(super) const KAFKA_METADATA: &str = "__cluster_metadata";
/// Its directory.
pub(super) const KAFKA_METADATA_DIR: &str = "__cluster_metadata-0";

/// Kafka's own limit for a batch of metadata is 8 MiB.
const MAX_BATCH: usize = 64 << 20;

/// What the log comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KafkaFacts {
    topics: BTreeMap<TopicId, KafkaTopic>,
    by_name: BTreeMap<String, TopicId>,
    removed: BTreeSet<TopicId>,
    configs: BTreeMap<(i8, String), BTreeMap<String, String>>,
    /// The first producer id that was not given out.
    pub(super) next_producer_id: i64,
    /// What is there and is not adopted, and how many records speak of it.
    pub(super) left: BTreeMap<&'static str, usize>,
}

/// A topic as Kafka knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KafkaTopic {
    name: String,
    /// The leader epochs by partition.
    pub(super) partitions: BTreeMap<i32, i32>,
}

impl KafkaFacts {
    /// Reads the log in this directory; `None` where there is no such directory.
    pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, String> {
        let names = match disk.list(dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let mut fold = Fold::default();
        let snapshots = names.iter().filter_map(|name| {
            let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
            Some((offset.parse::<i64>().ok()?, epoch.parse::<i64>().ok()?, name))
        });
        if let Some((offset, _, name)) = snapshots.max() {
            Batches::open(disk, &dir.join(name))?.each(|batch| fold.facts_of(batch, i64::MIN))?;
            fold.next = offset;
        }
        let segments = names.iter().filter_map(|name| Some((name.strip_suffix(".log")?.parse::<i64>().ok()?, name)));
        let mut segments: Vec<_> = segments.collect();
        segments.sort_unstable();
        for (_, name) in segments {
            Batches::open(disk, &dir.join(name))?.each(|batch| fold.batch(batch))?;
        }
        Ok(Some(fold.finish()))
    }

    /// The topic of this id, if its name is this one.
    pub(super) fn topic(&self, id: TopicId, name: &str) -> Option<&KafkaTopic> {
        self.topics.get(&id).filter(|topic| topic.name == name)
    }

    /// The id of the topic that has this name.
    pub(super) fn id_of(&self, name: &str) -> Option<TopicId> {
        self.by_name.get(name).copied()
    }

    /// Whether the topic was deleted, as far as the log still says so.
    pub(super) fn was_removed(&self, id: TopicId) -> bool {
        self.removed.contains(&id)
    }

    /// The configs of one resource.
    pub(super) fn configs(&self, of: i8, name: &str) -> BTreeMap<String, String> {
        self.configs.get(&(of, name.to_owned())).cloned().unwrap_or_default()
    }

    /// All groups that have configs.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&String, &BTreeMap<String, String>)> {
        self.configs.iter().filter(|((of, _), _)| *of == kraft::GROUP).map(|((_, name), configs)| (name, configs))
    }

    fn take(&mut self, fact: Fact) {
        match fact {
            Fact::Topic { name, id } => {
                self.by_name.insert(name.clone(), id);
                self.topics.insert(id, KafkaTopic { name, partitions: BTreeMap::new() });
            }
            Fact::RemovedTopic { id } => {
                self.removed.insert(id);
                if let Some(topic) = self.topics.remove(&id) {
                    self.by_name.remove(&topic.name);
                    self.configs.remove(&(kraft::TOPIC, topic.name));
                }
            }
            Fact::Partition { topic, partition, leader_epoch } => {
                if let Some(topic) = self.topics.get_mut(&topic) {
                    topic.partitions.insert(partition, leader_epoch);
                }
            }
            Fact::NewLeader { topic, partition } => {
                let known = self.topics.get_mut(&topic).and_then(|topic| topic.partitions.get_mut(&partition));
                if let Some(epoch) = known {
                    *epoch = epoch.saturating_add(1);
                }
            }
            Fact::Config { of, name, key, value } => {
                let configs = self.configs.entry((of, name)).or_default();
                match value {
                    Some(value) => drop(configs.insert(key, value)),
                    None => drop(configs.remove(&key)),
                }
            }
            Fact::NextProducerId(next) => self.next_producer_id = self.next_producer_id.max(next),
            Fact::Left(what) => *self.left.entry(what).or_default() += 1,
            Fact::Begin | Fact::End | Fact::Abort | Fact::Nothing => {}
        }
    }
}

/// Puts the facts together, batch by batch.
#[derive(Debug, Default)]
struct Fold {
    facts: KafkaFacts,
    /// As it was before the transaction that is open.
    before: Option<KafkaFacts>,
    /// The next offset that is not in the facts.
    next: i64,
}

impl Fold {
    fn batch(&mut self, batch: &Batch) -> Result<(), String> {
        let (base, next) = (batch.header().base_offset.get(), batch.header().next_offset().get());
        if base > self.next {
            return Err(format!("the records from offset {} to {base} are missing", self.next));
        }
        if next > self.next {
            self.facts_of(batch, self.next)?;
            self.next = next;
        }
        Ok(())
    }

    /// Takes the records from this offset on.
    fn facts_of(&mut self, batch: &Batch, from: i64) -> Result<(), String> {
        let header = batch.header();
        if header.attributes.is_control() {
            return Ok(());
        }
        if header.attributes.codec() != 0 {
            return Err(format!("the batch at offset {} is compressed", header.base_offset));
        }
        for record in Records::new(&batch.records_section(), header.records_count) {
            let record = record.map_err(|error| error.to_string())?;
            if header.base_offset.get().saturating_add(i64::from(record.offset_delta())) < from {
                continue;
            }
            let value = record.value().ok_or("a record has no value")?;
            self.fact(kraft::read(value)?);
        }
        Ok(())
    }

    fn fact(&mut self, fact: Fact) {
        match fact {
            Fact::Begin => self.before = Some(self.facts.clone()),
            Fact::End => self.before = None,
            Fact::Abort => self.roll_back(),
            fact => self.facts.take(fact),
        }
    }

    fn roll_back(&mut self) {
        if let Some(before) = self.before.take() {
            self.facts = before;
        }
    }

    fn finish(mut self) -> KafkaFacts {
        self.roll_back();
        self.facts
    }
}

/// The batches of a file, from its beginning.
#[derive(Debug)]
struct Batches {
    file: Arc<dyn DiskFile>,
    len: u64,
    position: u64,
}

impl Batches {
    fn open(disk: &dyn Disk, path: &Path) -> Result<Self, String> {
        let file = disk.open(path, Open::Read).map_err(|error| format!("{}: {error}", path.display()))?;
        let len = file.len().map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { file, len, position: 0 })
    }

    fn each(&mut self, mut take: impl FnMut(&Batch) -> Result<(), String>) -> Result<(), String> {
        while let Some(batch) = self.next()? {
            batch.check_crc().map_err(|error| error.to_string())?;
            take(&batch)?;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Batch>, String> {
        let left = self.len - self.position;
        if left == 0 {
            return Ok(None);
        }
        // What is not whole at the end may be what a power loss left of it, or damage: Kafka would find out which.
        let torn = || format!("the file ends within a batch, at {}", self.position);
        if left < HEADER_LEN as u64 {
            return Err(torn());
        }
        let header = BatchHeader::parse(&self.bytes(HEADER_LEN)?).map_err(|error| error.to_string())?;
        let len = header.total_len();
        if len as u64 > left {
            return Err(torn());
        }
        if len > MAX_BATCH {
            return Err(format!("a batch of {len} bytes"));
        }
        let mut bytes = self.bytes(len)?.into();
        self.position += len as u64;
        Batch::split_from(&mut bytes).map(Some).map_err(|error| error.to_string())
    }

    fn bytes(&self, len: usize) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; len];
        let read = self.file.read_at(self.position, &mut bytes).map_err(|error| error.to_string())?;
        if read < len { Err("the file became shorter".to_owned()) } else { Ok(bytes) }
    }
}
