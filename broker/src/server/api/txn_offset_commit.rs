//! TxnOffsetCommit (28), versions 0 to 5: stores offsets that count once the producer's transaction commits.
//!
//! - 2: leader epochs; 3: the member on whose behalf (KIP-447); 4: TRANSACTION_ABORTABLE; 5: the group's partition becomes
//!   part of the transaction by this request (KIP-890). Before that its coordinator is asked whether it is.

use super::group_wire::{number, optional, shared};
use super::txn_wire::{Patience, admit, code, producer};
use super::{Asked, group_wire};
use crate::coordinator::group::TxnOffsetCommit;
use crate::coordinator::group::{CommitPartition, CommitTopic, OffsetCommit};
use crate::coordinator::txn::TxnError;
use crate::partition::{Admission, Guard, PartitionHandle};
use millrace_metadata::Image;
use millrace_model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use millrace_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use millrace_protocol::messages::{TopicName, TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use std::collections::BTreeMap;
use std::sync::Arc;

/// From this version on the request makes the group's partition a part of the transaction (KIP-890).
const ADDS_PARTITION: i16 = 5;

/// A topic's partitions, each with its code.
type TopicCodes = (Arc<str>, Vec<(i32, i16)>);

/// Each topic once, however often the request names it: what does not exist stands first.
#[derive(Default)]
struct Codes {
    topics: Vec<TopicCodes>,
    places: BTreeMap<Arc<str>, usize>,
}

impl Codes {
    fn add(&mut self, topic: &Arc<str>, partitions: impl IntoIterator<Item = (i32, i16)>) {
        let next = self.topics.len();
        let place = *self.places.entry(Arc::clone(topic)).or_insert(next);
        match self.topics.get_mut(place) {
            Some((_, known)) => known.extend(partitions),
            None => self.topics.push((Arc::clone(topic), partitions.into_iter().collect())),
        }
    }
}

pub(super) async fn handle(asked: Asked, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let image = asked.context.cluster.image();
    let mut codes = Codes::default();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let (refused, known) = sort_out(&image, topic);
        if !refused.is_empty() {
            codes.add(&topic.name.as_str().into(), refused);
        }
        topics.extend(known);
    }
    if !topics.is_empty() {
        store(&asked, &request, topics, &mut codes).await;
    }
    let partition =
        |(index, code)| TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code);
    let topics = codes.topics.into_iter().map(|(name, partitions)| {
        let response = TxnOffsetCommitResponseTopic::default().with_name(TopicName(shared(&name)));
        response.with_partitions(partitions.into_iter().map(partition).collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

/// The partitions of a topic that do not exist, and what is left to store.
fn sort_out(image: &Image, topic: &TxnOffsetCommitRequestTopic) -> (Vec<(i32, i16)>, Option<CommitTopic>) {
    let facts = image.topic(topic.name.as_str());
    let mut refused = Vec::new();
    let mut known = Vec::with_capacity(topic.partitions.len());
    for partition in &topic.partitions {
        let index = partition.partition_index;
        if facts.and_then(|topic| topic.partition(PartitionId::new(index))).is_none() {
            refused.push((index, ErrorCode::UnknownTopicOrPartition.code()));
            continue;
        }
        known.push(CommitPartition {
            partition: index,
            offset: Offset::new(partition.committed_offset),
            leader_epoch: LeaderEpoch::new(partition.committed_leader_epoch),
            metadata: optional(partition.committed_metadata.as_ref()),
        });
    }
    let id = facts.map_or(TopicId::NIL, |topic| topic.id);
    let known = (!known.is_empty()).then(|| CommitTopic { name: topic.name.as_str().into(), id, partitions: known });
    (refused, known)
}

async fn store(asked: &Asked, request: &TxnOffsetCommitRequest, topics: Vec<CommitTopic>, codes: &mut Codes) {
    let refuse = |codes: &mut Codes, error: ErrorCode| {
        for topic in &topics {
            codes.add(&topic.name, topic.partitions.iter().map(|partition| (partition.partition, error.code())));
        }
    };
    let guard = match admission(asked, request).await {
        Ok(guard) => guard,
        Err(error) => return refuse(codes, error),
    };
    let commit = OffsetCommit {
        group: request.group_id.as_str().into(),
        generation: request.generation_id,
        member_id: request.member_id.as_str().to_owned(),
        instance_id: optional(request.group_instance_id.as_ref()),
        retention_time_ms: -1,
        knows_group_id_not_found: false,
        topics: topics.clone(),
    };
    let producer = producer(request.producer_id.0, request.producer_epoch);
    let commit = TxnOffsetCommit { commit, producer_id: producer.id, producer_epoch: producer.epoch, guard };
    match asked.context.groups.commit_in_transaction(commit).await {
        Ok(stored) => {
            for topic in stored {
                let partitions = topic.partitions.into_iter().map(|(index, error)| (index, number(error)));
                codes.add(&topic.name, partitions);
            }
        }
        Err(error) => refuse(codes, group_wire::code(error)),
    }
}

/// Whether the partition that keeps the group is part of the transaction.
async fn admission(asked: &Asked, request: &TxnOffsetCommitRequest) -> Result<Option<Guard>, ErrorCode> {
    if request.group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let partition = asked.context.groups.partition_for(&request.group_id).await.map_err(group_wire::code)?;
    let producer = producer(request.producer_id.0, request.producer_epoch);
    if asked.version < ADDS_PARTITION && !partition.settings().verifies_transactions {
        return Ok(None);
    }
    let patience = Patience::new(asked.version >= ADDS_PARTITION);
    loop {
        let guard = match partition.admission(producer.id, producer.epoch) {
            Admission::Open => return Ok(None),
            Admission::Verify(guard) => guard,
        };
        let Some(error) = ask(asked, request, &partition).await else { return Ok(Some(guard)) };
        partition.abandon(producer.id, guard);
        if !patience.again(Some(error)).await {
            return Err(refusal(error, asked.version));
        }
    }
}

async fn ask(asked: &Asked, request: &TxnOffsetCommitRequest, partition: &PartitionHandle) -> Option<TxnError> {
    let partitions = [(Arc::clone(partition.topic()), partition.index().get())].into();
    let producer = producer(request.producer_id.0, request.producer_epoch);
    let adds = asked.version >= ADDS_PARTITION;
    let verdicts = admit(&asked.context, &request.transactional_id, producer, partitions, adds).await;
    verdicts.into_values().flatten().next()
}

fn refusal(error: TxnError, version: i16) -> ErrorCode {
    match error {
        TxnError::Fenced => ErrorCode::InvalidProducerEpoch,
        TxnError::Abortable if version < 4 => ErrorCode::InvalidTxnState,
        // What older clients do not know how to take.
        TxnError::Concurrent if version < 5 => ErrorCode::CoordinatorLoadInProgress,
        TxnError::NotCoordinator => ErrorCode::CoordinatorLoadInProgress,
        error => code(error),
    }
}
