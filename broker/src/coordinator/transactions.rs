//! The transaction coordinator of a node: finds the shard of a transactional id and asks it.
//!
//! A transactional id belongs to a partition of `__transaction_state` by its hash; the leader of that partition
//! coordinates it. The topic is created when somebody first looks for a coordinator. Shards are opened at start for
//! partitions that hold something, and otherwise when they are first asked.

use super::group::transactions::EndOfTransaction;
use super::groups::{GroupCoordinator, partition_of};
use super::markers::{MarkerError, MarkerWriter};
use super::producer_ids::ProducerIdBlocks;
use super::runtime::partition_log::PartitionLog;
use super::runtime::shard::{Shard, ShardContext};
use super::txn::machine::{Reply, Request, TxnMachine};
use super::txn::{
    AddPartitions, EndTxn, Identity, InitProducer, ListTxns, ProducerIdentity, TxnDescription, TxnError, TxnOptions,
    TxnPartition, WriteMarkers,
};
use crate::cluster::{ClusterHandle, ProposeError};
use crate::partition::{PartitionHandle, Partitions};
use arc_swap::ArcSwap;
use millrace_metadata::{ApplyError, Command, Image, NewTopic, Placement, Response, TRANSACTION_STATE, Topic};
use millrace_model::control::Marker;
use millrace_model::{Clock, NodeId, Offload, PartitionId, ProducerId, Random, TopicId, TopicPartition};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

/// What the coordinator of a node is made of.
#[derive(Clone, Debug)]
pub struct TxnContext {
    /// Its settings.
    pub options: TxnOptions,
    /// This node.
    pub node: NodeId,
    /// The cluster's facts.
    pub cluster: ClusterHandle,
    /// This node's partitions.
    pub partitions: Partitions,
    /// The groups of this node, whose offsets may be part of a transaction.
    pub groups: GroupCoordinator,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub random: Arc<dyn Random>,
    /// Where logs are read when they are replayed.
    pub offload: Arc<dyn Offload>,
}

/// What became of one marker of a WriteTxnMarkers request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerOutcome {
    /// It is written.
    Written,
    /// There is no such partition, or another node leads it.
    NotHere,
    /// A newer epoch of the producer has written there.
    ProducerFenced,
    /// A newer coordinator has written there.
    CoordinatorFenced,
    /// Not now.
    NotAvailable,
}

/// The transaction coordinator. Clones are the same one.
#[derive(Clone, Debug)]
pub struct TxnCoordinator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    context: TxnContext,
    writer: MarkerWriter,
    producer_ids: ProducerIdBlocks,
    shards: ArcSwap<BTreeMap<TopicPartition, Shard<TxnMachine>>>,
    /// The tasks; whoever holds it changes `shards`.
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Only one asks for the topic to be created.
    creating: tokio::sync::Mutex<()>,
    work: mpsc::UnboundedSender<WriteMarkers>,
    stop: watch::Sender<bool>,
}

impl TxnCoordinator {
    /// Starts the coordinator. Must be called within tokio.
    pub fn start(context: TxnContext) -> Self {
        let images = context.cluster.watch();
        let writer = MarkerWriter {
            cluster: context.cluster.clone(),
            partitions: context.partitions.clone(),
            groups: context.groups.clone(),
            clock: Arc::clone(&context.clock),
        };
        let (work, to_do) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            context,
            writer,
            producer_ids: ProducerIdBlocks::default(),
            shards: ArcSwap::default(),
            tasks: Mutex::default(),
            creating: tokio::sync::Mutex::default(),
            work,
            stop: watch::Sender::new(false),
        });
        let opener = tokio::spawn(Arc::clone(&inner).follow(images));
        let marker = tokio::spawn(Arc::clone(&inner).write_markers(to_do));
        inner.tasks().extend([opener, marker]);
        Self(inner)
    }

    /// Stops the shards; who waits is told that the coordinator is gone. Markers that are not written yet are written by
    /// whoever replays the log.
    pub async fn shutdown(&self) {
        self.0.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.0.tasks());
        for task in tasks {
            let _ = task.await;
        }
    }

    /// A producer id that nobody was given before.
    ///
    /// # Errors
    /// Why the cluster gave none.
    pub async fn fresh_producer_id(&self) -> Result<ProducerId, ProposeError> {
        self.0.producer_ids.next(&self.0.context.cluster).await
    }

    /// The broker that coordinates a transactional id. Creates the topic where it is missing.
    ///
    /// # Errors
    /// [`TxnError::NotAvailable`] as long as the topic cannot be created or its partition has no leader.
    pub async fn coordinator_of(&self, id: &str) -> Result<NodeId, TxnError> {
        let topic = self.0.topic_or_create().await?;
        let leader = topic.partition(partition_of(id, topic.partitions.len())).map(|partition| partition.leader);
        leader.filter(|leader| leader.get() >= 0).ok_or(TxnError::NotAvailable)
    }

    /// Gives a transactional id its producer id and epoch.
    ///
    /// # Errors
    /// Why not.
    pub async fn init(&self, mut ask: InitProducer) -> Result<ProducerIdentity, TxnError> {
        loop {
            match self.0.ask(&ask.id.clone(), Request::Init(ask.clone())).await {
                Reply::Init(Ok(Identity::Is(producer))) => return Ok(producer),
                Reply::Init(Ok(Identity::NeedsFreshId)) if ask.fresh.is_none() => {
                    ask.fresh = Some(self.fresh().await?);
                }
                Reply::Init(Err(error)) => return Err(error),
                _ => return Err(TxnError::Unknown),
            }
        }
    }

    /// Makes partitions part of a transaction; answers when that is stored.
    ///
    /// # Errors
    /// Why none of them is.
    pub async fn add(&self, ask: AddPartitions) -> Result<(), TxnError> {
        match self.0.ask(&ask.id.clone(), Request::Add(ask)).await {
            Reply::Add(outcome) => outcome,
            _ => Err(TxnError::Unknown),
        }
    }

    /// Says which of the partitions are part of the transaction.
    ///
    /// # Errors
    /// Why none of them can be.
    pub async fn verify(&self, ask: AddPartitions) -> Result<Vec<(TxnPartition, Option<TxnError>)>, TxnError> {
        match self.0.ask(&ask.id.clone(), Request::Verify(ask)).await {
            Reply::Verify(outcome) => outcome,
            _ => Err(TxnError::Unknown),
        }
    }

    /// Ends a transaction; answers when its end is decided. Returns who the producer is from then on.
    ///
    /// # Errors
    /// Why not.
    pub async fn end(&self, mut ask: EndTxn) -> Result<ProducerIdentity, TxnError> {
        loop {
            match self.0.ask(&ask.id.clone(), Request::End(ask.clone())).await {
                Reply::End(Ok(Identity::Is(producer))) => return Ok(producer),
                Reply::End(Ok(Identity::NeedsFreshId)) if ask.fresh.is_none() => {
                    ask.fresh = Some(self.fresh().await?);
                }
                Reply::End(Err(error)) => return Err(error),
                _ => return Err(TxnError::Unknown),
            }
        }
    }

    /// Describes a transactional id.
    ///
    /// # Errors
    /// Why not.
    pub async fn describe(&self, id: Arc<str>) -> Result<TxnDescription, TxnError> {
        match self.0.ask(&id, Request::Describe(Arc::clone(&id))).await {
            Reply::Describe(outcome) => outcome,
            _ => Err(TxnError::Unknown),
        }
    }

    /// The transactional ids of this node.
    ///
    /// # Errors
    /// [`TxnError::Loading`] while those of a partition are not known yet.
    pub async fn list(&self, ask: &ListTxns) -> Result<Vec<TxnDescription>, TxnError> {
        let mut txns = Vec::new();
        for shard in self.0.shards.load_full().values().filter(|shard| !shard.is_over()) {
            match shard.ask(Request::List(ask.clone())).await {
                Reply::List(Ok(listed)) => txns.extend(listed),
                // Another broker lists them.
                Reply::List(Err(TxnError::NotCoordinator)) => {}
                Reply::List(Err(error)) => return Err(error),
                _ => return Err(TxnError::Unknown),
            }
        }
        Ok(txns)
    }

    /// Writes a marker that another node, or an operator, asks for.
    pub async fn write_marker(&self, topic: &str, index: PartitionId, marker: Marker, strict: bool) -> MarkerOutcome {
        match self.0.writer.write(topic, index, EndOfTransaction { marker, strict }).await {
            Ok(()) => MarkerOutcome::Written,
            Err(MarkerError::Unknown | MarkerError::NotHere) => MarkerOutcome::NotHere,
            Err(MarkerError::ProducerFenced) => MarkerOutcome::ProducerFenced,
            Err(MarkerError::CoordinatorFenced) => MarkerOutcome::CoordinatorFenced,
            Err(MarkerError::Later) => MarkerOutcome::NotAvailable,
        }
    }

    async fn fresh(&self) -> Result<ProducerId, TxnError> {
        self.fresh_producer_id().await.map_err(|error| {
            tracing::warn!(%error, "no block of producer ids");
            TxnError::Loading
        })
    }
}

impl Inner {
    fn tasks(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, id: &str, request: Request) -> Reply {
        match self.shard(id).await {
            Ok(shard) => shard.ask(request).await,
            Err(error) => refuse(&request, error),
        }
    }

    async fn shard(&self, id: &str) -> Result<Shard<TxnMachine>, TxnError> {
        if *self.stop.borrow() {
            return Err(TxnError::NotAvailable);
        }
        let image = self.context.cluster.image();
        let topic = image.topic(TRANSACTION_STATE).ok_or(TxnError::NotCoordinator)?;
        let partition = partition_of(id, topic.partitions.len());
        if topic.partition(partition).map(|partition| partition.leader) != Some(self.context.node) {
            return Err(TxnError::NotCoordinator);
        }
        let at = topic.at(partition);
        if let Some(shard) = self.shards.load().get(&at).filter(|shard| !shard.is_over()) {
            return Ok(shard.clone());
        }
        if self.context.partitions.get(at).is_none() {
            // The image is ahead of the partitions by a moment.
            self.context.partitions.in_line_with(image.index()).await;
        }
        self.context.partitions.get(at).map(|partition| self.open(partition)).ok_or(TxnError::NotCoordinator)
    }

    fn open(&self, partition: PartitionHandle) -> Shard<TxnMachine> {
        let mut tasks = self.tasks();
        let shards = self.shards.load_full();
        if let Some(shard) = shards.get(&partition.id()).filter(|shard| !shard.is_over()) {
            return shard.clone();
        }
        let (shard, task) = Shard::new(ShardContext {
            name: format!("{TRANSACTION_STATE}-{}", partition.index()).into(),
            log: Arc::new(PartitionLog::new(partition.clone(), Arc::clone(&self.context.offload))),
            options: self.context.options.clone(),
            append_timeout: Duration::from_millis(self.context.options.append_timeout_ms),
            work: Some(self.work.clone()),
            clock: Arc::clone(&self.context.clock),
            stop: self.stop.subscribe(),
        });
        tasks.retain(|task| !task.is_finished());
        tasks.push(tokio::spawn(task));
        let mut shards = BTreeMap::clone(&shards);
        shards.insert(partition.id(), shard.clone());
        self.shards.store(Arc::new(shards));
        shard
    }

    /// Writes the markers of transactions that are prepared, each transaction beside the others, and reports them done.
    async fn write_markers(self: Arc<Self>, mut to_do: mpsc::UnboundedReceiver<WriteMarkers>) {
        let mut stop = self.stop.subscribe();
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                // What is not written yet is written after the next start.
                _ = stop.wait_for(|stop| *stop) => return,
                work = to_do.recv() => match work {
                    Some(work) => drop(running.spawn(Arc::clone(&self).end_transaction(work))),
                    None => return,
                },
                _ = running.join_next(), if !running.is_empty() => {}
            }
        }
    }

    async fn end_transaction(self: Arc<Self>, work: WriteMarkers) {
        self.writer.write_all(&work).await;
        let (id, producer) = (Arc::clone(&work.id), work.producer);
        let request = Request::MarkersWritten { id: Arc::clone(&id), producer };
        if let Reply::MarkersWritten(Err(error)) = self.ask(&id, request).await {
            // Who replays the log writes the markers again.
            tracing::debug!(transactional_id = %id, %error, "the end of a transaction was not stored");
        }
    }

    async fn topic_or_create(&self) -> Result<Arc<Topic>, TxnError> {
        if let Some(topic) = self.context.cluster.image().topic(TRANSACTION_STATE) {
            return Ok(Arc::clone(topic));
        }
        let _turn = self.creating.lock().await;
        if self.context.cluster.image().topic(TRANSACTION_STATE).is_none() {
            self.create().await?;
        }
        let image = self.context.cluster.image();
        self.context.partitions.in_line_with(image.index()).await;
        image.topic(TRANSACTION_STATE).cloned().ok_or(TxnError::NotAvailable)
    }

    async fn create(&self) -> Result<(), TxnError> {
        let TxnContext { options, cluster, random, .. } = &self.context;
        let brokers = i16::try_from(cluster.image().brokers().len()).unwrap_or(i16::MAX);
        let set = |key: &str, value: String| (key.to_owned(), value);
        let config = [
            set("cleanup.policy", "compact".to_owned()),
            set("compression.type", "uncompressed".to_owned()),
            set("segment.bytes", options.log_segment_bytes.to_string()),
        ];
        let topic = NewTopic {
            id: TopicId::new(random.uuid()),
            name: TRANSACTION_STATE.to_owned(),
            placement: Placement::Spread {
                partitions: options.log_partitions,
                // Kafka refuses to create the topic on fewer brokers; a single node is to work as it is.
                factor: options.log_replication_factor.min(brokers).max(1),
                seed: random.u64(),
            },
            config: config.into(),
            attachments: Vec::new(),
        };
        match cluster.propose(Command::CreateTopics { topics: vec![topic] }).await {
            Ok(Response::Created(created)) => match created.into_iter().next() {
                None | Some(Ok(_) | Err(ApplyError::TopicExists { .. })) => Ok(()),
                Some(Err(error)) => {
                    tracing::error!(topic = TRANSACTION_STATE, %error, "the topic of the transactions could not be created");
                    Err(TxnError::NotAvailable)
                }
            },
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(topic = TRANSACTION_STATE, %error, "the topic of the transactions could not be created");
                Err(TxnError::NotAvailable)
            }
        }
    }

    /// Opens what holds transactions.
    async fn follow(self: Arc<Self>, mut images: watch::Receiver<Arc<Image>>) {
        let mut stop = self.stop.subscribe();
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.open_filled(&image) => {}
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                changed = images.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }

    async fn open_filled(&self, image: &Arc<Image>) {
        let Some(topic) = image.topic(TRANSACTION_STATE) else { return };
        self.context.partitions.in_line_with(image.index()).await;
        for (index, partition) in topic.numbered() {
            if partition.leader == self.context.node
                && let Some(handle) = self.context.partitions.get(topic.at(index))
                && handle.log_start() < handle.high_watermark()
            {
                self.open(handle);
            }
        }
    }
}

fn refuse(request: &Request, error: TxnError) -> Reply {
    match request {
        Request::Init(_) => Reply::Init(Err(error)),
        Request::Add(_) => Reply::Add(Err(error)),
        Request::Verify(_) => Reply::Verify(Err(error)),
        Request::End(_) => Reply::End(Err(error)),
        Request::MarkersWritten { .. } => Reply::MarkersWritten(Err(error)),
        Request::Describe(_) => Reply::Describe(Err(error)),
        Request::List(_) => Reply::List(Err(error)),
    }
}
