//! Accepts connections and gives each a task.

use super::connection::{Closed, Connection};
use super::net::{Listener, Stream};
use super::service::{ConnectionInfo, Service};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// How connections are treated.
#[derive(Clone, Debug)]
pub struct Options {
    /// The largest request (`socket.request.max.bytes`).
    pub request_max_bytes: usize,
    /// Memory for requests of more than a megabyte, over all connections; at least one largest request.
    pub request_memory: usize,
    /// How long a silent connection is kept (`connections.max.idle.ms`).
    pub max_idle: Option<Duration>,
    /// Connections at the same time (`max.connections`).
    pub max_connections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            request_max_bytes: 100 << 20,
            request_memory: 256 << 20,
            max_idle: Some(Duration::from_secs(600)),
            max_connections: 100_000,
        }
    }
}

/// What the connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    memory: Arc<Semaphore>,
    open: AtomicUsize,
}

/// Permits are for kilobytes: tokio counts no more than 2²⁹ of them on small machines.
const PERMIT: usize = 1 << 10;

impl Shared {
    pub(super) fn new(options: Options) -> Arc<Self> {
        let memory = options.request_memory.max(options.request_max_bytes).div_ceil(PERMIT) + 1;
        Arc::new(Self { options, memory: Arc::new(Semaphore::new(memory)), open: AtomicUsize::new(0) })
    }

    /// Waits for memory for a frame of this size; `None` once there will be none.
    pub(super) async fn memory_for(self: Arc<Self>, size: usize) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(size.div_ceil(PERMIT)).unwrap_or(u32::MAX);
        Arc::clone(&self.memory).acquire_many_owned(permits).await.ok()
    }
}

/// Accepts and serves connections until `stop` turns true, then drops those that are open.
pub async fn serve<L: Listener, V: Service>(
    mut listener: L,
    service: Arc<V>,
    options: Options,
    mut stop: watch::Receiver<bool>,
) {
    let shared = Shared::new(options);
    let mut tasks = JoinSet::new();
    for id in 0.. {
        let accepted = loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                Some(_) = tasks.join_next() => {}
                accepted = listener.accept() => break accepted,
            }
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of descriptors: nothing is won by trying again at once.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if shared.open.load(Ordering::Relaxed) >= shared.options.max_connections {
            tracing::warn!(%peer, limit = shared.options.max_connections, "a connection too many was refused");
            continue;
        }
        shared.open.fetch_add(1, Ordering::Relaxed);
        tasks.spawn(connection(stream, peer, id, Arc::clone(&service), Arc::clone(&shared)));
    }
}

async fn connection<S: Stream, V: Service>(stream: S, peer: SocketAddr, id: u64, service: Arc<V>, shared: Arc<Shared>) {
    let _open = Open { shared: Arc::clone(&shared), service: Arc::clone(&service) };
    service.connections(1);
    let info = Arc::new(ConnectionInfo::new(id, peer));
    match Connection::new(stream, service, shared, info).run().await {
        Closed::ByClient => tracing::debug!(id, %peer, "connection closed by the client"),
        reason @ (Closed::Idle(_) | Closed::Io(_)) => tracing::debug!(id, %peer, %reason, "connection closed"),
        reason => tracing::info!(id, %peer, %reason, "connection closed"),
    }
}

/// Counts a connection for as long as its task lives, even if that is aborted.
struct Open<V: Service> {
    shared: Arc<Shared>,
    service: Arc<V>,
}

impl<V: Service> Drop for Open<V> {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        self.service.connections(-1);
    }
}
