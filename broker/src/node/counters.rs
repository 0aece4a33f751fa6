//! What the server and the partitions count, in the broker's metrics.

use crate::metrics::{LogMetrics, Metrics, NetworkMetrics};
use crate::partition::Counts;
use crate::server::api::TABLE;
use crate::server::context;
use millrace_protocol::ApiKey;
use prometheus_client::metrics::counter::Counter;
use std::sync::Arc;

/// One set of counters for each row of the API table.
#[derive(Debug)]
pub(super) struct Requests {
    by_key: Vec<(ApiKey, Counter)>,
    network: NetworkMetrics,
}

impl Requests {
    pub(super) fn new(metrics: &Metrics) -> Arc<Self> {
        let by_key = TABLE.iter().map(|api| (api.key, metrics.requests(api.key.name()))).collect();
        Arc::new(Self { by_key, network: metrics.network.clone() })
    }
}

impl context::Metrics for Requests {
    fn request(&self, key: ApiKey, bytes: usize) {
        self.network.bytes_received.inc_by(bytes as u64);
        // The table begins with the busiest keys.
        if let Some((_, requests)) = self.by_key.iter().find(|(known, _)| *known == key) {
            requests.inc();
        }
    }

    fn connections(&self, change: i64) {
        self.network.connections.inc_by(change);
        if change > 0 {
            self.network.accepted.inc();
        }
    }

    fn refused(&self) {
        self.network.refused.inc();
    }

    fn sent(&self, bytes: u64) {
        self.network.bytes_sent.inc_by(bytes);
    }
}

/// What all partitions append.
#[derive(Debug)]
pub(super) struct Appends(pub(super) LogMetrics);

impl Counts for Appends {
    fn appended(&self, batches: u64, records: u64, bytes: u64) {
        self.0.batches.inc_by(batches);
        self.0.records.inc_by(records);
        self.0.bytes.inc_by(bytes);
    }

    fn failed(&self) {
        self.0.failures.inc();
    }
}
