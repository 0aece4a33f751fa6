//! What the admin requests change, and that it is in force when they are answered.

use super::node::{Node, Stages};
use super::records::{batch, name, produce};
use crate::peer::Peer;
use crate::server::{Limits, Options};
use millrace_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use millrace_protocol::messages::create_topics_request::CreatableTopic;
use millrace_protocol::messages::describe_configs_request::DescribeConfigsResource;
use millrace_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use millrace_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use millrace_protocol::messages::*;
use millrace_protocol::{ErrorCode, StrBytes};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use uuid::Uuid;

async fn create(client: &mut Peer, topic: &str) -> Uuid {
    let topic = CreatableTopic::default().with_name(name(topic)).with_num_partitions(1).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000);
    client.ask(&request).await.unwrap().topics[0].topic_id
}

async fn alter(client: &mut Peer, kind: i8, resource: &str, key: &str, value: Option<&str>) -> i16 {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let step = AlterableConfig::default()
        .with_name(text(key))
        .with_config_operation(i8::from(value.is_none()))
        .with_value(value.map(text));
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(resource))
        .with_configs(vec![step]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    client.ask(&request).await.unwrap().responses[0].error_code
}

async fn append(client: &mut Peer, id: Uuid, partition: i32) -> Option<ErrorCode> {
    let produced = client.ask(&produce("orders", id, partition, batch(&["a", "b"]))).await.unwrap();
    ErrorCode::from_code(produced.responses[0].partition_responses[0].error_code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_is_in_force_when_its_change_is_answered_whoever_it_is_set_for() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let id = create(&mut client, "orders").await;
    assert_eq!(append(&mut client, id, 0).await, Some(ErrorCode::None));
    for (kind, resource, key) in
        [(2, "orders", "max.message.bytes"), (4, "", "message.max.bytes"), (4, "1", "message.max.bytes")]
    {
        assert_eq!(alter(&mut client, kind, resource, key, Some("50")).await, 0, "{key} of {resource:?}");
        assert_eq!(append(&mut client, id, 0).await, Some(ErrorCode::MessageTooLarge), "{key} of {resource:?}");
        assert_eq!(alter(&mut client, kind, resource, key, None).await, 0, "{key} of {resource:?}");
        assert_eq!(append(&mut client, id, 0).await, Some(ErrorCode::None), "{key} of {resource:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_appends_to_a_list_at_the_same_time_is_in_it() {
    const KEY: &str = "leader.replication.throttled.replicas";
    let text = |text: String| StrBytes::from_string(text);
    let node = Node::start().await;
    create(&mut node.client().await, "orders").await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(node.client().await);
    }
    let appends = clients.into_iter().enumerate().map(|(index, mut client)| async move {
        for round in 0..5 {
            let item = Some(text(format!("{}:1", index * 5 + round)));
            let step = AlterableConfig::default().with_name(text(KEY.to_owned())).with_config_operation(2);
            let resource =
                AlterConfigsResource::default().with_resource_type(2).with_resource_name(text("orders".into()));
            let resource = resource.with_configs(vec![step.with_value(item)]);
            let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
            assert_eq!(client.ask(&request).await.unwrap().responses[0].error_code, 0);
        }
    });
    futures::future::join_all(appends).await;
    let asked = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("orders".to_owned()));
    let asked = asked.with_configuration_keys(Some(vec![text(KEY.to_owned())]));
    let request = DescribeConfigsRequest::default().with_resources(vec![asked]);
    let answer = node.client().await.ask(&request).await.unwrap();
    let list = answer.results[0].configs[0].value.clone().unwrap();
    let list: BTreeSet<&str> = list.split(',').collect();
    assert_eq!(list.len(), 40, "{list:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_partitions_take_records_when_their_creation_is_answered() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let id = create(&mut client, "orders").await;
    let wanted = CreatePartitionsTopic::default().with_name(name("orders")).with_count(3).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![wanted]).with_timeout_ms(1000);
    assert_eq!(client.ask(&request).await.unwrap().results[0].error_code, 0);
    assert_eq!(append(&mut client, id, 2).await, Some(ErrorCode::None));
    let asked = DescribableLogDirTopic::default().with_topic(name("orders")).with_partitions(vec![0, 2]);
    let request = DescribeLogDirsRequest::default().with_topics(Some(vec![asked]));
    let sent = client.send_version(4, &request).await.unwrap();
    let dirs = client.receive(sent).await.unwrap();
    let partitions = &dirs.results[0].topics[0].partitions;
    assert_eq!((partitions[0].partition_size, partitions.len()), (0, 2));
    assert!(partitions[1].partition_size > 61 && dirs.results[0].usable_bytes > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_create_a_topic_at_once_one_succeeds_and_the_others_find_it_there() {
    let node = Node::start().await;
    let creations = (0..8).map(|_| async {
        let mut client = node.client().await;
        let topic =
            CreatableTopic::default().with_name(name("orders")).with_num_partitions(1).with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000);
        let error = client.ask(&request).await.unwrap().topics[0].error_code;
        // Whoever hears of it, the first partition is open.
        let metadata = MetadataRequest::default().with_topics(None);
        let topic = &client.ask(&metadata).await.unwrap().topics[0];
        assert_eq!(append(&mut client, topic.topic_id, 0).await, Some(ErrorCode::None));
        error
    });
    let mut errors = futures::future::join_all(creations).await;
    errors.sort_unstable();
    assert_eq!(errors, [&[0][..], &[ErrorCode::TopicAlreadyExists.code(); 7]].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_has_no_more_connections_than_it_may() {
    let options = Options { limits: Arc::new(Limits::new(10, 2, BTreeMap::new())), ..Options::default() };
    let node = Node::with(&[], options, Stages::default()).await;
    let (first, _second) = (node.client().await, node.client().await);
    assert!(Peer::connect(node.address, "one too many").await.is_err());
    drop(first);
    // The place is free once the broker has seen the end of the connection.
    for _ in 0..500 {
        if Peer::connect(node.address, "in its place").await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the place never came free");
}

/// A connection from one of the machine's own addresses, and whether the broker keeps it.
async fn connect(node: &Node, from: &str) -> (TcpStream, bool) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let mut stream = socket.connect(node.address).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_millis(300), stream.read(&mut [0; 1])).await;
    (stream, closed.is_err())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_may_have_more_or_fewer_connections_than_the_others() {
    let overrides = |pairs: &[(&str, usize)]| -> BTreeMap<IpAddr, usize> {
        pairs.iter().map(|(address, most)| (address.parse().unwrap(), *most)).collect()
    };
    let limits = Arc::new(Limits::new(10, 1, overrides(&[("127.0.0.2", 2), ("127.0.0.3", 0)])));
    let options = Options { limits: Arc::clone(&limits), ..Options::default() };
    let node = Node::with(&[], options, Stages::default()).await;
    let mut open = Vec::new();
    for (from, kept) in [
        ("127.0.0.1", true),
        ("127.0.0.1", false),
        ("127.0.0.2", true),
        ("127.0.0.2", true),
        ("127.0.0.2", false),
        ("127.0.0.3", false),
    ] {
        let (stream, is_kept) = connect(&node, from).await;
        assert_eq!(is_kept, kept, "{from} beside {} connections", open.len());
        open.extend(is_kept.then_some(stream));
    }
    limits.set_as(&Limits::new(10, 1, overrides(&[("127.0.0.3", 1)])));
    assert!(connect(&node, "127.0.0.3").await.1, "limits hold for connections to come");
    assert!(!connect(&node, "127.0.0.2").await.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_beyond_all_that_there_may_be_waits_until_there_is_room() {
    let limits = Arc::new(Limits::new(2, usize::MAX, BTreeMap::new()));
    let options = Options { limits: Arc::clone(&limits), ..Options::default() };
    let node = Node::with(&[], options, Stages::default()).await;
    let (first, _second) = (node.client().await, node.client().await);
    let mut third = Box::pin(Peer::connect(node.address, "third"));
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut third).await.is_err());
    drop(first);
    let _third = third.await.unwrap();
    let mut fourth = Box::pin(Peer::connect(node.address, "fourth"));
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut fourth).await.is_err());
    limits.set_as(&Limits::new(3, usize::MAX, BTreeMap::new()));
    fourth.await.unwrap();
}
