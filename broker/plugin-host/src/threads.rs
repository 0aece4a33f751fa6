//! Where guests run: on threads of their own, behind a seam.
//!
//! Work comes in lanes; a lane is one topic's pipeline. The lane that has used the least time goes first, and no lane may
//! hold every thread, so that a guest that burns its limit on each batch delays its own topic and hardly any other.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A piece of guest work.
pub type Job = Box<dyn FnOnce() + Send>;

/// Whom a job belongs to.
#[derive(Debug)]
pub struct Lane {
    id: u64,
}

impl Lane {
    /// A lane unlike all others.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Default for Lane {
    fn default() -> Self {
        Self::new()
    }
}

/// The seam.
pub trait GuestThreads: Send + Sync + fmt::Debug {
    /// Runs the job soon; jobs of one lane begin in order. A job that panics is gone, and nothing else with it.
    fn run(&self, lane: &Lane, job: Job);
}

/// Runs each job at once on the caller's thread: for the simulation, where fuel bounds the guests.
#[derive(Clone, Copy, Debug, Default)]
pub struct InlineThreads;

impl GuestThreads for InlineThreads {
    fn run(&self, _: &Lane, job: Job) {
        job();
    }
}

/// A bounded number of threads, started as they are needed.
#[derive(Debug)]
pub struct OsThreads {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    most: usize,
}

#[derive(Debug, Default)]
struct Queue {
    /// Lanes with work waiting or running; a lane without either is forgotten.
    lanes: Vec<LaneQueue>,
    /// The virtual time of the lane that was served last: where a new lane begins.
    now: u64,
    threads: usize,
    idle: usize,
    /// Idle threads that have been woken and have not come yet.
    called: usize,
    closed: bool,
}

struct LaneQueue {
    id: u64,
    waiting: VecDeque<Job>,
    running: usize,
    /// Nanoseconds that its jobs have run, counted from `Queue::now` when it came.
    used: u64,
}

impl fmt::Debug for LaneQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lane {}: {} waiting, {} running, {} ns", self.id, self.waiting.len(), self.running, self.used)
    }
}

/// A guest's stack is 512 KiB of this; the rest is the host's.
const STACK: usize = 2 << 20;
/// The least a job counts, so that a flood of tiny ones is not free.
const LEAST_NS: u64 = 1_000;
/// How far behind a lane may be remembered after it has nothing more to do.
const MEMORY_NS: u64 = 1_000_000_000;

impl OsThreads {
    /// At most `most` threads, and at least two: one lane never holds them all.
    pub fn new(most: usize) -> Self {
        let shared = Shared { queue: Mutex::default(), wake: Condvar::new(), most: most.max(2) };
        Self { shared: Arc::new(shared) }
    }

    /// Two threads more than there are processors: the system shares them out between guests that compute without end.
    pub fn for_this_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(4, |n| n.get() + 2))
    }
}

impl Drop for OsThreads {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl GuestThreads for OsThreads {
    fn run(&self, lane: &Lane, job: Job) {
        let mut queue = self.shared.lock();
        queue.push(lane.id, job);
        if queue.idle > queue.called {
            queue.called += 1;
            drop(queue);
            self.shared.wake.notify_one();
        } else if queue.threads < self.shared.most {
            queue.threads += 1;
            drop(queue);
            let shared = Arc::clone(&self.shared);
            let spawned =
                std::thread::Builder::new().name("guest".into()).stack_size(STACK).spawn(move || work(&shared));
            if let Err(error) = spawned {
                let mut queue = self.shared.lock();
                queue.threads -= 1;
                tracing::error!(%error, threads = queue.threads, "no thread for plugins could be started");
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, id: u64, job: Job) {
        match self.lanes.iter_mut().find(|lane| lane.id == id) {
            Some(lane) => {
                if lane.waiting.is_empty() && lane.running == 0 {
                    // Time that a lane did not want is not owed to it.
                    lane.used = lane.used.max(self.now);
                }
                lane.waiting.push_back(job);
            }
            None => self.lanes.push(LaneQueue { id, waiting: VecDeque::from([job]), running: 0, used: self.now }),
        }
    }

    /// The next job: of the lane that has used the least, among those that do not hold all threads but one.
    fn take(&mut self, most: usize) -> Option<(u64, Job)> {
        let ready = |lane: &&mut LaneQueue| !lane.waiting.is_empty() && lane.running + 1 < most;
        let lane = self.lanes.iter_mut().filter(ready).min_by_key(|lane| lane.used)?;
        let job = lane.waiting.pop_front()?;
        lane.running += 1;
        self.now = self.now.max(lane.used);
        Some((lane.id, job))
    }

    fn done(&mut self, id: u64, ns: u64) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == id) {
            lane.running -= 1;
            lane.used = lane.used.saturating_add(ns.max(LEAST_NS));
        }
        let now = self.now;
        let forgotten = |lane: &LaneQueue| lane.running == 0 && lane.waiting.is_empty() && lane.used <= now;
        self.lanes.retain(|lane| !forgotten(lane));
        // A lane that is far ahead of the others is not punished for ever.
        for lane in &mut self.lanes {
            lane.used = lane.used.min(now.saturating_add(MEMORY_NS));
        }
    }
}

fn work(shared: &Shared) {
    let mut queue = shared.lock();
    loop {
        if let Some((id, job)) = queue.take(shared.most) {
            drop(queue);
            let started = Instant::now();
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a job of a plugin panicked");
            }
            let ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            queue = shared.lock();
            queue.done(id, ns);
        } else if queue.closed {
            queue.threads -= 1;
            return;
        } else {
            queue.idle += 1;
            queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
            queue.called = queue.called.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_lane_that_burns_time_does_not_hold_up_another() {
        let threads = OsThreads::new(2);
        let (busy, quick) = (Lane::new(), Lane::new());
        let (send, receive) = mpsc::channel();
        for _ in 0..50 {
            threads.run(&busy, Box::new(|| std::thread::sleep(Duration::from_millis(20))));
        }
        let started = Instant::now();
        for _ in 0..20 {
            let send = send.clone();
            threads.run(&quick, Box::new(move || send.send(()).unwrap()));
            receive.recv().unwrap();
        }
        // Fifty jobs of the other lane take a second on its one thread.
        assert!(started.elapsed() < Duration::from_millis(400), "{:?}", started.elapsed());
    }

    #[test]
    fn jobs_of_one_lane_begin_in_order_and_a_panic_ends_only_its_job() {
        let threads = OsThreads::new(2);
        let lane = Lane::new();
        let (send, receive) = mpsc::channel();
        for i in 0..100 {
            let send = send.clone();
            threads.run(
                &lane,
                Box::new(move || {
                    if i == 50 {
                        panic!("on purpose");
                    }
                    send.send(i).unwrap();
                }),
            );
        }
        drop(send);
        assert_eq!(receive.iter().collect::<Vec<_>>(), (0..100).filter(|&i| i != 50).collect::<Vec<_>>());
    }

    #[test]
    fn the_lane_that_used_least_goes_first() {
        let mut queue = Queue::default();
        let job = || Box::new(|| {}) as Job;
        queue.push(1, job());
        assert_eq!(queue.take(4).unwrap().0, 1);
        queue.push(1, job());
        queue.done(1, 20_000_000);
        queue.push(2, job());
        queue.push(2, job());
        assert_eq!(queue.take(4).unwrap().0, 2);
        queue.done(2, 1_000_000);
        assert_eq!(queue.take(4).unwrap().0, 2);
        assert_eq!(queue.take(4).unwrap().0, 1);
        assert!(queue.take(4).is_none());
    }
}
