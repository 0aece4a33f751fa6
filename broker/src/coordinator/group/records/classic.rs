//! Classic groups as they are stored.

use super::wire::{Reader, RecordError, Writer};
use bytes::Bytes;
use millrace_model::Timestamp;

/// As Kafka 4.3 writes.
const GROUP_VALUE_VERSION: i16 = 3;

/// A group as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupValue {
    /// Empty for a group without one.
    pub protocol_type: String,
    /// The generation.
    pub generation: i32,
    /// The chosen protocol.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: Option<String>,
    /// When the group's state changed last; −1 if unknown.
    pub state_since: Timestamp,
    /// The members.
    pub members: Vec<MemberValue>,
}

/// A member as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberValue {
    /// Its id.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// Its rebalance timeout.
    pub rebalance_timeout_ms: i32,
    /// Its session timeout.
    pub session_timeout_ms: i32,
    /// Its subscription for the chosen protocol.
    pub subscription: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

pub(super) fn encode_group(value: &GroupValue) -> Bytes {
    let mut to = Writer::new(GROUP_VALUE_VERSION);
    to.string(&value.protocol_type)
        .i32(value.generation)
        .nullable(value.protocol.as_deref())
        .nullable(value.leader.as_deref())
        .i64(value.state_since.get())
        .i32(i32::try_from(value.members.len()).unwrap_or(i32::MAX));
    for member in &value.members {
        to.string(&member.member_id)
            .nullable(member.instance_id.as_deref())
            .string(&member.client_id)
            .string(&member.client_host)
            .i32(member.rebalance_timeout_ms)
            .i32(member.session_timeout_ms)
            .blob(&member.subscription)
            .blob(&member.assignment);
    }
    to.done()
}

pub(super) fn decode_group(bytes: &[u8]) -> Result<GroupValue, RecordError> {
    let mut from = Reader::new(bytes);
    let version = from.version("a group")?;
    let protocol_type = from.string("protocol type")?;
    let generation = from.i32("generation")?;
    let protocol = from.nullable("protocol")?;
    let leader = from.nullable("leader")?;
    let state_since = Timestamp::new(if version >= 2 { from.i64("state timestamp")? } else { -1 });
    let count = from.count("members")?;
    // No capacity is taken from the count: a member needs bytes of its own before it is believed.
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(decode_member(&mut from, version)?);
    }
    from.tagged(|_, _| ())?;
    Ok(GroupValue { protocol_type, generation, protocol, leader, state_since, members })
}

fn decode_member(from: &mut Reader<'_>, version: i16) -> Result<MemberValue, RecordError> {
    let member_id = from.string("member id")?;
    let instance_id = if version >= 3 { from.nullable("group instance id")? } else { None };
    let client_id = from.string("client id")?;
    let client_host = from.string("client host")?;
    let rebalance_timeout_ms = if version >= 1 { from.i32("rebalance timeout")? } else { -1 };
    let session_timeout_ms = from.i32("session timeout")?;
    let member = MemberValue {
        member_id,
        instance_id,
        client_id,
        client_host,
        // Before version 1 the session timeout served for both.
        rebalance_timeout_ms: if rebalance_timeout_ms == -1 { session_timeout_ms } else { rebalance_timeout_ms },
        session_timeout_ms,
        subscription: from.blob("subscription")?,
        assignment: from.blob("assignment")?,
    };
    from.tagged(|_, _| ())?;
    Ok(member)
}
