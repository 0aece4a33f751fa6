//! The group coordinator of a node: finds the shard of a group and asks it.
//!
//! Its state is kept in `__consumer_offsets`.

use super::group::hosted::GroupSetup;
use super::group::machine::{GroupMachine, Images, Reply, Request};
use super::group::{
    Beat, ConsumerGroupDescription, ConsumerHeartbeat, FetchedTopic, GroupDescription, GroupError, GroupOptions,
    GroupOverview, Heartbeat, JoinGroup, JoinRefused, Joined, LeaveGroup, Left, OffsetCommit, OffsetDelete,
    OffsetFetch, Refusal, SyncGroup, Synced, TopicOutcome,
};
use super::group::{EndOfTransaction, TxnOffsetCommit};
use super::runtime::shards::{Setup, Shards, StateTopic, Surroundings};
use crate::cluster::ClusterHandle;
use crate::partition::{PartitionHandle, Partitions};
use millrace_metadata::{CONSUMER_OFFSETS, Image};
use millrace_model::{Clock, NodeId, Offload, Random};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
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
    shards: Shards<GroupMachine>,
}

impl GroupCoordinator {
    /// Starts the coordinator. Must be called within tokio.
    pub fn start(context: GroupContext) -> Self {
        let GroupContext { options, node, cluster, partitions, clock, random, offload } = context;
        let images = cluster.watch();
        let topic = StateTopic {
            name: CONSUMER_OFFSETS,
            partitions: options.offsets_topic_partitions,
            replication_factor: options.offsets_topic_replication_factor,
            compression: "producer",
            segment_bytes: options.offsets_topic_segment_bytes,
        };
        let setup = Setup {
            append_timeout: Duration::from_millis(options.offsets_commit_timeout_ms),
            options: GroupSetup { options, images: Arc::new(cluster.clone()) },
            work: None,
        };
        let around = Surroundings { node, cluster, partitions, clock, random, offload };
        let inner = Arc::new(Inner { shards: Shards::new(around, topic, setup) });
        inner.shards.run(Arc::clone(&inner).follow(images));
        Self(inner)
    }

    /// Stops the shards; who waits is told that the coordinator is gone.
    pub async fn shutdown(&self) {
        self.0.shards.shutdown().await;
    }

    /// A number for the id of a new member.
    pub fn fresh(&self) -> Uuid {
        self.0.shards.around().random.uuid()
    }

    /// The broker that coordinates a group. Creates the offsets topic where it is missing.
    ///
    /// # Errors
    /// [`GroupError::NotAvailable`] as long as the topic cannot be created or its partition has no leader.
    pub async fn coordinator_of(&self, group: &str) -> Result<NodeId, GroupError> {
        Ok(self.0.shards.leader_of(group).await?)
    }

    /// Joins a group; answers when the next generation begins.
    ///
    /// # Errors
    /// Why not, and the member id to answer with.
    pub async fn join(&self, join: JoinGroup) -> Result<Joined, JoinRefused> {
        match self.0.shards.ask(&join.group.clone(), Request::Join(Box::new(join)), true).await {
            Reply::Join(outcome) => outcome,
            _ => Err(JoinRefused { error: GroupError::NotAvailable, member_id: String::new() }),
        }
    }

    /// Gives the leader's assignment, or takes one's own; answers when the leader has given it.
    ///
    /// # Errors
    /// Why not.
    pub async fn sync(&self, sync: SyncGroup) -> Result<Synced, GroupError> {
        match self.0.shards.ask(&sync.group.clone(), Request::Sync(sync), true).await {
            Reply::Sync(outcome) => outcome,
            _ => Err(GroupError::NotAvailable),
        }
    }

    /// A member is alive.
    ///
    /// # Errors
    /// What it has to do instead of going on.
    pub async fn heartbeat(&self, beat: Heartbeat) -> Result<(), GroupError> {
        match self.0.shards.ask(&beat.group.clone(), Request::Heartbeat(beat), true).await {
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
        match self.0.shards.ask(&group, Request::ConsumerHeartbeat(Box::new(beat)), true).await {
            Reply::ConsumerHeartbeat(outcome) => outcome,
            _ => Err(GroupError::NotAvailable.into()),
        }
    }

    /// Describes consumer groups, in the order asked.
    pub async fn describe_consumer(&self, groups: Vec<Arc<str>>) -> Vec<ConsumerGroupDescription> {
        let each = groups.into_iter().map(|group| async move {
            match self.0.shards.ask(&group.clone(), Request::DescribeConsumer(vec![group]), false).await {
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
        match self.0.shards.ask(&leave.group.clone(), Request::Leave(leave), true).await {
            Reply::Leave(outcome) => outcome,
            _ => Err(GroupError::NotAvailable),
        }
    }

    /// Stores offsets; answers when they are committed.
    ///
    /// # Errors
    /// Why none of them could; what became of each is in the answer.
    pub async fn commit(&self, commit: OffsetCommit) -> Result<Vec<TopicOutcome>, GroupError> {
        match self.0.shards.ask(&commit.group.clone(), Request::Commit(commit), true).await {
            Reply::Commit(outcome) => outcome,
            _ => Err(GroupError::NotAvailable),
        }
    }

    /// Stores offsets as part of a transaction; answers when they are in the log.
    ///
    /// # Errors
    /// Why none of them could; what became of each is in the answer.
    pub async fn commit_in_transaction(&self, commit: TxnOffsetCommit) -> Result<Vec<TopicOutcome>, GroupError> {
        match self.0.shards.ask(&commit.commit.group.clone(), Request::CommitInTransaction(commit), true).await {
            Reply::Commit(outcome) => outcome,
            _ => Err(GroupError::NotAvailable),
        }
    }

    /// The partition that keeps a group, where this node has it.
    ///
    /// # Errors
    /// Why this node does not coordinate the group.
    pub async fn partition_for(&self, group: &str) -> Result<PartitionHandle, GroupError> {
        let (_, at) = self.0.shards.of(group, true).await?;
        self.0.shards.around().partitions.get(at).ok_or(GroupError::NotCoordinator)
    }

    /// Writes the end of a transaction that has offsets in a partition of the offsets topic.
    ///
    /// # Errors
    /// Why it could not be written here and now.
    pub async fn end_transaction(&self, partition: PartitionHandle, end: EndOfTransaction) -> Result<(), GroupError> {
        match self.0.shards.open(&partition).ask(Request::EndTransaction(end)).await {
            Reply::EndTransaction(outcome) => outcome,
            _ => Err(GroupError::NotAvailable),
        }
    }

    /// Reads offsets.
    ///
    /// # Errors
    /// Why not.
    pub async fn fetch(&self, fetch: OffsetFetch) -> Result<Vec<FetchedTopic>, GroupError> {
        match self.0.shards.ask(&fetch.group.clone(), Request::Fetch(fetch), false).await {
            Reply::Fetch(outcome) => outcome,
            _ => Err(GroupError::NotAvailable),
        }
    }

    /// Forgets offsets.
    ///
    /// # Errors
    /// Why none of them could be; what became of each is in the answer.
    pub async fn delete_offsets(&self, delete: OffsetDelete) -> Result<Vec<TopicOutcome>, GroupError> {
        match self.0.shards.ask(&delete.group.clone(), Request::DeleteOffsets(delete), false).await {
            Reply::DeleteOffsets(outcome) => outcome,
            _ => Err(GroupError::NotAvailable),
        }
    }

    /// Deletes groups that are empty, with their offsets.
    pub async fn delete_groups(&self, groups: Vec<Arc<str>>) -> Vec<(Arc<str>, Option<GroupError>)> {
        let each = groups.into_iter().map(|group| async move {
            match self.0.shards.ask(&group.clone(), Request::DeleteGroups(vec![group]), false).await {
                Reply::DeleteGroups(outcome) => outcome,
                _ => Vec::new(),
            }
        });
        futures::future::join_all(each).await.concat()
    }

    /// Describes groups, in the order asked.
    pub async fn describe(&self, groups: Vec<Arc<str>>) -> Vec<GroupDescription> {
        let each = groups.into_iter().map(|group| async move {
            match self.0.shards.ask(&group.clone(), Request::Describe(vec![group]), false).await {
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
        for shard in self.0.shards.running() {
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
    /// Opens what holds groups, and forgets the offsets of topics that go.
    async fn follow(self: Arc<Self>, mut images: watch::Receiver<Arc<Image>>) {
        let mut known = Arc::clone(&images.borrow_and_update());
        while let Some(next) = self.shards.follow(&known, &mut images).await {
            let gone = deleted(&known, &next);
            known = next;
            if gone.is_empty() {
                continue;
            }
            let shards = self.shards.running();
            let each = shards.iter().map(|shard| shard.ask(Request::TopicsDeleted(gone.clone())));
            futures::future::join_all(each).await;
        }
    }
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
