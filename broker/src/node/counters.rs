//! The server's counts, in the broker's metrics.

use crate::metrics::{Metrics, NetworkMetrics, RequestMetrics};
use crate::server::api::TABLE;
use crate::server::context;
use millrace_protocol::ApiKey;
use std::sync::Arc;

/// One set of counters for each row of the API table.
#[derive(Debug)]
pub(super) struct Requests {
    by_key: Vec<(ApiKey, RequestMetrics)>,
    network: NetworkMetrics,
}

impl Requests {
    pub(super) fn new(metrics: &Metrics) -> Arc<Self> {
        let by_key = TABLE.iter().map(|api| (api.key, metrics.request(api.key.name()))).collect();
        Arc::new(Self { by_key, network: metrics.network.clone() })
    }
}

impl context::Metrics for Requests {
    fn request(&self, key: ApiKey, bytes: usize) {
        self.network.bytes_received.inc_by(bytes as u64);
        // The table begins with the busiest keys.
        if let Some((_, counters)) = self.by_key.iter().find(|(known, _)| *known == key) {
            counters.requests.inc();
        }
    }

    fn connections(&self, change: i64) {
        self.network.connections.inc_by(change);
        if change > 0 {
            self.network.accepted.inc();
        }
    }
}
