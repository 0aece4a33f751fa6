//! Consumer groups and their offsets.
//!
//! [`machine::GroupMachine`] is the pure state machine of one partition of `__consumer_offsets`; [`classic`],
//! [`consumer`] and `offsets` are its parts. [`records`] are the bytes it is stored as. The runtime one floor of
//! modules up gives it time, a log and somebody to answer to.

pub mod classic;
pub mod consumer;
pub mod consumer_protocol;
mod describe;
pub mod hosted;
pub mod machine;
mod offset_store;
mod offsets;
pub mod records;
pub mod request;
#[cfg(test)]
mod scenarios;
pub mod timers;
mod transactions;
pub mod types;

pub use types::*;
