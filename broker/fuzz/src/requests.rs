//! A request's frame: its header, then the body of any key in any version.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Message};
use millrace_protocol::messages::*;
use millrace_protocol::shape::decoded_limit;
use millrace_protocol::shapes::shape_of;
use millrace_protocol::{ApiKey, RequestHeader, Served, decode};

use crate::meter::peak_of;

/// Everything about the body of one request that must hold.
fn body<T: Served + PartialEq + std::fmt::Debug>(body: &Bytes, version: i16) {
    // What messages of errors take does not count as the request's.
    const SPARE: usize = 64 << 10;
    let (read, peak) = peak_of(|| decode::<T>(body.clone(), version));
    assert!(peak <= decoded_limit(body.len()) + SPARE, "{peak} bytes for a body of {}", body.len());
    let Ok(request) = read else { return };
    let layout = T::API.layout_version(version);
    // Versions that kafka-protocol does not know are read by hand and written by nobody.
    if !T::API.understood().contains(version) || layout > <T as Message>::VERSIONS.max || read_by_hand(T::API, version)
    {
        return;
    }
    let mut written = BytesMut::new();
    request.encode(&mut written, layout).expect("what was read can be written");
    let mut again = written.freeze();
    // Of unknown tags from 2³¹ on kafka-protocol writes the number and not the fields.
    let Ok(reread) = <T as Decodable>::decode(&mut again, layout) else { return };
    let shown = || format!("{request:?}");
    let same = again.is_empty() && reread == request;
    assert!(same || shown().contains("unknown_tagged_fields: {-"), "{} reads back as {reread:?}", shown());
}

fn read_by_hand(key: ApiKey, version: i16) -> bool {
    match key {
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => version >= 10,
        ApiKey::WriteTxnMarkers => version >= 2,
        _ => false,
    }
}

macro_rules! served {
    ($($request:ty),* $(,)?) => {
        const SERVED: &[(ApiKey, fn(&Bytes, i16))] = &[$((<$request as Served>::API, body::<$request>)),*];
    };
}

served!(
    ProduceRequest,
    FetchRequest,
    ListOffsetsRequest,
    MetadataRequest,
    OffsetCommitRequest,
    OffsetFetchRequest,
    FindCoordinatorRequest,
    JoinGroupRequest,
    HeartbeatRequest,
    LeaveGroupRequest,
    SyncGroupRequest,
    DescribeGroupsRequest,
    ListGroupsRequest,
    ApiVersionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    DeleteRecordsRequest,
    InitProducerIdRequest,
    OffsetForLeaderEpochRequest,
    AddPartitionsToTxnRequest,
    AddOffsetsToTxnRequest,
    EndTxnRequest,
    WriteTxnMarkersRequest,
    TxnOffsetCommitRequest,
    DescribeProducersRequest,
    DescribeTransactionsRequest,
    ListTransactionsRequest,
    DescribeAclsRequest,
    CreateAclsRequest,
    DeleteAclsRequest,
    DescribeConfigsRequest,
    AlterConfigsRequest,
    IncrementalAlterConfigsRequest,
    DescribeLogDirsRequest,
    ListConfigResourcesRequest,
    CreatePartitionsRequest,
    DeleteGroupsRequest,
    OffsetDeleteRequest,
    DescribeClusterRequest,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupDescribeRequest,
    DescribeTopicPartitionsRequest,
);

/// A frame without its size.
pub(crate) fn run(data: &[u8]) {
    let mut frame = Bytes::copy_from_slice(data);
    let Ok(header) = RequestHeader::split_from(&mut frame) else { return };
    assert!(frame.len() < data.len() && data.ends_with(&frame), "the body is what follows the header");
    let _ = header.client_id();
    if let Some((_, read)) = SERVED.iter().find(|(key, _)| *key == header.key) {
        read(&frame, header.version);
    }
}

/// Some body of each key in each version, behind a header.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut turn = 0_u64;
    for (key, _) in SERVED {
        let shape = shape_of(*key).unwrap();
        for version in key.understood().min..=key.understood().max {
            let mut frame = Vec::new();
            frame.extend(key.code().to_be_bytes());
            frame.extend(version.to_be_bytes());
            frame.extend([0, 0, 0, 9, 0, 2, b'm', b'e']);
            if key.is_flexible(version) {
                frame.extend([1, 7, 1, 0xaa]);
            }
            frame.extend(shape.example(version, &mut |n| {
                turn += 1;
                // Never nothing, so that one example shows most fields.
                (turn % n).max(n.saturating_sub(1).min(1))
            }));
            all.push(frame);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_is_served_is_under_the_target() {
        for key in ApiKey::ALL {
            let fuzzed = SERVED.iter().any(|(known, _)| known == key);
            assert_eq!(fuzzed, shape_of(*key).is_some(), "{key}");
        }
    }
}
