//! Coordinators: they take a request and give back records and an answer, and never touch a log.

pub mod group;
pub mod groups;
mod markers;
pub mod producer_ids;
pub mod runtime;
pub mod transactions;
pub mod txn;
