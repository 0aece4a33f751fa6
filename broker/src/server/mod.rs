//! The Kafka listener: sockets, frames, and one table of the requests that are served.
//!
//! ```text
//! listener -> connection (one task each) -> service (the API table) -> the rooms below
//!                  |  frames in, answers out, in order
//!                  net: the socket behind a seam, so that a simulated one can stand in
//! ```
//!
//! This room turns wire structs into calls of the rooms below, and their outcomes into wire structs and error codes. It
//! holds no state of its own but fetch sessions.

pub mod api;
mod connection;
pub mod context;
mod fetch_session;
mod input;
mod limits;
mod listener;
pub mod net;
mod output;
pub mod service;
#[cfg(test)]
mod tests;

pub use api::KafkaApi;
pub use context::{Context, Metrics, NoMetrics, Parts};
pub use limits::{Limits, Options};
pub use listener::serve;
pub use service::{Answer, Call, ConnectionInfo, Outcome, Reply, Service};
