//! The table of served requests.

use super::{
    Call, Context, add_offsets_to_txn, add_partitions_to_txn, alter_configs, answer, api_versions,
    consumer_group_describe, consumer_group_heartbeat, create_acls, create_partitions, create_topics, delete_acls,
    delete_groups, delete_records, delete_topics, describe_acls, describe_cluster, describe_configs, describe_groups,
    describe_log_dirs, describe_producers, describe_topic_partitions, describe_transactions, end_txn, fetch,
    find_coordinator, heartbeat, incremental_alter_configs, init_producer_id, join_group, leave_group,
    list_config_resources, list_groups, list_offsets, list_transactions, metadata, offset_commit, offset_delete,
    offset_fetch, offset_for_leader_epoch, produce, sync_group, txn_offset_commit, write_txn_markers,
};
use crate::server::service::Answer;
use millrace_protocol::ApiKey;
use std::sync::Arc;

/// Who may ask before it is known who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Anybody: what a client asks before it authenticates.
    Unauthenticated,
    /// Who has authenticated, where the listener asks for that.
    Authenticated,
}

/// What an access rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The cluster.
    Cluster,
    /// Each topic that the request names.
    Topic,
    /// Each group that the request names.
    Group,
    /// The transactional id that the request names.
    TransactionalId,
    /// The topic, the group or the broker that a config belongs to.
    Config,
}

/// Kafka's operations, as its access rules name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Kafka's and documented there")]
pub enum Operation {
    Read,
    Write,
    Create,
    Delete,
    Describe,
    DescribeConfigs,
    Alter,
    AlterConfigs,
    IdempotentWrite,
}

/// What one must be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Free,
    /// This, with what the request names.
    Needs(Operation, Resource),
}

/// Which quota a request counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Bytes produced.
    Produce,
    /// Bytes fetched.
    Fetch,
    /// Time spent on requests.
    Request,
    /// Partitions created and deleted.
    ControllerMutation,
    /// None.
    Exempt,
}

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// The key. Its versions are [`ApiKey::versions`]: those of Kafka 4.3.
    pub key: ApiKey,
    /// Who may ask.
    pub principal: Principal,
    /// What they must be allowed to do.
    pub access: Access,
    /// What it counts against.
    pub quota: Quota,
    pub(super) handler: fn(&Arc<Context>, Call) -> Answer,
}

macro_rules! typed {
    ($room:ident) => {
        |context, call| answer(context, call, $room::handle)
    };
}

/// For a handler that answers at once; it may then look at this table itself.
macro_rules! prompt {
    ($room:ident) => {
        |context, call| answer(context, call, |asked, request| std::future::ready($room::handle(asked, request)))
    };
}

use Access::{Free, Needs};
use Principal::{Authenticated, Unauthenticated};

const fn api(
    key: ApiKey,
    principal: Principal,
    access: Access,
    quota: Quota,
    handler: fn(&Arc<Context>, Call) -> Answer,
) -> Api {
    Api { key, principal, access, quota, handler }
}

/// Every request that is served. The first two are the busiest; the rest is in the order of the keys.
#[rustfmt::skip]
pub const TABLE: &[Api] = &[
    api(ApiKey::Produce, Authenticated, Needs(Operation::Write, Resource::Topic), Quota::Produce, produce::handle),
    api(ApiKey::Fetch, Authenticated, Needs(Operation::Read, Resource::Topic), Quota::Fetch, fetch::handle),
    api(ApiKey::ListOffsets, Authenticated, Needs(Operation::Describe, Resource::Topic), Quota::Request, typed!(list_offsets)),
    api(ApiKey::Metadata, Authenticated, Needs(Operation::Describe, Resource::Topic), Quota::Request, typed!(metadata)),
    api(ApiKey::OffsetCommit, Authenticated, Needs(Operation::Read, Resource::Group), Quota::Request, typed!(offset_commit)),
    api(ApiKey::OffsetFetch, Authenticated, Needs(Operation::Describe, Resource::Group), Quota::Request, typed!(offset_fetch)),
    api(ApiKey::FindCoordinator, Authenticated, Needs(Operation::Describe, Resource::Group), Quota::Request, typed!(find_coordinator)),
    api(ApiKey::JoinGroup, Authenticated, Needs(Operation::Read, Resource::Group), Quota::Request, typed!(join_group)),
    api(ApiKey::Heartbeat, Authenticated, Needs(Operation::Read, Resource::Group), Quota::Request, typed!(heartbeat)),
    api(ApiKey::LeaveGroup, Authenticated, Needs(Operation::Read, Resource::Group), Quota::Request, typed!(leave_group)),
    api(ApiKey::SyncGroup, Authenticated, Needs(Operation::Read, Resource::Group), Quota::Request, typed!(sync_group)),
    api(ApiKey::DescribeGroups, Authenticated, Needs(Operation::Describe, Resource::Group), Quota::Request, typed!(describe_groups)),
    api(ApiKey::ListGroups, Authenticated, Needs(Operation::Describe, Resource::Group), Quota::Request, typed!(list_groups)),
    api(ApiKey::ApiVersions, Unauthenticated, Free, Quota::Exempt, prompt!(api_versions)),
    api(ApiKey::CreateTopics, Authenticated, Needs(Operation::Create, Resource::Topic), Quota::ControllerMutation, typed!(create_topics)),
    api(ApiKey::DeleteTopics, Authenticated, Needs(Operation::Delete, Resource::Topic), Quota::ControllerMutation, typed!(delete_topics)),
    api(ApiKey::DeleteRecords, Authenticated, Needs(Operation::Delete, Resource::Topic), Quota::Request, typed!(delete_records)),
    api(ApiKey::InitProducerId, Authenticated, Needs(Operation::IdempotentWrite, Resource::Cluster), Quota::Request, typed!(init_producer_id)),
    api(ApiKey::AddPartitionsToTxn, Authenticated, Needs(Operation::Write, Resource::TransactionalId), Quota::Request, typed!(add_partitions_to_txn)),
    api(ApiKey::AddOffsetsToTxn, Authenticated, Needs(Operation::Write, Resource::TransactionalId), Quota::Request, typed!(add_offsets_to_txn)),
    api(ApiKey::EndTxn, Authenticated, Needs(Operation::Write, Resource::TransactionalId), Quota::Request, typed!(end_txn)),
    api(ApiKey::WriteTxnMarkers, Authenticated, Needs(Operation::Alter, Resource::Cluster), Quota::Request, typed!(write_txn_markers)),
    api(ApiKey::TxnOffsetCommit, Authenticated, Needs(Operation::Write, Resource::TransactionalId), Quota::Request, typed!(txn_offset_commit)),
    api(ApiKey::OffsetForLeaderEpoch, Authenticated, Needs(Operation::Describe, Resource::Topic), Quota::Request, typed!(offset_for_leader_epoch)),
    api(ApiKey::DescribeAcls, Authenticated, Needs(Operation::Describe, Resource::Cluster), Quota::Request, typed!(describe_acls)),
    api(ApiKey::CreateAcls, Authenticated, Needs(Operation::Alter, Resource::Cluster), Quota::Request, typed!(create_acls)),
    api(ApiKey::DeleteAcls, Authenticated, Needs(Operation::Alter, Resource::Cluster), Quota::Request, typed!(delete_acls)),
    api(ApiKey::DescribeConfigs, Authenticated, Needs(Operation::DescribeConfigs, Resource::Config), Quota::Request, typed!(describe_configs)),
    api(ApiKey::AlterConfigs, Authenticated, Needs(Operation::AlterConfigs, Resource::Config), Quota::Request, typed!(alter_configs)),
    api(ApiKey::DescribeLogDirs, Authenticated, Needs(Operation::Describe, Resource::Cluster), Quota::Request, describe_log_dirs::handle),
    api(ApiKey::CreatePartitions, Authenticated, Needs(Operation::Alter, Resource::Topic), Quota::ControllerMutation, typed!(create_partitions)),
    api(ApiKey::DeleteGroups, Authenticated, Needs(Operation::Delete, Resource::Group), Quota::Request, typed!(delete_groups)),
    api(ApiKey::IncrementalAlterConfigs, Authenticated, Needs(Operation::AlterConfigs, Resource::Config), Quota::Request, typed!(incremental_alter_configs)),
    api(ApiKey::OffsetDelete, Authenticated, Needs(Operation::Delete, Resource::Group), Quota::Request, typed!(offset_delete)),
    api(ApiKey::DescribeCluster, Authenticated, Needs(Operation::Describe, Resource::Cluster), Quota::Request, typed!(describe_cluster)),
    api(ApiKey::ConsumerGroupHeartbeat, Authenticated, Needs(Operation::Read, Resource::Group), Quota::Request, typed!(consumer_group_heartbeat)),
    api(ApiKey::ConsumerGroupDescribe, Authenticated, Needs(Operation::Describe, Resource::Group), Quota::Request, typed!(consumer_group_describe)),
    api(ApiKey::ListConfigResources, Authenticated, Needs(Operation::DescribeConfigs, Resource::Cluster), Quota::Request, typed!(list_config_resources)),
    api(ApiKey::DescribeProducers, Authenticated, Needs(Operation::Read, Resource::Topic), Quota::Request, typed!(describe_producers)),
    api(ApiKey::DescribeTransactions, Authenticated, Needs(Operation::Describe, Resource::TransactionalId), Quota::Request, typed!(describe_transactions)),
    api(ApiKey::ListTransactions, Authenticated, Needs(Operation::Describe, Resource::TransactionalId), Quota::Request, typed!(list_transactions)),
    api(ApiKey::DescribeTopicPartitions, Authenticated, Needs(Operation::Describe, Resource::Topic), Quota::Request, typed!(describe_topic_partitions)),
];
