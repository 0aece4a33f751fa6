//! What an attachment is set up with, and what it may use.

use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Bounds on an attachment's instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory per instance.
    pub memory: u64,
    /// CPU time per call.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 16 << 20, time: Duration::from_millis(20) }
    }
}

/// Why limits are refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LimitError {
    /// Memory outside what is possible.
    #[error("limits.memory is {given} bytes; it may be {} to {} bytes", Limits::MEMORY.0, Limits::MEMORY.1)]
    Memory {
        /// The value.
        given: u64,
    },
    /// Time outside what is possible.
    #[error("limits.time is {given:?}; it may be {:?} to {:?}", Limits::TIME.0, Limits::TIME.1)]
    Time {
        /// The value.
        given: Duration,
    },
}

impl Limits {
    /// The least and the most memory: one page of linear memory holds no runtime, and wasm32 ends at 4 GiB.
    pub const MEMORY: (u64, u64) = (1 << 20, 4 << 30);
    /// The least and the most time.
    pub const TIME: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(60));

    /// Checks both.
    ///
    /// # Errors
    /// Names the limit that is out of its bounds.
    pub fn check(&self) -> Result<(), LimitError> {
        if !(Self::MEMORY.0..=Self::MEMORY.1).contains(&self.memory) {
            return Err(LimitError::Memory { given: self.memory });
        }
        if !(Self::TIME.0..=Self::TIME.1).contains(&self.time) {
            return Err(LimitError::Time { given: self.time });
        }
        Ok(())
    }
}

/// What an attachment is made with.
#[derive(Clone, Debug)]
pub struct AttachmentOptions {
    /// `name@version`, for the log and for the guest.
    pub name: Arc<str>,
    /// The topic, for the log and for the guest.
    pub topic: Arc<str>,
    /// The stage, for the guest.
    pub stage: &'static str,
    /// The guest's config, as JSON text.
    pub config: String,
    /// Bounds on each instance.
    pub limits: Limits,
}
