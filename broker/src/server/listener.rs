//! Accepts connections and gives each a task.

use super::connection::{Closed, Connection};
use super::net::{Listener, Stream};
use super::service::{ConnectionInfo, Service};
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
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
    /// How many connections there may be.
    pub limits: Arc<Limits>,
}

/// How many connections there may be at the same time; may change while they are served. Beyond the total they wait to be
/// accepted until one is closed, and beyond what their address may have they are closed, as by Kafka.
#[derive(Debug)]
pub struct Limits {
    total: AtomicUsize,
    per_address: AtomicUsize,
    overrides: ArcSwap<BTreeMap<IpAddr, usize>>,
    changed: Notify,
}

impl Limits {
    /// At most `total`, and from one address `per_address`, or what `overrides` says of it.
    pub fn new(total: usize, per_address: usize, overrides: BTreeMap<IpAddr, usize>) -> Self {
        Self {
            total: AtomicUsize::new(total),
            per_address: AtomicUsize::new(per_address),
            overrides: ArcSwap::from_pointee(overrides),
            changed: Notify::new(),
        }
    }

    /// Takes over other limits, for connections to come.
    pub fn set_as(&self, other: &Self) {
        self.total.store(other.total.load(Ordering::Relaxed), Ordering::Relaxed);
        self.per_address.store(other.per_address.load(Ordering::Relaxed), Ordering::Relaxed);
        self.overrides.store(other.overrides.load_full());
        self.changed.notify_one();
    }

    /// What holds for an address, and the key that says so.
    fn of(&self, peer: IpAddr) -> (&'static str, usize) {
        match self.overrides.load().get(&peer) {
            Some(most) => ("max.connections.per.ip.overrides", *most),
            None => ("max.connections.per.ip", self.per_address.load(Ordering::Relaxed)),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            request_max_bytes: 100 << 20,
            request_memory: 256 << 20,
            max_idle: Some(Duration::from_secs(600)),
            limits: Arc::new(Limits::new(100_000, usize::MAX, BTreeMap::new())),
        }
    }
}

/// What the connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    memory: Arc<Semaphore>,
    open: AtomicUsize,
    /// How many of them come from where. Taken once when a connection comes, and once when it goes.
    by_address: Mutex<BTreeMap<IpAddr, usize>>,
}

/// Permits are for kilobytes: tokio counts no more than 2²⁹ of them on small machines.
const PERMIT: usize = 1 << 10;

impl Shared {
    pub(super) fn new(options: Options) -> Arc<Self> {
        let memory = options.request_memory.max(options.request_max_bytes).div_ceil(PERMIT) + 1;
        Arc::new(Self {
            options,
            memory: Arc::new(Semaphore::new(memory)),
            open: AtomicUsize::new(0),
            by_address: Mutex::default(),
        })
    }

    /// Whether one more connection may be accepted.
    fn has_room(&self) -> bool {
        self.open.load(Ordering::Relaxed) < self.options.limits.total.load(Ordering::Relaxed)
    }

    /// Counts a connection in.
    ///
    /// # Errors
    /// The limit of its address that it would exceed.
    fn admit(&self, peer: IpAddr) -> Result<(), (&'static str, usize)> {
        let (key, most) = self.options.limits.of(peer);
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.get(&peer).copied().unwrap_or(0);
        if count >= most {
            return Err((key, most));
        }
        by_address.insert(peer, count + 1);
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn dismiss(&self, peer: IpAddr) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        match by_address.get_mut(&peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(by_address.remove(&peer)),
        }
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
            let has_room = shared.has_room();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                Some(_) = tasks.join_next() => {}
                () = shared.options.limits.changed.notified(), if !has_room => {}
                accepted = listener.accept(), if has_room => break accepted,
            }
        };
        let (stream, peer) = match accepted {
            // An address of the fourth version is the same one behind a socket of the sixth.
            Ok((stream, peer)) => (stream, SocketAddr::new(peer.ip().to_canonical(), peer.port())),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of descriptors: nothing is won by trying again at once.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err((key, limit)) = shared.admit(peer.ip()) {
            tracing::warn!(%peer, key, limit, "a connection too many was refused");
            service.refused();
            continue;
        }
        tasks.spawn(connection(stream, peer, id, Arc::clone(&service), Arc::clone(&shared)));
    }
}

async fn connection<S: Stream, V: Service>(stream: S, peer: SocketAddr, id: u64, service: Arc<V>, shared: Arc<Shared>) {
    let _open = Open { shared: Arc::clone(&shared), service: Arc::clone(&service), peer: peer.ip() };
    service.connections(1);
    let info = Arc::new(ConnectionInfo::new(id, peer));
    match Connection::new(stream, Arc::clone(&service), shared, info).run().await {
        Closed::ByClient => tracing::debug!(id, %peer, "connection closed by the client"),
        reason @ (Closed::Idle(_) | Closed::Io(_)) => tracing::debug!(id, %peer, %reason, "connection closed"),
        reason => {
            service.refused();
            tracing::info!(id, %peer, %reason, "connection closed");
        }
    }
}

/// Counts a connection for as long as its task lives, even if that is aborted.
struct Open<V: Service> {
    shared: Arc<Shared>,
    service: Arc<V>,
    peer: IpAddr,
}

impl<V: Service> Drop for Open<V> {
    fn drop(&mut self) {
        self.shared.dismiss(self.peer);
        self.service.connections(-1);
    }
}
