//! Numbers for operators, in Prometheus' text format.
//!
//! Counters are relaxed atomics that whoever counts holds directly: a label is looked up once, when a handler, a
//! connection or an attachment is made, never per request. The registry's lock is taken to register and to
//! scrape. Nothing is counted per record; a batch adds its numbers once.

mod plugins;
mod process;

pub use plugins::{PipelineMetrics, PluginMetrics};

use plugins::PluginFamilies;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::{Arc, Mutex, PoisonError};

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    /// Sockets and bytes.
    pub network: NetworkMetrics,
    /// Records and batches appended.
    pub log: LogMetrics,
    requests: Family<ApiLabel, Counter>,
    plugins: Arc<PluginFamilies>,
}

/// Sockets and bytes, over all connections.
#[derive(Clone, Debug, Default)]
pub struct NetworkMetrics {
    /// Connections that are open.
    pub connections: Gauge,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that were closed because of what they sent, or because there were too many.
    pub refused: Counter,
    /// Bytes of requests.
    pub bytes_received: Counter,
    /// Bytes of responses.
    pub bytes_sent: Counter,
}

/// What was appended, over all partitions.
#[derive(Clone, Debug, Default)]
pub struct LogMetrics {
    /// Batches appended.
    pub batches: Counter,
    /// Records appended.
    pub records: Counter,
    /// Bytes appended.
    pub bytes: Counter,
    /// Appends that failed because of the disk.
    pub failures: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiLabel {
    api: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// The broker's metrics, all at zero, and the process's own.
    pub fn new() -> Self {
        let metrics = Self {
            registry: Arc::default(),
            network: NetworkMetrics::default(),
            log: LogMetrics::default(),
            requests: Family::default(),
            plugins: Arc::default(),
        };
        metrics.register(|registry| {
            metrics.network.register(registry);
            metrics.log.register(registry);
            registry.register("millrace_requests", "Requests that have come", metrics.requests.clone());
            metrics.plugins.register(registry);
            registry.register_collector(Box::new(process::Process));
        });
        metrics
    }

    /// Lets a room add metrics of its own. Names begin with `millrace_`; the encoder adds `_total` to counters.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The requests of an API key; asked for once, when the API table is made.
    pub fn requests(&self, api: &'static str) -> Counter {
        self.requests.get_or_create_owned(&ApiLabel { api })
    }

    /// The numbers of a plugin on a topic; asked for once, when it is attached. They are shown for as long as someone
    /// holds them.
    pub fn plugin(&self, plugin: &str, topic: &str, stage: &'static str) -> Arc<PluginMetrics> {
        self.plugins.attachment(plugin, topic, stage)
    }

    /// The numbers of a topic's pipeline; asked for once, when it is made.
    pub fn pipeline(&self, topic: &str) -> Arc<PipelineMetrics> {
        self.plugins.pipeline(topic)
    }

    /// All metrics as text, of the type [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string does not fail; a collector that does is a scrape that ends early.
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
            tracing::warn!(%error, "the metrics could not be written in full");
        }
        text
    }
}

impl NetworkMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("millrace_connections", "Open client connections", self.connections.clone());
        registry.register("millrace_connections_accepted", "Accepted client connections", self.accepted.clone());
        registry.register("millrace_connections_refused", "Connections closed by the broker", self.refused.clone());
        registry.register("millrace_received_bytes", "Bytes of requests", self.bytes_received.clone());
        registry.register("millrace_sent_bytes", "Bytes of responses", self.bytes_sent.clone());
    }
}

impl LogMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("millrace_appended_batches", "Batches appended", self.batches.clone());
        registry.register("millrace_appended_records", "Records appended", self.records.clone());
        registry.register("millrace_appended_bytes", "Bytes appended", self.bytes.clone());
        registry.register("millrace_append_failures", "Appends the disk refused", self.failures.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_scraped() {
        let metrics = Metrics::new();
        metrics.requests("Produce").inc_by(3);
        metrics.requests("Produce").inc();
        metrics.network.connections.set(2);
        let text = metrics.encode();
        assert!(text.contains("millrace_requests_total{api=\"Produce\"} 4\n"), "{text}");
        assert!(text.contains("millrace_connections 2\n"), "{text}");
    }

    #[test]
    fn rooms_add_metrics_of_their_own() {
        let metrics = Metrics::new();
        let own = Counter::<u64>::default();
        metrics.register(|registry| registry.register("millrace_own", "Own", own.clone()));
        own.inc();
        assert!(metrics.encode().contains("millrace_own_total 1\n"));
    }

    #[test]
    fn the_process_tells_its_memory_time_and_descriptors() {
        let text = Metrics::new().encode();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes ") > 1e6);
        assert!(value("process_cpu_seconds_total ") >= 0.0);
        assert!(value("process_open_fds ") >= 3.0);
        assert!(value("process_threads ") >= 1.0);
    }
}
