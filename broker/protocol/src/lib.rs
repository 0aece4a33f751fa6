//! Kafka's wire protocol: frames, headers, versions, error codes, and a facade over the message structs of
//! kafka-protocol.
//!
//! Nothing here knows a socket or a partition.
//!
//! Invariants: bytes from the network are walked by [`shape`] before a decoder of kafka-protocol sees them, because those
//! allocate what a length field announces; after the walk a request's structs take at most a fixed multiple of the
//! request's bytes. Nothing here panics on any bytes.

pub mod api_key;
pub mod endpoints;
pub mod error;
pub mod error_code;
pub mod fetch_response;
pub mod header;
pub mod log_dirs;
pub mod message;
pub mod produce_response;
pub mod served;
pub mod shape;
pub mod shapes;
pub mod wire;

pub use api_key::{ApiKey, Versions};
pub use error::{DecodeError, EncodeError};
pub use error_code::ErrorCode;
pub use header::{HeaderError, RequestHeader};
/// The message structs of kafka-protocol.
pub use kafka_protocol::messages;
pub use kafka_protocol::protocol::StrBytes;
pub use kafka_protocol::protocol::{Encodable, Request};
pub use message::{decode, decode_response, encode_request, encode_response};
pub use served::Served;
