//! The cluster's facts: commands as they stand in the raft log, images as they stand in snapshots.

use millrace_metadata::*;
use millrace_model::{NodeId, PartitionId, TopicId};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Lines of JSON, each a command or an image.
pub(crate) fn metadata(data: &[u8]) {
    let mut image = Image::default();
    for (index, line) in (1..=32).zip(data.split(|byte| *byte == b'\n')) {
        if let Ok(command) = serde_json::from_slice::<Command>(line) {
            let text = serde_json::to_vec(&command).expect("a command is written");
            assert_eq!(serde_json::from_slice::<Command>(&text).expect("it was just written"), command);
            let (next, answer) = image.apply(index, &command);
            // A command within another one may have been done before a later one is refused, but only in the draft.
            if answer.is_err() {
                assert_eq!(next.clone().at(0), image.clone().at(0), "what is refused changes nothing: {command:?}");
            }
            image = next;
        } else if let Ok(read) = serde_json::from_slice::<Image>(line) {
            reads_back(&read);
            image = read;
        }
    }
    reads_back(&image);
}

fn reads_back(image: &Image) {
    let text = serde_json::to_vec(image).expect("an image is written");
    assert_eq!(&serde_json::from_slice::<Image>(&text).expect("it was just written"), image);
}

fn commands() -> Vec<Command> {
    let id = TopicId::new(Uuid::from_u128(1));
    let hash = ContentHash::new([3; 32]);
    let broker = BrokerRegistration {
        id: NodeId::new(0),
        host: "127.0.0.1".into(),
        port: 9092,
        rack: Some("r".into()),
        incarnation: Uuid::from_u128(5),
    };
    let attachment = Attachment {
        plugin: PluginReference { name: "mask".into(), version: "1.0.0".into(), hash },
        stage: Stage::Produce,
        config: r#"{"fields":["email"]}"#.into(),
        limits: Limits { memory_bytes: 16 << 20, time_ms: 20 },
        on_fault: FaultPolicy::Reject,
        grants: Grants::default(),
        outputs: Vec::new(),
    };
    let configs: BTreeMap<_, _> = [("retention.ms".to_owned(), "1000".to_owned())].into();
    let set: BTreeMap<_, _> = [("retention.ms".to_owned(), Some("7".to_owned())), ("x".to_owned(), None)].into();
    let topic = NewTopic {
        id,
        name: "orders".into(),
        placement: Placement::Spread { partitions: 3, factor: 1, seed: 9 },
        config: configs.clone(),
        attachments: Vec::new(),
    };
    let assigned = Placement::Assigned([(PartitionId::new(0), vec![NodeId::new(0)])].into());
    let other =
        NewTopic { id: TopicId::new(Uuid::from_u128(2)), name: "o.ther".into(), placement: assigned, ..topic.clone() };
    let more = NewPartitions { topic: id, total: 5, assignment: Some(vec![vec![NodeId::new(0)]; 2]), seed: 1 };
    vec![
        Command::FormCluster { cluster_id: "MkU3OEVBNTcwNTJENDM2Qk".into() },
        Command::RegisterBroker(broker),
        Command::RegisterPlugin(Plugin { name: "mask".into(), version: "1.0.0".into(), hash, size: 10 }),
        Command::CreateTopics { topics: vec![topic, other] },
        Command::CreatePartitions { topics: vec![more] },
        Command::ExpectConfig { of: ConfigOf::Topic(id), configs },
        Command::SetTopicConfig { topic: id, set: set.clone(), replace: false },
        Command::SetAttachments { topic: id, attachments: vec![attachment] },
        Command::SetClusterConfig { set: set.clone(), replace: true },
        Command::SetBrokerConfig { broker: NodeId::new(0), set: set.clone(), replace: false },
        Command::SetGroupConfig { group: "g".into(), set, replace: false },
        Command::AllocateProducerIds { count: 1000 },
        Command::All(vec![Command::AllocateProducerIds { count: 1 }, Command::DeleteTopics { topics: vec![id] }]),
        Command::SetAttachments { topic: id, attachments: Vec::new() },
        Command::RemovePlugin { name: "mask".into(), version: "1.0.0".into() },
        Command::UnregisterBroker { id: NodeId::new(0) },
    ]
}

/// Histories with the image that they lead to behind them.
pub(crate) fn metadata_seeds() -> Vec<Vec<u8>> {
    let commands = commands();
    let mut all = Vec::new();
    for count in [2, 5, 8, 12, commands.len()] {
        let mut image = Image::default();
        let mut lines = Vec::new();
        for (index, command) in (1..).zip(commands.iter().take(count)) {
            image = image.apply(index, command).0;
            lines.push(serde_json::to_vec(command).unwrap());
        }
        all.push(serde_json::to_vec(&image).unwrap());
        lines.push(serde_json::to_vec(&image).unwrap());
        all.push(lines.join(&b'\n'));
    }
    all.extend(commands.iter().map(|command| serde_json::to_vec(command).unwrap()));
    all
}
