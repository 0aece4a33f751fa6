//! A member of a classic group, and the states that a group goes through.

use crate::coordinator::group::types::Protocol;
use bytes::Bytes;

pub use crate::coordinator::runtime::machine::Token;

/// Where a group stands between two generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No members; offsets may remain.
    Empty,
    /// Members are joining the next generation.
    PreparingRebalance,
    /// The generation is fixed, the leader's assignment is awaited.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
}

impl State {
    /// Kafka's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// One member.
#[derive(Clone, Debug)]
pub struct Member {
    /// Set for a static member.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// How long it may take to rejoin.
    pub rebalance_timeout_ms: i32,
    /// Without a heartbeat for this long it is removed.
    pub session_timeout_ms: i32,
    /// The protocols it offers, in its order of preference.
    pub protocols: Vec<Protocol>,
    /// What the leader gave it.
    pub assignment: Bytes,
    /// Its parked JoinGroup.
    pub awaiting_join: Option<Token>,
    /// Its parked SyncGroup.
    pub awaiting_sync: Option<Token>,
    /// It has not seen a generation yet: its client does not know its id and sends no heartbeats.
    pub is_new: bool,
}

impl Member {
    /// Its subscription for a protocol.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|offered| offered.name == protocol).map(|p| p.metadata.clone()).unwrap_or_default()
    }

    /// Whether silence is excused: a member that waits for an answer of ours cannot send heartbeats.
    pub const fn is_excused(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }
}
