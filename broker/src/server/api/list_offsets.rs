//! ListOffsets (2), versions 1 to 11: offsets by time, or by one of the times that have a meaning of their own.
//!
//! −1 latest, −2 earliest, −3 the record with the largest timestamp (from version 7), −4 earliest on local disk (8), −5 latest in
//! tiered storage (9), −6 earliest that is not yet there (11). Without tiered storage −4 is the earliest, −5 and −6 are
//! nowhere. Searches by time read logs, beside the I/O workers.

use super::{Asked, errors};
use crate::partition::{PartitionHandle, beside};
use futures::future::join_all;
use millrace_model::{BatchHeader, LeaderEpoch, Offset, PartitionId, Timestamp};
use millrace_protocol::ErrorCode;
use millrace_protocol::messages::ListOffsetsRequest;
use millrace_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millrace_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use millrace_storage::ReadError;
use std::collections::{BTreeMap, BTreeSet};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// An offset, its record's timestamp and its epoch; each −1 where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    offset: Offset,
    timestamp: Timestamp,
    epoch: LeaderEpoch,
}

const NOWHERE: Found = Found { offset: Offset::new(-1), timestamp: Timestamp::NONE, epoch: LeaderEpoch::NONE };

pub(super) async fn handle(asked: Asked, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let committed = request.isolation_level == 1;
    let topics = join_all(request.topics.iter().map(|topic| one_topic(&asked, topic, committed))).await;
    ListOffsetsResponse::default().with_topics(topics)
}

async fn one_topic(asked: &Asked, topic: &ListOffsetsTopic, committed: bool) -> ListOffsetsTopicResponse {
    let partitions = asked.context.partitions.topic_named(&topic.name);
    let mut times = BTreeMap::<i32, usize>::new();
    for wanted in &topic.partitions {
        *times.entry(wanted.partition_index).or_default() += 1;
    }
    // What stands there twice is refused once.
    let mut seen = BTreeSet::new();
    let once = topic.partitions.iter().filter(|wanted| seen.insert(wanted.partition_index));
    let lookups = once.map(|wanted| {
        let twice = times.get(&wanted.partition_index) != Some(&1);
        let index = PartitionId::new(wanted.partition_index);
        let handle = partitions.as_ref().and_then(|partitions| partitions.get(index)).cloned();
        async move {
            let found = match handle {
                _ if twice => Err(ErrorCode::InvalidRequest),
                Some(handle) => lookup(asked, handle, wanted, committed).await,
                None => Err(missing(asked, &topic.name, index)),
            };
            response(asked.version, wanted.partition_index, found)
        }
    });
    let lookups: Vec<_> = lookups.collect();
    ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(join_all(lookups).await)
}

/// Why this node does not have a partition.
pub(super) fn missing(asked: &Asked, topic: &str, index: PartitionId) -> ErrorCode {
    match asked.context.cluster.image().locate(topic, index) {
        Some(_) => ErrorCode::NotLeaderOrFollower,
        None => ErrorCode::UnknownTopicOrPartition,
    }
}

/// Holds the leader epoch that an asker knows against ours; a negative one is not known.
pub(super) fn check_epoch(handle: &PartitionHandle, known: i32) -> Result<(), ErrorCode> {
    match known {
        ..0 => Ok(()),
        known if known < handle.leader_epoch().get() => Err(ErrorCode::FencedLeaderEpoch),
        known if known > handle.leader_epoch().get() => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

fn response(version: i16, index: i32, found: Result<Found, ErrorCode>) -> ListOffsetsPartitionResponse {
    let (found, error) = match found {
        Ok(found) => (found, ErrorCode::None),
        Err(error) => (NOWHERE, error),
    };
    let response = ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(error.code())
        .with_offset(found.offset.get())
        .with_timestamp(found.timestamp.get());
    if version < 4 { response } else { response.with_leader_epoch(found.epoch.get()) }
}

async fn lookup(
    asked: &Asked,
    handle: PartitionHandle,
    wanted: &ListOffsetsPartition,
    committed: bool,
) -> Result<Found, ErrorCode> {
    check_epoch(&handle, wanted.current_leader_epoch)?;
    let first_version = match wanted.timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        // Times with a meaning that is still to be invented.
        ..EARLIEST_PENDING_UPLOAD => i16::MAX,
        _ => 1,
    };
    if asked.version < first_version {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let end = if committed { handle.last_stable_offset() } else { handle.high_watermark() };
    match wanted.timestamp {
        LATEST => Ok(Found { offset: end, timestamp: Timestamp::NONE, epoch: handle.leader_epoch() }),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(NOWHERE),
        time => {
            let job = move || search(&handle, time, end);
            let found = beside(&*asked.context.offload, job).await.ok_or(ErrorCode::UnknownServerError)?;
            found.map_err(|error| {
                tracing::warn!(%error, "offsets could not be looked up");
                errors::read(&error)
            })
        }
    }
}

fn search(handle: &PartitionHandle, time: i64, end: Offset) -> Result<Found, ReadError> {
    let reader = handle.reader();
    let found = match time {
        EARLIEST | EARLIEST_LOCAL => Some((reader.start_offset(), Timestamp::NONE)),
        MAX_TIMESTAMP => reader.max_timestamp()?,
        time => reader.offset_for_timestamp(Timestamp::new(time))?,
    };
    let is_earliest = matches!(time, EARLIEST | EARLIEST_LOCAL);
    match found {
        Some((offset, timestamp)) if is_earliest || offset < end => {
            // At the end of a log begins what its leader will append.
            // The record with the largest timestamp may be deleted by now; Kafka names it until its segment goes.
            let epoch = epoch_at(handle, offset.max(reader.start_offset()))?.unwrap_or_else(|| handle.leader_epoch());
            Ok(Found { offset, timestamp, epoch })
        }
        _ => Ok(NOWHERE),
    }
}

/// The epoch of the batch at an offset, if there is one.
fn epoch_at(handle: &PartitionHandle, offset: Offset) -> Result<Option<LeaderEpoch>, ReadError> {
    let reader = handle.reader();
    let slice = reader.read(offset, reader.end_offset(), 1, true)?;
    let Some(file) = slice.file() else { return Ok(None) };
    let mut header = [0; millrace_model::batch::HEADER_LEN];
    let read = file.read_at(slice.position(), &mut header).unwrap_or(0);
    let parsed = BatchHeader::parse(header.get(..read).unwrap_or_default());
    Ok(parsed.ok().map(|header| header.leader_epoch))
}
