//! The group coordinator of a node: finds the shard of a group and asks it.
//!
//! A group belongs to a partition of `__consumer_offsets` by the hash of its id; the leader of that partition
//! coordinates it. The topic is created when somebody first looks for a coordinator. Shards are opened at start for
//! partitions that hold something, and otherwise when they are first asked.

use super::group::hosted::GroupSetup;
use super::group::machine::{GroupMachine, Images, Reply, Request};
use super::group::transactions::{EndOfTransaction, TxnOffsetCommit};
use super::group::{
    Beat, ConsumerGroupDescription, ConsumerHeartbeat, FetchedTopic, GroupDescription, GroupError, GroupOptions,
    GroupOverview, Heartbeat, JoinGroup, JoinRefused, Joined, LeaveGroup, Left, OffsetCommit, OffsetDelete,
    OffsetFetch, Refusal, SyncGroup, Synced, TopicOutcome,
};
use super::runtime::partition_log::PartitionLog;
use super::runtime::shard::{Shard, ShardContext};
use crate::cluster::ClusterHandle;
use crate::partition::{PartitionHandle, Partitions};
use arc_swap::ArcSwap;
use millrace_metadata::{ApplyError, CONSUMER_OFFSETS, Command, Image, NewTopic, Placement, Response, Topic};
use millrace_model::{Clock, NodeId, Offload, PartitionId, Random, TopicId, TopicPartition};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// What the coordinator of a node is made of.
#[derive(Clone, Debug)]
pub struct GroupContext {
    /// The groups' settings.
    pub options: GroupOptions,
    /// This node.
    pub node: NodeId,
    /// The cluster's facts.
    pub cluster: ClusterHandle,
    /// This node's partitions.
    pub partitions: Partitions,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Where the ids of members come from.
    pub random: Arc<dyn Random>,
    /// Where logs are read when they are replayed.
    pub offload: Arc<dyn Offload>,
}

/// The group coordinator. Clones are the same one.
#[derive(Clone, Debug)]
pub struct GroupCoordinator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    context: GroupContext,
    shards: ArcSwap<BTreeMap<TopicPartition, Shard<GroupMachine>>>,
    /// The tasks; whoever holds it changes `shards`.
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Only one asks for the topic to be created.
    creating: tokio::sync::Mutex<()>,
    stop: watch::Sender<bool>,
}

impl GroupCoordinator {
    /// Starts the coordinator. Must be called within tokio.
    pub fn start(context: GroupContext) -> Self {
        let images = context.cluster.watch();
        let inner = Arc::new(Inner {
            context,
            shards: ArcSwap::default(),
            tasks: Mutex::default(),
            creating: tokio::sync::Mutex::default(),
            stop: watch::Sender::new(false),
        });
        let follower = tokio::spawn(Arc::clone(&inner).follow(images));
        inner.tasks().push(follower);
        Self(inner)
    }

    /// Stops the shards; who waits is told that the coordinator is gone.
    pub async fn shutdown(&self) {
        self.0.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.0.tasks());
        for task in tasks {
            let _ = task.await;
        }
    }

    /// A number for the id of a new member.
    pub fn fresh(&self) -> Uuid {
        self.0.context.random.uuid()
    }

    /// The broker that coordinates a group. Creates the offsets topic where it is missing.
    ///
    /// # Errors
    /// [`GroupError::NotAvailable`] as long as the topic cannot be created or its partition has no leader.
    pub async fn coordinator_of(&self, group: &str) -> Result<NodeId, GroupError> {
        let topic = self.0.topic_or_create().await?;
        let leader = topic.partition(partition_of(group, topic.partitions.len())).map(|partition| partition.leader);
        leader.filter(|leader| leader.get() >= 0).ok_or(GroupError::NotAvailable)
    }

    /// Joins a group; answers when the next generation begins.
    ///
    /// # Errors
    /// Why not, and the member id to answer with.
    pub async fn join(&self, join: JoinGroup) -> Result<Joined, JoinRefused> {
        match self.0.ask(&join.group.clone(), Request::Join(Box::new(join)), true).await {
            Reply::Join(outcome) => outcome,
            _ => Err(JoinRefused { error: GroupError::NotAvailable, member_id: String::new() }),
        }
    }

    /// Gives the leader's assignment, or takes one's own; answers when the leader has given it.
    ///
    /// # Errors
    /// Why not.
    pub async fn sync(&self, sync: SyncGroup) -> Result<Synced, GroupError> {
        match self.0.ask(&sync.group.clone(), Request::Sync(sync), true).await {
            Reply::Sync(outcome) => outcome,
            _ => Err(GroupError::NotAvailable),
        }
    }

    /// A member is alive.
    ///
    /// # Errors
    /// What it has to do instead of going on.
    pub async fn heartbeat(&self, beat: Heartbeat) -> Result<(), GroupError> {
        match self.0.ask(&beat.group.clone(), Request::Heartbeat(beat), true).await {
            Reply::Heartbeat(outcome) => outcome,
            _ => Err(GroupError::NotAvailable),
        }
    }

    /// A member of a consumer group joins, stays or leaves.
    ///
    /// # Errors
    /// Why not, in words where there are any.
    pub async fn consumer_heartbeat(&self, beat: ConsumerHeartbeat) -> Result<Beat, Refusal> {
        let group = Arc::clone(&beat.group);
        match self.0.ask(&group, Request::ConsumerHeartbeat(Box::new(beat)), true).await {
            Reply::ConsumerHeartbeat(outcome) => outcome,
            _ => Err(GroupError::NotAvailable.into()),
        }
    }

    /// Describes consumer groups, in the order asked.
    pub async fn describe_consumer(&self, groups: Vec<Arc<str>>) -> Vec<ConsumerGroupDescription> {
        let each = groups.into_iter().map(|group| async move {
            match self.0.ask(&group.clone(), Request::DescribeConsumer(vec![group]), false).await {
                Reply::DescribeConsumer(described) => described,
                _ => Vec::new(),
            }
        });
        futures::future::join_all(each).await.concat()
    }

    /// Members leave.
    ///
    /// # Errors
    /// Why none of them could; what became of each is in the answer.
    pub async fn leave(&self, leave: LeaveGroup) -> Result<Vec<Left>, GroupError> {
        match self.0.ask(&leave.group.clone(), Request::Leave(leave), true).await {
            Reply::Leave(outcome) => outcome,
            _ => Err(GroupError::NotAvailable),
        }
    }

    /// Stores offsets; answers when they are committed.
    ///
    /// # Errors
    /// Why none of them could; what became of each is in the answer.
    pub async fn commit(&self, commit: OffsetCommit) -> Result<Vec<TopicOutcome>, GroupError> {
        match self.0.ask(&commit.group.clone(), Request::Commit(commit), true).await {
            Reply::Commit(outcome) => outcome,
            _ => Err(GroupError::NotAvailable),
        }
    }

    /// Stores offsets as part of a transaction; answers when they are in the log.
    ///
    /// # Errors
    /// Why none of them could; what became of each is in the answer.
    pub async fn commit_in_transaction(&self, commit: TxnOffsetCommit) -> Result<Vec<TopicOutcome>, GroupError> {
        match self.0.ask(&commit.commit.group.clone(), Request::CommitInTransaction(commit), true).await {
            Reply::Commit(outcome) => outcome,
            _ => Err(GroupError::NotAvailable),
        }
    }

    /// The partition that keeps a group, where this node has it.
    ///
    /// # Errors
    /// Why this node does not coordinate the group.
    pub async fn partition_for(&self, group: &str) -> Result<PartitionHandle, GroupError> {
        self.0.shard(group, true).await?;
        let image = self.0.context.cluster.image();
        let topic = image.topic(CONSUMER_OFFSETS).ok_or(GroupError::NotCoordinator)?;
        let at = topic.at(partition_of(group, topic.partitions.len()));
        self.0.context.partitions.get(at).ok_or(GroupError::NotCoordinator)
    }

    /// Writes the end of a transaction that has offsets in a partition of the offsets topic.
    ///
    /// # Errors
    /// Why it could not be written here and now.
    pub async fn end_transaction(&self, partition: PartitionHandle, end: EndOfTransaction) -> Result<(), GroupError> {
        match self.0.open(partition).ask(Request::EndTransaction(end)).await {
            Reply::EndTransaction(outcome) => outcome,
            _ => Err(GroupError::NotAvailable),
        }
    }

    /// Reads offsets.
    ///
    /// # Errors
    /// Why not.
    pub async fn fetch(&self, fetch: OffsetFetch) -> Result<Vec<FetchedTopic>, GroupError> {
        match self.0.ask(&fetch.group.clone(), Request::Fetch(fetch), false).await {
            Reply::Fetch(outcome) => outcome,
            _ => Err(GroupError::NotAvailable),
        }
    }

    /// Forgets offsets.
    ///
    /// # Errors
    /// Why none of them could be; what became of each is in the answer.
    pub async fn delete_offsets(&self, delete: OffsetDelete) -> Result<Vec<TopicOutcome>, GroupError> {
        match self.0.ask(&delete.group.clone(), Request::DeleteOffsets(delete), false).await {
            Reply::DeleteOffsets(outcome) => outcome,
            _ => Err(GroupError::NotAvailable),
        }
    }

    /// Deletes groups that are empty, with their offsets.
    pub async fn delete_groups(&self, groups: Vec<Arc<str>>) -> Vec<(Arc<str>, Option<GroupError>)> {
        let each = groups.into_iter().map(|group| async move {
            match self.0.ask(&group.clone(), Request::DeleteGroups(vec![group]), false).await {
                Reply::DeleteGroups(outcome) => outcome,
                _ => Vec::new(),
            }
        });
        futures::future::join_all(each).await.concat()
    }

    /// Describes groups, in the order asked.
    pub async fn describe(&self, groups: Vec<Arc<str>>) -> Vec<GroupDescription> {
        let each = groups.into_iter().map(|group| async move {
            match self.0.ask(&group.clone(), Request::Describe(vec![group]), false).await {
                Reply::Describe(described) => described,
                _ => Vec::new(),
            }
        });
        futures::future::join_all(each).await.concat()
    }

    /// The groups of this node in certain states and of certain types; empty filters let everything pass.
    ///
    /// # Errors
    /// [`GroupError::Loading`] while a partition's groups are not known yet.
    pub async fn list(&self, states: Vec<String>, types: Vec<String>) -> Result<Vec<GroupOverview>, GroupError> {
        let mut groups = Vec::new();
        for shard in self.0.shards.load_full().values().filter(|shard| !shard.is_over()) {
            let request = Request::List { states: states.clone(), types: types.clone() };
            match shard.ask(request).await {
                Reply::List(Ok(listed)) => groups.extend(listed),
                // Another broker lists them.
                Reply::List(Err(GroupError::NotCoordinator)) => {}
                Reply::List(Err(error)) => return Err(error),
                _ => return Err(GroupError::NotAvailable),
            }
        }
        Ok(groups)
    }
}

impl Images for ClusterHandle {
    fn image(&self) -> Arc<Image> {
        Self::image(self)
    }
}

impl Inner {
    fn tasks(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, group: &str, request: Request, may_create: bool) -> Reply {
        match self.shard(group, may_create).await {
            Ok(shard) => shard.ask(request).await,
            Err(error) => request.refused(error),
        }
    }

    async fn shard(&self, group: &str, may_create: bool) -> Result<Shard<GroupMachine>, GroupError> {
        if *self.stop.borrow() {
            return Err(GroupError::NotAvailable);
        }
        let image = self.context.cluster.image();
        let topic = match image.topic(CONSUMER_OFFSETS) {
            Some(topic) => Arc::clone(topic),
            None if may_create => self.topic_or_create().await?,
            None => return Err(GroupError::NotCoordinator),
        };
        let partition = partition_of(group, topic.partitions.len());
        if topic.partition(partition).map(|partition| partition.leader) != Some(self.context.node) {
            return Err(GroupError::NotCoordinator);
        }
        let at = topic.at(partition);
        if let Some(shard) = self.shards.load().get(&at).filter(|shard| !shard.is_over()) {
            return Ok(shard.clone());
        }
        if self.context.partitions.get(at).is_none() {
            // The image is ahead of the partitions by a moment.
            self.context.partitions.in_line_with(image.index()).await;
        }
        self.context.partitions.get(at).map(|partition| self.open(partition)).ok_or(GroupError::NotCoordinator)
    }

    fn open(&self, partition: PartitionHandle) -> Shard<GroupMachine> {
        let mut tasks = self.tasks();
        let shards = self.shards.load_full();
        if let Some(shard) = shards.get(&partition.id()).filter(|shard| !shard.is_over()) {
            return shard.clone();
        }
        let (shard, task) = Shard::new(ShardContext {
            name: format!("{CONSUMER_OFFSETS}-{}", partition.index()).into(),
            log: Arc::new(PartitionLog::new(partition.clone(), Arc::clone(&self.context.offload))),
            options: GroupSetup {
                options: self.context.options.clone(),
                images: Arc::new(self.context.cluster.clone()),
            },
            append_timeout: Duration::from_millis(self.context.options.offsets_commit_timeout_ms),
            work: None,
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

    async fn topic_or_create(&self) -> Result<Arc<Topic>, GroupError> {
        if let Some(topic) = self.context.cluster.image().topic(CONSUMER_OFFSETS) {
            return Ok(Arc::clone(topic));
        }
        let _turn = self.creating.lock().await;
        if self.context.cluster.image().topic(CONSUMER_OFFSETS).is_none() {
            self.create().await?;
        }
        let image = self.context.cluster.image();
        self.context.partitions.in_line_with(image.index()).await;
        image.topic(CONSUMER_OFFSETS).cloned().ok_or(GroupError::NotAvailable)
    }

    async fn create(&self) -> Result<(), GroupError> {
        let GroupContext { options, cluster, random, .. } = &self.context;
        let brokers = i16::try_from(cluster.image().brokers().len()).unwrap_or(i16::MAX);
        let set = |key: &str, value: String| (key.to_owned(), value);
        let config = [
            set("cleanup.policy", "compact".to_owned()),
            set("compression.type", "producer".to_owned()),
            set("segment.bytes", options.offsets_topic_segment_bytes.to_string()),
        ];
        let topic = NewTopic {
            id: TopicId::new(random.uuid()),
            name: CONSUMER_OFFSETS.to_owned(),
            placement: Placement::Spread {
                partitions: options.offsets_topic_partitions,
                // Kafka refuses to create the topic on fewer brokers; a single node is to work as it is.
                factor: options.offsets_topic_replication_factor.min(brokers).max(1),
                seed: random.u64(),
            },
            config: config.into(),
            attachments: Vec::new(),
        };
        match cluster.propose(Command::CreateTopics { topics: vec![topic] }).await {
            Ok(Response::Created(created)) => match created.into_iter().next() {
                None | Some(Ok(_) | Err(ApplyError::TopicExists { .. })) => Ok(()),
                Some(Err(error)) => {
                    tracing::error!(topic = CONSUMER_OFFSETS, %error, "the topic of the groups could not be created");
                    Err(GroupError::NotAvailable)
                }
            },
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(topic = CONSUMER_OFFSETS, %error, "the topic of the groups could not be created");
                Err(GroupError::NotAvailable)
            }
        }
    }

    /// Opens what holds groups at the start, and forgets the offsets of topics that go.
    async fn follow(self: Arc<Self>, mut images: watch::Receiver<Arc<Image>>) {
        let mut stop = self.stop.subscribe();
        let mut known = Arc::clone(&images.borrow_and_update());
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.open_filled(&known) => {}
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                changed = images.changed() => if changed.is_err() {
                    return;
                },
            }
            let next = Arc::clone(&images.borrow_and_update());
            let gone = deleted(&known, &next);
            known = next;
            if gone.is_empty() {
                continue;
            }
            let shards = self.shards.load_full();
            let each = shards.values().map(|shard| shard.ask(Request::TopicsDeleted(gone.clone())));
            futures::future::join_all(each).await;
        }
    }

    async fn open_filled(&self, image: &Arc<Image>) {
        let Some(topic) = image.topic(CONSUMER_OFFSETS) else { return };
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

/// The partition of `partitions` that a group belongs to, as Kafka's clients and tools compute it too.
pub fn partition_of(group: &str, partitions: usize) -> PartitionId {
    let hash = group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    // Kafka's `abs` has no other answer for the one number that has no opposite.
    let positive = hash.checked_abs().unwrap_or(0);
    PartitionId::new(positive.checked_rem(i32::try_from(partitions).unwrap_or(i32::MAX)).unwrap_or(0))
}

fn deleted(before: &Image, after: &Image) -> Vec<Arc<str>> {
    before
        .topics()
        .filter(|topic| after.topic_by_id(topic.id).is_none())
        .map(|topic| topic.name.as_str().into())
        .collect()
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
