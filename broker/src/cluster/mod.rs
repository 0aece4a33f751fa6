//! The cluster's facts, agreed on through one raft group: a single node is a cluster
//! of one voter, on the same path as many.
//!
//! ```text
//! propose(command) ─▶ proposer ─▶ openraft ─▶ journal (write, fsync) ─▶ machine ─▶ image(), watch()
//!                     gathers what waits        one frame an entry      applies    published once
//!                     into one entry                                               an apply
//! ```
//!
//! Invariants:
//! - A proposal is answered after its entry is durable and the image that holds it is published here.
//! - The image lives in memory; what is durable is the last snapshot and the journal after it.
//! - The journal is appended to and replaced whole, never changed in place. A torn end is cut when it is
//!   opened; damage before the end is refused with the file and the offset.
//! - openraft is known to this room only. It draws its randomness from [`Random`](millrace_model::Random) and
//!   waits with tokio's timers, so that a simulation repeats itself.
//!
//! What is absent: a network. The other voters of a larger cluster will be reached through `peer`.

mod error;
mod frame;
mod handle;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod id;
mod journal;
mod log_store;
mod machine;
mod network;
mod proposer;
mod runtime;
mod snapshot;
mod types;

#[cfg(test)]
mod tests;

pub use error::{ClusterError, ProposeError};
pub use handle::{Cluster, ClusterHandle, ClusterOptions, Seams};
pub use id::{base64url, new_cluster_id};
