//! Time and randomness behind seams, so that a whole node can run in a
//! simulation from a seed.

use crate::Timestamp;
use std::fmt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// The wall clock. (Waiting is tokio's: under simulation its timers are virtual.)
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Nanoseconds since some fixed moment, never going back: for measuring durations.
    fn monotonic_ns(&self) -> u64;
}

/// Where random numbers come from.
pub trait Random: Send + Sync + fmt::Debug {
    /// Fills `into` with random bytes.
    fn fill(&self, into: &mut [u8]);

    /// A random number.
    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A random (version 4) UUID.
    fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A clock set before 1970 reads as 1970.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::new(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The randomness of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::expect_used, reason = "without randomness from the system nothing can go on safely")]
    fn fill(&self, into: &mut [u8]) {
        getrandom::fill(into).expect("the system gives random bytes");
    }
}

/// Work that may block a thread for long: fsync, reads of cold pages, opening
/// and deleting logs. It runs beside the I/O workers; under simulation, in place.
pub trait Offload: Send + Sync + fmt::Debug {
    /// Runs the job soon, on a thread that may block.
    fn run(&self, job: Box<dyn FnOnce() + Send>);
}
