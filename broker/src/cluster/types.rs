//! What openraft is told about our types.

use super::runtime::SeamedRuntime;
use millrace_metadata::{ApplyError, Command, Response};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Cursor;
use std::sync::Arc;

/// The commands of one raft entry: everything that waited while the last one was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Proposal {
    pub(super) commands: Arc<Vec<Command>>,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands", self.commands.len())
    }
}

/// What the commands of one entry did, in their order.
pub(super) type Outcome = Vec<Result<Response, ApplyError>>;

openraft::declare_raft_types!(
    /// The types of the metadata group.
    pub(super) Types:
        D = Proposal,
        R = Outcome,
        NodeId = u64,
        Node = openraft::BasicNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = SeamedRuntime,
);

pub(super) type Entry = openraft::Entry<Types>;
pub(super) type LogId = openraft::LogId<u64>;
pub(super) type Vote = openraft::Vote<u64>;
pub(super) type Raft = openraft::Raft<Types>;
pub(super) type StorageError = openraft::StorageError<u64>;
pub(super) type StoredMembership = openraft::StoredMembership<u64, openraft::BasicNode>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<u64, openraft::BasicNode>;
