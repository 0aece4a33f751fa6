//! All partitions of this node, and how they follow the cluster's metadata.
//!
//! Lookups take no lock: the tables are replaced as a whole when topics come and go.

use super::Options;
use super::beside::beside;
use super::facts::Start;
use super::handle::PartitionHandle;
use super::stage::{BatchStage, Generation};
use crate::config::kafka_keys::{BrokerKeys, TopicSettings};
use arc_swap::ArcSwap;
use millrace_metadata::{Image, Stage, Topic};
use millrace_model::{LeaderEpoch, NodeId, Offset, PartitionId, TopicId, TopicPartition};
use millrace_storage::data_dir::{Checkpoint, CheckpointWriter};
use millrace_storage::{Generations, Log, OpenContext, StorageError};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// Where a topic's produce stage comes from.
pub trait StageProvider: Send + Sync + fmt::Debug {
    /// The pipeline of a topic's attachments; none where nothing is attached. A pipeline that cannot run must refuse
    /// batches, not let them pass.
    fn produce_stage(&self, topic: &Topic) -> Option<Arc<dyn BatchStage>>;
}

/// The partitions of one topic that this node has.
#[derive(Debug)]
pub struct TopicPartitions {
    id: TopicId,
    name: Arc<str>,
    partitions: Vec<Option<PartitionHandle>>,
    // What the handles were last brought in line with.
    topic: Arc<Topic>,
}

impl TopicPartitions {
    /// The topic's id.
    pub fn id(&self) -> TopicId {
        self.id
    }

    /// The topic's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// One of its partitions.
    pub fn get(&self, partition: PartitionId) -> Option<&PartitionHandle> {
        self.partitions.get(usize::try_from(partition.get()).ok()?)?.as_ref()
    }

    /// Whether each that this node has to have is open.
    fn is_whole(&self, node: NodeId) -> bool {
        let assigned = self.topic.partitions.iter().map(|assigned| assigned.replicas.contains(&node));
        assigned.zip(&self.partitions).all(|(assigned, open)| open.is_some() || !assigned)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &PartitionHandle> {
        self.partitions.iter().flatten()
    }
}

#[derive(Debug, Default)]
struct Tables {
    by_id: BTreeMap<TopicId, Arc<TopicPartitions>>,
    by_name: BTreeMap<Arc<str>, TopicId>,
}

impl Tables {
    fn insert(&mut self, topic: Arc<TopicPartitions>) {
        self.by_name.insert(Arc::clone(&topic.name), topic.id);
        self.by_id.insert(topic.id, topic);
    }
}

impl FromIterator<Arc<TopicPartitions>> for Tables {
    fn from_iter<I: IntoIterator<Item = Arc<TopicPartitions>>>(topics: I) -> Self {
        let mut tables = Self::default();
        topics.into_iter().for_each(|topic| tables.insert(topic));
        tables
    }
}

/// All partitions of this node. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct Partitions(Arc<Registry>);

#[derive(Debug)]
struct Registry {
    node: NodeId,
    options: Arc<Options>,
    stages: Arc<dyn StageProvider>,
    /// The broker's keys with those that were set while it runs.
    keys: ArcSwap<BrokerKeys>,
    tables: ArcSwap<Tables>,
    /// The metadata index that the tables are in line with; whoever holds it changes the tables.
    turn: Mutex<()>,
    applied: watch::Sender<u64>,
}

impl Partitions {
    /// A registry with nothing in it.
    pub fn new(node: NodeId, options: Options, stages: Arc<dyn StageProvider>) -> Self {
        Self(Arc::new(Registry {
            node,
            keys: ArcSwap::from_pointee(options.keys.clone()),
            options: Arc::new(options),
            stages,
            tables: ArcSwap::default(),
            turn: Mutex::default(),
            applied: watch::Sender::new(0),
        }))
    }

    pub(super) fn options(&self) -> &Options {
        &self.0.options
    }

    /// A topic's partitions by its id.
    pub fn topic(&self, id: TopicId) -> Option<Arc<TopicPartitions>> {
        self.0.tables.load().by_id.get(&id).cloned()
    }

    /// A topic's partitions by its name.
    pub fn topic_named(&self, name: &str) -> Option<Arc<TopicPartitions>> {
        let tables = self.0.tables.load();
        tables.by_id.get(tables.by_name.get(name)?).cloned()
    }

    /// One partition.
    pub fn get(&self, id: TopicPartition) -> Option<PartitionHandle> {
        self.0.tables.load().by_id.get(&id.topic)?.get(id.partition).cloned()
    }

    /// Every partition of this node.
    pub fn all(&self) -> Vec<PartitionHandle> {
        self.0.tables.load().by_id.values().flat_map(|topic| topic.iter().cloned()).collect()
    }

    /// The data directory's path, and the bytes that its volume has and has free, where the system tells.
    pub fn volume(&self) -> (String, Option<(u64, u64)>) {
        let path = self.0.options.data_dir.path();
        let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        (shown.display().to_string(), self.0.options.disk.space(path).ok())
    }

    /// Returns once the partitions are in line with the metadata of at least this index.
    pub async fn in_line_with(&self, index: u64) {
        // The sender lives as long as the registry.
        let _ = self.0.applied.subscribe().wait_for(|applied| *applied >= index).await;
    }

    /// Brings the partitions in line with an image: opens, creates, reconfigures and removes. Logs are opened beside the
    /// I/O workers. A partition that cannot be opened is logged and stays away; the others go on.
    pub async fn follow(&self, image: &Arc<Image>) {
        let _turn = self.0.turn.lock().await;
        if image.index() < *self.0.applied.borrow() {
            return;
        }
        let before = self.0.tables.load_full();
        let keys = self.0.options.keys.with_dynamic(image.cluster_config(), image.broker_config(self.0.node));
        let same_keys = **self.0.keys.load() == keys;
        if !same_keys {
            self.0.keys.store(Arc::new(keys));
        }
        // Deleted topics first: a topic of the same name may have come since, and gets their directories' names.
        let gone: Vec<_> = before.by_id.values().filter(|entry| image.topic_by_id(entry.id).is_none()).collect();
        for partition in gone.iter().flat_map(|entry| entry.iter()) {
            self.0.remove(partition).await;
        }
        if !gone.is_empty() {
            let still = before.by_id.iter().filter(|(id, _)| image.topic_by_id(**id).is_some());
            self.0.tables.store(Arc::new(still.map(|(_, entry)| Arc::clone(entry)).collect()));
            self.forget_deleted().await;
        }
        let mut after = Tables::default();
        let mut changed = false;
        for topic in image.topics() {
            let entry = match before.by_id.get(&topic.id) {
                Some(entry) if same_keys && Arc::ptr_eq(&entry.topic, topic) && entry.is_whole(self.0.node) => {
                    Arc::clone(entry)
                }
                known => {
                    changed = true;
                    Arc::new(self.bring_in_line(known, topic).await)
                }
            };
            after.insert(entry);
        }
        if changed {
            self.0.tables.store(Arc::new(after));
        }
        self.0.applied.send_replace(image.index());
    }

    /// Whether each partition that this node has to have is open.
    pub fn are_whole(&self) -> bool {
        self.0.tables.load().by_id.values().all(|entry| entry.is_whole(self.0.node))
    }

    /// Closes every partition: no more appends, everything flushed. For a clean shutdown.
    ///
    /// # Errors
    /// The first that a log gave; the others are closed all the same.
    pub async fn close(&self) -> Result<(), StorageError> {
        let mut outcome = Ok(());
        for partition in self.all() {
            let inner = partition.inner();
            let Some(log) = inner.writer.lock().await.take_log() else { continue };
            match log.close() {
                Ok(end) => inner.set_flushed(end),
                Err(error) => {
                    tracing::error!(partition = %inner.name, %error, "the log did not close cleanly");
                    outcome = outcome.and(Err(error));
                }
            }
        }
        self.write_checkpoints(&self.0.options.data_dir.checkpoint_writer())?;
        outcome
    }

    /// Before a topic may come under the name of a deleted one, nothing is left of what was written down about that: after a
    /// kill the new one would be taken for it.
    async fn forget_deleted(&self) {
        let (partitions, writer) = (self.clone(), self.0.options.data_dir.checkpoint_writer());
        let written = beside(&*self.0.options.offload, move || partitions.write_checkpoints(&writer)).await;
        if let Some(Err(error)) = written {
            tracing::error!(%error, "deleted topics could not be taken out of the checkpoints");
        }
    }

    /// Writes the offsets that outlive the process.
    ///
    /// # Errors
    /// As the disk says.
    pub fn write_checkpoints(&self, writer: &CheckpointWriter) -> Result<(), StorageError> {
        writer.write(Checkpoint::RecoveryPoint, || self.each(|partition| Some(partition.inner().flushed())))?;
        self.write_starts(writer)?;
        writer.write(Checkpoint::HighWatermark, || self.each(|partition| Some(partition.high_watermark())))?;
        self.write_cleaned(writer)
    }

    /// Writes where the logs begin.
    pub(super) fn write_starts(&self, writer: &CheckpointWriter) -> Result<(), StorageError> {
        writer.write(Checkpoint::LogStart, || self.each(|partition| Some(partition.log_start())))
    }

    /// Writes how far the logs are clean, of which that is known.
    pub(super) fn write_cleaned(&self, writer: &CheckpointWriter) -> Result<(), StorageError> {
        writer.write(Checkpoint::Cleaned, || self.each(|partition| partition.inner().cleaning.clean()))
    }

    fn each(&self, of: impl Fn(&PartitionHandle) -> Option<Offset>) -> Vec<(Arc<str>, PartitionId, Offset)> {
        let line = |partition: PartitionHandle| {
            let offset = of(&partition)?;
            Some((Arc::clone(partition.topic()), partition.index(), offset))
        };
        self.all().into_iter().filter_map(line).collect()
    }

    async fn bring_in_line(&self, known: Option<&Arc<TopicPartitions>>, topic: &Arc<Topic>) -> TopicPartitions {
        let settings = Arc::new(self.0.settings(topic));
        let (stage, generation) = (self.0.stages.produce_stage(topic), generation(topic));
        let name: Arc<str> = Arc::from(topic.name.as_str());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let mut to_open = Vec::new();
        for (index, assigned) in topic.partitions.iter().enumerate() {
            let index = PartitionId::new(i32::try_from(index).unwrap_or(i32::MAX));
            if !assigned.replicas.contains(&self.0.node) {
                partitions.push(None);
                continue;
            }
            if let Some(handle) = known.and_then(|known| known.get(index)) {
                let stage = (stage.clone(), generation.clone());
                self.0.reconfigure(handle, assigned.leader_epoch, &settings, stage).await;
                partitions.push(Some(handle.clone()));
                continue;
            }
            to_open.push(partitions.len());
            partitions.push(None);
        }
        let starts = to_open.iter().map(|place| {
            let index = PartitionId::new(i32::try_from(*place).unwrap_or(i32::MAX));
            let leader_epoch = topic.partitions.get(*place).map_or(LeaderEpoch::new(0), |p| p.leader_epoch);
            Start {
                id: TopicPartition { topic: topic.id, partition: index },
                topic: Arc::clone(&name),
                leader_epoch,
                settings: Arc::clone(&settings),
                stage: stage.clone(),
                generation: generation.clone(),
            }
        });
        let handles = open_all(&self.0.options, starts.collect()).await;
        for (place, handle) in to_open.into_iter().zip(handles) {
            if let Some(slot) = partitions.get_mut(place) {
                *slot = handle;
            }
        }
        TopicPartitions { id: topic.id, name, partitions, topic: Arc::clone(topic) }
    }
}

impl Registry {
    /// The topic's settings. Configs that the table has come to refuse since they were accepted count as not set: a
    /// topic is never out of reach for its configuration.
    fn settings(&self, topic: &Topic) -> TopicSettings {
        let resolved = TopicSettings::resolve(&topic.config, &self.keys.load());
        resolved.unwrap_or_else(|error| {
            tracing::error!(topic = %topic.name, %error, "the topic's configs are not valid; it runs on the broker's");
            self.options.defaults.clone()
        })
    }

    async fn reconfigure(
        &self,
        handle: &PartitionHandle,
        epoch: LeaderEpoch,
        settings: &Arc<TopicSettings>,
        (stage, generation): (Option<Arc<dyn BatchStage>>, Generation),
    ) {
        let inner = handle.inner();
        // The turn of the writer is the border between two batches: none sees half of the change.
        let mut writer = inner.writer.lock().await;
        if let Ok(log) = writer.log() {
            log.set_config(settings.log_config());
        }
        writer.set_stage(stage, generation);
        inner.settings.store(Arc::clone(settings));
        inner.set_leader_epoch(epoch);
        inner.wake();
    }

    async fn remove(&self, handle: &PartitionHandle) {
        let inner = handle.inner();
        let Some(log) = inner.writer.lock().await.take_log() else { return };
        inner.wake();
        // Who writes files by their names must not find those of a topic that comes after.
        inner.cleaning.stop().await;
        inner.flusher.wait().await;
        match log.delete() {
            Ok(deleted) => {
                let delay = inner.settings.load().file_delete_delay;
                let offload = Arc::clone(&self.options.offload);
                let name = inner.name.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    offload.run(Box::new(move || {
                        if let Err(error) = deleted.remove() {
                            tracing::warn!(partition = %name, %error, "a deleted partition stays on the disk");
                        }
                    }));
                });
            }
            Err(error) => tracing::error!(partition = %inner.name, %error, "a deleted partition stays on the disk"),
        }
    }
}

/// What tells the topic's produce stage from the one before.
fn generation(topic: &Topic) -> Generation {
    let attached = topic.attachments.iter().filter(|attachment| attachment.stage == Stage::Produce);
    let plugins: Vec<_> = attached.map(|one| format!("{}:{}", one.plugin, one.plugin.hash)).collect();
    Generation { number: topic.generation, plugins: plugins.join(" ").into() }
}

/// Opens logs beside the I/O workers, in as many jobs as there are cores to do them.
async fn open_all(options: &Arc<Options>, starts: Vec<Start>) -> Vec<Option<PartitionHandle>> {
    const JOBS: usize = 2;
    let per_job = starts.len().div_ceil(JOBS).max(1);
    let mut starts = starts.into_iter();
    let mut jobs = Vec::new();
    loop {
        let part: Vec<_> = starts.by_ref().take(per_job).collect();
        if part.is_empty() {
            break;
        }
        let to_open = Arc::clone(options);
        let job = move || part.into_iter().map(|start| open(&to_open, start)).collect::<Vec<_>>();
        jobs.push(beside(&*options.offload, job));
    }
    let mut handles = Vec::new();
    for job in jobs {
        handles.extend(job.await.unwrap_or_default());
    }
    handles
}

fn open(options: &Arc<Options>, start: Start) -> Option<PartitionHandle> {
    let opened = options.data_dir.create_partition(&start.topic, start.id.partition, start.id.topic).and_then(
        |(dir, context)| {
            // What an earlier topic of this name left in the checkpoints does not count.
            let context = match context.fresh {
                true => OpenContext { recovery_point: None, log_start: None, ..context },
                false => context,
            };
            let clean = match context.fresh {
                true => None,
                false => options.data_dir.cleaned(&start.topic, start.id.partition),
            };
            let (disk, clock) = (Arc::clone(&options.disk), Arc::clone(&options.clock));
            let log = Log::open(disk, clock, dir.clone(), start.settings.log_config(), context)?;
            let generations = Generations::open(Arc::clone(&options.disk), &dir, log.end_offset())?;
            Ok((log, generations, clean))
        },
    );
    match opened {
        Ok((log, generations, clean)) => {
            let handle = PartitionHandle::new(Arc::clone(options), start, log, generations);
            if let Some(clean) = clean {
                handle.inner().cleaning.set_clean(clean);
            }
            Some(handle)
        }
        Err(error) => {
            tracing::error!(topic = %start.topic, partition = %start.id.partition, %error, "a partition cannot be opened");
            None
        }
    }
}
