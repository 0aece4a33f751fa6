//! What the group coordinator is asked and what it answers, in types of its own: wire structs end at the edge.

mod classic;
mod consumer;
mod describe;
mod offsets;
mod options;

pub use classic::*;
pub use consumer::*;
pub use describe::*;
pub use offsets::*;
pub use options::*;

use thiserror::Error;

/// Why a request to the group coordinator was refused. Each is one of Kafka's error codes; the edge knows which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GroupError {
    /// The coordinator is stopping, or its log cannot be written right now.
    #[error("the group coordinator is not available")]
    NotAvailable,
    /// The group's partition is still being replayed.
    #[error("the group coordinator is loading the group")]
    Loading,
    /// Another broker coordinates this group.
    #[error("this broker does not coordinate the group")]
    NotCoordinator,
    /// The group id is not acceptable.
    #[error("the group id is invalid")]
    InvalidGroupId,
    /// There is no such group.
    #[error("there is no such group")]
    GroupIdNotFound,
    /// The group still has members.
    #[error("the group is not empty")]
    NonEmptyGroup,
    /// The session timeout is outside the configured bounds.
    #[error("the session timeout is outside the allowed range")]
    InvalidSessionTimeout,
    /// No protocol is left that all members support.
    #[error("the member's protocols do not fit the group's")]
    InconsistentProtocol,
    /// The group is as large as it may get.
    #[error("the group has reached its maximum size")]
    GroupMaxSizeReached,
    /// The member shall join again with the id it was given.
    #[error("the member must join with the id it was given")]
    MemberIdRequired,
    /// The group has no such member.
    #[error("the group has no such member")]
    UnknownMemberId,
    /// Another member has taken over the group instance id.
    #[error("the group instance id belongs to another member now")]
    FencedInstanceId,
    /// The generation is not the group's.
    #[error("the generation is not the group's current one")]
    IllegalGeneration,
    /// The member has to join again.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// The text stored with the offset is too long.
    #[error("the metadata stored with the offset is too long")]
    OffsetMetadataTooLarge,
    /// An open transaction has written offsets that are not decided yet.
    #[error("a transaction that is still open has written offsets")]
    UnstableOffsetCommit,
    /// The group consumes the topic.
    #[error("the group is subscribed to the topic")]
    SubscribedToTopic,
    /// There is no topic with this id.
    #[error("there is no topic with this id")]
    UnknownTopicId,
    /// There is no topic with this name.
    #[error("there is no such topic")]
    UnknownTopic,
    /// The member's epoch is not the one it is known by: it has lost its partitions and joins anew.
    #[error("the member's epoch is not the one it is known by")]
    FencedMemberEpoch,
    /// The member's epoch has gone on.
    #[error("the member's epoch is not its current one")]
    StaleMemberEpoch,
    /// Another member has the group instance id, and has not left.
    #[error("the group instance id is still in use")]
    UnreleasedInstanceId,
    /// There is no such assignor.
    #[error("there is no such assignor")]
    UnsupportedAssignor,
    /// What was given for an expression is none.
    #[error("the regular expression is invalid")]
    InvalidRegularExpression,
    /// The request makes no sense.
    #[error("the request is invalid")]
    InvalidRequest,
    /// The member's protocol asks for a newer request.
    #[error("the request is too old for the member's protocol")]
    UnsupportedVersion,
    /// The group is of another type than the request is for.
    #[error("the group is of another type")]
    WrongType,
    /// A newer epoch of the producer has written.
    #[error("a newer epoch of the producer has written")]
    ProducerFenced,
    /// The producer has no transaction open that the group is part of.
    #[error("the producer has no transaction open that the group is part of")]
    InvalidTransaction,
    /// The records are too large for the log.
    #[error("the group's state does not fit into a batch")]
    TooLarge,
}
