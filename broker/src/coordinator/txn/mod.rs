//! Transactions: who may write in which, which partitions they touch, and how they end.
//!
//! [`machine::TxnMachine`] is the pure state machine of one partition of `__transaction_state`; `decide` holds the
//! decisions about one transactional id, [`records`] are the bytes it is stored as. The runtime gives it time, a log and
//! somebody to answer to; the markers that end a transaction are written outside and reported back.

mod decide;
#[cfg(test)]
mod hostile;
pub mod machine;
pub mod records;
#[cfg(test)]
mod scenarios;
pub mod types;

pub use types::*;
