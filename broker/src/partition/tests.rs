//! The walk of a batch through the writer, on a simulated disk.

use super::*;
use crate::config::kafka_keys::{BrokerKeys, TopicSettings};
use bytes::Bytes;
use futures::future::BoxFuture;
use millrace_metadata::{
    Attachment, BrokerRegistration, Command, ContentHash, FaultPolicy, Grants, Image, Limits, NewTopic, Placement,
    Plugin, PluginReference, Stage, Topic,
};
use millrace_model::builder::BatchBuilder;
use millrace_model::record::encode::{HeaderSource, RecordParts};
use millrace_model::{
    Batch, Clock as _, NodeId, Offload, Offset, PartitionId, ProducerEpoch, ProducerId, SystemClock, Timestamp,
    TopicId, TopicPartition, rewrite,
};
use millrace_storage::ProducerError;
use millrace_storage::data_dir::DataDir;
use millrace_storage::io::Disk as _;
use millrace_storage::io::sim::{Crash, SimDisk};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const NODE: NodeId = NodeId::new(1);
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug)]
struct Inline;

impl Offload for Inline {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}

/// A stage that obeys the value of the batch's first record.
#[derive(Debug, Default)]
struct Obedient {
    seen: Mutex<Vec<Bytes>>,
}

impl BatchStage for Obedient {
    fn run(&self, batch: Batch, _: StageContext) -> BoxFuture<'static, StageOutcome> {
        let value = first_value(&batch);
        self.seen.lock().unwrap().push(value.clone());
        Box::pin(async move {
            match &value[..] {
                b"refuse" => StageOutcome::Rejected {
                    records: vec![RecordRejection { index: 0, reason: "as it asks".to_owned() }],
                    message: "refused".to_owned(),
                },
                b"slow" => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    StageOutcome::Unchanged
                }
                b"empty" => {
                    let none = millrace_model::builder::Section::with_capacity(0);
                    let header = batch.header();
                    let batch = rewrite::replace_records(header, none, Default::default(), None).unwrap();
                    StageOutcome::Replaced(batch)
                }
                b"anonymous" => StageOutcome::Replaced(second_only(&batch, None, 0)),
                b"ahead" => StageOutcome::Replaced(second_only(&batch, Some(b"k"), i64::MAX / 2)),
                b"behind" => StageOutcome::Replaced(second_only(&batch, Some(b"k"), -999)),
                _ => StageOutcome::Unchanged,
            }
        })
    }
}

#[derive(Debug)]
struct Stages(Option<Arc<Obedient>>);

impl StageProvider for Stages {
    fn produce_stage(&self, _: &Topic) -> Option<Arc<dyn BatchStage>> {
        self.0.clone().map(|stage| stage as Arc<dyn BatchStage>)
    }
}

/// A stage on topics with attachments.
#[derive(Debug)]
struct WhereAttached;

impl StageProvider for WhereAttached {
    fn produce_stage(&self, topic: &Topic) -> Option<Arc<dyn BatchStage>> {
        (!topic.attachments.is_empty()).then(|| Arc::<Obedient>::default() as Arc<dyn BatchStage>)
    }
}

/// Batches, records and failures.
#[derive(Debug, Default)]
struct Counted(Mutex<(u64, u64, u64)>);

impl Counts for Counted {
    fn appended(&self, batches: u64, records: u64, _: u64) {
        let mut counted = self.0.lock().unwrap();
        counted.0 += batches;
        counted.1 += records;
    }

    fn failed(&self) {
        self.0.lock().unwrap().2 += 1;
    }
}

struct Bench {
    disk: SimDisk,
    partitions: Partitions,
    image: Image,
    topic: TopicId,
}

impl Bench {
    async fn new(stage: Option<Arc<Obedient>>, configs: &[(&str, &str)]) -> Self {
        Self::with(Arc::new(Stages(stage)), configs).await
    }

    fn open(disk: &SimDisk, stages: Arc<dyn StageProvider>) -> Partitions {
        let disk = Arc::new(disk.clone());
        let options = Options {
            data_dir: Arc::new(DataDir::open(Arc::clone(&disk) as _, "/data".into()).unwrap()),
            disk,
            clock: Arc::new(SystemClock::default()),
            offload: Arc::new(Inline),
            keys: BrokerKeys::default(),
            defaults: TopicSettings::resolve(&BTreeMap::new(), &BrokerKeys::default()).unwrap(),
            counts: Arc::<Counted>::default(),
        };
        Partitions::new(NODE, options, stages)
    }

    async fn with(stages: Arc<dyn StageProvider>, configs: &[(&str, &str)]) -> Self {
        let disk = SimDisk::new(1);
        let partitions = Self::open(&disk, stages);
        let topic = TopicId::new(uuid::Uuid::from_u128(7));
        let mut bench = Self { disk, partitions, image: Image::default(), topic };
        bench.apply(Command::RegisterBroker(BrokerRegistration {
            id: NODE,
            host: "localhost".to_owned(),
            port: 9092,
            rack: None,
            incarnation: uuid::Uuid::from_u128(1),
        }));
        bench.create(topic, "t", 1, configs);
        bench.follow().await;
        bench
    }

    fn create(&mut self, id: TopicId, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        self.apply(Command::CreateTopics {
            topics: vec![NewTopic {
                id,
                name: name.to_owned(),
                placement: Placement::Spread { partitions, factor: 1, seed: 0 },
                config: configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                attachments: Vec::new(),
            }],
        });
    }

    fn apply(&mut self, command: Command) {
        let (image, response) = self.image.apply(self.image.index() + 1, &command);
        response.unwrap();
        self.image = image;
    }

    async fn follow(&self) {
        self.partitions.follow(&Arc::new(self.image.clone())).await;
    }

    /// The machine stops and starts again.
    async fn restart(&mut self, crash: Crash, stages: Arc<dyn StageProvider>) {
        self.disk = self.disk.restart(crash);
        self.partitions = Self::open(&self.disk, stages);
        self.follow().await;
    }

    /// Attaches these plugins and no others; the answer is the new generation.
    async fn attach(&mut self, names: &[&str]) -> u64 {
        let attachments = names.iter().map(|name| attachment(name)).collect();
        self.apply(Command::SetAttachments { topic: self.topic, attachments });
        self.follow().await;
        self.image.topic("t").unwrap().generation
    }

    /// Appends a batch of two records.
    async fn append(&self, value: &str) {
        self.partition().append(batch(&[value, value], None), Origin::Client).await.unwrap();
    }

    fn generations(&self) -> Vec<(u64, i64, String)> {
        let entries = self.partition().generations();
        let plugins =
            |plugins: &str| plugins.split(' ').filter_map(|one| one.split('@').next()).collect::<Vec<_>>().join(" ");
        entries.iter().map(|entry| (entry.generation, entry.start.get(), plugins(&entry.plugins))).collect()
    }

    fn partition(&self) -> PartitionHandle {
        self.partitions.get(TopicPartition { topic: self.topic, partition: PartitionId::new(0) }).unwrap()
    }
}

fn registered(name: &str) -> Plugin {
    let hash = ContentHash::of(name.as_bytes());
    Plugin { name: name.to_owned(), version: "1.0.0".to_owned(), hash, size: 1 }
}

fn attachment(name: &str) -> Attachment {
    let Plugin { name, version, hash, .. } = registered(name);
    Attachment {
        plugin: PluginReference { name, version, hash },
        stage: Stage::Produce,
        config: "{}".to_owned(),
        limits: Limits { memory_bytes: 1 << 20, time_ms: 20 },
        on_fault: FaultPolicy::Reject,
        grants: Grants::default(),
        outputs: Vec::new(),
    }
}

fn batch(values: &[&str], sequence: Option<i32>) -> Batch {
    let mut builder = BatchBuilder::new();
    if let Some(sequence) = sequence {
        builder = builder.producer(ProducerId::new(5), ProducerEpoch::new(0), sequence);
    }
    for value in values {
        builder.append(Timestamp::new(1000), Some(b"k"), Some(value.as_bytes()), HeaderSource::None).unwrap();
    }
    builder.build().unwrap()
}

/// What a stage leaves that drops the first record and gives the second this key and timestamp delta.
fn second_only(batch: &Batch, key: Option<&[u8]>, timestamp_delta: i64) -> Batch {
    let mut section = millrace_model::builder::Section::with_capacity(0);
    let headers = HeaderSource::None;
    section.push(&RecordParts { offset_delta: 1, timestamp_delta, key, value: Some(b"left"), headers }).unwrap();
    rewrite::replace_records(batch.header(), section, Default::default(), None).unwrap()
}

fn first_value(batch: &Batch) -> Bytes {
    let section = batch.records_section();
    let first = millrace_model::record::Records::new(&section, 1).next().unwrap();
    Bytes::copy_from_slice(first.unwrap().value().unwrap())
}

fn stored(partition: &PartitionHandle) -> Vec<Batch> {
    let (from, upto) = (partition.log_start(), partition.high_watermark());
    let slice = partition.reader().read(from, upto, 1 << 20, true).unwrap();
    Batch::all(slice.to_bytes().unwrap()).map(Result::unwrap).collect()
}

#[tokio::test]
async fn batches_get_consecutive_offsets_at_once_and_readers_see_them() {
    let bench = Bench::new(None, &[]).await;
    let partition = bench.partition();
    for (expected, values) in [(0, vec!["a", "b"]), (2, vec!["c"])] {
        let appended = partition.append(batch(&values, None), Origin::Client).now().unwrap().unwrap();
        assert_eq!(appended.base_offset, Offset::new(expected));
    }
    assert_eq!(partition.high_watermark(), Offset::new(3));
    let offsets: Vec<_> = stored(&partition).iter().map(|batch| batch.header().base_offset.get()).collect();
    assert_eq!(offsets, [0, 2]);
}

#[tokio::test]
async fn a_retried_batch_is_recognised_though_the_stage_emptied_it() {
    let bench = Bench::new(Some(Arc::default()), &[]).await;
    let partition = bench.partition();
    let emptied = batch(&["empty", "x"], Some(0));
    let first = partition.append(emptied.clone(), Origin::Client).await.unwrap();
    assert!(!first.duplicate);
    let again = partition.append(emptied, Origin::Client).await.unwrap();
    assert!(again.duplicate);
    assert_eq!((again.base_offset, again.last_offset), (first.base_offset, first.last_offset));
    let next = partition.append(batch(&["y"], Some(2)), Origin::Client).await.unwrap();
    assert_eq!(next.base_offset, Offset::new(2));
    assert_eq!(stored(&partition).iter().map(|b| b.header().records_count).collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test]
async fn a_refused_batch_leaves_no_trace_and_its_sequence_is_free() {
    let bench = Bench::new(Some(Arc::default()), &[]).await;
    let partition = bench.partition();
    match partition.append(batch(&["refuse"], Some(0)), Origin::Client).await {
        Err(AppendError::Invalid { records, .. }) => assert_eq!(records[0].reason, "as it asks"),
        other => panic!("{other:?}"),
    }
    assert_eq!(partition.high_watermark(), Offset::ZERO);
    let second = partition.append(batch(&["fine"], Some(0)), Origin::Client).await.unwrap();
    assert_eq!(second.base_offset, Offset::ZERO);
}

#[tokio::test]
async fn what_a_stage_makes_of_a_batch_is_held_against_the_topics_rules_like_what_a_producer_sends() {
    let cases = [
        ("anonymous", ("cleanup.policy", "compact"), "without key"),
        ("ahead", ("message.timestamp.after.max.ms", "3600000"), "out of range"),
        // A second before the record was produced.
        ("behind", ("message.timestamp.before.max.ms", "9000000000000"), ""),
        ("behind", ("message.timestamp.before.max.ms", "1"), "out of range"),
    ];
    for (value, config, reason) in cases {
        let bench = Bench::new(Some(Arc::default()), &[config]).await;
        let partition = bench.partition();
        let mut builder = BatchBuilder::new().producer(ProducerId::new(5), ProducerEpoch::new(0), 0);
        let now = SystemClock::default().now();
        for value in [value, "second"] {
            builder.append(now, Some(b"k"), Some(value.as_bytes()), HeaderSource::None).unwrap();
        }
        let appended = partition.append(builder.build().unwrap(), Origin::Client).await;
        if reason.is_empty() {
            assert_eq!(appended.unwrap().base_offset, Offset::ZERO);
            continue;
        }
        match appended {
            Err(AppendError::Invalid { records, .. } | AppendError::InvalidTimestamp { records, .. }) => {
                assert_eq!(records.len(), 1, "{records:?}");
                // The place that the record had in the batch as it was produced.
                assert_eq!(records[0].index, 1);
                assert!(records[0].reason.contains(reason), "{records:?}");
            }
            other => panic!("{value}: {other:?}"),
        }
        assert_eq!(partition.high_watermark(), Offset::ZERO);
        let next = partition.append(batch(&["fine"], None), Origin::Client).await;
        assert!(next.is_ok() || config.1 == "1", "{next:?}");
    }
}

#[tokio::test]
async fn a_partition_that_found_no_space_comes_when_there_is_some() {
    let mut bench = Bench::new(None, &[]).await;
    let others = TopicId::new(uuid::Uuid::from_u128(8));
    let there = |bench: &Bench| {
        (0..2)
            .filter(|index| {
                let partition = PartitionId::new(*index);
                bench.partitions.get(TopicPartition { topic: others, partition }).is_some()
            })
            .count()
    };
    bench.create(others, "others", 2, &[]);
    bench.disk.set_capacity(Some(0));
    bench.follow().await;
    assert_eq!((there(&bench), bench.partitions.are_whole()), (0, false));
    bench.follow().await;
    assert_eq!(there(&bench), 0);
    bench.disk.set_capacity(None);
    bench.follow().await;
    assert_eq!((there(&bench), bench.partitions.are_whole()), (2, true));
}

#[tokio::test(start_paused = true)]
async fn order_is_fixed_by_the_call_even_behind_a_slow_stage() {
    let stage = Arc::<Obedient>::default();
    let bench = Bench::new(Some(Arc::clone(&stage)), &[]).await;
    let partition = bench.partition();
    let slow = partition.append(batch(&["slow"], Some(0)), Origin::Client);
    let second = partition.append(batch(&["second"], Some(1)), Origin::Client);
    let third = partition.append(batch(&["third"], Some(2)), Origin::Client);
    // Polled the other way round.
    let (third, second, slow) = tokio::join!(biased; third, second, slow);
    let bases = [slow, second, third].map(|appended| appended.unwrap().base_offset.get());
    assert_eq!(bases, [0, 1, 2]);
    assert_eq!(*stage.seen.lock().unwrap(), ["slow", "second", "third"]);
}

#[tokio::test(start_paused = true)]
async fn an_append_that_is_given_up_lets_the_next_one_go_on() {
    let bench = Bench::new(Some(Arc::default()), &[]).await;
    let partition = bench.partition();
    let slow = partition.append(batch(&["slow"], Some(0)), Origin::Client);
    let next = partition.append(batch(&["next"], Some(0)), Origin::Client);
    drop(slow);
    assert_eq!(next.await.unwrap().base_offset, Offset::ZERO);
}

/// What became of batches that came together: base offsets, those of duplicates negative, or why not.
async fn together(partition: &PartitionHandle, batches: Vec<Batch>) -> Vec<Result<i64, AppendError>> {
    let mut outcomes = Vec::new();
    for append in partition.append_together(batches) {
        outcomes.push(append.await.map(|it| if it.duplicate { -it.base_offset.get() } else { it.base_offset.get() }));
    }
    outcomes
}

#[tokio::test]
async fn batches_that_came_together_are_appended_with_one_write() {
    let bench = Bench::new(None, &[]).await;
    let partition = bench.partition();
    let another = |sequence| {
        let mut builder = BatchBuilder::new().producer(ProducerId::new(6), ProducerEpoch::new(0), sequence);
        builder.append(Timestamp::new(1000), None, Some(b"v"), HeaderSource::None).unwrap();
        builder.build().unwrap()
    };
    partition.append(batch(&["a"], Some(0)), Origin::Client).await.unwrap();
    let before = bench.disk.operations();
    let batches = vec![
        batch(&["b", "c"], Some(1)),
        another(0),
        batch(&["d"], Some(3)),
        batch(&["of nobody"], None),
        another(1),
        batch(&["e"], Some(4)),
    ];
    let appended: Vec<_> = together(&partition, batches.clone()).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(appended, [1, 3, 4, 5, 6, 7]);
    assert_eq!(bench.disk.operations() - before, 1);
    assert_eq!(partition.high_watermark(), Offset::new(8));
    let bytes = |batch: &Batch| batch.bytes()[16..].to_vec();
    let stored: Vec<_> = stored(&partition).iter().skip(1).map(bytes).collect();
    assert_eq!(stored, batches.iter().map(bytes).collect::<Vec<_>>());
    assert!(partition.append(batch(&["e"], Some(4)), Origin::Client).await.unwrap().duplicate);
}

#[tokio::test]
async fn what_is_wrong_with_one_batch_does_not_touch_those_that_came_with_it() {
    let bench = Bench::new(None, &[("max.message.bytes", "1000")]).await;
    let partition = bench.partition();
    partition.append(batch(&["a"], Some(0)), Origin::Client).await.unwrap();
    let long = "x".repeat(2000);
    let batches = vec![
        batch(&["b"], Some(1)),
        batch(&[&long], Some(2)),
        batch(&["again"], Some(1)),
        batch(&["a gap"], Some(9)),
        batch(&["c", "d"], Some(2)),
    ];
    let outcomes = together(&partition, batches).await;
    assert!(
        matches!(
            outcomes[..],
            [
                Ok(1),
                Err(AppendError::TooLarge { .. }),
                Ok(-1),
                Err(AppendError::Producer(ProducerError::OutOfOrder { expected: 2, got: 9, .. })),
                Ok(2)
            ]
        ),
        "{outcomes:?}"
    );
    assert_eq!(partition.high_watermark(), Offset::new(4));
}

#[tokio::test]
async fn batches_that_do_not_fit_on_the_disk_together_are_written_as_far_as_they_do() {
    let bench = Bench::new(None, &[]).await;
    let partition = bench.partition();
    let long = "x".repeat(1000);
    let batches: Vec<_> = (0..3).map(|sequence| batch(&[&long], Some(sequence))).collect();
    partition.append(batch(&["before"], None), Origin::Client).await.unwrap();
    bench.disk.fail_at(bench.disk.operations(), std::io::ErrorKind::StorageFull);
    let appended: Vec<_> = together(&partition, batches).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(appended, [1, 2, 3], "there was room again");
    let stored: Vec<_> = stored(&partition).iter().map(|batch| batch.header().base_offset.get()).collect();
    assert_eq!(stored, [0, 1, 2, 3]);
}

#[tokio::test]
async fn what_is_appended_and_what_the_disk_refuses_is_counted() {
    let counts = Arc::<Counted>::default();
    let mut bench = Bench::new(None, &[]).await;
    let options = Options { counts: Arc::clone(&counts) as _, ..bench.partitions.options().clone() };
    bench.partitions = Partitions::new(NODE, options, Arc::new(Stages(None)));
    bench.follow().await;
    bench.append("a").await;
    together(&bench.partition(), vec![batch(&["b"], Some(0)), batch(&["c", "d", "e"], Some(1))]).await;
    bench.disk.fail_at(bench.disk.operations(), std::io::ErrorKind::StorageFull);
    let refused = bench.partition().append(batch(&["f"], None), Origin::Client).await;
    assert!(matches!(refused, Err(AppendError::Storage(_))), "{refused:?}");
    assert_eq!(*counts.0.lock().unwrap(), (3, 6, 1));
}

#[tokio::test(start_paused = true)]
async fn batches_that_came_together_pass_the_stage_in_their_order() {
    let stage = Arc::<Obedient>::default();
    let bench = Bench::new(Some(Arc::clone(&stage)), &[]).await;
    let partition = bench.partition();
    let batches = vec![batch(&["slow"], Some(0)), batch(&["refuse"], Some(1)), batch(&["third"], Some(1))];
    let outcomes = together(&partition, batches).await;
    assert!(matches!(outcomes[..], [Ok(0), Err(AppendError::Invalid { .. }), Ok(1)]), "{outcomes:?}");
    assert_eq!(*stage.seen.lock().unwrap(), ["slow", "refuse", "third"]);
}

#[tokio::test]
async fn a_gap_in_the_sequence_is_refused() {
    let bench = Bench::new(None, &[]).await;
    let partition = bench.partition();
    partition.append(batch(&["a"], Some(0)), Origin::Client).await.unwrap();
    match partition.append(batch(&["c"], Some(2)), Origin::Client).await {
        Err(AppendError::Producer(ProducerError::OutOfOrder { expected: 1, got: 2, .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn flush_messages_holds_the_ack_until_the_disk_has_it() {
    let bench = Bench::new(None, &[("flush.messages", "1")]).await;
    let partition = bench.partition();
    partition.append(batch(&["a", "b"], None), Origin::Client).await.unwrap();
    assert_eq!(partition.inner().flushed(), Offset::new(2));
}

#[tokio::test(start_paused = true)]
async fn flush_ms_brings_records_to_the_disk_in_time() {
    let bench = Bench::new(None, &[("flush.ms", "1")]).await;
    let partition = bench.partition();
    let once_a_day = Intervals { retention_check: DAY, checkpoint: DAY };
    tokio::spawn(bench.partitions.clone().keep_house(once_a_day));
    for end in [2, 4] {
        bench.append("a").await;
        assert_eq!(partition.inner().flushed(), Offset::new(end - 2));
        std::thread::sleep(Duration::from_millis(5));
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(partition.inner().flushed(), Offset::new(end));
    }
}

#[tokio::test(start_paused = true)]
async fn the_cleaner_takes_the_time_that_its_limit_leaves_it() {
    let configs = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01"), ("segment.bytes", "1048576")];
    let value = "x".repeat(10_000);
    for limit in [None, Some(500_000), Some(2_000_000)] {
        let bench = Bench::new(None, &configs).await;
        for _ in 0..200 {
            bench.append(&value).await;
        }
        let began = tokio::time::Instant::now();
        let options =
            CleanerOptions { enabled: true, backoff: Duration::ZERO, bytes_per_second: limit, rounds: <_>::default() };
        assert!(bench.partitions.clean_one(&options).await, "there is enough to clean");
        let took = began.elapsed().as_secs_f64();
        // Three full segments are read twice, once for their keys and once to be cleaned; next to nothing is left of them.
        let least = limit.map_or(0.0, |limit| 6.0 * 1_000_000.0 / limit as f64);
        assert!((least..=least * 1.2 + 0.01).contains(&took), "{took} s at {limit:?} bytes a second, not {least}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_cleaner_is_told_while_it_waits_is_in_force_at_once() {
    let configs = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01"), ("segment.bytes", "1048576")];
    let bench = Bench::new(None, &configs).await;
    let lazy = CleanerOptions { enabled: true, backoff: DAY, bytes_per_second: None, rounds: <_>::default() };
    let (options, follows) = tokio::sync::watch::channel(lazy);
    tokio::spawn(bench.partitions.clone().keep_clean(follows));
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..200 {
        bench.append(&"x".repeat(10_000)).await;
    }
    let partition = bench.partition();
    tokio::time::sleep(DAY / 2).await;
    assert_eq!(partition.inner().cleaning.clean(), None);
    options.send(CleanerOptions { backoff: Duration::from_secs(1), ..lazy }).unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(partition.inner().cleaning.clean() > Some(Offset::ZERO));
}

#[tokio::test(start_paused = true)]
async fn what_is_compacted_and_has_a_retention_loses_its_old_segments_whenever_the_cleaner_looks_around() {
    for (policy, start) in [("compact,delete", 2), ("compact", 0), ("delete", 0)] {
        let bench = Bench::new(None, &[("cleanup.policy", policy), ("retention.ms", "1")]).await;
        let options = CleanerOptions {
            enabled: true,
            backoff: Duration::from_secs(15),
            bytes_per_second: None,
            rounds: <_>::default(),
        };
        let (_options, follows) = tokio::sync::watch::channel(options);
        tokio::spawn(bench.partitions.clone().keep_clean(follows));
        tokio::time::sleep(Duration::from_secs(1)).await;
        bench.append("a").await;
        std::thread::sleep(Duration::from_millis(5));
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(bench.partition().reader().start_offset(), Offset::new(start), "{policy}");
    }
}

#[tokio::test]
async fn log_append_time_and_the_topics_codec_are_applied() {
    let configs = [("message.timestamp.type", "LogAppendTime"), ("compression.type", "zstd")];
    let bench = Bench::new(None, &configs).await;
    let partition = bench.partition();
    let appended = partition.append(batch(&["a"], None), Origin::Client).await.unwrap();
    let header = *stored(&partition)[0].header();
    assert_eq!(appended.log_append_time, Some(header.max_timestamp));
    assert!(header.attributes.is_log_append_time());
    assert_eq!(header.attributes.codec(), 4);
}

#[tokio::test]
async fn a_batch_beyond_max_message_bytes_is_refused() {
    let bench = Bench::new(None, &[("max.message.bytes", "70")]).await;
    match bench.partition().append(batch(&["too long for that"], None), Origin::Client).await {
        Err(AppendError::TooLarge { limit: 70, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_waiter_is_woken_by_an_append_and_by_the_topics_deletion() {
    let mut bench = Bench::new(None, &[]).await;
    let partition = bench.partition();
    let waiter = Waiter::new();
    let waiting = partition.wait(&waiter);
    partition.append(batch(&["a"], None), Origin::Client).await.unwrap();
    waiter.woken().await;
    drop(waiting);
    let waiting = partition.wait(&waiter);
    bench.apply(Command::DeleteTopics { topics: vec![bench.topic] });
    bench.follow().await;
    waiter.woken().await;
    drop(waiting);
    match partition.append(batch(&["b"], None), Origin::Client).await {
        Err(AppendError::NotLeader) => {}
        other => panic!("{other:?}"),
    }
    assert!(bench.partitions.topic_named("t").is_none());
}

#[tokio::test]
async fn each_generation_of_plugins_is_noted_with_its_first_offset_and_found_after_a_crash() {
    let stages: Arc<dyn StageProvider> = Arc::new(WhereAttached);
    let mut bench = Bench::with(Arc::clone(&stages), &[]).await;
    for name in ["mask", "filter"] {
        bench.apply(Command::RegisterPlugin(registered(name)));
    }
    bench.append("before any plugin").await;
    assert_eq!(bench.generations(), [], "who never had a plugin notes nothing");
    let first = bench.attach(&["mask"]).await;
    assert_eq!(bench.generations(), [], "nothing was handled yet");
    bench.append("a").await;
    bench.append("b").await;
    let second = bench.attach(&["mask", "filter"]).await;
    bench.append("c").await;
    let none = bench.attach(&[]).await;
    bench.append("d").await;
    bench.append("e").await;
    let noted = |generation, at, plugins: &str| (generation, at, plugins.to_owned());
    let expected = [noted(first, 2, "mask"), noted(second, 6, "mask filter"), noted(none, 8, "")];
    assert_eq!(bench.generations(), expected);

    bench.restart(Crash::Process, Arc::clone(&stages)).await;
    assert_eq!(bench.generations(), expected);
    bench.append("f").await;
    assert_eq!(bench.generations(), expected, "the same generation goes on");
    let third = bench.attach(&["filter"]).await;
    bench.append("g").await;
    let expected = [&expected[..], &[noted(third, 14, "filter")]].concat();
    assert_eq!(bench.generations(), expected);
    bench.restart(Crash::Process, stages).await;
    assert_eq!(bench.generations(), expected);
}

#[tokio::test]
async fn a_batch_whose_generation_cannot_be_noted_is_not_appended() {
    let mut bench = Bench::with(Arc::new(WhereAttached), &[]).await;
    bench.apply(Command::RegisterPlugin(registered("mask")));
    let generation = bench.attach(&["mask"]).await;
    let at = bench.disk.operations();
    bench.disk.fail_at(at, std::io::ErrorKind::StorageFull);
    let refused = bench.partition().append(batch(&["a"], None), Origin::Client).await;
    assert!(matches!(refused, Err(AppendError::Storage(_))), "{refused:?}");
    assert_eq!(bench.partition().high_watermark(), Offset::ZERO);
    bench.append("a").await;
    assert_eq!(bench.generations(), [(generation, 0, "mask".to_owned())]);
}

/// What a starting node does with the directories of topics that are gone.
fn discard(disk: &SimDisk, image: &Image) {
    let mut dir = DataDir::open(Arc::new(disk.clone()), "/data".into()).unwrap();
    for partition in dir.partitions().unwrap() {
        let known = image.topic(&partition.topic).map(|topic| topic.id);
        if known != partition.topic_id {
            disk.remove_dir_all(&partition.path).unwrap();
        }
    }
    dir.forget_missing().unwrap();
}

#[tokio::test]
async fn a_topic_that_comes_again_under_the_name_of_a_deleted_one_keeps_its_records_whenever_the_process_dies() {
    let stages = || Arc::new(Stages(None)) as Arc<dyn StageProvider>;
    for at in 0.. {
        let mut bench = Bench::with(stages(), &[("cleanup.policy", "delete")]).await;
        for value in ["a", "b", "c", "d"] {
            bench.append(value).await;
        }
        bench.partition().delete_records(7).await.unwrap();
        let writer = bench.partitions.options().data_dir.checkpoint_writer();
        bench.partitions.write_checkpoints(&writer).unwrap();
        bench.disk.crash_at(bench.disk.operations() + at);
        bench.apply(Command::DeleteTopics { topics: vec![bench.topic] });
        bench.follow().await;
        bench.topic = TopicId::new(uuid::Uuid::from_u128(8));
        bench.apply(Command::CreateTopics {
            topics: vec![NewTopic {
                id: bench.topic,
                name: "t".to_owned(),
                placement: Placement::Spread { partitions: 1, factor: 1, seed: 0 },
                config: BTreeMap::new(),
                attachments: Vec::new(),
            }],
        });
        bench.follow().await;
        let over = !bench.disk.is_crashed();
        bench.disk.clear_hook();
        if !over {
            bench.disk = bench.disk.restart(Crash::Process);
            discard(&bench.disk, &bench.image);
            bench.restart(Crash::Process, stages()).await;
        }
        bench.append("of the new topic").await;
        bench.restart(Crash::Process, stages()).await;
        let partition = bench.partition();
        let range = (partition.log_start().get(), partition.high_watermark().get());
        assert_eq!(range, (0, 2), "killed at operation {at}");
        assert_eq!(first_value(&stored(&partition)[0]), "of the new topic");
        if over {
            assert!(at > 5, "{at} operations");
            return;
        }
    }
}

#[tokio::test]
async fn readers_of_committed_records_begin_where_the_log_does_though_an_open_transaction_began_before() {
    let bench = Bench::new(None, &[]).await;
    let (id, epoch) = (ProducerId::new(5), ProducerEpoch::new(0));
    let partition = bench.partition();
    let Admission::Verify(guard) = partition.admission(id, epoch) else { panic!("nothing is open") };
    let mut builder = BatchBuilder::new().producer(id, epoch, 0).transactional();
    builder.append(Timestamp::new(1000), Some(b"k"), Some(b"v"), HeaderSource::None).unwrap();
    let claim = Claim { guard: Some(guard), strict: false };
    partition.append_with(builder.build().unwrap(), Origin::Client, claim).await.unwrap();
    bench.append("a").await;
    assert_eq!(partition.last_stable_offset(), Offset::ZERO);
    partition.delete_records(2).await.unwrap();
    assert_eq!(partition.last_stable_offset(), Offset::new(2));
}
