//! What can go wrong, at start and with a proposal.

use millrace_metadata::ApplyError;
use millrace_model::NodeId;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why the cluster's state could not be opened.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// The disk said no.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes that nobody here wrote, in a place where a crash does not leave any.
    #[error("{} is damaged at offset {offset}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The directory belongs to another node.
    #[error("{} belongs to node {found}, this is node {asked}", path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: u64,
        /// Who asks.
        asked: NodeId,
    },
    /// The directory belongs to another cluster.
    #[error("{} belongs to the cluster {found}, not to {asked}", path.display())]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// The cluster it belongs to.
        found: String,
        /// The cluster that was expected.
        asked: String,
    },
    /// Negative numbers name no node.
    #[error("{id} is not a node id")]
    NodeId {
        /// The number.
        id: NodeId,
    },
    /// The registration of this node was refused.
    #[error("this node could not register: {0}")]
    Register(#[from] ProposeError),
    /// The raft core did not start.
    #[error("the metadata log did not start: {reason}")]
    Raft {
        /// Why.
        reason: String,
    },
}

/// Why a proposal has no answer, or this one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// The facts do not allow it.
    #[error(transparent)]
    Refused(#[from] ApplyError),
    /// Another node has to be asked.
    #[error("this node is not the controller")]
    NotController {
        /// Who is, where that is known.
        controller: Option<NodeId>,
    },
    /// No answer in time; the command may still take effect.
    #[error("the command was not committed within {ms} ms")]
    TimedOut {
        /// How long was waited.
        ms: u128,
    },
    /// The node shuts down, or its metadata log has failed.
    #[error("the metadata log has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}
