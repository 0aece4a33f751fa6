//! How many connections there may be, and how much memory their requests may take.

use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

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

    /// Returns once other limits hold.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
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
    pub(super) fn has_room(&self) -> bool {
        self.open.load(Ordering::Relaxed) < self.options.limits.total.load(Ordering::Relaxed)
    }

    /// Counts a connection in.
    ///
    /// # Errors
    /// The limit of its address that it would exceed.
    pub(super) fn admit(&self, peer: IpAddr) -> Result<(), (&'static str, usize)> {
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

    pub(super) fn dismiss(&self, peer: IpAddr) {
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
