//! What members of the consumer protocol ask and hear.

use super::GroupError;
use crate::coordinator::group::records::Partitions;
use std::sync::Arc;
use uuid::Uuid;

/// ConsumerGroupHeartbeat: joining, staying and leaving are one request. What has not changed since the last is left out.
#[derive(Clone, Debug)]
pub struct ConsumerHeartbeat {
    /// The group.
    pub group: Arc<str>,
    /// The member; from version 1 on it chooses its id itself.
    pub member_id: String,
    /// Its epoch: 0 to join, −1 to leave, −2 for a static member that will be back.
    pub epoch: i32,
    /// Set for a static member.
    pub instance_id: Option<String>,
    /// Where it is.
    pub rack: Option<String>,
    /// How long it may take to give partitions up; −1 if unchanged.
    pub rebalance_timeout_ms: i32,
    /// The topics it names.
    pub topics: Option<Vec<String>>,
    /// The expression for more topics.
    pub regex: Option<String>,
    /// The assignor it would like.
    pub assignor: Option<String>,
    /// What it has.
    pub owned: Option<Partitions>,
    /// Who asks, as the client calls itself.
    pub client_id: String,
    /// Who asks, as `/ADDRESS`.
    pub client_host: String,
    /// Whether the member must have an id (version 1 on).
    pub requires_member_id: bool,
    /// Where the id of a member without one comes from.
    pub fresh: Uuid,
}

/// The answer to a [`ConsumerHeartbeat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The member's id.
    pub member_id: String,
    /// Its epoch now.
    pub epoch: i32,
    /// When to ask again; 0 for who has left.
    pub heartbeat_interval_ms: i32,
    /// What it may have; none where that has not changed.
    pub assignment: Option<Partitions>,
}

/// A refusal, and why in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub error: GroupError,
    /// For whoever reads the client's log; none where the code says it all.
    pub message: Option<String>,
}

impl Refusal {
    /// A refusal in words.
    pub fn new(error: GroupError, message: impl Into<String>) -> Self {
        Self { error, message: Some(message.into()) }
    }
}

impl From<GroupError> for Refusal {
    fn from(error: GroupError) -> Self {
        Self { error, message: None }
    }
}
