//! Long polls: who wants to know when a partition has something new.
//!
//! A fetch over many partitions waits on one [`Waiter`] that it leaves with each of them; a partition with nobody waiting
//! pays one atomic load for each append. A waiter is woken once and then stays woken: the fetch looks at all of its
//! partitions again in any case.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// What one waiting request leaves with the partitions it waits for.
#[derive(Debug, Default)]
pub struct Waiter {
    notify: Notify,
}

impl Waiter {
    /// A waiter that nobody has woken.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Returns once any of the partitions has changed since the waiter was left there.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}

/// The waiters of one partition.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    // Read without the lock, so that an append with nobody waiting takes none.
    count: AtomicUsize,
    list: Mutex<Vec<Arc<Waiter>>>,
}

impl Waiters {
    /// Leaves a waiter here. The caller must look at the partition once more
    /// after this: what came before it wakes nobody.
    pub(super) fn add(&self, waiter: &Arc<Waiter>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(Arc::clone(waiter));
        self.count.store(list.len(), Ordering::SeqCst);
    }

    /// Takes a waiter away; it may be gone already.
    pub(super) fn remove(&self, waiter: &Arc<Waiter>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = list.iter().position(|w| Arc::ptr_eq(w, waiter)) {
            list.swap_remove(at);
        }
        self.count.store(list.len(), Ordering::SeqCst);
    }

    /// Wakes everybody.
    pub(super) fn wake(&self) {
        // The order that makes this safe: the end is published before this load, and a waiter is counted
        // before it looks at the end again, all of it sequentially consistent.
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for waiter in self.list.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            waiter.notify.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_between_adding_and_waiting_is_not_lost() {
        let waiters = Waiters::default();
        let waiter = Waiter::new();
        waiters.add(&waiter);
        waiters.wake();
        waiter.woken().await;
        waiters.remove(&waiter);
        assert_eq!(waiters.count.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_removed_is_not_woken() {
        let waiters = Waiters::default();
        let (gone, stays) = (Waiter::new(), Waiter::new());
        waiters.add(&gone);
        waiters.add(&stays);
        waiters.remove(&gone);
        waiters.wake();
        stays.woken().await;
        let late = tokio::time::timeout(std::time::Duration::from_secs(1), gone.woken()).await;
        assert!(late.is_err());
    }
}
