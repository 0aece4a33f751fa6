//! What gives a coordinator's state machine time, a log and somebody to answer to.
//!
//! One [`shard`] per partition of the coordinator's topic: a task that owns the state machine, takes requests in their
//! order, appends the records, and answers once they are committed. A partition that nobody asks for and that holds
//! nothing has no shard.
//!
//! A state machine never sees a log and the log never sees a request: records go one way, offsets the other.

pub mod load;
pub mod log;
pub mod machine;
pub mod partition_log;
pub mod shard;
pub mod shards;
