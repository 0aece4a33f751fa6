//! What administrators hear of groups.

use super::GroupError;
use crate::coordinator::group::records::Partitions;
use bytes::Bytes;
use std::sync::Arc;

/// One group in an overview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOverview {
    /// The group.
    pub group: Arc<str>,
    /// Its protocol type, or empty.
    pub protocol_type: String,
    /// Its state's name, as `Stable`.
    pub state: &'static str,
    /// Its type's name, as `classic`.
    pub kind: &'static str,
}

/// One member in a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// Its subscription, in a stable group.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// One group in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// The group.
    pub group: Arc<str>,
    /// Its state's name; `Dead` for a group that is not there.
    pub state: &'static str,
    /// Its protocol type, or empty.
    pub protocol_type: String,
    /// The chosen protocol, in a stable group.
    pub protocol: String,
    /// Its members.
    pub members: Vec<MemberDescription>,
    /// Why there is nothing to tell.
    pub error: Option<GroupError>,
}

/// One member of a consumer group in a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMemberDescription {
    /// Its id.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// Where it is.
    pub rack: Option<String>,
    /// Its epoch.
    pub epoch: i32,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// The topics it names.
    pub topics: Vec<String>,
    /// The expression for more topics; empty for none.
    pub regex: String,
    /// What it has.
    pub assignment: Partitions,
    /// What it shall have.
    pub target: Partitions,
    /// Whether it speaks the classic protocol.
    pub is_classic: bool,
}

/// One consumer group in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupDescription {
    /// The group.
    pub group: Arc<str>,
    /// Its state's name.
    pub state: &'static str,
    /// Its epoch.
    pub epoch: i32,
    /// The epoch of the target assignment.
    pub assignment_epoch: i32,
    /// The assignor in use.
    pub assignor: String,
    /// Its members.
    pub members: Vec<ConsumerMemberDescription>,
    /// Why there is nothing to tell.
    pub error: Option<GroupError>,
}

impl GroupDescription {
    /// The description that says why there is none.
    pub fn refused(group: &Arc<str>, error: GroupError) -> Self {
        let is_dead = matches!(error, GroupError::GroupIdNotFound | GroupError::WrongType);
        Self {
            group: Arc::clone(group),
            state: if is_dead { "Dead" } else { "" },
            protocol_type: String::new(),
            protocol: String::new(),
            members: Vec::new(),
            error: Some(error),
        }
    }
}
