//! Transactions over the wire: what producers of both generations do, and what readers see of it.

use super::node::{Node, Stages};
use super::records::{name, produce};
use crate::peer::Peer;
use crate::server::Options;
use millrace_model::builder::BatchBuilder;
use millrace_model::record::encode::HeaderSource;
use millrace_model::{Clock, ProducerEpoch, ProducerId as Producer, SystemClock};
use millrace_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use millrace_protocol::messages::create_topics_request::CreatableTopic;
use millrace_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use millrace_protocol::messages::fetch_response::PartitionData;
use millrace_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millrace_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use millrace_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use millrace_protocol::messages::*;
use millrace_protocol::{ErrorCode, StrBytes};
use std::time::Duration;
use uuid::Uuid;

fn transactional(id: &'static str) -> TransactionalId {
    TransactionalId(StrBytes::from_static_str(id))
}

struct Writer {
    client: Peer,
    id: &'static str,
    producer: i64,
    epoch: i16,
    sequence: i32,
    topic: Uuid,
}

impl Writer {
    /// A transactional producer, and the topic that it writes to.
    async fn start(node: &Node, id: &'static str, topic: Uuid) -> Self {
        let mut client = node.client().await;
        let find = FindCoordinatorRequest::default()
            .with_key_type(1)
            .with_coordinator_keys(vec![StrBytes::from_static_str(id)]);
        let found = client.ask(&find).await.unwrap();
        assert_eq!(found.coordinators[0].error_code, 0);
        let mut writer = Self { client, id, producer: -1, epoch: -1, sequence: 0, topic };
        assert_eq!(writer.init().await, 0);
        writer
    }

    /// Until the transaction before is ended; the code.
    async fn init(&mut self) -> i16 {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional(self.id)))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        loop {
            let answer = self.client.ask(&request).await.unwrap();
            if answer.error_code != ErrorCode::ConcurrentTransactions.code() {
                (self.producer, self.epoch) = (answer.producer_id.0, answer.producer_epoch);
                self.sequence = 0;
                return answer.error_code;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn write(&mut self, version: i16, values: &[&str]) -> i16 {
        let (id, epoch) = (Producer::new(self.producer), ProducerEpoch::new(self.epoch));
        let mut builder = BatchBuilder::new().producer(id, epoch, self.sequence).transactional();
        for value in values {
            // Not an old time: beside markers of today the segments would roll by age.
            let now = SystemClock::default().now();
            builder.append(now, None, Some(value.as_bytes()), HeaderSource::None).unwrap();
        }
        let batch = builder.build().unwrap().into_bytes();
        let request = produce("t", self.topic, 0, batch).with_transactional_id(Some(transactional(self.id)));
        loop {
            let sent = self.client.send_version(version, &request).await.unwrap();
            let answer = self.client.receive(sent).await.unwrap();
            let code = answer.responses[0].partition_responses[0].error_code;
            if code == ErrorCode::NotEnoughReplicas.code() {
                continue;
            }
            if code == 0 {
                self.sequence += i32::try_from(values.len()).unwrap();
            }
            return code;
        }
    }

    async fn end(&mut self, version: i16, commit: bool) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional(self.id))
            .with_producer_id(ProducerId(self.producer))
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        let sent = self.client.send_version(version, &request).await.unwrap();
        let answer = self.client.receive(sent).await.unwrap();
        if version >= 5 && answer.error_code == 0 {
            (self.producer, self.epoch, self.sequence) = (answer.producer_id.0, answer.producer_epoch, 0);
        }
        answer.error_code
    }

    async fn add_partition(&mut self) -> i16 {
        let topic = AddPartitionsToTxnTopic::default().with_name(name("t")).with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional(self.id))
            .with_v3_and_below_producer_id(ProducerId(self.producer))
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        loop {
            let sent = self.client.send_version(3, &request).await.unwrap();
            let answer = self.client.receive(sent).await.unwrap();
            let code = answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code;
            if code != ErrorCode::ConcurrentTransactions.code() {
                return code;
            }
        }
    }
}

async fn topic(client: &mut Peer) -> Uuid {
    let topic = CreatableTopic::default().with_name(name("t")).with_num_partitions(1).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000);
    client.ask(&request).await.unwrap().topics[0].topic_id
}

/// What a reader of committed records finds from the offset on.
async fn committed(client: &mut Peer, id: Uuid, from: i64) -> PartitionData {
    let partition = FetchPartition::default().with_fetch_offset(from).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name("t")).with_topic_id(id).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_isolation_level(1)
        .with_topics(vec![topic]);
    let mut answer = client.ask(&request).await.unwrap();
    answer.responses.remove(0).partitions.remove(0)
}

/// Waits until everything up to the offset is decided.
async fn stable(client: &mut Peer, id: Uuid, upto: i64) -> PartitionData {
    for _ in 0..1000 {
        let found = committed(client, id, 0).await;
        if found.last_stable_offset == upto {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the last stable offset does not become {upto}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_read_once_it_is_committed_and_an_aborted_one_is_named() {
    let node = Node::start().await;
    let mut reader = node.client().await;
    let id = topic(&mut reader).await;
    let mut writer = Writer::start(&node, "w", id).await;
    let (producer, epoch) = (writer.producer, writer.epoch);
    assert_eq!(writer.write(12, &["a", "b"]).await, 0, "writing makes the partition part of the transaction");
    let open = committed(&mut reader, id, 0).await;
    assert_eq!((open.last_stable_offset, open.high_watermark), (0, 2));
    assert!(open.records.is_none_or(|records| records.is_empty()));
    let latest = ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(-1);
    let latest = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![latest]);
    let latest = ListOffsetsRequest::default().with_isolation_level(1).with_topics(vec![latest]);
    assert_eq!(reader.ask(&latest).await.unwrap().topics[0].partitions[0].offset, 0);

    assert_eq!(writer.end(5, true).await, 0);
    assert_eq!((writer.producer, writer.epoch), (producer, epoch + 1));
    let decided = stable(&mut reader, id, 3).await;
    assert!(decided.records.is_some_and(|records| !records.is_empty()));
    assert_eq!(decided.aborted_transactions, Some(Vec::new()));

    assert_eq!(writer.write(12, &["c"]).await, 0);
    assert_eq!(writer.end(5, false).await, 0);
    let decided = stable(&mut reader, id, 5).await;
    let aborted = decided.aborted_transactions.unwrap();
    assert_eq!(aborted.iter().map(|it| (it.producer_id.0, it.first_offset)).collect::<Vec<_>>(), [(producer, 3)]);
    let later = committed(&mut reader, id, 5).await;
    assert_eq!(later.aborted_transactions, Some(Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_client_adds_partitions_before_it_writes() {
    let node = Node::start().await;
    let mut reader = node.client().await;
    let id = topic(&mut reader).await;
    let mut writer = Writer::start(&node, "w", id).await;
    assert_eq!(writer.write(11, &["a"]).await, ErrorCode::TransactionAbortable.code());
    assert_eq!(writer.write(10, &["a"]).await, ErrorCode::InvalidTxnState.code());
    for round in 0..3 {
        assert_eq!(writer.add_partition().await, 0);
        assert_eq!(writer.write(10, &["a"]).await, 0);
        assert_eq!(writer.end(4, round % 2 == 0).await, 0);
        stable(&mut reader, id, (round + 1) * 2).await;
    }
    let mut twin = Writer::start(&node, "w", id).await;
    assert_eq!((twin.producer, twin.epoch), (writer.producer, writer.epoch + 1));
    assert_eq!(writer.write(10, &["a"]).await, ErrorCode::InvalidProducerEpoch.code(), "it is fenced");
    assert_eq!(writer.end(4, true).await, ErrorCode::ProducerFenced.code());
    assert_eq!(writer.end(1, true).await, ErrorCode::InvalidProducerEpoch.code(), "as older clients know it");
    assert_eq!(twin.write(12, &["b"]).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_verification_an_older_client_need_not_add_partitions_and_a_newer_one_still_does_by_writing() {
    let keys = [("transaction.partition.verification.enable", "false")];
    let node = Node::with(&keys, Options::default(), Stages::default()).await;
    let mut reader = node.client().await;
    let id = topic(&mut reader).await;
    let mut writer = Writer::start(&node, "w", id).await;
    assert_eq!(writer.write(10, &["a"]).await, 0);
    assert_eq!(writer.end(4, false).await, ErrorCode::InvalidTxnState.code(), "the coordinator knows of no partition");
    assert_eq!(committed(&mut reader, id, 0).await.last_stable_offset, 0, "so nobody ends it");
    assert_eq!(writer.add_partition().await, 0);
    assert_eq!(writer.write(11, &["b"]).await, 0);
    assert_eq!(writer.end(4, true).await, 0);
    stable(&mut reader, id, 3).await;
    assert_eq!(writer.write(12, &["c"]).await, 0);
    assert_eq!(writer.end(5, true).await, 0, "writing has told the coordinator");
    stable(&mut reader, id, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_committed_in_a_transaction_count_once_it_commits() {
    let node = Node::start().await;
    let mut reader = node.client().await;
    let id = topic(&mut reader).await;
    let mut writer = Writer::start(&node, "w", id).await;
    for (commit, expected) in [(false, -1), (true, 7)] {
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(7);
        let topic = TxnOffsetCommitRequestTopic::default().with_name(name("t")).with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional("w"))
            .with_group_id(GroupId(StrBytes::from_static_str("g")))
            .with_producer_id(ProducerId(writer.producer))
            .with_producer_epoch(writer.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic]);
        loop {
            let answer = writer.client.ask(&request).await.unwrap();
            match answer.topics[0].partitions[0].error_code {
                0 => break,
                code => assert_eq!(code, ErrorCode::ConcurrentTransactions.code()),
            }
        }
        let topics = offset_fetch_request::OffsetFetchRequestTopics::default()
            .with_name(name("t"))
            .with_partition_indexes(vec![0]);
        let group = offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(StrBytes::from_static_str("g")))
            .with_topics(Some(vec![topics]));
        let fetch = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
        let mut seen = Vec::new();
        for round in 0..1000 {
            let sent = reader.send_version(9, &fetch).await.unwrap();
            let answer = reader.receive(sent).await.unwrap();
            let partition = &answer.groups[0].topics[0].partitions[0];
            seen.push(partition.error_code);
            if partition.error_code == 0 {
                assert_eq!(partition.committed_offset, expected);
                break;
            }
            if round == 0 {
                assert_eq!(writer.end(5, commit).await, 0);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(seen.first(), Some(&ErrorCode::UnstableOffsetCommit.code()));
        assert_eq!(seen.last(), Some(&0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_transactions_and_end_one_that_hangs() {
    let node = Node::start().await;
    let mut reader = node.client().await;
    let id = topic(&mut reader).await;
    let mut writer = Writer::start(&node, "w-1", id).await;
    assert_eq!(writer.write(12, &["a"]).await, 0);

    let describe = DescribeTransactionsRequest::default()
        .with_transactional_ids(vec![transactional("w-1"), transactional("nobody")]);
    let described = reader.ask(&describe).await.unwrap().transaction_states;
    assert_eq!((described[0].error_code, described[0].transaction_state.as_str()), (0, "Ongoing"));
    assert_eq!(described[0].topics[0].partitions, [0]);
    assert_eq!(described[1].error_code, ErrorCode::TransactionalIdNotFound.code());

    for (pattern, states, count) in [("w-.*", &["Ongoing"][..], 1), ("w-", &[], 0), ("", &["Empty"], 0)] {
        let list = ListTransactionsRequest::default()
            .with_state_filters(states.iter().map(|state| StrBytes::from_static_str(state)).collect())
            .with_duration_filter(-1)
            .with_transactional_id_pattern(Some(StrBytes::from_static_str(pattern)));
        assert_eq!(reader.ask(&list).await.unwrap().transaction_states.len(), count, "{pattern:?} {states:?}");
    }
    let refused = ListTransactionsRequest::default()
        .with_duration_filter(-1)
        .with_transactional_id_pattern(Some(StrBytes::from_static_str("(")));
    let refused = reader.ask(&refused).await.unwrap();
    assert_eq!(refused.error_code, ErrorCode::InvalidRegularExpression.code());

    let topic =
        describe_producers_request::TopicRequest::default().with_name(name("t")).with_partition_indexes(vec![0]);
    let producers = reader.ask(&DescribeProducersRequest::default().with_topics(vec![topic])).await.unwrap();
    let producer = &producers.topics[0].partitions[0].active_producers[0];
    assert_eq!((producer.producer_id.0, producer.current_txn_start_offset), (writer.producer, 0));

    let marker = |epoch, coordinator_epoch| {
        let topic = WritableTxnMarkerTopic::default().with_name(name("t")).with_partition_indexes(vec![0]);
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(writer.producer))
            .with_producer_epoch(epoch)
            .with_coordinator_epoch(coordinator_epoch)
            .with_topics(vec![topic]);
        WriteTxnMarkersRequest::default().with_markers(vec![marker])
    };
    for (epoch, expected) in [(-1, ErrorCode::UnknownServerError.code()), (writer.epoch, 0)] {
        let sent = reader.send_version(1, &marker(epoch, 0)).await.unwrap();
        let answer = reader.receive(sent).await.unwrap();
        assert_eq!(answer.markers[0].topics[0].partitions[0].error_code, expected);
    }
    assert_eq!(stable(&mut reader, id, 2).await.aborted_transactions.unwrap().len(), 1);
}
