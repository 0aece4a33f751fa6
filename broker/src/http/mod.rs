//! The HTTP port: health, metrics, and the changes that topic files and plugins make.
//!
//! ```text
//! GET  /health                       the process answers
//! GET  /ready                        200 once requests are served, else 503
//! GET  /metrics                      Prometheus' text form
//! GET  /v1/status                    node, cluster, brokers
//! GET  /v1/topics                    topics with configs and plugins
//! POST /v1/plan  /v1/apply           topic files in, differences out (`ApplyRequest`, `PlanAnswer`)
//! GET  /v1/plugins                   the registry
//! PUT  /v1/plugins/NAME/VERSION      a component into the registry
//! DELETE /v1/plugins/NAME/VERSION    and out of it, where no topic runs it
//! PUT  /v1/components/HASH           a component that a topic file names by its path
//! ```
//!
//! Invariants: without a token only this machine is served, by address and by the Host header (a web page that has
//! pointed a name of its own at 127.0.0.1 is refused); bodies are bounded; whatever changes something goes through
//! [`Applier`], one change at a time. This room knows no log, no raft and no wasm: what it needs of them are the traits
//! in [`apply`].

mod answer;
pub mod apply;
mod guard;
mod routes;
#[cfg(test)]
pub(crate) mod tests;

pub use answer::{
    BrokerInfo, ErrorAnswer, GenerationInfo, PlanAnswer, PluginInfo, ProblemInfo, StatusAnswer, TopicInfo,
};
pub use apply::{Applier, AtStart, Facts, PluginStore};

use millrace_model::TopicId;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The largest body of a plan or an apply.
const MAX_REQUEST: usize = 8 << 20;

/// What the port serves from.
#[derive(Clone)]
pub struct HttpContext {
    /// Plans and applies.
    pub applier: Arc<Applier>,
    /// The text of `/metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Which plugins handled which records of a topic.
    pub generations: Arc<dyn Fn(TopicId) -> Vec<GenerationInfo> + Send + Sync>,
    /// Whether requests of Kafka clients are served.
    pub ready: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What requests must carry as `Authorization: Bearer`; without one only this machine is served.
    pub token: Option<Arc<str>>,
    /// This node's number.
    pub node_id: millrace_model::NodeId,
}

impl fmt::Debug for HttpContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpContext").field("node_id", &self.node_id).finish_non_exhaustive()
    }
}

/// Serves until `stop` is done; requests that are under way are finished.
///
/// # Errors
/// The listener fails for good.
pub async fn serve(
    listener: TcpListener,
    context: HttpContext,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, routes::router(context)).with_graceful_shutdown(stop).await
}
