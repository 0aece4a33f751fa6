//! Anything the coordinator can be asked, and every answer.

use super::types::{
    Beat, ConsumerGroupDescription, ConsumerHeartbeat, EndOfTransaction, FetchedTopic, GroupDescription, GroupError,
    GroupOverview, Heartbeat, JoinGroup, JoinRefused, Joined, LeaveGroup, Left, OffsetCommit, OffsetDelete,
    OffsetFetch, Refusal, SyncGroup, Synced, TopicOutcome, TxnOffsetCommit,
};
use std::sync::Arc;

/// Anything the coordinator can be asked.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is named by its request type")]
pub enum Request {
    Join(Box<JoinGroup>),
    Sync(SyncGroup),
    Heartbeat(Heartbeat),
    Leave(LeaveGroup),
    ConsumerHeartbeat(Box<ConsumerHeartbeat>),
    DescribeConsumer(Vec<Arc<str>>),
    Commit(OffsetCommit),
    CommitInTransaction(TxnOffsetCommit),
    EndTransaction(EndOfTransaction),
    Fetch(OffsetFetch),
    DeleteOffsets(OffsetDelete),
    DeleteGroups(Vec<Arc<str>>),
    List { states: Vec<String>, types: Vec<String> },
    Describe(Vec<Arc<str>>),
    TopicsDeleted(Vec<Arc<str>>),
}

impl Request {
    /// Whether this may share an append with other commits.
    pub const fn is_commit(&self) -> bool {
        matches!(self, Self::Commit(_))
    }

    /// The answer that refuses it.
    pub fn refused(&self, error: GroupError) -> Reply {
        match self {
            Self::Join(join) => Reply::Join(Err(JoinRefused { error, member_id: join.member_id.clone() })),
            Self::Sync(_) => Reply::Sync(Err(error)),
            // A heartbeat to a group that is being loaded is taken on trust.
            Self::Heartbeat(_) if error == GroupError::Loading => Reply::Heartbeat(Ok(())),
            Self::Heartbeat(_) => Reply::Heartbeat(Err(error)),
            Self::Leave(_) => Reply::Leave(Err(error)),
            Self::ConsumerHeartbeat(_) => Reply::ConsumerHeartbeat(Err(error.into())),
            Self::DescribeConsumer(groups) => {
                Reply::DescribeConsumer(groups.iter().map(|id| ConsumerGroupDescription::refused(id, error)).collect())
            }
            Self::Commit(_) | Self::CommitInTransaction(_) => Reply::Commit(Err(error)),
            Self::EndTransaction(_) => Reply::EndTransaction(Err(error)),
            Self::Fetch(_) => Reply::Fetch(Err(error)),
            Self::DeleteOffsets(_) => Reply::DeleteOffsets(Err(error)),
            Self::DeleteGroups(groups) => {
                Reply::DeleteGroups(groups.iter().map(|group| (Arc::clone(group), Some(error))).collect())
            }
            Self::List { .. } => Reply::List(Err(error)),
            Self::Describe(groups) => {
                Reply::Describe(groups.iter().map(|id| GroupDescription::refused(id, error)).collect())
            }
            Self::TopicsDeleted(_) => Reply::Done,
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named by its request")]
pub enum Reply {
    Join(Result<Joined, JoinRefused>),
    Sync(Result<Synced, GroupError>),
    Heartbeat(Result<(), GroupError>),
    Leave(Result<Vec<Left>, GroupError>),
    ConsumerHeartbeat(Result<Beat, Refusal>),
    DescribeConsumer(Vec<ConsumerGroupDescription>),
    Commit(Result<Vec<TopicOutcome>, GroupError>),
    Fetch(Result<Vec<FetchedTopic>, GroupError>),
    DeleteOffsets(Result<Vec<TopicOutcome>, GroupError>),
    DeleteGroups(Vec<(Arc<str>, Option<GroupError>)>),
    List(Result<Vec<GroupOverview>, GroupError>),
    Describe(Vec<GroupDescription>),
    EndTransaction(Result<(), GroupError>),
    Done,
}

impl Reply {
    /// What is answered instead where the records could not be stored.
    pub(super) fn failed(self, error: GroupError) -> Self {
        match self {
            Self::Join(_) => Self::Join(Err(JoinRefused { error, member_id: String::new() })),
            Self::Leave(_) => Self::Leave(Err(error)),
            Self::ConsumerHeartbeat(_) => Self::ConsumerHeartbeat(Err(error.into())),
            Self::Commit(_) => Self::Commit(Err(error)),
            Self::EndTransaction(_) => Self::EndTransaction(Err(error)),
            Self::DeleteOffsets(_) => Self::DeleteOffsets(Err(error)),
            Self::DeleteGroups(groups) => {
                Self::DeleteGroups(groups.into_iter().map(|(id, before)| (id, before.or(Some(error)))).collect())
            }
            other => other,
        }
    }
}
