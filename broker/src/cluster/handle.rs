//! Starting the metadata group, and the handle everyone else holds.

use super::error::{ClusterError, ProposeError};
use super::id::new_cluster_id;
use super::journal::{Journal, State};
use super::log_store::LogStore;
use super::machine::{Machine, Published};
use super::network::Network;
use super::proposer::{self, Pending, QUEUE};
use super::runtime::with_random;
use super::snapshot::SnapshotFile;
use super::types::{Entry, LogId, Proposal, Raft, Vote};
use millrace_metadata::{BrokerRegistration, Command, Image, Response};
use millrace_model::{NodeId, Offload, Random};
use millrace_storage::io::Disk;
use openraft::{BasicNode, CommittedLeaderId, Config, EntryPayload, Membership, SnapshotPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

/// How the metadata group runs on this node.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// This node.
    pub node_id: NodeId,
    /// The directory of the journal and the snapshot; made where it is missing, in a parent that is there.
    pub dir: PathBuf,
    /// The cluster's id where something else knows it already (`meta.properties`); drawn for a new cluster otherwise.
    pub cluster_id: Option<String>,
    /// What clients are told about this broker. A new cluster starts with it; an old one hears of changes.
    pub broker: Option<BrokerRegistration>,
    /// How long a proposal waits for its answer.
    pub propose_timeout: Duration,
    /// Entries after which a snapshot is written and the journal shortened.
    pub snapshot_every: u64,
}

impl ClusterOptions {
    /// The usual options.
    pub const fn new(node_id: NodeId, dir: PathBuf) -> Self {
        Self {
            node_id,
            dir,
            cluster_id: None,
            broker: None,
            propose_timeout: Duration::from_secs(30),
            snapshot_every: 1000,
        }
    }
}

/// What the group gets from outside.
#[derive(Clone, Debug)]
pub struct Seams {
    /// Where it keeps its files.
    pub disk: Arc<dyn Disk>,
    /// Where its writes may block.
    pub offload: Arc<dyn Offload>,
    /// Where its randomness comes from.
    pub random: Arc<dyn Random>,
}

/// The metadata group on this node.
#[derive(Clone, Copy, Debug)]
pub struct Cluster;

/// A way to the cluster's facts. Cheap to clone.
#[derive(Clone)]
pub struct ClusterHandle {
    inner: Arc<Inner>,
}

struct Inner {
    node_id: NodeId,
    timeout: Duration,
    published: Arc<Published>,
    queue: mpsc::Sender<Pending>,
    raft: Raft,
    #[cfg(test)]
    log: LogStore,
    /// From when it is set a write that fails is not tried again.
    closing: Arc<AtomicBool>,
    snapshotting: Arc<Mutex<()>>,
}

impl fmt::Debug for ClusterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = self.inner.published.current.load().index();
        f.debug_struct("ClusterHandle")
            .field("node", &self.inner.node_id)
            .field("image", &image)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Opens or forms the cluster. When this returns, the image holds everything that was ever answered, and
    /// proposals are taken. A new cluster costs no fsync: nothing is promised before the first proposal.
    pub async fn start(options: ClusterOptions, seams: Seams) -> Result<ClusterHandle, ClusterError> {
        let node = u64::try_from(options.node_id.get()).map_err(|_| ClusterError::NodeId { id: options.node_id })?;
        make_dir(&options, &seams)?;
        let file = SnapshotFile::new(Arc::clone(&seams.disk), &options.dir);
        let snapshot = file.read()?;
        let (journal, state) = open_journal(&options, &seams, node, snapshot.is_some().then(|| file.path()))?;
        if state.node != node {
            let (path, found) = (options.dir.clone(), state.node);
            return Err(ClusterError::OtherNode { path, found, asked: options.node_id });
        }
        let (committed, last) = (state.vote.is_some_and(|vote| vote.is_committed()), state.last());
        let closing = Arc::new(AtomicBool::new(false));
        let log = LogStore::new(journal, state, Arc::clone(&seams.offload), Arc::clone(&closing));
        let machine = Machine::restore(snapshot, file, Arc::clone(&seams.offload), Arc::clone(&closing));
        let (published, snapshotting) = (machine.published(), machine.writing());
        let raft = Raft::new(node, Arc::new(config(&options)), Network, log.clone(), machine);
        let raft = with_random(Arc::clone(&seams.random), raft).await.map_err(raft_failed)?;
        if !committed {
            raft.trigger().elect().await.map_err(raft_failed)?;
        }
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(proposer::run(raft.clone(), log.clone(), waiting));
        let (node_id, timeout) = (options.node_id, options.propose_timeout);
        let inner = Inner {
            node_id,
            timeout,
            published,
            queue,
            raft,
            #[cfg(test)]
            log,
            closing,
            snapshotting,
        };
        let handle = ClusterHandle { inner: Arc::new(inner) };
        handle.catch_up(last).await?;
        handle.settle(options).await?;
        Ok(handle)
    }
}

impl ClusterHandle {
    /// The facts as this node knows them. Lock-free.
    pub fn image(&self) -> Arc<Image> {
        self.inner.published.current.load_full()
    }

    /// The facts as they change. A reader that is slow sees fewer images, never older ones;
    /// [`millrace_metadata::Delta::between`] tells it what it missed.
    pub fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.inner.published.changes.subscribe()
    }

    /// Changes the facts. When this returns, the change is durable and [`Self::image`] has it.
    pub async fn propose(&self, command: Command) -> Result<Response, ProposeError> {
        let stopped = || ProposeError::Stopped { reason: "the node shuts down".to_owned() };
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.inner.queue.send(Pending { command, answer }).await.map_err(|_| stopped())?;
            answered.await.unwrap_or_else(|_| Err(stopped()))
        };
        match tokio::time::timeout(self.inner.timeout, asked).await {
            Ok(result) => result,
            Err(_) => Err(ProposeError::TimedOut { ms: self.inner.timeout.as_millis() }),
        }
    }

    /// Tells the cluster what clients should be told about this broker; nothing happens where it knows.
    pub async fn register(&self, broker: BrokerRegistration) -> Result<(), ProposeError> {
        if self.image().broker(broker.id).is_some_and(|known| known.registration == broker && !known.fenced) {
            return Ok(());
        }
        self.propose(Command::RegisterBroker(broker)).await.map(drop)
    }

    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.inner.node_id
    }

    /// The cluster's id in Kafka's form.
    pub fn cluster_id(&self) -> String {
        self.image().cluster_id().unwrap_or_default().to_owned()
    }

    /// The node that commits proposals, where it is known.
    pub fn controller(&self) -> Option<NodeId> {
        let leader = self.inner.raft.metrics().borrow().current_leader;
        leader.and_then(|id| i32::try_from(id).ok()).map(NodeId::new)
    }

    /// Whether that is this node.
    pub fn is_controller(&self) -> bool {
        self.controller() == Some(self.inner.node_id)
    }

    /// Stops the group on this node. What was answered is durable already; later proposals fail.
    pub async fn shutdown(&self) {
        self.inner.closing.store(true, Ordering::Relaxed);
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "the metadata log did not stop cleanly");
        }
        // A snapshot that is being written must not come in the way of whoever opens the directory next.
        drop(self.inner.snapshotting.lock().await);
    }

    /// How many writes the journal had.
    #[cfg(test)]
    pub(super) fn journal_appends(&self) -> u64 {
        self.inner.log.appends()
    }

    #[cfg(test)]
    pub(super) fn journal_bytes(&self) -> u64 {
        self.inner.log.bytes()
    }

    /// Waits until the image holds what the journal held: with one voter all of it is committed.
    async fn catch_up(&self, last: Option<LogId>) -> Result<(), ClusterError> {
        let target = last.map_or(0, |last| last.index);
        let mut images = self.watch();
        let reached = images.wait_for(|image| image.index() >= target);
        match tokio::time::timeout(self.inner.timeout, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ClusterError::Raft { reason: "it stopped while it replayed its entries".to_owned() }),
            Err(_) => Err(ClusterError::Raft { reason: format!("entry {target} was not committed in time") }),
        }
    }

    async fn settle(&self, options: ClusterOptions) -> Result<(), ClusterError> {
        let found = self.cluster_id();
        if let Some(asked) = options.cluster_id.filter(|asked| *asked != found) {
            return Err(ClusterError::OtherCluster { path: options.dir, found, asked });
        }
        match options.broker {
            Some(broker) => Ok(self.register(broker).await?),
            None => Ok(()),
        }
    }
}

fn make_dir(options: &ClusterOptions, seams: &Seams) -> Result<(), ClusterError> {
    let failed = |source| ClusterError::Io { operation: "create", path: options.dir.clone(), source };
    seams.disk.create_dir_all(&options.dir).map_err(failed)
}

fn open_journal(
    options: &ClusterOptions,
    seams: &Seams,
    node: u64,
    snapshot: Option<&std::path::Path>,
) -> Result<(Journal, State), ClusterError> {
    let path = options.dir.join("journal");
    if let Some(found) = Journal::open(Arc::clone(&seams.disk), &path)? {
        return Ok(found);
    }
    if let Some(snapshot) = snapshot {
        let reason = format!("there is no journal, but {} needs one", snapshot.display());
        return Err(ClusterError::Corrupt { path, offset: 0, reason });
    }
    let state = founded(options, seams, node);
    let journal = Journal::format(Arc::clone(&seams.disk), &path, &state)?;
    tracing::info!(node, dir = %options.dir.display(), "formed a new cluster");
    Ok((journal, state))
}

/// The log of a new cluster of one voter, as if it had been elected and had proposed its first commands: a node that
/// finds its own committed vote leads at once, and so does one that was restarted.
fn founded(options: &ClusterOptions, seams: &Seams, node: u64) -> State {
    let cluster_id = options.cluster_id.clone().unwrap_or_else(|| new_cluster_id(&*seams.random));
    let register = options.broker.clone().map(Command::RegisterBroker);
    let commands = std::iter::once(Command::FormCluster { cluster_id }).chain(register).collect();
    let voters = BTreeMap::from([(node, BasicNode::default())]);
    let membership = Membership::new(vec![BTreeSet::from([node])], voters);
    let entry = |index, payload| Entry { log_id: LogId::new(CommittedLeaderId::new(1, node), index), payload };
    let mut entries = std::collections::VecDeque::new();
    entries.push_back(entry(0, EntryPayload::Membership(membership)));
    entries.push_back(entry(1, EntryPayload::Normal(Proposal { commands: Arc::new(commands) })));
    State { node, vote: Some(Vote::new_committed(1, node)), purged: None, entries }
}

/// A single voter needs no clock: nobody else can be elected, and nobody listens to heartbeats.
fn config(options: &ClusterOptions) -> Config {
    const HOUR_MS: u64 = 3_600_000;
    Config {
        cluster_name: "millrace".to_owned(),
        heartbeat_interval: HOUR_MS,
        election_timeout_min: 2 * HOUR_MS,
        election_timeout_max: 3 * HOUR_MS,
        enable_tick: false,
        enable_heartbeat: false,
        enable_elect: false,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_every),
        max_in_snapshot_log_to_keep: 0,
        ..Config::default()
    }
}

fn raft_failed(error: impl std::fmt::Display) -> ClusterError {
    ClusterError::Raft { reason: error.to_string() }
}
