//! The transaction coordinator of a node: finds the shard of a transactional id and asks it.
//!
//! Its state is kept in `__transaction_state`.

use super::group::EndOfTransaction;
use super::groups::GroupCoordinator;
use super::markers::{AGAIN, MarkerError, MarkerWriter};
use super::producer_ids::ProducerIdBlocks;
use super::runtime::shards::{Setup, Shards, StateTopic, Surroundings};
use super::txn::machine::{Reply, Request, TxnMachine};
use super::txn::records::TxnRecord;
use super::txn::{
    AddPartitions, EndTxn, Identity, InitProducer, ListTxns, ProducerIdentity, TxnDescription, TxnError, TxnOptions,
    TxnPartition, WriteMarkers,
};
use crate::cluster::{ClusterHandle, ProposeError};
use crate::partition::Partitions;
use millrace_metadata::{Image, TRANSACTION_STATE};
use millrace_model::control::Marker;
use millrace_model::{Clock, NodeId, Offload, PartitionId, ProducerId, Random};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

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
    shards: Shards<TxnMachine>,
    writer: MarkerWriter,
    producer_ids: ProducerIdBlocks,
    max_timeout_ms: i32,
}

/// What cannot be a transactional id is refused by whoever is asked, its coordinator or not.
fn named(id: &str) -> Result<(), TxnError> {
    let possible = !id.is_empty() && TxnRecord::fits(id);
    possible.then_some(()).ok_or(TxnError::InvalidRequest)
}

impl TxnCoordinator {
    /// Starts the coordinator. Must be called within tokio.
    pub fn start(context: TxnContext) -> Self {
        let TxnContext { options, node, cluster, partitions, groups, clock, random, offload } = context;
        let images = cluster.watch();
        let topic = StateTopic {
            name: TRANSACTION_STATE,
            partitions: options.log_partitions,
            replication_factor: options.log_replication_factor,
            compression: "uncompressed",
            segment_bytes: options.log_segment_bytes,
        };
        let max_timeout_ms = options.max_timeout_ms;
        let (work, to_do) = mpsc::unbounded_channel();
        let append_timeout = Duration::from_millis(options.append_timeout_ms);
        let setup = Setup { options, append_timeout, work: Some(work) };
        let writer = MarkerWriter {
            cluster: cluster.clone(),
            partitions: partitions.clone(),
            groups,
            clock: Arc::clone(&clock),
        };
        let around = Surroundings { node, cluster, partitions, clock, random, offload };
        let shards = Shards::new(around, topic, setup);
        let inner = Arc::new(Inner { shards, writer, producer_ids: ProducerIdBlocks::default(), max_timeout_ms });
        inner.shards.run(Arc::clone(&inner).follow(images));
        inner.shards.run(Arc::clone(&inner).write_markers(to_do));
        Self(inner)
    }

    /// Stops the shards; who waits is told that the coordinator is gone. Markers that are not written yet are written by
    /// whoever replays the log.
    pub async fn shutdown(&self) {
        self.0.shards.shutdown().await;
    }

    /// A producer id that nobody was given before.
    ///
    /// # Errors
    /// Why the cluster gave none.
    pub async fn fresh_producer_id(&self) -> Result<ProducerId, ProposeError> {
        self.0.producer_ids.next(&self.0.shards.around().cluster).await
    }

    /// The broker that coordinates a transactional id. Creates the topic where it is missing.
    ///
    /// # Errors
    /// [`TxnError::NotAvailable`] as long as the topic cannot be created or its partition has no leader.
    pub async fn coordinator_of(&self, id: &str) -> Result<NodeId, TxnError> {
        Ok(self.0.shards.leader_of(id).await?)
    }

    /// Gives a transactional id its producer id and epoch.
    ///
    /// # Errors
    /// Why not.
    pub async fn init(&self, mut ask: InitProducer) -> Result<ProducerIdentity, TxnError> {
        named(&ask.id)?;
        if !(1..=self.0.max_timeout_ms).contains(&ask.timeout_ms) {
            return Err(TxnError::InvalidTimeout);
        }
        loop {
            match self.0.shards.ask(&ask.id.clone(), Request::Init(ask.clone()), false).await {
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
        named(&ask.id)?;
        match self.0.shards.ask(&ask.id.clone(), Request::Add(ask), false).await {
            Reply::Add(outcome) => outcome,
            _ => Err(TxnError::Unknown),
        }
    }

    /// Says which of the partitions are part of the transaction.
    ///
    /// # Errors
    /// Why none of them can be.
    pub async fn verify(&self, ask: AddPartitions) -> Result<Vec<(TxnPartition, Option<TxnError>)>, TxnError> {
        named(&ask.id)?;
        match self.0.shards.ask(&ask.id.clone(), Request::Verify(ask), false).await {
            Reply::Verify(outcome) => outcome,
            _ => Err(TxnError::Unknown),
        }
    }

    /// Ends a transaction; answers when its end is decided. Returns who the producer is from then on.
    ///
    /// # Errors
    /// Why not.
    pub async fn end(&self, mut ask: EndTxn) -> Result<ProducerIdentity, TxnError> {
        named(&ask.id)?;
        loop {
            match self.0.shards.ask(&ask.id.clone(), Request::End(ask.clone()), false).await {
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
        named(&id)?;
        match self.0.shards.ask(&id, Request::Describe(Arc::clone(&id)), false).await {
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
        for shard in self.0.shards.running() {
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
    /// Writes the markers of transactions that are prepared, each transaction beside the others, and reports them done.
    async fn write_markers(self: Arc<Self>, mut to_do: mpsc::UnboundedReceiver<WriteMarkers>) {
        let mut stop = self.shards.stopping();
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
        // As long as it is not stored, the transactional id is of no use to anybody.
        loop {
            let request = Request::MarkersWritten { id: Arc::clone(&id), producer };
            let Reply::MarkersWritten(Err(error)) = self.shards.ask(&id, request, false).await else { return };
            tracing::debug!(transactional_id = %id, %error, "the end of a transaction was not stored");
            // Where another broker is the coordinator, it replays the log and writes the markers again.
            let is_stopping = *self.shards.stopping().borrow();
            if is_stopping || self.shards.of(&id, false).await.is_err() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Opens what holds transactions.
    async fn follow(self: Arc<Self>, mut images: watch::Receiver<Arc<Image>>) {
        let mut image = Arc::clone(&images.borrow_and_update());
        while let Some(next) = self.shards.follow(&image, &mut images).await {
            image = next;
        }
    }
}
