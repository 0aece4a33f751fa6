//! What the files of the group APIs share: codes, names, and where a client comes from.

use crate::coordinator::group::GroupError;
use bytes::Bytes;
use millrace_protocol::{ErrorCode, StrBytes};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The code of an error; the edge is the only place that knows it.
pub(super) const fn code(error: GroupError) -> ErrorCode {
    match error {
        GroupError::NotAvailable => ErrorCode::CoordinatorNotAvailable,
        GroupError::Loading => ErrorCode::CoordinatorLoadInProgress,
        GroupError::NotCoordinator => ErrorCode::NotCoordinator,
        GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
        GroupError::GroupIdNotFound => ErrorCode::GroupIdNotFound,
        GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
        GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        GroupError::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
        GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
        GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
        GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
        GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        GroupError::UnstableOffsetCommit => ErrorCode::UnstableOffsetCommit,
        GroupError::SubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        GroupError::UnknownTopicId => ErrorCode::UnknownTopicId,
        GroupError::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
        GroupError::FencedMemberEpoch => ErrorCode::FencedMemberEpoch,
        GroupError::StaleMemberEpoch => ErrorCode::StaleMemberEpoch,
        GroupError::UnreleasedInstanceId => ErrorCode::UnreleasedInstanceId,
        GroupError::UnsupportedAssignor => ErrorCode::UnsupportedAssignor,
        GroupError::InvalidRegularExpression => ErrorCode::InvalidRegularExpression,
        GroupError::InvalidRequest => ErrorCode::InvalidRequest,
        GroupError::UnsupportedVersion => ErrorCode::UnsupportedVersion,
        GroupError::WrongType => ErrorCode::GroupIdNotFound,
        GroupError::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        GroupError::InvalidTransaction => ErrorCode::InvalidTxnState,
        GroupError::TooLarge => ErrorCode::UnknownServerError,
    }
}

/// The number of an error that there may be.
pub(super) const fn number(error: Option<GroupError>) -> i16 {
    match error {
        Some(error) => code(error) as i16,
        None => ErrorCode::None as i16,
    }
}

/// Text for the wire.
pub(super) fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}

/// A name for the wire.
pub(super) fn shared(value: &Arc<str>) -> StrBytes {
    text(value.to_string())
}

/// Text that may be missing, from the wire.
pub(super) fn optional(value: Option<&StrBytes>) -> Option<String> {
    value.map(|value| value.as_str().to_owned())
}

/// Read, delete, describe, describe configs, alter configs: one bit for each of Kafka's operations on groups.
pub(super) const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// Bytes of a request that outlive it: a copy, so that they do not keep the whole frame in memory.
pub(super) fn kept(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A client's address as Java writes it, which is what Kafka shows and stores: `/127.0.0.1`, `/0:0:0:0:0:0:0:1`.
pub(super) fn client_host(peer: SocketAddr) -> String {
    match peer.ip().to_canonical() {
        IpAddr::V4(ip) => format!("/{ip}"),
        IpAddr::V6(ip) => {
            let groups = ip.segments().map(|group| format!("{group:x}"));
            format!("/{}", groups.join(":"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_shown_with_their_address_as_java_writes_it() {
        assert_eq!(client_host("127.0.0.1:5".parse().unwrap()), "/127.0.0.1");
        assert_eq!(client_host("[::ffff:10.0.0.7]:5".parse().unwrap()), "/10.0.0.7");
        assert_eq!(client_host("[2001:db8::1]:5".parse().unwrap()), "/2001:db8:0:0:0:0:0:1");
    }
}
