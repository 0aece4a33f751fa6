//! Millrace: a broker that speaks Kafka's wire protocol and runs WebAssembly plugins inside itself.
//!
//! The upper floors of the house are the modules of this package; `broker/ARCHITECTURE.md` draws them, and a test holds
//! that imports run strictly downward.

pub mod cli;
pub mod cluster;
pub mod config;
pub mod coordinator;
pub mod http;
pub mod metrics;
pub mod node;
pub mod partition;
pub mod peer;
pub mod plugins;
pub mod server;
