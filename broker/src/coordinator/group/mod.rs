//! Consumer groups and their offsets.
//!
//! [`machine::GroupMachine`] is the pure state machine of one partition of `__consumer_offsets`; `rebalance`,
//! `membership` and `offsets` are its parts. [`records`] are the bytes it is stored as. The runtime one floor of
//! modules up gives it time, a log and somebody to answer to.

pub mod classic;
pub mod machine;
mod membership;
mod offsets;
mod rebalance;
pub mod records;
#[cfg(test)]
mod scenarios;
pub mod timers;
pub mod types;

pub use types::*;
