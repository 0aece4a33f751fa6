//! Node and topic configuration: what an operator writes, checked and typed.
//!
//! Nothing here acts. Each room owns its options; this one composes them from files and arguments, and refuses what is
//! unknown or impossible with the file, the line, the key and the reason.

pub mod bundle;
mod document;
pub mod kafka_keys;
pub mod node;
pub mod plan;
mod problem;
pub mod topic;
pub mod units;

#[cfg(test)]
mod golden;

pub use bundle::{ApplyRequest, Bundle};
pub use document::Located;
pub use node::{HostPort, NodeOptions, Overrides};
pub use plan::Plan;
pub use problem::{Place, Problem, Problems};
pub use topic::TopicFile;
