//! The composition root: the one place that knows every room, starts them from the ground up and stops them in reverse.

mod adopt;
mod counters;
mod error;
mod facts;
mod plugin_store;
mod running;
mod seams;

pub use error::StartError;
pub use running::Running;
pub use seams::Seams;

use crate::cluster::{self, Cluster, ClusterHandle, ClusterOptions};
use crate::config::kafka_keys::{BrokerKeys, BrokerSettings, TopicSettings};
use crate::config::plan::Defaults;
use crate::config::{HostPort, NodeOptions};
use crate::coordinator::groups::{GroupContext, GroupCoordinator};
use crate::coordinator::transactions::{TxnContext, TxnCoordinator};
use crate::http::Applier;
use crate::metrics::Metrics;
use crate::partition::{self, CleanerOptions, Intervals, Partitions};
use crate::plugins::{self, Plugins};
use crate::server::api::{Context, KafkaApi};
use crate::server::context::Parts;
use crate::server::net::Listener;
use crate::server::{self, Limits};
use adopt::Adoption;
use facts::FollowedFacts;
use millrace_metadata::{BrokerRegistration, Command};
use millrace_model::{Random, TopicId};
use millrace_plugin_host::{Runtime, RuntimeOptions};
use millrace_storage::StorageError;
use millrace_storage::clean::CleanOptions;
use millrace_storage::data_dir::{DataDir, Meta, decode_uuid, encode_uuid};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Where the cluster's metadata is kept in the data directory.
const CLUSTER_DIR: &str = "cluster";

/// Where plugins' components are kept in the data directory.
const PLUGINS_DIR: &str = "plugins";
/// What a batch's records may unfold to where a plugin looks at them.
const UNFOLDED_BYTES: usize = 64 << 20;
/// How long a partition that could not be opened stays away before it is tried again.
const OPEN_AGAIN: Duration = Duration::from_secs(10);

/// A running node.
#[derive(Debug)]
pub struct Node {
    data_dir: Arc<DataDir>,
    cluster: ClusterHandle,
    partitions: Partitions,
    groups: GroupCoordinator,
    transactions: TxnCoordinator,
    metrics: Arc<Metrics>,
    applier: Arc<Applier>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl Node {
    /// Starts a node on a listener that is bound already; `address` is what clients are told to connect to. When this
    /// returns, requests are served.
    ///
    /// # Errors
    /// Why it cannot start; nothing is left running then.
    pub async fn start<L: Listener>(
        options: &NodeOptions,
        seams: Seams,
        listener: L,
        address: HostPort,
    ) -> Result<Self, StartError> {
        let mut data_dir = DataDir::open(Arc::clone(&seams.disk), options.data_dir.clone())?;
        let cluster = join_cluster(&mut data_dir, options, &seams, address).await?;
        adopt::put_in_order(&mut data_dir, &cluster.image())?;
        let data_dir = Arc::new(data_dir);

        let metrics = Arc::new(Metrics::new());
        let plugins = open_plugins(options, &seams, &cluster, &metrics).await?;
        let counts = Arc::new(counters::Appends(metrics.log.clone()));
        let partitions = open_partitions(&data_dir, options, &seams, &cluster, &plugins, counts).await?;
        data_dir.mark_recovered()?;
        let limits = limits(&options.settings).await.map_err(|error| StartError::Config(error.to_string()))?;
        let limits = Arc::new(limits);
        let (cleaner, cleaner_follows) = watch::channel(cleaner_options(&options.settings));
        let tasks = vec![
            tokio::spawn(follow(cluster.clone(), partitions.clone())),
            tokio::spawn(follow_keys(cluster.clone(), options.clone(), Arc::clone(&limits), cleaner)),
            tokio::spawn(partitions.clone().keep_house(Intervals {
                retention_check: options.settings.retention_check_interval,
                checkpoint: options.settings.recovery_checkpoint_interval,
            })),
            tokio::spawn(partitions.clone().keep_clean(cleaner_follows)),
        ];

        let groups = GroupCoordinator::start(GroupContext {
            options: (&options.settings).into(),
            node: options.node_id,
            cluster: cluster.clone(),
            partitions: partitions.clone(),
            clock: Arc::clone(&seams.clock),
            random: Arc::clone(&seams.random),
            offload: Arc::clone(&seams.offload),
        });
        let transactions = TxnCoordinator::start(TxnContext {
            options: (&options.settings).into(),
            node: options.node_id,
            cluster: cluster.clone(),
            partitions: partitions.clone(),
            groups: groups.clone(),
            clock: Arc::clone(&seams.clock),
            random: Arc::clone(&seams.random),
            offload: Arc::clone(&seams.offload),
        });
        let context = Context::new(Parts {
            node: options.node_id,
            cluster: cluster.clone(),
            partitions: partitions.clone(),
            groups: groups.clone(),
            transactions: transactions.clone(),
            keys: options.keys.clone(),
            settings: options.settings.clone(),
            facts: options.facts(),
            clock: Arc::clone(&seams.clock),
            random: Arc::clone(&seams.random),
            offload: Arc::clone(&seams.offload),
            metrics: counters::Requests::new(&metrics),
        });
        let (stop, stopped) = watch::channel(false);
        let service = Arc::new(KafkaApi(context));
        let server = tokio::spawn(server::serve(listener, service, server_options(options, limits), stopped));
        let applier = Arc::new(Applier::new(
            Arc::new(FollowedFacts { cluster: cluster.clone(), partitions: partitions.clone() }),
            Arc::new(plugins),
            Arc::clone(&seams.random),
            Defaults {
                partitions: i32::try_from(options.settings.default_partitions).unwrap_or(i32::MAX),
                replication_factor: i16::try_from(options.settings.default_replication_factor).unwrap_or(i16::MAX),
            },
        ));
        Ok(Self { data_dir, cluster, partitions, groups, transactions, metrics, applier, stop, server, tasks })
    }

    /// The cluster's facts.
    pub fn cluster(&self) -> &ClusterHandle {
        &self.cluster
    }

    /// This node's partitions.
    pub fn partitions(&self) -> &Partitions {
        &self.partitions
    }

    /// The one that applies topic files.
    pub fn applier(&self) -> &Arc<Applier> {
        &self.applier
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Stops in order: no more requests, every log closed and synced, the mark of a clean shutdown last.
    ///
    /// # Errors
    /// What could not be closed; the next start then looks at the logs.
    pub async fn shutdown(self) -> Result<(), StorageError> {
        self.stop.send_replace(true);
        let _ = self.server.await;
        self.transactions.shutdown().await;
        self.groups.shutdown().await;
        for task in &self.tasks {
            task.abort();
        }
        let closed = self.partitions.close().await;
        self.cluster.shutdown().await;
        closed?;
        self.data_dir.mark_clean()
    }
}

/// Opens or forms the cluster that the data directory belongs to.
async fn join_cluster(
    dir: &mut DataDir,
    options: &NodeOptions,
    seams: &Seams,
    address: HostPort,
) -> Result<ClusterHandle, StartError> {
    let incarnation = incarnation(dir, options, &*seams.random)?;
    let cluster_dir = dir.path().join(CLUSTER_DIR);
    let known = dir.meta().and_then(|meta| meta.cluster_id.clone());
    let is_new = seams.disk.stat(&cluster_dir).is_err();
    if !is_new && dir.meta().and_then(|meta| meta.directory_id.as_deref()).and_then(decode_uuid).is_none() {
        return Err(StartError::NoIdentity { path: dir.path().to_owned() });
    }
    let cluster_id = if is_new { known.or_else(|| Some(cluster::new_cluster_id(&*seams.random))) } else { known };
    let meta = |cluster_id| Meta {
        cluster_id,
        node_id: Some(options.node_id.get()),
        directory_id: Some(encode_uuid(TopicId::new(incarnation))),
    };
    // Before there is a cluster: it knows the directory by its id, and a start that dies must not leave it with another one.
    if is_new {
        keep_meta(dir, meta(cluster_id.clone()))?;
    }
    let registration =
        BrokerRegistration { id: options.node_id, host: address.host, port: address.port, rack: None, incarnation };
    let cluster_options =
        ClusterOptions { cluster_id, broker: Some(registration), ..ClusterOptions::new(options.node_id, cluster_dir) };
    let cluster_seams = cluster::Seams {
        disk: Arc::clone(&seams.disk),
        offload: Arc::clone(&seams.offload),
        random: Arc::clone(&seams.random),
    };
    let cluster = Cluster::start(cluster_options, cluster_seams).await?;
    keep_meta(dir, meta(Some(cluster.cluster_id())))?;
    let adoption = Adoption {
        dir,
        disk: &*seams.disk,
        cluster: &cluster,
        node: options.node_id,
        directory: incarnation,
        keys: &options.keys,
        random: &*seams.random,
    };
    adoption.run().await?;
    Ok(cluster)
}

fn keep_meta(dir: &mut DataDir, meta: Meta) -> Result<(), StorageError> {
    if dir.meta() == Some(&meta) { Ok(()) } else { dir.set_meta(meta) }
}

/// The id of this data directory: a broker that claims the same number from another one is another broker.
fn incarnation(dir: &DataDir, options: &NodeOptions, random: &dyn Random) -> Result<Uuid, StartError> {
    let Some(meta) = dir.meta() else { return Ok(random.uuid()) };
    match meta.node_id {
        Some(found) if found != options.node_id.get() => {
            Err(StartError::OtherNode { path: dir.path().to_owned(), found, asked: options.node_id.get() })
        }
        _ => Ok(meta.directory_id.as_deref().and_then(decode_uuid).map_or_else(|| random.uuid(), TopicId::get)),
    }
}

async fn open_partitions(
    data_dir: &Arc<DataDir>,
    options: &NodeOptions,
    seams: &Seams,
    cluster: &ClusterHandle,
    plugins: &Plugins,
    counts: Arc<counters::Appends>,
) -> Result<Partitions, StartError> {
    let defaults = TopicSettings::resolve(&BTreeMap::new(), &options.keys)
        .map_err(|error| StartError::Config(error.to_string()))?;
    let partition_options = partition::Options {
        disk: Arc::clone(&seams.disk),
        data_dir: Arc::clone(data_dir),
        clock: Arc::clone(&seams.clock),
        offload: Arc::clone(&seams.offload),
        keys: options.keys.clone(),
        defaults,
        counts,
    };
    let partitions = Partitions::new(options.node_id, partition_options, Arc::new(plugins.clone()));
    partitions.follow(&cluster.image()).await;
    Ok(partitions)
}

fn cleaner_options(settings: &BrokerSettings) -> CleanerOptions {
    CleanerOptions {
        enabled: settings.cleaner_enabled,
        backoff: settings.cleaner_backoff,
        bytes_per_second: settings.cleaner_bytes_per_second,
        rounds: CleanOptions {
            table_bytes: settings.cleaner_table_bytes,
            table_load: f64::from(settings.cleaner_table_load) / 1000.0,
            io_bytes: usize::try_from(settings.cleaner_io_bytes).unwrap_or(usize::MAX),
            unfolded_bytes: UNFOLDED_BYTES,
        },
    }
}

/// Keeps the partitions in line with the cluster's facts. One that could not be opened, for want of space perhaps, is tried
/// again.
async fn follow(cluster: ClusterHandle, partitions: Partitions) {
    let mut images = cluster.watch();
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        partitions.follow(&image).await;
        let changed = if partitions.are_whole() {
            images.changed().await
        } else {
            tokio::time::timeout(OPEN_AGAIN, images.changed()).await.unwrap_or(Ok(()))
        };
        if changed.is_err() {
            return;
        }
    }
}

async fn limits(settings: &BrokerSettings) -> Result<Limits, server::net::UnknownHost> {
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let mut overrides = BTreeMap::new();
    for (host, most) in &settings.max_connections_per_ip_overrides {
        let addresses = server::net::addresses_of(host).await?;
        overrides.extend(addresses.into_iter().map(|address| (address, count(*most))));
    }
    Ok(Limits::new(count(settings.max_connections), count(settings.max_connections_per_ip), overrides))
}

/// Keeps the limits of connections and the cleaner in line with the keys that are set while the broker runs.
async fn follow_keys(
    cluster: ClusterHandle,
    options: NodeOptions,
    current: Arc<Limits>,
    cleaner: watch::Sender<CleanerOptions>,
) {
    let mut images = cluster.watch();
    let mut before = options.keys.clone();
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        let keys = options.keys.with_dynamic(image.cluster_config(), image.broker_config(options.node_id));
        if keys != before {
            if let Err(error) = take_keys(&keys, &current, &cleaner).await {
                tracing::error!(%error, "the broker's configs are not valid; what was in force stays");
            }
            before = keys;
        }
        if images.changed().await.is_err() {
            return;
        }
    }
}

async fn take_keys(keys: &BrokerKeys, current: &Limits, cleaner: &watch::Sender<CleanerOptions>) -> Result<(), String> {
    let settings = BrokerSettings::resolve(keys).map_err(|error| error.to_string())?;
    let fresh = cleaner_options(&settings);
    cleaner.send_if_modified(|options| std::mem::replace(options, fresh) != fresh);
    current.set_as(&limits(&settings).await.map_err(|error| error.to_string())?);
    Ok(())
}

fn server_options(options: &NodeOptions, limits: Arc<Limits>) -> server::Options {
    let settings = &options.settings;
    let bytes = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
    let defaults = server::Options::default();
    server::Options {
        request_max_bytes: bytes(settings.request_max_bytes),
        request_memory: settings
            .queued_request_bytes
            .map_or(defaults.request_memory, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        max_idle: settings.connections_max_idle,
        limits,
    }
}

/// The plugins of this node; those that the binary brings are put into a new cluster's registry.
async fn open_plugins(
    options: &NodeOptions,
    seams: &Seams,
    cluster: &ClusterHandle,
    metrics: &Metrics,
) -> Result<Plugins, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Plugins(error.to_string());
    let dir = options.data_dir.join(PLUGINS_DIR);
    let runtime_options = RuntimeOptions {
        cache: seams.compile_cache.then(|| dir.join("compiled")),
        interruption: seams.interruption,
        memory: options.plugin_memory,
        ..RuntimeOptions::default()
    };
    let runtime = Runtime::new(runtime_options, Arc::clone(&seams.clock), Arc::clone(&seams.random))
        .map_err(|error| failed(&error))?;
    let plugin_options = plugins::Options { dir, unfolded_bytes: UNFOLDED_BYTES };
    let (disk, clock) = (Arc::clone(&seams.disk), Arc::clone(&seams.clock));
    let plugins = Plugins::open(plugin_options, disk, clock, runtime, Arc::clone(&seams.guests), metrics.clone())
        .map_err(|error| failed(&error))?;
    let missing = plugins.missing_builtins(&cluster.image()).map_err(|error| failed(&error))?;
    if !missing.is_empty() {
        cluster.propose(Command::All(missing.into_iter().map(Command::RegisterPlugin).collect())).await?;
    }
    Ok(plugins)
}
