//! Directories as Kafka leaves them on a simulated disk: whatever happens, every record stays and every topic comes.

use super::kafka::{KAFKA_METADATA_DIR, KafkaFacts};
use super::kraft::{BROKER, TOPIC};
use super::survey::Found;
use super::{in_chunks, put_in_order};
use crate::config::{HostPort, NodeOptions, Overrides};
use crate::node::error::StartError;
use crate::node::{Seams, join_cluster};
use millrace_metadata::{Command, Image};
use millrace_model::record::encode::HeaderSource;
use millrace_model::{
    BatchBuilder, LeaderEpoch, NodeId, Offload, Offset, PartitionId, Random, SystemClock, Timestamp, TopicId,
};
use millrace_plugin_host::{InlineThreads, Interruption};
use millrace_storage::data_dir::{DataDir, encode_uuid};
use millrace_storage::io::sim::{Crash, SimDisk};
use millrace_storage::io::{Disk, Open};
use millrace_storage::{Log, LogConfig};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

const DATA: &str = "/data";
const RECORDS: i64 = 30;

#[derive(Debug)]
struct InPlace;

impl Offload for InPlace {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}

#[derive(Debug)]
struct Counting(AtomicU64);

impl Random for Counting {
    fn fill(&self, into: &mut [u8]) {
        for byte in into {
            *byte = u8::try_from(self.0.fetch_add(1, Ordering::Relaxed) % 251).unwrap();
        }
    }
}

fn id(number: u128) -> TopicId {
    TopicId::new(Uuid::from_u128(number))
}

/// Kafka's records, as `kraft.rs` describes them.
mod record {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        let mut bytes = vec![u8::try_from(text.len() + 1).unwrap()];
        bytes.extend(text.bytes());
        bytes
    }

    pub fn topic(name: &str, number: u128) -> Vec<u8> {
        [&[1, 2, 0][..], &text(name), id(number).get().as_bytes(), &[0]].concat()
    }

    pub fn removed(number: u128) -> Vec<u8> {
        [&[1, 9, 0][..], id(number).get().as_bytes(), &[0]].concat()
    }

    pub fn partition(number: u128, partition: i32, epoch: i32) -> Vec<u8> {
        let one = [2, 0, 0, 0, 1];
        let (front, ids) = ([1, 3, 2], id(number));
        [
            &front[..],
            &partition.to_be_bytes(),
            ids.get().as_bytes(),
            &one,
            &one,
            &[1, 1],
            &1_i32.to_be_bytes(),
            &epoch.to_be_bytes(),
            &0_i32.to_be_bytes(),
            &[1, 0],
        ]
        .concat()
    }

    pub fn config(of: i8, name: &str, key: &str, value: Option<&str>) -> Vec<u8> {
        let value = value.map_or_else(|| vec![0], text);
        [&[1, 4, 0, of.cast_unsigned()][..], &text(name), &text(key), &value, &[0]].concat()
    }

    pub fn producer_ids(next: i64) -> Vec<u8> {
        [&[1, 15, 0][..], &[0; 12], &next.to_be_bytes(), &[0]].concat()
    }

    pub fn bare(kind: u8) -> Vec<u8> {
        vec![1, kind, 0, 0]
    }
}

fn batch(from: i64, values: &[Vec<u8>]) -> Vec<u8> {
    let mut builder = BatchBuilder::new().base_offset(Offset::new(from));
    for value in values {
        builder.append(Timestamp::new(0), None, Some(value), HeaderSource::Pairs(&[])).unwrap();
    }
    builder.build().unwrap().into_bytes().to_vec()
}

fn write(disk: &SimDisk, path: impl AsRef<Path>, bytes: &[u8]) {
    let path = Path::new(DATA).join(path);
    disk.create_dir_all(path.parent().unwrap()).unwrap();
    disk.replace_synced(&path, bytes).unwrap();
}

fn settle(disk: &SimDisk, path: &Path) {
    for name in disk.list(path).unwrap() {
        let path = path.join(name);
        match disk.stat(&path).unwrap().is_dir {
            true => settle(disk, &path),
            false => disk.open(&path, Open::Write).unwrap().sync_data().unwrap(),
        }
    }
    disk.sync_dir(path).unwrap();
}

/// A topic in the directory: its name, its number, its partitions.
type There = (&'static str, u128, i32);

/// A directory with these topics, all of whose partitions have [`RECORDS`] records of leader epoch 2.
fn kafka(seed: u64, topics: &[There], metadata: &[Vec<u8>]) -> SimDisk {
    let disk = SimDisk::new(seed);
    let directory = encode_uuid(id(99));
    write(
        &disk,
        "meta.properties",
        format!("version=1\nnode.id=1\ncluster.id=abc\ndirectory.id={directory}\n").as_bytes(),
    );
    let dir = DataDir::open(Arc::new(disk.clone()), DATA.into()).unwrap();
    for (name, number, partitions) in topics {
        for partition in 0..*partitions {
            let (path, context) = dir.create_partition(name, PartitionId::new(partition), id(*number)).unwrap();
            let clock = Arc::<SystemClock>::default();
            let mut log = Log::open(Arc::new(disk.clone()), clock, path, LogConfig::default(), context).unwrap();
            for _ in 0..3 {
                let mut builder = BatchBuilder::new();
                for value in 0..RECORDS / 3 {
                    let value = value.to_string().into_bytes();
                    builder.append(Timestamp::new(1), Some(b"k"), Some(&value), HeaderSource::Pairs(&[])).unwrap();
                }
                log.append(&[builder.build().unwrap()], LeaderEpoch::new(2)).unwrap();
            }
            log.close().unwrap();
        }
    }
    if !metadata.is_empty() {
        write(&disk, format!("{KAFKA_METADATA_DIR}/{:020}.log", 0), &batch(0, metadata));
        write(
            &disk,
            format!("{KAFKA_METADATA_DIR}/partition.metadata"),
            b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ",
        );
    }
    write(&disk, "cleaner-offset-checkpoint", b"");
    settle(&disk, Path::new("/"));
    disk
}

/// What a start found: the image, and where each partition's log ends.
type Started = (Arc<Image>, BTreeMap<String, i64>);

/// Starts as a node does, as far as its data goes, and has the cluster carry out these commands.
fn start(disk: &SimDisk, commands: Vec<Command>) -> Result<Started, StartError> {
    let overrides = Overrides { data_dir: Some(DATA.into()), ..Overrides::default() };
    let options = NodeOptions::from_text(None, &overrides).unwrap();
    let seams = Seams {
        clock: Arc::<SystemClock>::default(),
        random: Arc::new(Counting(AtomicU64::new(7))),
        disk: Arc::new(disk.clone()),
        offload: Arc::new(InPlace),
        guests: Arc::new(InlineThreads),
        interruption: Interruption::Fuel { per_millisecond: 1000 },
        compile_cache: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut dir = DataDir::open(Arc::new(disk.clone()), DATA.into())?;
        let address = HostPort { host: "localhost".to_owned(), port: 9092 };
        let cluster = join_cluster(&mut dir, &options, &seams, address).await?;
        put_in_order(&mut dir, &cluster.image())?;
        let mut ends = BTreeMap::new();
        for topic in cluster.image().topics() {
            for (partition, _) in topic.numbered() {
                let (path, context) = dir.create_partition(&topic.name, partition, topic.id)?;
                let clock = Arc::<SystemClock>::default();
                let log = Log::open(Arc::new(disk.clone()), clock, path, LogConfig::default(), context)?;
                ends.insert(format!("{}-{partition}", topic.name), log.end_offset().get());
            }
        }
        dir.mark_recovered()?;
        for command in commands {
            cluster.propose(command).await.unwrap();
        }
        let image = cluster.image();
        cluster.shutdown().await;
        Ok((image, ends))
    })
}

fn named(disk: &SimDisk, suffix: &str) -> Vec<PathBuf> {
    let names = disk.list(Path::new(DATA)).unwrap();
    names.into_iter().filter(|name| name.ends_with(suffix)).map(|name| Path::new(DATA).join(name)).collect()
}

fn holds_records(disk: &SimDisk, path: &Path) -> bool {
    disk.read(&path.join(format!("{:020}.log", 0)), 1 << 20).is_ok_and(|bytes| bytes.len() > 200)
}

const TOPICS: [There; 5] = [("orders", 1, 2), ("forever", 2, 1), ("compacted", 3, 1), ("a.b", 4, 1), ("a_b", 5, 1)];

fn metadata() -> Vec<Vec<u8>> {
    let mut records: Vec<_> = TOPICS.iter().map(|(name, number, _)| record::topic(name, *number)).collect();
    for (_, number, partitions) in TOPICS {
        records.extend((0..partitions).map(|partition| record::partition(number, partition, 5)));
    }
    records.extend([
        record::config(TOPIC, "forever", "retention.ms", Some("-1")),
        record::config(TOPIC, "forever", "no.such.key", Some("x")),
        record::config(TOPIC, "compacted", "cleanup.policy", Some("compact")),
        record::config(BROKER, "", "min.insync.replicas", Some("2")),
        record::config(BROKER, "1", "log.retention.ms", Some("5000")),
        record::producer_ids(1000),
    ]);
    records
}

fn check_all(disk: &SimDisk, (image, ends): &Started, what: &str) {
    for (name, number, partitions) in &TOPICS[..3] {
        let topic = image.topic(name).unwrap_or_else(|| panic!("{what}: {name} was not adopted"));
        assert_eq!((topic.id, topic.partitions.len()), (id(*number), usize::try_from(*partitions).unwrap()), "{what}");
        assert!(topic.partitions.iter().all(|one| one.leader_epoch == LeaderEpoch::new(6)), "{what}");
    }
    assert_eq!(image.topic_count(), 4, "{what}");
    assert!(ends.len() == 5 && ends.values().all(|end| *end == RECORDS), "{what}: {ends:?}");
    let stray = named(disk, "-stray");
    assert!(stray.len() == 1 && holds_records(disk, &stray[0]), "{what}: {stray:?}");
    let config = |topic: &str| image.topic(topic).unwrap().config.clone();
    let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    assert_eq!(config("orders"), BTreeMap::new(), "{what}");
    assert_eq!(config("forever"), one("retention.ms", "-1"), "{what}");
    assert_eq!(config("compacted"), one("cleanup.policy", "compact"), "{what}");
    assert_eq!(image.cluster_config(), &one("min.insync.replicas", "2"), "{what}");
    assert_eq!(image.broker_config(NodeId::new(1)), Some(&one("log.retention.ms", "5000")), "{what}");
    assert_eq!(image.next_producer_id().get(), 1000, "{what}");
    assert_eq!(image.cluster_id(), Some("abc"), "{what}");
}

#[test]
fn wherever_the_first_start_dies_everything_is_adopted_in_the_end() {
    let disk = kafka(0, &TOPICS, &metadata());
    let first = disk.operations();
    let started = start(&disk, Vec::new()).unwrap();
    let last = disk.operations();
    check_all(&disk, &started, "without a crash");
    assert!(last - first > 20, "{first} to {last}");
    for crash in [Crash::Process, Crash::Power] {
        for number in first..last {
            let disk = kafka(number, &TOPICS, &metadata());
            assert_eq!(disk.operations(), first);
            disk.crash_at(number);
            let died = start(&disk, Vec::new());
            assert!(disk.is_crashed() || died.is_ok());
            let disk = disk.restart(crash);
            let what = format!("{crash:?} at operation {number} of {first} to {last}");
            let started = start(&disk, Vec::new()).unwrap_or_else(|error| panic!("{what}: {error}"));
            check_all(&disk, &started, &what);
            assert!(named(&disk, "-delete").is_empty(), "{what}");
            let again = start(&disk.restart(crash), Vec::new()).unwrap();
            assert_eq!(again.1, started.1, "{what}");
        }
    }
}

#[test]
fn only_what_this_cluster_deleted_is_removed() {
    let disk = kafka(0, &TOPICS[..3], &[]);
    start(&disk, vec![Command::DeleteTopics { topics: vec![id(1)] }]).unwrap();
    // As a node leaves them that dies before it follows, and as somebody puts them there.
    let other = kafka(1, &[("guest", 7, 1), ("forever", 8, 2)], &[]);
    for (from, to) in [("guest-0", "guest-0"), ("forever-1", "forever-1"), ("forever-0", "compacted-0")] {
        for name in other.list(&Path::new(DATA).join(from)).unwrap() {
            let bytes = other.read(&Path::new(DATA).join(from).join(&name), 1 << 20).unwrap();
            write(&disk, Path::new(to).join(&name), &bytes);
        }
    }
    write(&disk, "notes-2024/draft", b"of somebody");
    let (image, ends) = start(&disk, Vec::new()).unwrap();
    assert_eq!(ends, BTreeMap::from([("compacted-0".to_owned(), 0), ("forever-0".to_owned(), RECORDS)]));
    assert_eq!(image.topic_count(), 2);
    let names = disk.list(Path::new(DATA)).unwrap();
    assert!(!names.iter().any(|name| name.starts_with("orders")), "{names:?}");
    let stray = named(&disk, "-stray");
    assert_eq!(stray.len(), 3, "{stray:?}");
    assert!(stray.iter().all(|path| holds_records(&disk, path)), "{stray:?}");
    assert!(names.contains(&"notes-2024".to_owned()));
}

#[test]
fn topics_come_back_without_rules_that_delete_where_the_clusters_facts_are_lost() {
    let disk = kafka(0, &TOPICS[..3], &metadata());
    let (image, _) = start(&disk, Vec::new()).unwrap();
    assert!(image.topic("orders").unwrap().config.is_empty());
    disk.remove_dir_all(&Path::new(DATA).join("cluster")).unwrap();
    let (image, ends) = start(&disk, Vec::new()).unwrap();
    assert!(ends.len() == 4 && ends.values().all(|end| *end == RECORDS), "{ends:?}");
    for topic in image.topics() {
        assert_eq!(topic.config["retention.ms"], "-1", "{}", topic.name);
        assert_eq!(topic.config["retention.bytes"], "-1", "{}", topic.name);
    }
    assert!(image.next_producer_id().get() >= 1 << 31);
}

#[test]
fn more_partitions_than_one_command_may_create_are_adopted() {
    let found = |partitions: usize| Found {
        name: String::new(),
        id: id(1),
        leader_epochs: vec![LeaderEpoch::new(0); partitions],
        known: false,
    };
    let chunks = in_chunks([6_000, 4_000, 1, 9_999, 1, 20_000, 1, 1].map(found).into());
    let sizes: Vec<Vec<_>> = chunks.iter().map(|it| it.iter().map(|it| it.leader_epochs.len()).collect()).collect();
    assert_eq!(sizes, [vec![6_000, 4_000], vec![1, 9_999], vec![1], vec![20_000], vec![1, 1]]);
    assert!(in_chunks(Vec::new()).is_empty());
}

#[test]
fn partitions_that_are_missing_come_back_empty_but_not_a_billion_of_them() {
    let disk = kafka(0, &TOPICS[..2], &[]);
    disk.remove_dir_all(&Path::new(DATA).join("orders-0")).unwrap();
    // A number as only somebody who means harm comes up with.
    write(
        &disk,
        "huge-2147483647/partition.metadata",
        format!("version: 0\ntopic_id: {}", encode_uuid(id(3))).as_bytes(),
    );
    let (image, ends) = start(&disk, Vec::new()).unwrap();
    assert_eq!((image.topic_count(), image.partition_count()), (2, 3));
    assert_eq!((ends["orders-0"], ends["orders-1"]), (0, RECORDS));
    assert_eq!(named(&disk, "-stray").len(), 1);
}

#[test]
fn a_directory_without_an_id_is_known_by_kafkas_metadata() {
    let disk = kafka(0, &TOPICS[..3], &metadata());
    disk.remove_file(&Path::new(DATA).join("forever-0/partition.metadata")).unwrap();
    let (image, ends) = start(&disk, Vec::new()).unwrap();
    assert_eq!((image.topic("forever").unwrap().id, ends["forever-0"]), (id(2), RECORDS));
}

#[test]
fn a_directory_that_a_full_disk_left_without_an_id_does_not_keep_the_node_from_starting() {
    let disk = kafka(0, &TOPICS[..1], &[]);
    let (image, _) = start(&disk, Vec::new()).unwrap();
    let mut dir = DataDir::open(Arc::new(disk.clone()), DATA.into()).unwrap();
    let bare = Path::new(DATA).join("orders-0");
    disk.remove_dir_all(&bare).unwrap();
    disk.create_dir_all(&bare).unwrap();
    disk.set_capacity(Some(0));
    put_in_order(&mut dir, &image).unwrap();
    assert!(!dir.partitions().unwrap().is_empty(), "it is left for whoever opens it");
}

#[test]
fn a_directory_of_a_cluster_that_lost_its_identity_is_refused_by_name() {
    let disk = kafka(0, &TOPICS[..1], &[]);
    start(&disk, Vec::new()).unwrap();
    for left in [&b"version=1\nnode.id=1\ncluster.id=abc\n"[..], b"x", b""] {
        write(&disk, "meta.properties", left);
        let refused = start(&disk, Vec::new()).unwrap_err().to_string();
        assert!(refused.contains("meta.properties is missing or damaged"), "{refused}");
    }
}

fn facts(disk: &SimDisk) -> Result<Option<KafkaFacts>, String> {
    KafkaFacts::read(disk, &Path::new(DATA).join(KAFKA_METADATA_DIR))
}

fn log(disk: &SimDisk, name: &str, bytes: &[u8]) {
    write(disk, Path::new(KAFKA_METADATA_DIR).join(name), bytes);
}

const FIRST: &str = "00000000000000000000.log";

#[test]
fn kafkas_metadata_is_what_is_left_when_every_record_has_had_its_say() {
    let disk = SimDisk::new(0);
    assert_eq!(facts(&disk), Ok(None));
    let [begin, end, abort] = [23, 24, 25].map(record::bare);
    let set = |value| record::config(TOPIC, "t", "retention.ms", value);
    let records = [
        record::topic("t", 1),
        set(Some("1")),
        record::partition(1, 0, 3),
        begin.clone(),
        set(Some("2")),
        end,
        begin.clone(),
        set(Some("3")),
        abort,
        record::topic("gone", 2),
        record::removed(2),
        record::topic("off", 3),
        record::config(TOPIC, "off", "retention.ms", Some("1")),
        record::config(TOPIC, "off", "retention.ms", None),
        begin,
        set(Some("4")),
    ];
    log(&disk, FIRST, &batch(0, &records));
    let found = facts(&disk).unwrap().unwrap();
    assert_eq!(found.configs(TOPIC, "t")["retention.ms"], "2", "what is not ended does not count");
    assert!(found.configs(TOPIC, "off").is_empty());
    assert!(found.was_removed(id(2)) && found.id_of("gone").is_none());
    assert_eq!(found.topic(id(1), "t").unwrap().partitions, BTreeMap::from([(0, 3)]));
    assert!(found.topic(id(1), "other").is_none());
}

#[test]
fn a_snapshot_and_what_came_after_it_are_read_and_a_gap_between_them_is_not_overlooked() {
    let disk = SimDisk::new(0);
    let set = |value| vec![record::config(TOPIC, "t", "retention.ms", Some(value))];
    log(&disk, "00000000000000000002-0000000001.checkpoint", &batch(0, &set("old")));
    log(&disk, "00000000000000000009-0000000001.checkpoint", &batch(0, &set("snapshot")));
    let value = |disk: &SimDisk| facts(disk).map(|facts| facts.unwrap().configs(TOPIC, "t")["retention.ms"].clone());
    assert_eq!(value(&disk).unwrap(), "snapshot");
    log(&disk, "00000000000000000005.log", &batch(5, &[set("a"), set("b")].concat()));
    assert_eq!(value(&disk).unwrap(), "snapshot", "what the snapshot holds is older than it");
    log(&disk, "00000000000000000007.log", &batch(7, &[set("c"), set("d"), set("after")].concat()));
    assert_eq!(value(&disk).unwrap(), "after");
    log(&disk, "00000000000000000011.log", &batch(11, &set("later")));
    assert!(value(&disk).unwrap_err().contains("missing"));
}

#[test]
fn a_log_that_is_not_whole_says_nothing() {
    let whole = batch(0, &metadata());
    let with = |bytes: &[u8]| {
        let disk = SimDisk::new(0);
        log(&disk, FIRST, bytes);
        facts(&disk)
    };
    assert!(with(&whole).is_ok());
    for len in 1..whole.len() {
        assert!(with(&whole[..len]).is_err(), "{len} bytes of {}", whole.len());
    }
    for at in 16..whole.len() {
        let mut broken = whole.clone();
        broken[at] ^= 4;
        assert!(with(&broken).is_err(), "byte {at}");
    }
    assert!(with(&batch(3, &metadata())).is_err(), "the first three records are missing");
    let disk = kafka(0, &TOPICS[..3], &metadata());
    log(&disk, FIRST, &whole[..whole.len() - 1]);
    let (image, _) = start(&disk, Vec::new()).unwrap();
    assert_eq!(image.topic("orders").unwrap().config["retention.ms"], "-1", "nothing is removed by a rule nobody gave");
}
