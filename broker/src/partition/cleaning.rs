//! What the cleaner knows of a partition.

use super::error::AppendError;
use millrace_model::{Offset, Timestamp};
use millrace_storage::StorageError;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use tokio::sync::Mutex;

/// How long a log is left alone that the disk did not let clean.
const AGAIN_AFTER_MS: i64 = 30_000;

/// What the cleaner knows of a partition.
#[derive(Debug)]
pub(super) struct Cleaning {
    /// Records before it are clean; negative where that is not known.
    clean: AtomicI64,
    given_up: AtomicBool,
    /// Not before this time, after the disk has failed.
    not_before: AtomicI64,
    /// Held during a round.
    pub(super) turn: Mutex<()>,
    stopped: AtomicBool,
}

impl Default for Cleaning {
    fn default() -> Self {
        Self {
            clean: AtomicI64::new(-1),
            given_up: AtomicBool::new(false),
            not_before: AtomicI64::new(i64::MIN),
            turn: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }
}

impl Cleaning {
    /// Before which offset the records are clean.
    pub(super) fn clean(&self) -> Option<Offset> {
        Some(Offset::new(self.clean.load(Ordering::Acquire))).filter(|offset| *offset >= Offset::ZERO)
    }

    pub(super) fn set_clean(&self, offset: Offset) {
        self.clean.store(offset.get(), Ordering::Release);
    }

    /// No more rounds; returns once none is under way.
    pub(super) async fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        drop(self.turn.lock().await);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(super) fn is_free(&self, now: Timestamp) -> bool {
        !self.given_up.load(Ordering::Relaxed) && now.get() >= self.not_before.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self, partition: &str, error: &AppendError, now: Timestamp) {
        if matches!(error, AppendError::Storage(StorageError::Io { .. })) {
            tracing::warn!(partition, %error, "log cannot be cleaned now");
            self.not_before.store(now.plus_ms(AGAIN_AFTER_MS).get(), Ordering::Relaxed);
        } else if !self.given_up.swap(true, Ordering::Relaxed) {
            tracing::error!(partition, %error, "log cannot be cleaned and is left as it is");
        }
    }
}
