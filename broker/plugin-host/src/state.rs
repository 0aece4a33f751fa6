//! What a store holds beside its guest: who it is for, what it may take, what it has taken.

use crate::answer::Fault;
use crate::host::{Budget, Host};
use crate::limits::AttachmentOptions;
use millrace_model::{Clock, Random};
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::time::Duration;
use wasmtime::{ResourceLimiter, Result};

/// Elements of all tables of an instance: function tables, no more.
const TABLE: usize = 100_000;
/// Log lines a second.
const LINES: u32 = 50;
/// The wall time that a call may take, in multiples of its CPU time: beyond, the machine is overloaded or the guest
/// hides.
const WALL: u32 = 50;

/// What the host keeps beside a guest.
pub(crate) struct State {
    pub(crate) plugin: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    /// The last line of level error in this call.
    pub(crate) last_error: Option<String>,
    pub(crate) memory: Memory,
    log_second: i64,
    log_lines: u32,
    pub(crate) time: Duration,
    /// CPU and wall time in nanoseconds at the call's first tick.
    pub(crate) began: Option<(u64, u64)>,
}

/// Linear memory in use, held against the instance's limit and the host's.
pub(crate) struct Memory {
    pub(crate) used: u64,
    limit: u64,
    budget: Arc<Budget>,
    pub(crate) refused: Option<Fault>,
}

impl State {
    /// Of an instance that is being started: its first call may take the time of a start.
    pub(crate) fn new(host: &Host, options: &AttachmentOptions) -> Self {
        Self {
            plugin: Arc::clone(&options.name),
            topic: Arc::clone(&options.topic),
            clock: Arc::clone(&host.clock),
            random: Arc::clone(&host.random),
            last_error: None,
            memory: Memory { used: 0, limit: options.limits.memory, budget: Arc::clone(&host.budget), refused: None },
            log_second: 0,
            log_lines: 0,
            time: options.limits.time.max(host.start_time),
            began: None,
        }
    }

    pub(crate) fn may_log(&mut self) -> bool {
        let second = self.clock.now().get().div_euclid(1000);
        if second != self.log_second {
            (self.log_second, self.log_lines) = (second, 0);
        }
        self.log_lines = self.log_lines.saturating_add(1);
        self.log_lines <= LINES
    }

    /// Whether the call has used its time; called once a tick.
    pub(crate) fn is_over(&mut self) -> bool {
        let now = (nanoseconds(ClockId::ThreadCPUTime), nanoseconds(ClockId::Monotonic));
        let (cpu, wall) = *self.began.get_or_insert(now);
        let limit = u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX);
        now.0.saturating_sub(cpu) >= limit || now.1.saturating_sub(wall) >= limit.saturating_mul(WALL.into())
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        if self.used.saturating_add(more) > self.limit {
            self.refused = Some(Fault::Memory(self.limit));
            return Ok(false);
        }
        if !self.budget.take(more) {
            self.refused = Some(Fault::HostMemory(self.budget.limit()));
            return Ok(false);
        }
        self.used += more;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(desired <= TABLE)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.budget.give(self.used);
    }
}
