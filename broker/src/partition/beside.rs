//! Jobs beside the I/O workers.

use millrace_model::Offload;
use std::future::Future;
use tokio::sync::oneshot;

/// Hands over what may block, now, and gives its outcome; `None` where the node goes down: nothing else drops a job.
pub fn beside<T: Send + 'static, J: FnOnce() -> T + Send + 'static>(
    offload: &dyn Offload,
    job: J,
) -> impl Future<Output = Option<T>> + Send + use<T, J> {
    let (done, outcome) = oneshot::channel();
    // Whoever has gone away wants no outcome.
    offload.run(Box::new(move || drop(done.send(job()))));
    async move { outcome.await.ok() }
}
