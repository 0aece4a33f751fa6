//! The requests that are served: one table, one file per key.
//!
//! ApiVersions is answered from this table, and a request that is not in it, or not in one of its versions, ends the
//! connection, as in Kafka. A handler takes the decoded request and gives the response struct:
//!
//! ```ignore
//! pub(super) async fn handle(asked: Asked, request: HeartbeatRequest) -> HeartbeatResponse
//! ```
//!
//! and stands in the table as `typed!(heartbeat)`. Only Produce, Fetch and DescribeLogDirs take the [`Call`] itself and write their answers
//! by hand.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_configs;
mod api_versions;
mod config_change;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_acls;
mod create_partitions;
mod create_topics;
mod delete_acls;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_acls;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod describe_transactions;
mod end_txn;
mod errors;
mod fetch;
mod find_coordinator;
mod group_wire;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_transactions;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;
mod table;
mod txn_offset_commit;
mod txn_wire;
mod write_txn_markers;

pub use super::context::Context;
pub use table::{Access, Api, Operation, Principal, Quota, Resource, TABLE};

use super::service::{Answer, Call, ConnectionInfo, Outcome, Service};
use bytes::{Bytes, BytesMut};
use millrace_protocol::{ApiKey, Served, StrBytes, decode, encode_response};
use std::future::Future;
use std::sync::Arc;

/// The service behind the listener.
#[derive(Clone, Debug)]
pub struct KafkaApi(pub Arc<Context>);

impl Service for KafkaApi {
    fn call(&self, call: Call) -> Answer {
        let key = call.header.key;
        let Some(api) = TABLE.iter().find(|api| api.key == key) else {
            return refuse(format!("{key} is not served"));
        };
        self.0.metrics.request(key, call.body.len());
        let version = call.header.version;
        if !api.key.understood().contains(version) {
            return match key {
                ApiKey::ApiVersions => api_versions::unsupported(&self.0, call),
                _ => refuse(format!("{key} version {version} is not served")),
            };
        }
        (api.handler)(&self.0, call)
    }

    fn call_together(&self, calls: Vec<Call>) -> Vec<Answer> {
        for call in &calls {
            self.0.metrics.request(call.header.key, call.body.len());
        }
        produce::handle_together(&self.0, calls)
    }

    fn may_gather(&self, call: &Call) -> bool {
        let ApiKey::Produce = call.header.key else { return false };
        ApiKey::Produce.understood().contains(call.header.version) && produce::is_plain(call)
    }

    fn connections(&self, change: i64) {
        self.0.metrics.connections(change);
    }

    fn refused(&self) {
        self.0.metrics.refused();
    }

    fn sent(&self, bytes: u64) {
        self.0.metrics.sent(bytes);
    }
}

fn refuse(reason: String) -> Answer {
    Answer::Now(Outcome::Close(reason))
}

/// What a handler knows beside the request.
#[derive(Debug)]
pub struct Asked {
    /// The rooms below.
    pub context: Arc<Context>,
    /// The request's kind.
    pub key: ApiKey,
    /// Its version.
    pub version: i16,
    /// What the client calls itself.
    pub client_id: Option<Bytes>,
    /// Who asks.
    pub connection: Arc<ConnectionInfo>,
}

impl Asked {
    /// What the client calls itself, as text; empty where it does not.
    pub fn client_id(&self) -> &str {
        self.client_id.as_deref().and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

/// Decodes the request, runs the handler, encodes its response.
pub(super) fn answer<R, F, Fut>(context: &Arc<Context>, call: Call, handle: F) -> Answer
where
    R: Served,
    F: FnOnce(Asked, R) -> Fut,
    Fut: Future<Output = R::Response> + Send + 'static,
{
    let Call { header, body, out, connection } = call;
    let request = match decode::<R>(body, header.version) {
        Ok(request) => request,
        Err(error) => return refuse(format!("{} version {}: {error}", header.key, header.version)),
    };
    let (key, version, correlation) = (header.key, header.version, header.correlation_id);
    let asked = Asked { context: Arc::clone(context), key, version, client_id: header.client_id, connection };
    let response = handle(asked, request);
    Answer::Later(Box::pin(async move { encode(out, key, version, correlation, &response.await) }))
}

fn encode<T: millrace_protocol::Encodable>(
    mut out: BytesMut,
    key: ApiKey,
    version: i16,
    correlation: i32,
    response: &T,
) -> Outcome {
    match encode_response(&mut out, key, version, correlation, response) {
        Ok(()) => Outcome::Reply(out.into()),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written");
            Outcome::Close(error.to_string())
        }
    }
}

/// Text for a response struct.
pub(super) fn text(text: impl AsRef<str>) -> StrBytes {
    StrBytes::from_string(text.as_ref().to_owned())
}
