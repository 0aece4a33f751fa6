//! Why a node does not start.

use crate::cluster::{ClusterError, ProposeError};
use millrace_storage::StorageError;
use std::path::PathBuf;
use thiserror::Error;

/// Why a node does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// What says whose the data directory is has been lost, though a cluster stands in it.
    #[error(
        "{}/meta.properties is missing or damaged, and says no longer which directory of which cluster this is: put it back \
         from a copy (version=1, node.id, cluster.id, directory.id)",
        path.display()
    )]
    NoIdentity {
        /// The directory.
        path: PathBuf,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The cluster's metadata cannot be used.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The cluster refuses what a starting node tells it.
    #[error("the cluster does not take what this node tells it: {0}")]
    Propose(#[from] ProposeError),
    /// The data directory belongs to another node.
    #[error("{} belongs to node {found}, not to node {asked}: start with --node-id {found}, or with another --data-dir", path.display())]
    OtherNode {
        /// The data directory.
        path: PathBuf,
        /// Whose it is.
        found: i32,
        /// Who asks.
        asked: i32,
    },
    /// The broker's keys contradict each other.
    #[error("{0}")]
    Config(String),
    /// A socket cannot be bound.
    #[error("{option} {address}: {source}{}", if source.kind() == std::io::ErrorKind::AddrInUse { ": another program listens there; choose another port" } else { "" })]
    Listen {
        /// The option that names the address.
        option: &'static str,
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Plugins cannot run.
    #[error("plugins cannot run here: {0}")]
    Plugins(String),
}
