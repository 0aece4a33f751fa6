//! A node with nothing but what the listener needs, on a directory of its own and a port of its own.

use crate::cluster::{Cluster, ClusterOptions, Seams};
use crate::config::kafka_keys::{BrokerKeys, BrokerSettings, TopicSettings};
use crate::coordinator::group::GroupOptions;
use crate::coordinator::groups::{GroupContext, GroupCoordinator};
use crate::coordinator::transactions::{TxnContext, TxnCoordinator};
use crate::coordinator::txn::TxnOptions;
use crate::partition::{self, BatchStage, Partitions, StageProvider};
use crate::peer::Peer;
use crate::server::net::Tcp;
use crate::server::{Context, KafkaApi, NoMetrics, Options, Parts, serve};
use millrace_metadata::{BrokerRegistration, Topic};
use millrace_model::{NodeId, Offload, SystemClock, SystemRandom};
use millrace_storage::data_dir::DataDir;
use millrace_storage::io::{Disk, OsDisk};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub(super) const NODE: NodeId = NodeId::new(1);

/// Blocking work on tokio's own threads for that.
#[derive(Debug)]
pub(super) struct Threads;

impl Offload for Threads {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(job);
    }
}

/// The stage that a test gives all of its topics.
#[derive(Debug, Default)]
pub(super) struct Stages(pub(super) Option<Arc<dyn BatchStage>>);

impl StageProvider for Stages {
    fn produce_stage(&self, topic: &Topic) -> Option<Arc<dyn BatchStage>> {
        self.0.clone().filter(|_| !topic.internal)
    }
}

/// What a node runs on.
pub(super) struct Machine {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    /// What handlers leave to threads that may wait.
    pub(super) offload: Arc<dyn Offload>,
}

pub(super) struct Node {
    pub(super) address: SocketAddr,
    stop: watch::Sender<bool>,
    /// Removed in the end.
    dir: Option<tempfile::TempDir>,
}

impl Node {
    pub(super) async fn start() -> Self {
        Self::with(&[], Options::default(), Stages::default()).await
    }

    pub(super) async fn with(keys: &[(&str, &str)], options: Options, stages: Stages) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine { disk: Arc::new(OsDisk), dir: dir.path().to_owned(), offload: Arc::new(Threads) };
        let mut node = Self::on(machine, keys, options, stages).await;
        node.dir = Some(dir);
        node
    }

    pub(super) async fn on(machine: Machine, keys: &[(&str, &str)], options: Options, stages: Stages) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let context = context(machine, address, keys, stages).await;
        let (stop, stopped) = watch::channel(false);
        let api = Arc::new(KafkaApi(context));
        tokio::spawn(serve(Tcp::new(listener, Some(100 << 10), None), api, options, stopped));
        Self { address, stop, dir: None }
    }

    pub(super) async fn client(&self) -> Peer {
        Peer::connect(self.address, "test").await.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn context(machine: Machine, address: SocketAddr, keys: &[(&str, &str)], stages: Stages) -> Arc<Context> {
    let keys: BTreeMap<String, String> = keys.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let keys = BrokerKeys::new(keys).unwrap();
    let settings = BrokerSettings::resolve(&keys).unwrap();
    let (clock, random, offload) = (Arc::new(SystemClock::default()), Arc::new(SystemRandom), Arc::new(Threads));
    let Machine { disk, dir, offload: readers } = machine;
    let mut cluster = ClusterOptions::new(NODE, dir.join("cluster"));
    cluster.broker = Some(BrokerRegistration {
        id: NODE,
        host: address.ip().to_string(),
        port: address.port(),
        rack: None,
        incarnation: uuid::Uuid::from_u128(1),
    });
    let seams = Seams { disk: disk.clone(), offload: offload.clone(), random: random.clone() };
    let cluster = Cluster::start(cluster, seams).await.unwrap();
    let options = partition::Options {
        disk: disk.clone(),
        data_dir: Arc::new(DataDir::open(disk, dir.join("data")).unwrap()),
        clock: clock.clone(),
        offload: offload.clone(),
        keys: keys.clone(),
        defaults: TopicSettings::resolve(&BTreeMap::new(), &keys).unwrap(),
        counts: Arc::new(partition::NoCounts),
    };
    let partitions = Partitions::new(NODE, options, Arc::new(stages));
    let groups = GroupCoordinator::start(GroupContext {
        options: GroupOptions::default(),
        node: NODE,
        cluster: cluster.clone(),
        partitions: partitions.clone(),
        clock: clock.clone(),
        random: random.clone(),
        offload: offload.clone(),
    });
    let transactions = TxnCoordinator::start(TxnContext {
        options: TxnOptions { log_partitions: 3, ..TxnOptions::default() },
        node: NODE,
        cluster: cluster.clone(),
        partitions: partitions.clone(),
        groups: groups.clone(),
        clock: clock.clone(),
        random: random.clone(),
        offload: offload.clone(),
    });
    let (follower, mut images) = (partitions.clone(), cluster.watch());
    tokio::spawn(async move {
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            follower.follow(&image).await;
            if images.changed().await.is_err() {
                return;
            }
        }
    });
    Context::new(Parts {
        node: NODE,
        cluster,
        partitions,
        groups,
        transactions,
        keys,
        settings,
        facts: BTreeMap::from([("node.id", NODE.to_string())]),
        clock,
        random,
        offload: readers,
        metrics: Arc::new(NoMetrics),
    })
}
