//! What all instances of a process share: the engine, the seams, the memory they may have together.

use crate::cache::Cache;
use crate::ticker::{Running, Ticker};
use millrace_model::{Clock, Random};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wasmtime::Engine;

pub(crate) struct Host {
    pub engine: Engine,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub budget: Arc<Budget>,
    pub interrupt: Interrupt,
    pub start_time: Duration,
    /// What a guest is told of its host.
    pub host: String,
    pub component_bytes: usize,
    pub cache: Option<Cache>,
    pub ticker: Option<Ticker>,
}

/// What an instance has to know of [`Interruption`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    Epochs,
    Fuel { per_millisecond: u64 },
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("budget", &self.budget).field("interrupt", &self.interrupt).finish_non_exhaustive()
    }
}

impl Host {
    /// While the answer lives, guests can be interrupted.
    pub(crate) fn running(&self) -> Option<Running<'_>> {
        self.ticker.as_ref().map(Ticker::running)
    }
}

/// Memory of all instances together.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicU64,
    limit: u64,
}

impl Budget {
    pub(crate) const fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) const fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|&used| used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(crate) fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
