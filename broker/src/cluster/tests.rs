//! The metadata group over simulated and real disks: what was answered is there after any crash.

use super::journal::{Record, State};
use super::*;
use millrace_metadata::{ApplyError, BrokerRegistration, Command, Image, NewTopic, Placement, Response};
use millrace_model::{NodeId, Offload, Random, SystemRandom, TopicId};
use millrace_storage::io::sim::{Crash, SimDisk};
use millrace_storage::io::{Disk, Open, OsDisk};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;

#[derive(Debug)]
struct InPlace;
impl Offload for InPlace {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}

#[derive(Debug)]
struct Threads;
impl Offload for Threads {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        std::thread::spawn(job);
    }
}

#[derive(Debug)]
struct Seeded(AtomicU64);
impl Random for Seeded {
    fn fill(&self, into: &mut [u8]) {
        for byte in into {
            let next = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            *byte = (next.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8;
        }
    }
}

const DIR: &str = "/data/cluster";

fn seams(disk: &SimDisk) -> Seams {
    Seams { disk: Arc::new(disk.clone()), offload: Arc::new(InPlace), random: Arc::new(Seeded(AtomicU64::new(1))) }
}

fn real() -> Seams {
    Seams { disk: Arc::new(OsDisk), offload: Arc::new(Threads), random: Arc::new(SystemRandom) }
}

fn options(dir: impl Into<PathBuf>) -> ClusterOptions {
    let broker = BrokerRegistration {
        id: NodeId::new(1),
        host: "127.0.0.1".into(),
        port: 9092,
        rack: None,
        incarnation: Uuid::from_u128(1),
    };
    let defaults = ClusterOptions::new(NodeId::new(1), dir.into());
    ClusterOptions { broker: Some(broker), propose_timeout: Duration::from_secs(5), ..defaults }
}

fn topic(name: &str, partitions: i32) -> Command {
    let mut id = [0; 16];
    name.bytes().zip(&mut id).for_each(|(from, to)| *to = from);
    let placement = Placement::Spread { partitions, factor: 1, seed: 0 };
    let id = TopicId::new(Uuid::from_bytes(id));
    let topic = NewTopic { id, name: name.into(), placement, config: BTreeMap::new(), attachments: Vec::new() };
    Command::CreateTopics { topics: vec![topic] }
}

fn names(image: &Image) -> BTreeSet<String> {
    image.topics().map(|topic| topic.name.clone()).collect()
}

fn sim() -> SimDisk {
    let seed = std::env::var("MILLRACE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("MILLRACE_SEED={seed}");
    let disk = SimDisk::new(seed);
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

#[tokio::test]
async fn a_fresh_node_leads_at_once_and_a_restarted_one_has_its_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cluster");
    let started = Instant::now();
    let cluster = Cluster::start(options(&path), real()).await.unwrap();
    let fresh = started.elapsed();
    assert!(cluster.is_controller());
    assert_eq!(cluster.image().broker(NodeId::new(1)).unwrap().port(), 9092);
    let id = cluster.cluster_id();
    assert_eq!(id.len(), 22);
    let started = Instant::now();
    let Response::Created(created) = cluster.propose(topic("a", 1000)).await.unwrap() else { panic!() };
    let thousand = started.elapsed();
    assert_eq!(created[0].as_ref().unwrap().partitions, 1000);
    assert_eq!(cluster.image().partition_count(), 1000);
    let again = cluster.propose(topic("a", 1)).await;
    assert_eq!(again, Ok(Response::Created(vec![Err(ApplyError::TopicExists { name: "a".into() })])));
    let before = cluster.image();
    cluster.shutdown().await;
    assert!(matches!(cluster.propose(topic("b", 1)).await, Err(ProposeError::Stopped { .. })));
    let started = Instant::now();
    let cluster = Cluster::start(options(&path), real()).await.unwrap();
    println!("fresh start {fresh:?}, 1,000 partitions {thousand:?}, restart {:?}", started.elapsed());
    assert!(cluster.is_controller());
    assert_eq!((cluster.cluster_id(), &*cluster.image()), (id, &*before));
    assert!(cluster.propose(topic("b", 1)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_proposals_at_once_share_a_few_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(options(dir.path()), real()).await.unwrap();
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let cluster = cluster.clone();
        asked.spawn(async move { cluster.propose(topic(&format!("t{number}"), 1)).await });
    }
    for answer in asked.join_all().await {
        assert!(matches!(answer, Ok(Response::Created(topics)) if topics[0].is_ok()));
    }
    assert_eq!(cluster.image().topic_count(), 1000);
    println!("{} writes for 1,000 proposals", cluster.journal_appends());
    assert!(cluster.journal_appends() < 200);
}

#[tokio::test(start_paused = true)]
async fn snapshots_keep_the_journal_short_and_a_restart_reads_both() {
    let disk = sim();
    let short = ClusterOptions { snapshot_every: 10, ..options(DIR) };
    let cluster = Cluster::start(short.clone(), seams(&disk)).await.unwrap();
    for number in 0..205 {
        cluster.propose(topic(&format!("t{number}"), 1)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = cluster.image();
    assert!(cluster.journal_bytes() < 8_000, "{} bytes", cluster.journal_bytes());
    drop(cluster);
    let disk = disk.restart(Crash::Power);
    let cluster = Cluster::start(short, seams(&disk)).await.unwrap();
    assert_eq!(*cluster.image(), *before);
    assert!(cluster.propose(topic("more", 1)).await.is_ok());
}

/// Proposes until the disk is gone; gives what was answered and what was asked.
async fn work(disk: &SimDisk) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut answered, mut asked) = (BTreeSet::new(), BTreeSet::new());
    let short = ClusterOptions { snapshot_every: 5, ..options(DIR) };
    let Ok(cluster) = Cluster::start(short, seams(disk)).await else { return (answered, asked) };
    for number in 0..16 {
        let name = format!("t{number}");
        asked.insert(name.clone());
        if cluster.propose(topic(&name, 2)).await.is_err() {
            break;
        }
        answered.insert(name);
    }
    (answered, asked)
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_survives_a_crash_at_any_operation() {
    let whole = sim();
    work(&whole).await;
    let operations = whole.operations();
    assert!(operations > 30, "{operations}");
    for crash in [Crash::Process, Crash::Power] {
        for at in 0..operations {
            let disk = sim();
            disk.crash_at(at);
            let (answered, asked) = work(&disk).await;
            let disk = disk.restart(crash);
            if disk.list(Path::new("/data")).is_err() {
                continue; // The machine stopped while the test itself made its directory.
            }
            let cluster = Cluster::start(options(DIR), seams(&disk)).await;
            let cluster = cluster.unwrap_or_else(|error| panic!("{crash:?} at operation {at}: {error}"));
            let found = names(&cluster.image());
            assert!(found.is_superset(&answered), "{crash:?} at operation {at}: {answered:?} but {found:?}");
            assert!(found.is_subset(&asked), "{crash:?} at operation {at}: {found:?} but {asked:?}");
            assert!(cluster.propose(topic("after", 1)).await.is_ok());
            drop(cluster);
            let cluster = Cluster::start(options(DIR), seams(&disk.restart(crash))).await.unwrap();
            assert!(cluster.image().topic("after").is_some());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_tried_again() {
    let whole = sim();
    work(&whole).await;
    for at in 2..whole.operations() {
        let disk = sim();
        disk.fail_at(at, std::io::ErrorKind::Other);
        let (answered, _) = work(&disk).await;
        // A failure of the very first file is the start's own error.
        assert!(answered.len() == 16 || answered.is_empty() && at < 8, "operation {at}: {}", answered.len());
        let cluster = Cluster::start(options(DIR), seams(&disk.restart(Crash::Power))).await.unwrap();
        assert!(names(&cluster.image()).is_superset(&answered), "operation {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stalls_proposals_and_nothing_else() {
    let disk = sim();
    let cluster = Cluster::start(options(DIR), seams(&disk)).await.unwrap();
    disk.set_capacity(Some(0));
    assert_eq!(cluster.propose(topic("a", 1)).await, Err(ProposeError::TimedOut { ms: 5000 }));
    assert!(cluster.is_controller() && cluster.image().topic("a").is_none());
    disk.set_capacity(None);
    assert!(cluster.propose(topic("b", 1)).await.is_ok());
    assert_eq!(names(&cluster.image()), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    disk.set_capacity(Some(0));
    drop(cluster.propose(topic("c", 1)).await);
    cluster.shutdown().await;
}

async fn with_topics(disk: &SimDisk) -> usize {
    let cluster = Cluster::start(options(DIR), seams(disk)).await.unwrap();
    cluster.propose(topic("a", 1)).await.unwrap();
    let first = usize::try_from(cluster.journal_bytes()).unwrap();
    cluster.propose(topic("b", 1)).await.unwrap();
    cluster.shutdown().await;
    first
}

#[tokio::test(start_paused = true)]
async fn rubbish_at_the_end_of_the_journal_is_cut_off() {
    let disk = sim();
    with_topics(&disk).await;
    let disk = disk.restart(Crash::Process);
    let journal = disk.open(&Path::new(DIR).join("journal"), Open::Write).unwrap();
    let end = journal.len().unwrap();
    journal.write_all_at(end, &mut [IoSlice::new(b"MRF1\x20\0\0\0torn")]).unwrap();
    let cluster = Cluster::start(options(DIR), seams(&disk)).await.unwrap();
    assert_eq!(names(&cluster.image()).len(), 2);
    assert_eq!(journal.len().unwrap(), end);
}

#[tokio::test(start_paused = true)]
async fn damage_before_the_end_is_refused_with_file_and_offset() {
    let disk = sim();
    let second = with_topics(&disk).await;
    let journal = Path::new(DIR).join("journal");
    for (position, offset) in [(second - 1, None), (20, Some(0))] {
        let disk = disk.restart(Crash::Process);
        disk.corrupt(&journal, position, 0x10);
        let error = Cluster::start(options(DIR), seams(&disk)).await.unwrap_err();
        let ClusterError::Corrupt { path, offset: found, .. } = &error else { panic!("{error}") };
        assert_eq!(path, &journal);
        assert!(offset.is_none_or(|offset| offset == *found) && usize::try_from(*found).unwrap() < second, "{error}");
        println!("{error}");
        disk.corrupt(&journal, position, 0x10);
    }
    assert!(Cluster::start(options(DIR), seams(&disk.restart(Crash::Process))).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_directory_of_another_node_or_cluster_is_refused() {
    let disk = sim();
    let asked = ClusterOptions { cluster_id: Some("from-meta-properties".into()), ..options(DIR) };
    let cluster = Cluster::start(asked, seams(&disk)).await.unwrap();
    assert_eq!(cluster.cluster_id(), "from-meta-properties");
    cluster.shutdown().await;
    let other = ClusterOptions { cluster_id: Some("other".into()), ..options(DIR) };
    let refused = Cluster::start(other, seams(&disk)).await;
    assert!(matches!(refused, Err(ClusterError::OtherCluster { .. })), "{refused:?}");
    let other = ClusterOptions { node_id: NodeId::new(2), ..options(DIR) };
    assert!(matches!(Cluster::start(other, seams(&disk)).await, Err(ClusterError::OtherNode { found: 1, .. })));
    let negative = ClusterOptions::new(NodeId::new(-1), DIR.into());
    assert!(matches!(Cluster::start(negative, seams(&disk)).await, Err(ClusterError::NodeId { .. })));
}

#[tokio::test(start_paused = true)]
async fn the_broker_registers_again_only_when_it_moved() {
    let disk = sim();
    let cluster = Cluster::start(options(DIR), seams(&disk)).await.unwrap();
    cluster.shutdown().await;
    let cluster = Cluster::start(options(DIR), seams(&disk)).await.unwrap();
    assert_eq!(cluster.journal_appends(), 0);
    cluster.shutdown().await;
    let mut moved = options(DIR);
    moved.broker.as_mut().unwrap().port = 9999;
    let cluster = Cluster::start(moved, seams(&disk)).await.unwrap();
    assert_eq!(cluster.image().broker(NodeId::new(1)).unwrap().port(), 9999);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_sees_the_image_that_was_answered() {
    let cluster = Cluster::start(options(DIR), seams(&sim())).await.unwrap();
    let mut images = cluster.watch();
    images.mark_unchanged();
    cluster.propose(topic("a", 1)).await.unwrap();
    assert!(images.has_changed().unwrap());
    assert_eq!(**images.borrow_and_update(), *cluster.image());
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_writes_the_same_bytes() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let disk = sim();
        work(&disk).await;
        let disk = disk.restart(Crash::Process);
        let files = ["journal", "snapshot"].map(|name| disk.read(&Path::new(DIR).join(name), 1 << 20).unwrap());
        runs.push((files, disk.operations()));
    }
    assert_eq!(runs[0], runs[1]);
}

/// Records as they stood when the format was first used.
#[test]
fn the_frozen_journal_stays_readable_and_is_written_the_same() {
    let text = include_str!("fixtures/journal-1.json");
    let records: Vec<Record> = serde_json::from_str(text).unwrap();
    let frozen: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(&records).unwrap(), frozen);
    let mut state = State::default();
    for record in records {
        state.replay(record).unwrap();
    }
    assert_eq!((state.node, state.last().unwrap().index, state.entries.len()), (7, 5, 2));
    assert!(state.replay(Record::Entries(state.entries.iter().cloned().collect())).is_err(), "an index twice");
}
