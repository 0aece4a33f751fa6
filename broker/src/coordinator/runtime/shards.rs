//! The shards of one coordinator on this node, and the topic that keeps their state.
//!
//! What has an id belongs to a partition of the topic by the id's hash; the leader of that partition coordinates it. The
//! topic is created when somebody first looks for a coordinator. Shards are opened at start for partitions that hold
//! something, and otherwise when they are first asked.

use super::machine::{Machine, Refusal};
use super::partition_log::PartitionLog;
use super::shard::{Shard, ShardContext};
use crate::cluster::ClusterHandle;
use crate::partition::{PartitionHandle, Partitions};
use arc_swap::ArcSwap;
use millrace_metadata::{ApplyError, Command, Image, NewTopic, Placement, Response, Topic};
use millrace_model::{Clock, NodeId, Offload, PartitionId, Random, TopicId, TopicPartition};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The node that shards run on.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// This node.
    pub node: NodeId,
    /// The cluster's facts.
    pub cluster: ClusterHandle,
    /// This node's partitions.
    pub partitions: Partitions,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Where the topic's id comes from.
    pub random: Arc<dyn Random>,
    /// Where logs are read when they are replayed.
    pub offload: Arc<dyn Offload>,
}

/// The topic that keeps the state, as it is created where it is missing.
#[derive(Clone, Debug)]
pub struct StateTopic {
    /// Its name.
    pub name: &'static str,
    /// Its partitions.
    pub partitions: i32,
    /// Replicas of each, where there are as many brokers.
    pub replication_factor: i16,
    /// `compression.type`.
    pub compression: &'static str,
    /// `segment.bytes`.
    pub segment_bytes: i32,
}

/// What each shard is given.
#[derive(Debug)]
pub struct Setup<M: Machine> {
    /// What the machine is set up with.
    pub options: M::Options,
    /// How long an append may take.
    pub append_timeout: Duration,
    /// Where work goes that is to be done outside.
    pub work: Option<mpsc::UnboundedSender<M::Work>>,
}

/// The shards.
#[derive(Debug)]
pub struct Shards<M: Machine> {
    around: Surroundings,
    topic: StateTopic,
    setup: Setup<M>,
    open: ArcSwap<BTreeMap<TopicPartition, Shard<M>>>,
    /// The tasks; whoever holds it changes `open`.
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Only one asks for the topic to be created.
    creating: tokio::sync::Mutex<()>,
    stop: watch::Sender<bool>,
}

impl<M: Machine> Shards<M> {
    /// None is open yet.
    pub fn new(around: Surroundings, topic: StateTopic, setup: Setup<M>) -> Self {
        let stop = watch::Sender::new(false);
        Self {
            around,
            topic,
            setup,
            open: ArcSwap::default(),
            tasks: Mutex::default(),
            creating: tokio::sync::Mutex::default(),
            stop,
        }
    }

    /// The node around them.
    pub const fn around(&self) -> &Surroundings {
        &self.around
    }

    /// Turns true when the coordinator stops.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Runs a task of the coordinator's, which must end when it stops.
    pub fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks().push(tokio::spawn(task));
    }

    /// Stops the shards; who waits is told that the coordinator is gone.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks());
        for task in tasks {
            let _ = task.await;
        }
    }

    /// The broker that coordinates what has this id. Creates the topic where it is missing.
    ///
    /// # Errors
    /// [`Refusal::NotAvailable`] as long as the topic cannot be created or its partition has no leader.
    pub async fn leader_of(&self, id: &str) -> Result<NodeId, Refusal> {
        let topic = self.topic_or_create().await?;
        let leader = topic.partition(partition_of(id, topic.partitions.len())).map(|partition| partition.leader);
        leader.filter(|leader| leader.get() >= 0).ok_or(Refusal::NotAvailable)
    }

    /// Asks the shard that coordinates what has this id.
    pub async fn ask(&self, id: &str, request: M::Request, may_create: bool) -> M::Reply {
        match self.of(id, may_create).await {
            Ok((shard, _)) => shard.ask(request).await,
            Err(why) => M::refused(&request, why),
        }
    }

    /// The shard that coordinates what has this id, and its partition.
    ///
    /// # Errors
    /// Why this node does not coordinate it.
    pub async fn of(&self, id: &str, may_create: bool) -> Result<(Shard<M>, TopicPartition), Refusal> {
        if *self.stop.borrow() {
            return Err(Refusal::NotAvailable);
        }
        let image = self.around.cluster.image();
        let topic = match image.topic(self.topic.name) {
            Some(topic) => Arc::clone(topic),
            None if may_create => self.topic_or_create().await?,
            None => return Err(Refusal::NotCoordinator),
        };
        let partition = partition_of(id, topic.partitions.len());
        if topic.partition(partition).map(|partition| partition.leader) != Some(self.around.node) {
            return Err(Refusal::NotCoordinator);
        }
        let at = topic.at(partition);
        if let Some(shard) = self.open.load().get(&at).filter(|shard| !shard.is_over()) {
            return Ok((shard.clone(), at));
        }
        if self.around.partitions.get(at).is_none() {
            // The image is ahead of the partitions by a moment.
            self.around.partitions.in_line_with(image.index()).await;
        }
        let partition = self.around.partitions.get(at).ok_or(Refusal::NotCoordinator)?;
        Ok((self.open(&partition), at))
    }

    /// The shards that run.
    pub fn running(&self) -> Vec<Shard<M>> {
        self.open.load().values().filter(|shard| !shard.is_over()).cloned().collect()
    }

    /// The shard of a partition, opened where it is not.
    pub fn open(&self, partition: &PartitionHandle) -> Shard<M> {
        let mut tasks = self.tasks();
        let open = self.open.load_full();
        if let Some(shard) = open.get(&partition.id()).filter(|shard| !shard.is_over()) {
            return shard.clone();
        }
        let (shard, task) = Shard::new(ShardContext {
            name: format!("{}-{}", self.topic.name, partition.index()).into(),
            log: Arc::new(PartitionLog::new(partition.clone(), Arc::clone(&self.around.offload))),
            options: self.setup.options.clone(),
            append_timeout: self.setup.append_timeout,
            work: self.setup.work.clone(),
            clock: Arc::clone(&self.around.clock),
            stop: self.stop.subscribe(),
        });
        tasks.retain(|task| !task.is_finished());
        tasks.push(tokio::spawn(task));
        let mut open = BTreeMap::clone(&open);
        open.insert(partition.id(), shard.clone());
        self.open.store(Arc::new(open));
        shard
    }

    /// Opens the shards that hold something in this image and waits for the next image; `None` once the coordinator stops.
    pub async fn follow(&self, image: &Arc<Image>, images: &mut watch::Receiver<Arc<Image>>) -> Option<Arc<Image>> {
        let mut stop = self.stop.subscribe();
        let next = async {
            self.open_filled(image).await;
            images.changed().await.ok().map(|()| Arc::clone(&images.borrow_and_update()))
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            next = next => next,
        }
    }

    async fn open_filled(&self, image: &Arc<Image>) {
        let Some(topic) = image.topic(self.topic.name) else { return };
        self.around.partitions.in_line_with(image.index()).await;
        for (index, partition) in topic.numbered() {
            if partition.leader == self.around.node
                && let Some(handle) = self.around.partitions.get(topic.at(index))
                && handle.log_start() < handle.high_watermark()
            {
                self.open(&handle);
            }
        }
    }

    async fn topic_or_create(&self) -> Result<Arc<Topic>, Refusal> {
        if let Some(topic) = self.around.cluster.image().topic(self.topic.name) {
            return Ok(Arc::clone(topic));
        }
        let _turn = self.creating.lock().await;
        if self.around.cluster.image().topic(self.topic.name).is_none() {
            self.create().await?;
        }
        let image = self.around.cluster.image();
        self.around.partitions.in_line_with(image.index()).await;
        image.topic(self.topic.name).cloned().ok_or(Refusal::NotAvailable)
    }

    async fn create(&self) -> Result<(), Refusal> {
        let (StateTopic { name, partitions, replication_factor, compression, segment_bytes }, around) =
            (&self.topic, &self.around);
        let brokers = i16::try_from(around.cluster.image().brokers().len()).unwrap_or(i16::MAX);
        let set = |key: &str, value: String| (key.to_owned(), value);
        let config = [
            set("cleanup.policy", "compact".to_owned()),
            set("compression.type", (*compression).to_owned()),
            set("segment.bytes", segment_bytes.to_string()),
        ];
        let topic = NewTopic {
            id: TopicId::new(around.random.uuid()),
            name: (*name).to_owned(),
            placement: Placement::Spread {
                partitions: *partitions,
                // Kafka refuses to create the topic on fewer brokers; a single node is to work as it is.
                factor: (*replication_factor).min(brokers).max(1),
                seed: around.random.u64(),
            },
            config: config.into(),
            attachments: Vec::new(),
        };
        match around.cluster.propose(Command::CreateTopics { topics: vec![topic] }).await {
            Ok(Response::Created(created)) => match created.into_iter().next() {
                None | Some(Ok(_) | Err(ApplyError::TopicExists { .. })) => Ok(()),
                Some(Err(error)) => {
                    tracing::error!(topic = name, %error, "a coordinator's topic could not be created");
                    Err(Refusal::NotAvailable)
                }
            },
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(topic = name, %error, "a coordinator's topic could not be created");
                Err(Refusal::NotAvailable)
            }
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The partition of `partitions` that an id belongs to, as Kafka's clients and tools compute it too.
pub fn partition_of(id: &str, partitions: usize) -> PartitionId {
    let hash = id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    // Kafka's `abs` has no other answer for the one number that has no opposite.
    let positive = hash.checked_abs().unwrap_or(0);
    PartitionId::new(positive.checked_rem(i32::try_from(partitions).unwrap_or(i32::MAX)).unwrap_or(0))
}
