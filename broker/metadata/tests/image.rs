//! The state machine from outside: what commands do, and that history and snapshots agree.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests fail as tests do")]

use millrace_metadata::*;
use millrace_model::{LeaderEpoch, NodeId, PartitionId, ProducerId, TopicId, TopicPartition};
use proptest::prelude::*;
use std::collections::BTreeMap;
use uuid::Uuid;

fn broker(id: i32) -> Command {
    Command::RegisterBroker(BrokerRegistration {
        id: NodeId::new(id),
        host: "127.0.0.1".into(),
        port: 9092,
        rack: None,
        incarnation: Uuid::from_u128(u128::try_from(id).unwrap() + 1),
    })
}

fn id(number: u128) -> TopicId {
    TopicId::new(Uuid::from_u128(number))
}

fn topic(number: u128, name: &str, partitions: i32) -> NewTopic {
    NewTopic {
        id: id(number),
        name: name.into(),
        placement: Placement::Spread { partitions, factor: 1, seed: 0 },
        config: BTreeMap::new(),
        attachments: Vec::new(),
    }
}

fn create(topics: Vec<NewTopic>) -> Command {
    Command::CreateTopics { topics }
}

fn plugin(name: &str, version: &str, byte: u8) -> Plugin {
    Plugin { name: name.into(), version: version.into(), hash: ContentHash::new([byte; 32]), size: 10 }
}

fn attachment(name: &str, version: &str, byte: u8) -> Attachment {
    Attachment {
        plugin: PluginReference { name: name.into(), version: version.into(), hash: ContentHash::new([byte; 32]) },
        stage: Stage::Produce,
        config: r#"{"fields":["email"]}"#.into(),
        limits: Limits { memory_bytes: 16 << 20, time_ms: 20 },
        on_fault: FaultPolicy::Reject,
        grants: Grants::default(),
        outputs: Vec::new(),
    }
}

fn image(commands: &[Command]) -> Image {
    let mut image = Image::default();
    for (index, command) in (1..).zip(commands) {
        let (next, response) = image.apply(index, command);
        response.unwrap();
        image = next;
    }
    image
}

fn only<T: Clone>(results: &[Result<T, ApplyError>]) -> Result<T, ApplyError> {
    assert_eq!(results.len(), 1);
    results[0].clone()
}

fn created(image: &Image, wanted: NewTopic) -> Result<CreatedTopic, ApplyError> {
    match image.apply(99, &create(vec![wanted])).1.unwrap() {
        Response::Created(topics) => only(&topics),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_topic_is_found_by_name_and_by_id_and_gone_after_its_deletion() {
    let image = image(&[broker(0), create(vec![topic(1, "orders", 3)])]);
    let found = image.topic("orders").unwrap();
    assert_eq!((found.id, found.partitions.len(), found.internal), (id(1), 3, false));
    assert_eq!(image.topic_by_id(id(1)), Some(found));
    assert_eq!(image.partition_count(), 3);
    let partition = found.partition(PartitionId::new(2)).unwrap();
    assert_eq!((partition.leader, partition.leader_epoch), (NodeId::new(0), LeaderEpoch::new(0)));
    let (image, response) = image.apply(3, &Command::DeleteTopics { topics: vec![id(1), id(2)] });
    assert_eq!(
        response.unwrap(),
        Response::Deleted(vec![
            Ok(DeletedTopic { id: id(1), name: "orders".into() }),
            Err(ApplyError::UnknownTopicId { id: id(2) }),
        ])
    );
    assert_eq!((image.topic("orders"), image.topic_by_id(id(1)), image.partition_count()), (None, None, 0));
}

#[test]
fn one_refused_topic_does_not_hold_up_the_others() {
    let image = image(&[broker(0)]);
    let (image, response) = image.apply(2, &create(vec![topic(1, "a", 1), topic(2, "a", 1), topic(3, "b", 1)]));
    let Response::Created(results) = response.unwrap() else { panic!() };
    assert!(results[0].is_ok() && results[2].is_ok());
    assert_eq!(results[1], Err(ApplyError::TopicExists { name: "a".into() }));
    assert_eq!(image.topic_count(), 2);
}

#[test]
fn creation_is_refused_for_the_reasons_kafka_names() {
    let image = image(&[broker(0), create(vec![topic(1, "a.b", 1)])]);
    let spread = |partitions, factor| NewTopic {
        placement: Placement::Spread { partitions, factor, seed: 7 },
        ..topic(9, "new", 1)
    };
    let assigned = |assigned: &[(i32, &[i32])]| NewTopic {
        placement: Placement::Assigned(
            assigned
                .iter()
                .map(|(p, ids)| (PartitionId::new(*p), ids.iter().copied().map(NodeId::new).collect()))
                .collect(),
        ),
        ..topic(9, "new", 1)
    };
    let says = |wanted| created(&image, wanted).unwrap_err().to_string();
    assert_eq!(says(topic(9, "a.b", 1)), "Topic 'a.b' already exists.");
    assert_eq!(says(topic(9, "a_b", 1)), "Topic 'a_b' collides with existing topic: a.b");
    assert!(says(topic(9, "a/b", 1)).starts_with("Topic name is invalid: 'a/b' contains one or more characters"));
    assert_eq!(created(&image, topic(1, "c", 1)), Err(ApplyError::TopicIdTaken { id: id(1) }));
    assert_eq!(says(spread(0, 1)), "Number of partitions was set to an invalid non-positive value.");
    assert_eq!(says(spread(1, 0)), "Replication factor must be larger than 0, or -1 to use the default value.");
    assert!(says(spread(1, 3)).ends_with("all their log directories cordoned."));
    assert!(matches!(created(&image, assigned(&[(0, &[0]), (2, &[0])])), Err(ApplyError::ReplicaAssignment { .. })));
    assert!(says(assigned(&[(0, &[0, 0])])).contains("more than once"));
    assert!(says(assigned(&[(0, &[5])])).contains("no such broker is registered"));
    assert!(says(assigned(&[(0, &[])])).contains("empty replica list"));
    assert!(created(&image, assigned(&[(0, &[0]), (1, &[0])])).is_ok());
    let (_, response) = image.apply(9, &create(vec![spread(10_001, 1)]));
    assert_eq!(response, Err(ApplyError::TooManyPartitions { limit: 10_000 }));
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    let image = image(&[broker(0), broker(1), create(vec![topic(1, "a", 2)])]);
    let more = |total| NewPartitions { topic: id(1), total, assignment: None, seed: 0 };
    let (grown, _) = image.apply(4, &Command::CreatePartitions { topics: vec![more(5)] });
    assert_eq!((grown.topic("a").unwrap().partitions.len(), grown.partition_count()), (5, 5));
    assert!(matches!(image.check_partitions(&more(2)), Err(ApplyError::PartitionsThere { existing: 2 })));
    assert!(matches!(image.check_partitions(&more(1)), Err(ApplyError::PartitionsNotMore { existing: 2, .. })));
    let assigned = NewPartitions { assignment: Some(vec![vec![NodeId::new(1)]]), ..more(3) };
    assert_eq!(image.check_partitions(&assigned).unwrap().partitions, 3);
    assert!(image.check_partitions(&NewPartitions { total: 4, ..assigned }).is_err());
}

#[test]
fn configs_are_set_taken_off_and_replaced() {
    let image = image(&[broker(0), create(vec![topic(1, "a", 1)])]);
    let set = |pairs: &[(&str, Option<&str>)], replace| Command::SetTopicConfig {
        topic: id(1),
        set: pairs.iter().map(|(key, value)| ((*key).into(), value.map(Into::into))).collect(),
        replace,
    };
    let (image, _) = image.apply(3, &set(&[("retention.ms", Some("5")), ("segment.bytes", Some("9"))], false));
    let (image, _) = image.apply(4, &set(&[("retention.ms", None)], false));
    assert_eq!(image.topic("a").unwrap().config, BTreeMap::from([("segment.bytes".into(), "9".into())]));
    let (image, _) = image.apply(5, &set(&[("flush.ms", Some("1"))], true));
    assert_eq!(image.topic("a").unwrap().config, BTreeMap::from([("flush.ms".into(), "1".into())]));
    assert!(matches!(image.apply(6, &set(&[("", Some("1"))], false)).1, Err(ApplyError::Config { .. })));
}

#[test]
fn a_change_for_other_configs_than_there_are_is_refused_as_a_whole() {
    let image = image(&[broker(0), create(vec![topic(1, "a", 1)])]);
    let configs = |value: &str| BTreeMap::from([("a.key".to_owned(), value.to_owned())]);
    let group = || "g".to_owned();
    let kinds = [
        (ConfigOf::Topic(id(1)), Command::SetTopicConfig { topic: id(1), set: BTreeMap::new(), replace: false }),
        (ConfigOf::Cluster, Command::SetClusterConfig { set: BTreeMap::new(), replace: false }),
        (
            ConfigOf::Broker(NodeId::new(0)),
            Command::SetBrokerConfig { broker: NodeId::new(0), set: BTreeMap::new(), replace: false },
        ),
        (ConfigOf::Group(group()), Command::SetGroupConfig { group: group(), set: BTreeMap::new(), replace: false }),
    ];
    for (of, mut change) in kinds {
        let (Command::SetTopicConfig { set, .. }
        | Command::SetClusterConfig { set, .. }
        | Command::SetBrokerConfig { set, .. }
        | Command::SetGroupConfig { set, .. }) = &mut change
        else {
            panic!()
        };
        set.insert("a.key".to_owned(), Some("1".to_owned()));
        let expecting = |configs| Command::All(vec![Command::ExpectConfig { of: of.clone(), configs }, change.clone()]);
        assert_eq!(image.apply(3, &expecting(configs("1"))).1, Err(ApplyError::ConfigChanged), "{of:?}");
        let (changed, outcome) = image.apply(3, &expecting(BTreeMap::new()));
        assert!(outcome.is_ok(), "{of:?}");
        assert!(changed.apply(4, &expecting(configs("1"))).1.is_ok(), "{of:?}");
        assert_eq!(changed.apply(4, &expecting(BTreeMap::new())).1, Err(ApplyError::ConfigChanged), "{of:?}");
    }
    let gone = Command::ExpectConfig { of: ConfigOf::Topic(id(9)), configs: BTreeMap::new() };
    assert!(matches!(image.apply(3, &gone).1, Err(ApplyError::UnknownTopicId { .. })));
}

#[test]
fn brokers_and_groups_have_configs_for_as_long_as_there_are_any() {
    let set = |value: Option<&str>| BTreeMap::from([("a.key".to_owned(), value.map(str::to_owned))]);
    let broker = |value| Command::SetBrokerConfig { broker: NodeId::new(7), set: set(value), replace: false };
    let group = |value| Command::SetGroupConfig { group: "g".to_owned(), set: set(value), replace: false };
    let image = image(&[broker(Some("1")), group(Some("2"))]);
    assert_eq!(image.broker_config(NodeId::new(7)).unwrap()["a.key"], "1");
    assert_eq!(image.group_config("g").unwrap()["a.key"], "2");
    let (image, _) = image.apply(9, &broker(None));
    let (image, _) = image.apply(10, &group(None));
    assert_eq!((image.broker_config(NodeId::new(7)), image.group_configs().len()), (None, 0));
}

#[test]
fn attachments_name_registered_content_and_a_change_of_them_is_a_generation() {
    let register = |version: &str, byte| Command::RegisterPlugin(plugin("mask", version, byte));
    let image = image(&[broker(0), create(vec![topic(1, "a", 1)]), register("1.0.0", 1), register("2.0.0", 2)]);
    let attach = |attachments| Command::SetAttachments { topic: id(1), attachments };
    let (image, done) = image.apply(5, &attach(vec![attachment("mask", "1.0.0", 1)]));
    assert_eq!((done, image.topic("a").unwrap().generation), (Ok(Response::Done), 5));
    let (image, _) = image.apply(6, &attach(vec![attachment("mask", "1.0.0", 1)]));
    assert_eq!(image.topic("a").unwrap().generation, 5, "nothing changed");
    let (image, _) = image.apply(7, &attach(vec![attachment("mask", "2.0.0", 2)]));
    assert_eq!(image.topic("a").unwrap().generation, 7);
    let (same, refused) = image.apply(8, &attach(vec![attachment("mask", "2.0.0", 3)]));
    assert!(matches!(refused, Err(ApplyError::UnknownPlugin { .. })));
    assert_eq!((same.index(), same.topic("a")), (8, image.topic("a")));
    assert!(matches!(image.apply(8, &register("2.0.0", 9)).1, Err(ApplyError::PluginDiffers { .. })));
    assert!(matches!(image.apply(8, &register("../x", 9)).1, Err(ApplyError::PluginName { .. })));
    let remove = |version: &str| Command::RemovePlugin { name: "mask".into(), version: version.into() };
    assert!(matches!(image.apply(8, &remove("2.0.0")).1, Err(ApplyError::PluginInUse { .. })));
    assert!(image.apply(8, &remove("1.0.0")).1.is_ok());
}

#[test]
fn blocks_of_producer_ids_never_overlap() {
    let take = |image: &Image, count| image.apply(1, &Command::AllocateProducerIds { count });
    let (image, first) = take(&Image::default(), 1000);
    let (image, second) = take(&image, 1);
    assert_eq!(first, Ok(Response::ProducerIds(ProducerIds { first: ProducerId::new(0), count: 1000 })));
    assert_eq!(second, Ok(Response::ProducerIds(ProducerIds { first: ProducerId::new(1000), count: 1 })));
    assert!(take(&image, 0).1.is_err());
}

#[test]
fn a_broker_number_belongs_to_one_data_directory() {
    let image = image(&[broker(0)]);
    assert_eq!(image.apply(5, &broker(0)).1, Ok(Response::Registered { epoch: 1 }), "nothing is new");
    let Command::RegisterBroker(mut moved) = broker(0) else { panic!() };
    moved.port = 9093;
    let (image, response) = image.apply(5, &Command::RegisterBroker(moved.clone()));
    assert_eq!(response, Ok(Response::Registered { epoch: 5 }));
    assert_eq!(image.broker(NodeId::new(0)).unwrap().port(), 9093);
    moved.incarnation = Uuid::from_u128(77);
    assert!(matches!(image.apply(6, &Command::RegisterBroker(moved)).1, Err(ApplyError::DuplicateBroker { .. })));
}

#[test]
fn all_is_all_or_nothing() {
    let image = image(&[broker(0), create(vec![topic(1, "a", 1)])]);
    let all = Command::All(vec![create(vec![topic(2, "b", 1)]), create(vec![topic(3, "a", 1)])]);
    let (after, refused) = image.apply(3, &all);
    assert_eq!(refused, Err(ApplyError::TopicExists { name: "a".into() }));
    assert!(after.topic("b").is_none());
    let mut nested = Command::All(Vec::new());
    for _ in 0..10 {
        nested = Command::All(vec![nested]);
    }
    assert!(matches!(image.apply(3, &nested).1, Err(ApplyError::Request { .. })));
}

#[test]
fn a_topic_made_again_under_its_name_is_removed_and_added() {
    let old = image(&[broker(0), create(vec![topic(9, "a", 1)])]);
    let (new, _) = old.apply(3, &Command::DeleteTopics { topics: vec![id(9)] });
    let (new, _) = new.apply(4, &create(vec![topic(1, "a", 1)]));
    let delta = Delta::between(&old, &new);
    assert!(
        matches!(&delta.topics[..], [Change::Removed(gone), Change::Added(fresh)] if gone.id == id(9) && fresh.id == id(1))
    );
    assert_eq!(delta.applied_to(&old), new);
}

/// What is frozen: an image and one command of each kind, as they stood when the format was first used.
#[test]
fn the_frozen_fixtures_stay_readable_and_are_written_the_same() {
    let commands: Vec<Command> = serde_json::from_str(include_str!("../fixtures/commands-1.json")).unwrap();
    let frozen: serde_json::Value = serde_json::from_str(include_str!("../fixtures/commands-1.json")).unwrap();
    assert_eq!(serde_json::to_value(&commands).unwrap(), frozen);
    let mut image = Image::default();
    for (index, command) in (1..).zip(&commands) {
        let (next, response) = image.apply(index, command);
        response.unwrap();
        image = next;
    }
    let frozen: serde_json::Value = serde_json::from_str(include_str!("../fixtures/image-1.json")).unwrap();
    assert_eq!(serde_json::from_value::<Image>(frozen.clone()).unwrap(), image);
    assert_eq!(serde_json::to_value(&image).unwrap(), frozen);
}

#[test]
fn a_snapshot_from_before_deleted_topics_were_remembered_is_readable() {
    let mut frozen: serde_json::Value = serde_json::from_str(include_str!("../fixtures/image-1.json")).unwrap();
    let image: Image = serde_json::from_value(frozen.clone()).unwrap();
    assert!(image.was_deleted(id(12)) && !image.was_deleted(id(10)));
    assert!(image.has_adopted(Uuid::from_u128(1)) && !image.has_adopted(Uuid::from_u128(2)));
    frozen.as_object_mut().unwrap().retain(|field, _| field != "deleted" && field != "directories");
    let older: Image = serde_json::from_value(frozen).unwrap();
    assert!(!older.was_deleted(id(12)) && !older.has_adopted(Uuid::from_u128(1)));
}

#[test]
fn topics_that_were_found_on_a_disk_come_in_whatever_their_number_and_with_their_epochs() {
    let found = |number, name: &str, epochs: Vec<LeaderEpoch>| NewTopic {
        placement: Placement::Found { broker: NodeId::new(1), leader_epochs: epochs },
        ..topic(number, name, 0)
    };
    let before = image(&[broker(1)]);
    let many = vec![LeaderEpoch::new(7); MAX_PARTITIONS_PER_COMMAND + 1];
    let (after, response) = before.apply(2, &create(vec![found(1, "many", many), found(2, "none", Vec::new())]));
    let Ok(Response::Created(created)) = response else { panic!("{response:?}") };
    assert!(created[0].is_ok() && created[1].is_err(), "{created:?}");
    let (_, last) = after.partition(TopicPartition { topic: id(1), partition: PartitionId::new(10_000) }).unwrap();
    assert_eq!((last.leader, last.leader_epoch), (NodeId::new(1), LeaderEpoch::new(7)));
    let elsewhere = NewTopic {
        placement: Placement::Found { broker: NodeId::new(2), leader_epochs: vec![LeaderEpoch::new(0)] },
        ..topic(3, "elsewhere", 0)
    };
    assert!(after.check_create(&elsewhere).is_err(), "no such broker");
}

#[test]
fn of_the_deleted_topics_the_newest_are_remembered() {
    let mut image = image(&[broker(1)]);
    for number in 1..=10_001 {
        image = image.apply(2, &create(vec![topic(number, "again", 1)])).0;
        image = image.apply(2, &Command::DeleteTopics { topics: vec![id(number)] }).0;
    }
    assert!(!image.was_deleted(id(1)) && image.was_deleted(id(2)) && image.was_deleted(id(10_001)));
}

#[test]
fn a_snapshot_of_a_later_version_or_with_a_topic_twice_is_refused() {
    let mut frozen: serde_json::Value = serde_json::from_str(include_str!("../fixtures/image-1.json")).unwrap();
    frozen["version"] = 2.into();
    assert!(serde_json::from_value::<Image>(frozen.clone()).is_err());
    frozen["version"] = 1.into();
    let first = frozen["topics"][0].clone();
    frozen["topics"].as_array_mut().unwrap().push(first);
    assert!(serde_json::from_value::<Image>(frozen).is_err());
}

fn commands() -> impl Strategy<Value = Command> {
    let number = 1_u128..40;
    let name = (0_u8..30).prop_map(|n| format!("topic{}{}", if n % 3 == 0 { "." } else { "_" }, n / 2));
    prop_oneof![
        4 => prop::collection::vec((number.clone(), name, 0_i32..4), 1..4)
            .prop_map(|topics| create(topics.into_iter().map(|(n, name, p)| topic(n, &name, p)).collect())),
        2 => prop::collection::vec(number.clone(), 1..3)
            .prop_map(|ids| Command::DeleteTopics { topics: ids.into_iter().map(id).collect() }),
        1 => (number.clone(), 0_i32..8).prop_map(|(n, total)| Command::CreatePartitions {
            topics: vec![NewPartitions { topic: id(n), total, assignment: None, seed: 3 }]
        }),
        1 => (number.clone(), any::<Option<u8>>()).prop_map(|(n, value)| Command::SetTopicConfig {
            topic: id(n),
            set: BTreeMap::from([("retention.ms".to_owned(), value.map(|v| v.to_string()))]),
            replace: false,
        }),
        1 => (number, 0_u8..3).prop_map(|(n, byte)| Command::SetAttachments {
            topic: id(n),
            attachments: vec![attachment("mask", "1", byte)]
        }),
        1 => (0_u8..3).prop_map(|byte| Command::RegisterPlugin(plugin("mask", "1", byte))),
        1 => Just(Command::RemovePlugin { name: "mask".into(), version: "1".into() }),
        1 => (0_u32..5).prop_map(|count| Command::AllocateProducerIds { count }),
        1 => (0_i32..4).prop_map(broker),
        1 => (0_i32..4).prop_map(|n| Command::UnregisterBroker { id: NodeId::new(n) }),
        1 => any::<u8>().prop_map(|v| Command::SetClusterConfig {
            set: BTreeMap::from([("log.retention.ms".to_owned(), Some(v.to_string()))]),
            replace: v % 2 == 0,
        }),
        1 => (0_i32..3, any::<Option<u8>>(), any::<bool>()).prop_map(|(n, v, replace)| Command::SetBrokerConfig {
            broker: NodeId::new(n),
            set: BTreeMap::from([("log.retention.ms".to_owned(), v.map(|v| v.to_string()))]),
            replace,
        }),
        1 => (0_u8..3, any::<Option<u8>>(), any::<bool>()).prop_map(|(n, v, replace)| Command::SetGroupConfig {
            group: format!("g{n}"),
            set: BTreeMap::from([("consumer.session.timeout.ms".to_owned(), v.map(|v| v.to_string()))]),
            replace,
        }),
    ]
}

proptest! {
    #[test]
    fn a_snapshot_and_the_rest_give_what_the_whole_history_gives(
        history in prop::collection::vec(commands(), 1..120), cut in 0_usize..120,
    ) {
        let (mut whole, mut restored) = (image(&[broker(0)]), image(&[broker(0)]));
        let mut at_cut = whole.clone();
        for (at, command) in history.iter().enumerate() {
            let index = u64::try_from(at).unwrap() + 2;
            if at == cut {
                at_cut = whole.clone();
                restored = serde_json::from_slice(&serde_json::to_vec(&whole).unwrap()).unwrap();
            }
            let (next, response) = whole.apply(index, command);
            let through_json: Command = serde_json::from_slice(&serde_json::to_vec(command).unwrap()).unwrap();
            let (other, same_response) = restored.apply(index, &through_json);
            prop_assert_eq!(&response, &same_response);
            prop_assert_eq!(serde_json::from_slice::<Result<Response, ApplyError>>(&serde_json::to_vec(&response).unwrap()).unwrap(), response);
            let delta = Delta::between(&whole, &next);
            prop_assert_eq!(&delta.applied_to(&whole), &next);
            (whole, restored) = (next, other);
        }
        prop_assert_eq!(&whole, &restored);
        // A reader that slept through many images catches up by one delta.
        prop_assert_eq!(&Delta::between(&at_cut, &whole).applied_to(&at_cut), &whole);
        prop_assert_eq!(whole.partition_count(), whole.topics().map(|topic| topic.partitions.len()).sum::<usize>());
        prop_assert!(Delta::between(&whole, &restored).is_empty());
    }
}

/// Not a timing test: it prints what one command costs among many topics, and would take minutes were it quadratic.
#[test]
fn ten_thousand_topics_are_created_one_by_one() {
    let started = std::time::Instant::now();
    let mut image = image(&[broker(0)]);
    for number in 0..10_000_u128 {
        image = image.apply(2, &create(vec![topic(number + 1, &format!("topic-{number}"), 1)])).0;
    }
    println!("one command among up to 10,000 topics: {:?}", started.elapsed() / 10_000);
    assert_eq!((image.topic_count(), image.partition_count()), (10_000, 10_000));
}
