//! What a node gets from outside: the machine's own for real, simulated twins in a simulation.

use millrace_model::{Clock, Offload, Random, SystemClock, SystemRandom};
use millrace_plugin_host::{GuestThreads, Interruption, OsThreads};
use millrace_storage::io::{Disk, OsDisk};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// Everything that a node asks of the world, but for the sockets of its clients.
#[derive(Clone, Debug)]
pub struct Seams {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// Work that may block.
    pub offload: Arc<dyn Offload>,
    /// Where guests run.
    pub guests: Arc<dyn GuestThreads>,
    /// How guests are stopped.
    pub interruption: Interruption,
    /// Whether compiled plugins are kept as files, which are mapped and so must be the machine's own.
    pub compile_cache: bool,
}

impl Seams {
    /// The machine's own. `guest_threads` bounds the threads of plugins; as many as suit the machine where it is `None`.
    /// Call it within a tokio runtime, on whose blocking threads offloaded work runs.
    pub fn of_this_machine(guest_threads: Option<usize>) -> Self {
        Self {
            clock: Arc::new(SystemClock::default()),
            random: Arc::new(SystemRandom),
            disk: Arc::new(OsDisk),
            offload: Arc::new(BlockingThreads(Handle::current())),
            guests: Arc::new(guest_threads.map_or_else(OsThreads::for_this_machine, OsThreads::new)),
            interruption: Interruption::Epochs { tick: Duration::from_millis(5) },
            compile_cache: true,
        }
    }
}

/// tokio's threads for blocking work.
#[derive(Debug)]
struct BlockingThreads(Handle);

impl Offload for BlockingThreads {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        drop(self.0.spawn_blocking(job));
    }
}
