//! Where brokers are reached: what ends the answers to Produce and Fetch whose asker came to the wrong broker (KIP-951).

use crate::wire::{put_length, put_text, put_varint};
use bytes::{BufMut, BytesMut};
use millrace_model::NodeId;

/// Where a broker is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// The broker.
    pub node: NodeId,
    /// Its host.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
}

/// Writes the one tagged field `node_endpoints`, which ends an answer.
pub(crate) fn put_endpoints(out: &mut BytesMut, endpoints: &[Endpoint<'_>]) {
    let mut field = BytesMut::new();
    put_length(&mut field, true, endpoints.len());
    for endpoint in endpoints {
        field.put_i32(endpoint.node.get());
        put_text(&mut field, true, endpoint.host);
        field.put_i32(endpoint.port.into());
        field.put_slice(&[0, 0]); // no rack, no tags
    }
    out.put_slice(&[1, 0]);
    put_varint(out, u32::try_from(field.len()).unwrap_or(u32::MAX));
    out.put_slice(&field);
}
