//! What each request answers, in all of its versions.

use super::node::Node;
use super::records::{batch, name, produce};
use crate::peer::Peer;
use crate::server::api::TABLE;
use millrace_protocol::message::common_versions;
use millrace_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millrace_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use millrace_protocol::messages::fetch_response::PartitionData;
use millrace_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millrace_protocol::messages::metadata_request::MetadataRequestTopic;
use millrace_protocol::messages::*;
use millrace_protocol::{ErrorCode, StrBytes};
use std::time::{Duration, Instant};
use uuid::Uuid;

pub(super) async fn create(client: &mut Peer, topic: &str, partitions: i32) -> Uuid {
    let topic = CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions);
    let request =
        CreateTopicsRequest::default().with_topics(vec![topic.with_replication_factor(1)]).with_timeout_ms(1000);
    let created = client.ask(&request).await.unwrap();
    assert_eq!(created.topics[0].error_code, 0, "{:?}", created.topics[0].error_message);
    created.topics[0].topic_id
}

pub(super) async fn append(client: &mut Peer, topic: &str, id: Uuid, partition: i32, values: &[&str]) -> i64 {
    let produced = client.ask(&produce(topic, id, partition, batch(values))).await.unwrap();
    let partition = &produced.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, 0, "{:?}", partition.error_message);
    partition.base_offset
}

pub(super) fn fetch(topic: &str, id: Uuid, from: &[(i32, i64)]) -> FetchRequest {
    let partitions = from.iter().map(|(partition, offset)| {
        FetchPartition::default()
            .with_partition(*partition)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20)
    });
    let topic = FetchTopic::default().with_topic(name(topic)).with_topic_id(id).with_partitions(partitions.collect());
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

pub(super) async fn read(client: &mut Peer, version: i16, request: &FetchRequest) -> FetchResponse {
    let sent = client.send_version(version, request).await.unwrap();
    client.receive(sent).await.unwrap()
}

pub(super) fn only(response: &FetchResponse) -> &PartitionData {
    &response.responses[0].partitions[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn features_that_may_be_at_level_0_are_kept_from_clients_that_break_off_at_them() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("test"))
        .with_client_software_version(StrBytes::from_static_str("1"));
    for (version, expected) in
        [(3, &["metadata.version"][..]), (4, &["group.version", "metadata.version", "transaction.version"])]
    {
        let sent = client.send_version(version, &request).await.unwrap();
        let response: ApiVersionsResponse = client.receive(sent).await.unwrap();
        let supported: Vec<_> = response.supported_features.iter().map(|feature| feature.name.as_str()).collect();
        assert_eq!(supported, expected, "version {version}");
        assert_eq!(response.finalized_features.len(), 3, "version {version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_produced_in_any_version_is_fetched_in_any_version() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let id = create(&mut client, "orders", 1).await;
    let mut stored = Vec::new();
    let versions = common_versions::<ProduceRequest>().unwrap();
    for (at, version) in (versions.min..=versions.max).enumerate() {
        let value = format!("produced in version {version}");
        let records = batch(&[&value]);
        let sent = client.send_version(version, &produce("orders", id, 0, records.clone())).await.unwrap();
        let answer = client.receive(sent).await.unwrap();
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, at as i64), "version {version}");
        stored.extend_from_slice(&(at as i64).to_be_bytes());
        stored.extend_from_slice(&records[8..12]);
        stored.extend_from_slice(&[0, 0, 0, 0]);
        stored.extend_from_slice(&records[16..]);
    }
    let versions = common_versions::<FetchRequest>().unwrap();
    for version in versions.min..=versions.max {
        let mut request = fetch("orders", id, &[(0, 0)]);
        if version < 7 {
            request.session_epoch = 0;
        }
        let answer = read(&mut client, version, &request).await;
        let partition = only(&answer);
        assert_eq!((partition.error_code, partition.high_watermark), (0, 11), "version {version}");
        assert_eq!(partition.records.as_deref(), Some(&stored[..]), "version {version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_their_order_whatever_becomes_of_one() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let id = create(&mut client, "orders", 2).await;
    for round in 0..50 {
        let mut sent = Vec::new();
        for at in 0..12 {
            let partition = if at == 5 { 7 } else { at % 2 };
            let values = [format!("{round}-{at}"), "and another".to_owned()];
            let records = batch(&values.each_ref().map(String::as_str));
            let mut request = produce("orders", id, partition, records);
            if at == 8 {
                request.acks = 9;
            }
            sent.push((at, client.send_version(9, &request).await.unwrap()));
        }
        let mut next = [round * 10; 2];
        for (at, sent) in sent {
            let answer: ProduceResponse = client.receive(sent).await.unwrap();
            let partition = &answer.responses[0].partition_responses[0];
            let got = (partition.error_code, partition.base_offset);
            let expected = match at {
                5 => (ErrorCode::UnknownTopicOrPartition.code(), -1),
                8 => (ErrorCode::InvalidRequiredAcks.code(), -1),
                _ => {
                    let next = &mut next[at as usize % 2];
                    *next += 2;
                    (0, *next - 2)
                }
            };
            assert_eq!(got, expected, "round {round}, request {at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_batches_come_back_byte_for_byte() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let id = create(&mut client, "orders", 1).await;
    let long = "x".repeat(50);
    let values: Vec<&str> = std::iter::repeat_n(long.as_str(), 60).collect();
    let records = batch(&values);
    for _ in 0..40 {
        append(&mut client, "orders", id, 0, &values).await;
    }
    let answer = read(&mut client, 17, &fetch("orders", id, &[(0, 0)])).await;
    let fetched = only(&answer).records.clone().unwrap();
    assert_eq!(fetched.len(), 40 * records.len());
    for (at, stored) in fetched.chunks(records.len()).enumerate() {
        assert_eq!(&stored[..8], (at as i64 * 60).to_be_bytes());
        assert_eq!(&stored[16..], &records[16..]);
    }
    // A limit in the middle of a batch ends the answer before it; Kafka would send a part that its client throws away.
    let mut limited = fetch("orders", id, &[(0, 60)]);
    limited.max_bytes = i32::try_from(records.len() + 7).unwrap();
    let answer = read(&mut client, 17, &limited).await;
    assert_eq!(only(&answer).records.as_ref().unwrap().len(), records.len());
    // One that does not hold a batch gives the first one whole.
    limited.max_bytes = 10;
    let answer = read(&mut client, 17, &limited).await;
    assert_eq!(only(&answer).records.as_ref().unwrap().len(), records.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_ends_when_records_come() {
    let node = Node::start().await;
    let (mut writer, mut reader) = (node.client().await, node.client().await);
    let id = create(&mut writer, "orders", 3).await;
    let mut request = fetch("orders", id, &[(0, 0), (1, 0), (2, 0)]);
    request.max_wait_ms = 20_000;
    let began = Instant::now();
    let sent = reader.send_version(17, &request).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    append(&mut writer, "orders", id, 2, &["late"]).await;
    let answer: FetchResponse = reader.receive(sent).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
    let with_records =
        answer.responses[0].partitions.iter().filter(|it| it.records.as_ref().is_some_and(|r| !r.is_empty()));
    assert_eq!(with_records.map(|it| it.partition_index).collect::<Vec<_>>(), [2]);
    // And when nothing comes, when the time is over.
    request.max_wait_ms = 50;
    request.topics[0].partitions[2].fetch_offset = 1;
    let began = Instant::now();
    read(&mut reader, 17, &request).await;
    assert!(began.elapsed() >= Duration::from_millis(50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_answers_only_what_is_new() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let id = create(&mut client, "orders", 3).await;
    append(&mut client, "orders", id, 0, &["a"]).await;
    let mut request = fetch("orders", id, &[(0, 0), (1, 0), (2, 0)]);
    request.session_epoch = 0;
    let first = read(&mut client, 17, &request).await;
    assert!(first.session_id > 0);
    assert_eq!(first.responses[0].partitions.len(), 3);

    let next = |epoch: i32, from: &[(i32, i64)]| {
        let mut request = fetch("orders", id, from);
        request.session_id = first.session_id;
        request.session_epoch = epoch;
        if from.is_empty() {
            request.topics.clear();
        }
        request
    };
    let second = read(&mut client, 17, &next(1, &[(0, 1)])).await;
    assert!(second.responses.is_empty(), "{second:?}");
    append(&mut client, "orders", id, 1, &["b"]).await;
    let third = read(&mut client, 17, &next(2, &[])).await;
    assert_eq!(third.responses[0].partitions.len(), 1);
    assert_eq!(only(&third).partition_index, 1);

    let wrong = read(&mut client, 17, &next(2, &[])).await;
    assert_eq!(wrong.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
    let mut forget = next(3, &[]);
    forget.forgotten_topics_data = vec![ForgottenTopic::default().with_topic_id(id).with_partitions(vec![1])];
    let fourth = read(&mut client, 17, &forget).await;
    assert!(fourth.responses.is_empty(), "{fourth:?}");
    let mut unknown = next(4, &[]);
    unknown.session_id += 1;
    let fifth = read(&mut client, 17, &unknown).await;
    assert_eq!(fifth.error_code, ErrorCode::FetchSessionIdNotFound.code());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_out_of_place_are_told_why() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let id = create(&mut client, "orders", 1).await;
    let error = |answer: FetchResponse| ErrorCode::from_code(only(&answer).error_code).unwrap();
    let beyond = read(&mut client, 17, &fetch("orders", id, &[(0, 5)])).await;
    assert_eq!(error(beyond), ErrorCode::OffsetOutOfRange);
    let nowhere = read(&mut client, 17, &fetch("orders", id, &[(7, 0)])).await;
    assert_eq!(error(nowhere), ErrorCode::UnknownTopicOrPartition);
    let stranger = read(&mut client, 17, &fetch("", Uuid::from_u128(5), &[(0, 0)])).await;
    assert_eq!(error(stranger), ErrorCode::UnknownTopicId);
    let unnamed = read(&mut client, 12, &fetch("payments", Uuid::nil(), &[(0, 0)])).await;
    assert_eq!(error(unnamed), ErrorCode::UnknownTopicOrPartition);
    let mut ahead = fetch("orders", id, &[(0, 0)]);
    ahead.topics[0].partitions[0].current_leader_epoch = 99;
    let ahead = read(&mut client, 17, &ahead).await;
    assert_eq!(error(ahead), ErrorCode::UnknownLeaderEpoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_damaged_or_not_alone_is_refused_and_nothing_appended() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let id = create(&mut client, "orders", 1).await;
    let good = batch(&["a"]);
    let mut damaged = good.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    for (records, error) in [
        (damaged.into(), ErrorCode::CorruptMessage),
        ([&good[..], &good[..]].concat().into(), ErrorCode::InvalidRecord),
        (good.slice(..40), ErrorCode::InvalidRecord),
    ] {
        let answer = client.ask(&produce("orders", id, 0, records)).await.unwrap();
        assert_eq!(ErrorCode::from_code(answer.responses[0].partition_responses[0].error_code), Some(error));
    }
    assert_eq!(append(&mut client, "orders", id, 0, &["b"]).await, 0);
    let mut wrong = produce("orders", id, 0, good);
    wrong.acks = 5;
    let answer = client.ask(&wrong).await.unwrap();
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::InvalidRequiredAcks.code());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_acks_there_is_no_answer_and_an_error_ends_the_connection() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let id = create(&mut client, "orders", 1).await;
    let mut quiet = produce("orders", id, 0, batch(&["a"]));
    quiet.acks = 0;
    let _unanswered = client.send(&quiet).await.unwrap();
    // The next answer is that of the next request.
    assert_eq!(append(&mut client, "orders", id, 0, &["b"]).await, 1);
    quiet.topic_data[0].partition_data[0].index = 9;
    let sent = client.send(&quiet).await.unwrap();
    assert!(client.receive(sent).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_found_by_time_and_by_meaning() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let id = create(&mut client, "orders", 1).await;
    append(&mut client, "orders", id, 0, &["a", "b", "c"]).await;
    for version in 1..=11 {
        for (timestamp, offset) in
            [(-1, 3), (-2, 0), (-3, 0), (-4, 0), (-5, -1), (-6, -1), (0, 0), (1_700_000_000_001, -1)]
        {
            let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
            let topic = ListOffsetsTopic::default().with_name(name("orders")).with_partitions(vec![partition]);
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
            let sent = client.send_version(version, &request).await.unwrap();
            let answer = client.receive(sent).await.unwrap();
            let partition = &answer.topics[0].partitions[0];
            let since = match timestamp {
                -3 => 7,
                -4 => 8,
                -5 => 9,
                -6 => 11,
                _ => 1,
            };
            let (expected, error) =
                if version < since { (-1, ErrorCode::UnsupportedVersion) } else { (offset, ErrorCode::None) };
            let got = (partition.offset, partition.error_code);
            assert_eq!(got, (expected, error.code()), "timestamp {timestamp} in version {version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_answers_in_every_version_and_creates_what_is_named() {
    let node = Node::start().await;
    let mut client = node.client().await;
    create(&mut client, "orders", 3).await;
    for version in 0..=13 {
        let all = MetadataRequest::default().with_topics(if version == 0 { Some(Vec::new()) } else { None });
        let sent = client.send_version(version, &all).await.unwrap();
        let answer = client.receive(sent).await.unwrap();
        assert_eq!(answer.brokers.len(), 1);
        assert_eq!(
            answer.topics.iter().find(|it| it.name.as_ref().unwrap().as_str() == "orders").unwrap().partitions.len(),
            3
        );
        let named = format!("new-{version}");
        let topics = [named.as_str(), "not a name"].map(|it| MetadataRequestTopic::default().with_name(Some(name(it))));
        let request =
            MetadataRequest::default().with_topics(Some(topics.to_vec())).with_allow_auto_topic_creation(true);
        let sent = client.send_version(version, &request).await.unwrap();
        let answer = client.receive(sent).await.unwrap();
        assert_eq!((answer.topics[0].error_code, answer.topics[0].partitions.len()), (0, 1), "version {version}");
        assert_eq!(answer.topics[1].error_code, ErrorCode::InvalidTopicException.code());
    }
    let unknown = MetadataRequestTopic::default().with_name(None).with_topic_id(Uuid::from_u128(3));
    let answer = client.ask(&MetadataRequest::default().with_topics(Some(vec![unknown]))).await.unwrap();
    assert_eq!(answer.topics[0].error_code, ErrorCode::UnknownTopicId.code());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_created_checked_and_deleted() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let topic = |it: &str, partitions: i32| {
        CreatableTopic::default().with_name(name(it)).with_num_partitions(partitions).with_replication_factor(-1)
    };
    let config = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("retention.ms"))
        .with_value(Some(StrBytes::from_static_str("soon")));
    let request = CreateTopicsRequest::default().with_timeout_ms(1000).with_topics(vec![
        topic("good", 2),
        topic("none", 0),
        topic("twice", 1),
        topic("twice", 1),
        topic("no/name", 1),
        topic("wrong", 1).with_configs(vec![config]),
        topic("many", 1).with_replication_factor(3),
    ]);
    let checked = client.ask(&request.clone().with_validate_only(true)).await.unwrap();
    let created = client.ask(&request).await.unwrap();
    let codes = |answer: &CreateTopicsResponse| answer.topics.iter().map(|it| it.error_code).collect::<Vec<_>>();
    assert_eq!(codes(&created), [0, 37, 42, 17, 40, 38]);
    assert_eq!(codes(&checked), codes(&created));
    let good = &created.topics[0];
    assert_eq!((good.num_partitions, good.replication_factor), (2, 1));
    assert!(good.configs.as_ref().is_some_and(|configs| configs.len() > 20));
    let again = client
        .ask(&CreateTopicsRequest::default().with_timeout_ms(1000).with_topics(vec![topic("good", 2)]))
        .await
        .unwrap();
    assert_eq!(codes(&again), [ErrorCode::TopicAlreadyExists.code()]);

    let state = delete_topics_request::DeleteTopicState::default();
    let request = DeleteTopicsRequest::default().with_timeout_ms(1000).with_topics(vec![
        state.clone().with_name(Some(name("good"))),
        state.clone().with_name(Some(name("gone"))),
        state.with_name(None).with_topic_id(Uuid::from_u128(9)),
    ]);
    let deleted = client.ask(&request).await.unwrap();
    assert_eq!(deleted.responses.iter().map(|it| it.error_code).collect::<Vec<_>>(), [0, 3, 100]);
    assert_eq!(deleted.responses[0].topic_id, good.topic_id);
    let answer = client.ask(&MetadataRequest::default().with_topics(None)).await.unwrap();
    assert!(answer.topics.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producer_ids_never_repeat() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..1500 {
        let answer = client.ask(&InitProducerIdRequest::default().with_transactional_id(None)).await.unwrap();
        assert_eq!((answer.error_code, answer.producer_epoch), (0, 0));
        assert!(ids.insert(answer.producer_id.0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_deleted_up_to_an_offset_or_the_high_watermark_where_the_policy_allows_it() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let id = create(&mut client, "orders", 2).await;
    append(&mut client, "orders", id, 0, &["a", "b", "c", "d"]).await;
    let compacted = CreatableTopic::default().with_name(name("compacted")).with_num_partitions(1);
    let policy = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("cleanup.policy"))
        .with_value(Some(StrBytes::from_static_str("compact")));
    let request = CreateTopicsRequest::default()
        .with_topics(vec![compacted.with_replication_factor(1).with_configs(vec![policy])])
        .with_timeout_ms(1000);
    assert_eq!(client.ask(&request).await.unwrap().topics[0].error_code, 0);
    let delete = |topic: &str, partition: i32, offset: i64| {
        let partition = delete_records_request::DeleteRecordsPartition::default()
            .with_partition_index(partition)
            .with_offset(offset);
        let topic = delete_records_request::DeleteRecordsTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![partition]);
        DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000)
    };
    let none = ErrorCode::None;
    for version in 0..=2 {
        for (topic, partition, offset, code, start) in [
            ("orders", 0, 2, none, 2),
            ("orders", 0, 1, none, 2),
            ("orders", 0, 5, ErrorCode::OffsetOutOfRange, -1),
            ("orders", 0, -2, ErrorCode::OffsetOutOfRange, -1),
            ("orders", 1, -1, none, 0),
            ("orders", 2, 0, ErrorCode::UnknownTopicOrPartition, -1),
            ("compacted", 0, 0, ErrorCode::PolicyViolation, -1),
            ("none", 0, 0, ErrorCode::UnknownTopicOrPartition, -1),
        ] {
            let sent = client.send_version(version, &delete(topic, partition, offset)).await.unwrap();
            let answer: DeleteRecordsResponse = client.receive(sent).await.unwrap();
            let result = &answer.topics[0].partitions[0];
            assert_eq!((result.error_code, result.low_watermark), (code.code(), start), "{topic} {offset} {version}");
        }
    }
    let response = read(&mut client, 12, &fetch("orders", id, &[(0, 1)])).await;
    assert_eq!(only(&response).error_code, ErrorCode::OffsetOutOfRange.code());
    let answer = client.ask(&delete("orders", 0, -1)).await.unwrap();
    assert_eq!(answer.topics[0].partitions[0].low_watermark, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_described_page_by_page() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for (topic, partitions) in [("a", 3), ("b", 4), ("c", 1)] {
        create(&mut client, topic, partitions).await;
    }
    let mut pages = Vec::new();
    let mut cursor = None;
    loop {
        let request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(2).with_cursor(cursor);
        let page = client.ask(&request).await.unwrap();
        for topic in &page.topics {
            let indexes = topic.partitions.iter().map(|it| it.partition_index).collect::<Vec<_>>();
            pages.push((topic.name.as_ref().unwrap().to_string(), indexes));
        }
        let Some(next) = page.next_cursor else { break };
        cursor = Some(
            describe_topic_partitions_request::Cursor::default()
                .with_topic_name(next.topic_name)
                .with_partition_index(next.partition_index),
        );
    }
    let expected =
        [("a", vec![0, 1]), ("a", vec![2]), ("b", vec![0]), ("b", vec![1, 2]), ("b", vec![3]), ("c", vec![0])];
    assert_eq!(pages, expected.map(|(topic, indexes)| (topic.to_owned(), indexes)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configs_and_the_cluster_are_described_in_every_version() {
    let node = Node::start().await;
    let mut client = node.client().await;
    create(&mut client, "orders", 1).await;
    let resource = |kind: i8, it: &str| {
        describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(StrBytes::from_string(it.to_owned()))
            .with_configuration_keys(None)
    };
    for version in 1..=4 {
        let resources =
            vec![resource(2, "orders"), resource(4, "1"), resource(2, "gone"), resource(4, "2"), resource(4, "x")];
        let request = DescribeConfigsRequest::default()
            .with_resources(resources)
            .with_include_synonyms(true)
            .with_include_documentation(version >= 3);
        let sent = client.send_version(version, &request).await.unwrap();
        let answer = client.receive(sent).await.unwrap();
        assert_eq!(answer.results.iter().map(|it| it.error_code).collect::<Vec<_>>(), [0, 0, 3, 42, 42]);
        let retention = answer.results[0].configs.iter().find(|it| it.name.as_str() == "retention.ms").unwrap();
        assert_eq!((retention.value.as_deref(), retention.config_source), (Some("604800000"), 5));
    }
    for version in 0..=2 {
        let sent = client.send_version(version, &DescribeClusterRequest::default()).await.unwrap();
        let answer = client.receive(sent).await.unwrap();
        assert_eq!((answer.brokers.len(), answer.cluster_id.len()), (1, 22));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_versions_lists_the_table_and_answers_unknown_versions_in_version_0() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for version in 0..=4 {
        let mut request = ApiVersionsRequest::default();
        if version >= 3 {
            request.client_software_name = StrBytes::from_static_str("test");
            request.client_software_version = StrBytes::from_static_str("1");
        }
        let sent = client.send_version(version, &request).await.unwrap();
        let answer = client.receive(sent).await.unwrap();
        assert_eq!(answer.api_keys.len(), TABLE.len());
        for line in &answer.api_keys {
            let api = TABLE.iter().find(|api| api.key.code() == line.api_key).unwrap();
            assert_eq!((line.min_version, line.max_version), (api.key.versions().min, api.key.versions().max));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_come_and_go_in_every_version() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for version in 2..=7 {
        let topic =
            CreatableTopic::default().with_name(name("orders")).with_num_partitions(1).with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_timeout_ms(1000).with_topics(vec![topic]);
        for expected in [0, 36] {
            let sent = client.send_version(version, &request).await.unwrap();
            let answer = client.receive(sent).await.unwrap();
            assert_eq!(answer.topics[0].error_code, expected, "version {version}");
        }
        let delete = (version - 1).min(6);
        let state = delete_topics_request::DeleteTopicState::default().with_name(Some(name("orders")));
        let request = match delete {
            6 => DeleteTopicsRequest::default().with_timeout_ms(1000).with_topics(vec![state]),
            _ => DeleteTopicsRequest::default().with_timeout_ms(1000).with_topic_names(vec![name("orders")]),
        };
        for expected in [0, 3] {
            let sent = client.send_version(delete, &request).await.unwrap();
            let answer = client.receive(sent).await.unwrap();
            assert_eq!(answer.responses[0].error_code, expected, "version {delete}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_end_where_the_log_ends_in_every_version() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let id = create(&mut client, "orders", 1).await;
    append(&mut client, "orders", id, 0, &["a", "b"]).await;
    for version in 2..=4 {
        for (asked, expected) in [(0, (0, 0, 2)), (5, (0, -1, -1)), (-1, (0, -1, -1))] {
            let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default()
                .with_current_leader_epoch(-1)
                .with_leader_epoch(asked);
            let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
                .with_topic(name("orders"))
                .with_partitions(vec![partition]);
            let mut request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
            request.replica_id = BrokerId(if version >= 3 { -1 } else { -2 });
            let sent = client.send_version(version, &request).await.unwrap();
            let answer = client.receive(sent).await.unwrap();
            let got = &answer.topics[0].partitions[0];
            assert_eq!((got.error_code, got.leader_epoch, got.end_offset), expected, "version {version} epoch {asked}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producer_ids_are_given_in_every_version_and_to_transactions_by_their_coordinator() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for version in 0..=5 {
        for (transactional, expected) in [(None, 0), (Some("t"), ErrorCode::NotCoordinator.code())] {
            let id = transactional.map(|id: &'static str| TransactionalId(StrBytes::from_static_str(id)));
            let request = InitProducerIdRequest::default().with_transactional_id(id).with_transaction_timeout_ms(1_000);
            let sent = client.send_version(version, &request).await.unwrap();
            let answer = client.receive(sent).await.unwrap();
            assert_eq!(answer.error_code, expected, "version {version}");
        }
    }
}
