//! What members of the classic protocol ask and hear.

use super::GroupError;
use bytes::Bytes;
use std::sync::Arc;
use uuid::Uuid;

/// One assignment protocol of a member: its name, and the member's subscription in bytes the coordinator never reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// As in `range` or `cooperative-sticky`.
    pub name: String,
    /// The subscription.
    pub metadata: Bytes,
}

/// JoinGroup.
#[derive(Clone, Debug)]
pub struct JoinGroup {
    /// The group.
    pub group: Arc<str>,
    /// Empty for a member that has no id yet.
    pub member_id: String,
    /// Set by static members (KIP-345).
    pub instance_id: Option<String>,
    /// Without a heartbeat for this long the member is removed.
    pub session_timeout_ms: i32,
    /// How long the member may take to rejoin.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect` and the like.
    pub protocol_type: String,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
    /// Why the member joins, for the log.
    pub reason: Option<String>,
    /// Who asks, as the client calls itself.
    pub client_id: String,
    /// Who asks, as `/ADDRESS`.
    pub client_host: String,
    /// Whether a new member is sent back to join with the id it is given (version 4 on).
    pub requires_known_member_id: bool,
    /// Whether the client knows `skip_assignment` (version 9 on, KIP-814).
    pub supports_skipping_assignment: bool,
    /// Where the id of a new member comes from.
    pub fresh: Uuid,
}

/// One member, as the leader is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// Its subscription for the chosen protocol.
    pub metadata: Bytes,
}

/// The join phase is over for a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The member's id.
    pub member_id: String,
    /// The generation that begins.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The protocol that was chosen.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: String,
    /// The leader shall not compute an assignment.
    pub skip_assignment: bool,
    /// All members, for the leader; empty for the others.
    pub members: Vec<JoinedMember>,
}

/// The join was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    /// Why.
    pub error: GroupError,
    /// The member id that goes into the answer: the one to come back with for [`GroupError::MemberIdRequired`].
    pub member_id: String,
}

/// SyncGroup.
#[derive(Clone, Debug)]
pub struct SyncGroup {
    /// The group.
    pub group: Arc<str>,
    /// The generation the member was told.
    pub generation: i32,
    /// The member.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// What the member takes for the group's protocol type (version 5 on).
    pub protocol_type: Option<String>,
    /// What the member takes for the chosen protocol (version 5 on).
    pub protocol: Option<String>,
    /// Member id and assignment, from the leader.
    pub assignments: Vec<(String, Bytes)>,
}

/// The assignment of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The chosen protocol.
    pub protocol: Option<String>,
    /// What the leader gave this member.
    pub assignment: Bytes,
}

/// Heartbeat.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The group.
    pub group: Arc<str>,
    /// The member's generation.
    pub generation: i32,
    /// The member.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
}

/// One member that leaves. An administrator names only the instance id.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// The member, or empty.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// Why, for the log.
    pub reason: Option<String>,
}

/// LeaveGroup.
#[derive(Clone, Debug)]
pub struct LeaveGroup {
    /// The group.
    pub group: Arc<str>,
    /// Who leaves.
    pub members: Vec<Leaving>,
}

/// What became of one member of a [`LeaveGroup`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// As in the request.
    pub member_id: String,
    /// As in the request.
    pub instance_id: Option<String>,
    /// Why it could not leave.
    pub error: Option<GroupError>,
}
