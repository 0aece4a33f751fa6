//! The epoch tick: interrupts guests that run too long. It stands still while no guest runs, so that an idle broker uses
//! no CPU.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::Thread;
use std::time::Duration;
use wasmtime::Engine;

/// Ticks without a guest after which the thread sleeps until one comes. Waking it costs a system call, so that it should
/// not happen between two batches.
const IDLE_TICKS: u32 = 20;

/// The thread that ticks, and who is running.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
}

/// While one exists, epochs advance.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    pub(crate) fn start(engine: &Engine, tick: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (weak, engine) = (Arc::downgrade(&shared), engine.weak());
        let thread = std::thread::Builder::new().name("epoch-tick".into()).stack_size(64 << 10).spawn(move || {
            run(&weak, tick, || engine.upgrade().map(|engine| engine.increment_epoch()).is_some());
        })?;
        Ok(Self { shared, thread: thread.thread().clone() })
    }

    pub(crate) fn running(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(&self.shared)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // The thread finds that nobody holds the other end.
        self.shared = Arc::default();
        self.thread.unpark();
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn run(shared: &Weak<Shared>, tick: Duration, mut advance: impl FnMut() -> bool) {
    let mut idle = 0;
    while let Some(state) = shared.upgrade() {
        if state.running.load(Ordering::SeqCst) > 0 {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle <= IDLE_TICKS {
            drop(state);
            std::thread::sleep(tick);
            if !advance() {
                return;
            }
            continue;
        }
        // Announce the sleep first, then look once more: whoever counts itself in afterwards sees the announcement.
        state.asleep.store(true, Ordering::SeqCst);
        let nobody = state.running.load(Ordering::SeqCst) == 0;
        drop(state);
        if nobody {
            std::thread::park();
        }
        if let Some(state) = shared.upgrade() {
            state.asleep.store(false, Ordering::SeqCst);
        }
        idle = 0;
    }
}
