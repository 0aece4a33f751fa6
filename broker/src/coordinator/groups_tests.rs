//! Groups over a real log, a real disk and a real metadata group, killed and started again.

use super::*;
use crate::cluster::{Cluster, ClusterOptions, Seams};
use crate::config::kafka_keys::{BrokerKeys, TopicSettings};
use crate::coordinator::group::{CommitPartition, CommitTopic, Protocol};
use crate::coordinator::runtime::shards::partition_of;
use crate::partition::{BatchStage, NoCounts, Options, StageProvider};
use bytes::Bytes;
use millrace_metadata::{BrokerRegistration, Command, NewTopic, Placement, Topic};
use millrace_model::{LeaderEpoch, Offset, PartitionId, SystemClock, SystemRandom, TopicId};
use millrace_storage::data_dir::DataDir;
use millrace_storage::io::{Disk, OsDisk};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;

#[derive(Debug)]
struct InPlace;

impl Offload for InPlace {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}

#[derive(Debug)]
struct NoStage;

impl StageProvider for NoStage {
    fn produce_stage(&self, _topic: &Topic) -> Option<Arc<dyn BatchStage>> {
        None
    }
}

struct Node {
    cluster: ClusterHandle,
    partitions: Partitions,
    groups: GroupCoordinator,
    follower: JoinHandle<()>,
}

impl Node {
    async fn start(dir: &Path) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) =
            (Arc::new(SystemClock::default()), Arc::new(SystemRandom));
        let offload: Arc<dyn Offload> = Arc::new(InPlace);
        let node = NodeId::new(1);
        let data_dir = Arc::new(DataDir::open(Arc::clone(&disk), dir.to_path_buf()).unwrap());
        let broker =
            BrokerRegistration { id: node, host: "127.0.0.1".into(), port: 9092, rack: None, incarnation: Uuid::nil() };
        let options = ClusterOptions { broker: Some(broker), ..ClusterOptions::new(node, dir.join("metadata")) };
        let seams = Seams { disk: Arc::clone(&disk), offload: Arc::clone(&offload), random: Arc::clone(&random) };
        let cluster = Cluster::start(options, seams).await.unwrap();
        let keys = BrokerKeys::default();
        let options = Options {
            disk,
            data_dir,
            clock: Arc::clone(&clock),
            offload: Arc::clone(&offload),
            defaults: TopicSettings::resolve(&BTreeMap::new(), &keys).unwrap(),
            keys,
            counts: Arc::new(NoCounts),
        };
        let partitions = Partitions::new(node, options, Arc::new(NoStage));
        let mut images = cluster.watch();
        let registry = partitions.clone();
        let follower = tokio::spawn(async move {
            loop {
                let image = Arc::clone(&images.borrow_and_update());
                registry.follow(&image).await;
                if images.changed().await.is_err() {
                    return;
                }
            }
        });
        let options = GroupOptions { initial_rebalance_delay_ms: 50, ..GroupOptions::default() };
        let (cluster_, partitions_) = (cluster.clone(), partitions.clone());
        let context =
            GroupContext { options, node, cluster: cluster_, partitions: partitions_, clock, random, offload };
        Self { cluster, partitions, groups: GroupCoordinator::start(context), follower }
    }

    /// Stops as a killed process does: nothing is closed, flushed or said. What was written is in the page cache.
    async fn kill(self) {
        self.groups.shutdown().await;
        self.follower.abort();
        let _ = self.follower.await;
        self.cluster.shutdown().await;
        drop(self.partitions);
    }

    async fn create_topic(&self, name: &str) {
        let topic = NewTopic {
            id: TopicId::new(SystemRandom.uuid()),
            name: name.into(),
            placement: Placement::Spread { partitions: 1, factor: 1, seed: 0 },
            config: BTreeMap::new(),
            attachments: Vec::new(),
        };
        self.cluster.propose(Command::CreateTopics { topics: vec![topic] }).await.unwrap();
    }

    async fn commit(&self, group: &str, topic: &str, offset: i64) -> Result<Vec<TopicOutcome>, GroupError> {
        let partition = CommitPartition {
            partition: 0,
            offset: Offset::new(offset),
            leader_epoch: LeaderEpoch::NONE,
            metadata: None,
        };
        let commit = OffsetCommit {
            group: group.into(),
            generation: -1,
            member_id: String::new(),
            instance_id: None,
            retention_time_ms: -1,
            knows_group_id_not_found: true,
            topics: vec![CommitTopic { name: topic.into(), id: TopicId::NIL, partitions: vec![partition] }],
        };
        self.groups.commit(commit).await
    }

    async fn offset(&self, group: &str) -> Option<i64> {
        for _ in 0..500 {
            let fetch = OffsetFetch {
                group: group.into(),
                member_id: None,
                member_epoch: -1,
                topics: None,
                require_stable: true,
            };
            match self.groups.fetch(fetch).await {
                Ok(topics) => return topics.first().map(|topic| topic.partitions[0].offset.get()),
                Err(GroupError::Loading | GroupError::NotCoordinator) => {
                    tokio::time::sleep(Duration::from_millis(2)).await
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("never loaded");
    }

    async fn join(&self, group: &str, member_id: &str) -> Result<Joined, JoinRefused> {
        let join = JoinGroup {
            group: group.into(),
            member_id: member_id.into(),
            instance_id: None,
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: Bytes::from_static(b"x") }],
            reason: None,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            requires_known_member_id: false,
            supports_skipping_assignment: true,
            fresh: self.groups.fresh(),
        };
        self.groups.join(join).await
    }
}

#[test]
fn groups_are_spread_as_kafka_spreads_them() {
    // Where Kafka 4.3.1 put the group `g1`, and Java's own hash codes.
    assert_eq!(partition_of("g1", 50), PartitionId::new(42));
    assert_eq!(partition_of("", 50), PartitionId::new(0));
    assert_eq!(partition_of("console-consumer-12345", 50), PartitionId::new(158_455_506 % 50));
    // Hash code −2³¹.
    assert_eq!(partition_of("polygenelubricants", 50), PartitionId::new(0));
}

#[tokio::test]
async fn offsets_and_members_survive_a_kill_and_only_partitions_that_hold_something_have_a_shard() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    assert_eq!(node.groups.coordinator_of("g").await, Ok(NodeId::new(1)));
    let topic = node.cluster.image().topic(CONSUMER_OFFSETS).cloned().unwrap();
    assert_eq!((topic.partitions.len(), topic.replication_factor(), topic.internal), (50, 1, true));
    assert!(node.groups.0.shards.running().is_empty(), "nobody has asked for a group");

    for (number, group) in ["a", "b", "c"].into_iter().enumerate() {
        node.commit(group, "t", 10 + number as i64).await.unwrap();
    }
    let joined = node.join("g", "").await.unwrap();
    let id = joined.member_id.clone();
    let sync = SyncGroup {
        group: "g".into(),
        generation: 1,
        member_id: id.clone(),
        instance_id: None,
        protocol_type: None,
        protocol: None,
        assignments: vec![(id.clone(), Bytes::from_static(b"all"))],
    };
    assert_eq!(node.groups.sync(sync).await.unwrap().assignment, Bytes::from_static(b"all"));
    node.kill().await;

    let node = Node::start(dir.path()).await;
    for (number, group) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!(node.offset(group).await, Some(10 + number as i64));
    }
    let beat = |generation| Heartbeat { group: "g".into(), generation, member_id: id.clone(), instance_id: None };
    assert_eq!(node.offset("g").await, None);
    assert_eq!(node.groups.heartbeat(beat(1)).await, Ok(()));
    assert_eq!(node.groups.heartbeat(beat(2)).await, Err(GroupError::IllegalGeneration));
    let listed = node.groups.list(Vec::new(), Vec::new()).await.unwrap();
    assert_eq!(listed.len(), 4);
    assert_eq!(node.groups.0.shards.running().len(), 4, "the four partitions that hold something");
    node.kill().await;
}

#[tokio::test]
async fn offsets_of_a_deleted_topic_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    node.create_topic("t").await;
    node.commit("g", "t", 5).await.unwrap();
    let id = node.cluster.image().topic("t").unwrap().id;
    node.cluster.propose(Command::DeleteTopics { topics: vec![id] }).await.unwrap();
    for _ in 0..500 {
        if node.offset("g").await.is_none() {
            return node.kill().await;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the offset is still there");
}

#[tokio::test]
async fn who_waits_for_a_rebalance_is_told_when_the_coordinator_stops() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let first = node.join("g", "").await.unwrap();
    // The second has to wait for the first to rejoin, which it does not.
    let groups = node.groups.clone();
    let second = async {
        let stop = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            groups.shutdown().await;
        };
        tokio::join!(node.join("g", ""), stop).0
    };
    assert_eq!(second.await.unwrap_err().error, GroupError::NotCoordinator);
    assert_eq!(node.commit("g", "t", 1).await, Err(GroupError::NotAvailable));
    assert_eq!(first.generation, 1);
    node.kill().await;
}
