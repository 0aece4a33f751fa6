//! openraft's runtime: tokio for tasks and timers, [`Random`] for randomness.
//!
//! openraft asks for random numbers through a function without a receiver, so the source
//! travels with the task: whatever is spawned inside [`with_random`] inherits it.

use millrace_model::Random;
use openraft::{AsyncRuntime, OptionalSend, TokioInstant, TokioRuntime};
use rand::RngCore;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

tokio::task_local! {
    static RANDOM: Arc<dyn Random>;
}

/// Runs a future, and all it spawns, with this source of randomness.
pub(super) async fn with_random<F: Future>(random: Arc<dyn Random>, future: F) -> F::Output {
    RANDOM.scope(random, future).await
}

/// Random numbers from the seam. Outside of [`with_random`] they are all zero: they only
/// spread elections in time, and a fixed number is better than one that does not repeat.
#[derive(Debug)]
pub(super) struct SeamedRng(Option<Arc<dyn Random>>);

impl RngCore for SeamedRng {
    fn next_u32(&mut self) -> u32 {
        u32::try_from(self.next_u64() >> 32).unwrap_or(0)
    }

    fn next_u64(&mut self) -> u64 {
        self.0.as_ref().map_or(0, |random| random.u64())
    }

    fn fill_bytes(&mut self, into: &mut [u8]) {
        match &self.0 {
            Some(random) => random.fill(into),
            None => into.fill(0),
        }
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), rand::Error> {
        self.fill_bytes(into);
        Ok(())
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SeamedRuntime;

impl AsyncRuntime for SeamedRuntime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = SeamedRng;
    type OneshotSender<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiver<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        match RANDOM.try_with(Arc::clone) {
            Ok(random) => TokioRuntime::spawn(with_random(random, future)),
            Err(_) => TokioRuntime::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        SeamedRng(RANDOM.try_with(Arc::clone).ok())
    }

    fn oneshot<T: OptionalSend>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>) {
        TokioRuntime::oneshot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Seven;
    impl Random for Seven {
        fn fill(&self, into: &mut [u8]) {
            into.fill(7);
        }
    }

    #[tokio::test]
    async fn spawned_tasks_inherit_the_source_of_randomness() {
        let nested = || SeamedRuntime::spawn(async { SeamedRuntime::thread_rng().next_u32() });
        let inside = with_random(Arc::new(Seven), async { SeamedRuntime::spawn(async move { nested().await }).await });
        assert_eq!(inside.await.unwrap().unwrap(), 0x0707_0707);
        assert_eq!(SeamedRuntime::thread_rng().next_u64(), 0);
    }
}
