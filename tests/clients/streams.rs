//! A Kafka Streams application, exactly once, with a store and a repartition: its counts are right though it and its broker
//! are killed.
//!
//! The application (`java/Counts.java`) counts flights by carrier while they are produced. It and the broker are killed in
//! turn; after each kill it must catch up. A carrier's counts must rise by one, and in the end be the model's. A short run
//! is part of the tests; `.ci/campaign streams` makes it ten kills. `MILLRACE_SEED` replays the choices (not the
//! scheduling of the processes).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millrace_tests::application::Application;
use millrace_tests::broker::Broker;
use millrace_tests::client::{Commands as _, Library};
use millrace_tests::librdkafka::{Context, Reports, config};
use millrace_tests::patience::Closing;
use millrace_tests::seed::Seed;
use millrace_tests::{flights, segments, session, tools};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use serde_json::json;

const PARTITIONS: i32 = 3;
const FLIGHTS: &str = "flights";
const COUNTS: &str = "flights-by-carrier";
const REPARTITION: &str = "flight-counts-by-carrier-repartition";
const CHANGELOG: &str = "flight-counts-counts-changelog";
/// A record every so often.
const PACE: Duration = Duration::from_millis(3);
const PATIENCE: Duration = Duration::from_secs(90);

/// How many flights each carrier had.
type Model = BTreeMap<String, u64>;

#[derive(Default)]
struct Acks {
    good: AtomicU64,
    bad: AtomicU64,
}

impl Reports for Acks {
    fn report(&self, _index: u64, ack: Result<(i32, i64), String>) {
        let count = if ack.is_ok() { &self.good } else { &self.bad };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Produces flights, idempotently, until it is stopped.
struct Source {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Model>,
}

impl Source {
    fn start(bootstrap: &str, seed: Seed) -> Self {
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (bootstrap, sent, stop) = (bootstrap.to_owned(), Arc::clone(&sent), Arc::clone(&stop));
            move || produce(&bootstrap, seed, &sent, &stop)
        });
        Self { sent, stop, thread }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn stop(self) -> Model {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the source comes to its end")
    }
}

fn produce(bootstrap: &str, mut seed: Seed, sent: &AtomicU64, stop: &AtomicBool) -> Model {
    let acks = Arc::new(Acks::default());
    let producer: ThreadedProducer<Context<Acks>> = config(bootstrap)
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "600000")
        .set("linger.ms", "5")
        .create_with_context(Context(Arc::clone(&acks)))
        .expect("a producer");
    let mut model = Model::new();
    for flight in flights::lines().iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let partition = i32::try_from(seed.between(0, PARTITIONS as u64)).expect("few");
        let index = Box::new(sent.load(Ordering::Relaxed));
        let record = BaseRecord::<(), _, _>::with_opaque_to(FLIGHTS, index).partition(partition).payload(flight);
        producer.send(record).expect("the queue has room for every flight");
        *model.entry(flights::field(flight, "carrier").trim_matches('"').to_owned()).or_default() += 1;
        sent.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(PACE);
    }
    producer.flush(PATIENCE).expect("every flight is sent");
    assert_eq!(acks.bad.load(Ordering::Relaxed), 0, "flights that were refused");
    assert_eq!(acks.good.load(Ordering::Relaxed), sent.load(Ordering::Relaxed), "acks against flights");
    model
}

/// Reads committed counts as they come, and sees that each is one more than its carrier's last.
struct Follower {
    read: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Model>,
}

impl Follower {
    fn start(bootstrap: &str) -> Self {
        let (read, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (bootstrap, read, stop) = (bootstrap.to_owned(), Arc::clone(&read), Arc::clone(&stop));
            move || follow(&bootstrap, &read, &stop)
        });
        Self { read, stop, thread }
    }

    /// Waits until there are counts of so many flights.
    fn reaches(&self, flights: u64, application: &mut Application) {
        let what = format!("counts of {flights} flights");
        application.wait(&what, PATIENCE, || {
            assert!(!self.thread.is_finished(), "the follower found something wrong");
            (self.read.load(Ordering::Relaxed) >= flights).then_some(())
        });
    }

    fn stop(self) -> Model {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("counts rise by one")
    }
}

fn follow(bootstrap: &str, read: &AtomicU64, stop: &AtomicBool) -> Model {
    let consumer: Closing<BaseConsumer> = config(bootstrap)
        .set("group.id", "nobody")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .create()
        .map(Closing::new)
        .expect("a consumer");
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(COUNTS, partition, Offset::Offset(0)).expect("an offset");
    }
    consumer.assign(&all).expect("partitions");
    let mut counts = Model::new();
    while !stop.load(Ordering::Relaxed) {
        // A broker that was killed is an error now and then.
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        let carrier = String::from_utf8_lossy(message.key().expect("a carrier")).into_owned();
        let count: u64 = String::from_utf8_lossy(message.payload().expect("a count")).parse().expect("a number");
        let last = counts.entry(carrier.clone()).or_default();
        let at = (message.partition(), message.offset());
        assert_eq!(count, *last + 1, "{carrier}, partition and offset {at:?}: a count follows {last}");
        *last = count;
        read.fetch_add(1, Ordering::Relaxed);
    }
    counts
}

fn application(bootstrap: &str, dir: &Path) -> Option<Application> {
    let mut command = tools::java()?.application("Counts");
    command.arg(bootstrap).arg(dir.join("state"));
    Some(Application::start("the Streams application", dir, command))
}

/// Kills the application and the broker in turn, now and then both, and lets the application catch up each time.
fn kill_in_turn(
    kills: u64,
    seed: &mut Seed,
    broker: &mut Broker,
    application: &mut Application,
    (source, follower): (&Source, &Follower),
) {
    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(seed.between(300, 3_000)));
        let both = kill > 1 && seed.between(0, 4) == 0;
        let began = Instant::now();
        if both || kill % 2 == 0 {
            application.kill();
        }
        if both || kill % 2 == 1 {
            broker.kill();
            std::thread::sleep(Duration::from_millis(seed.between(0, 300)));
            broker.restart();
        }
        if both || kill % 2 == 0 {
            application.restart();
        }
        follower.reaches(source.sent(), application);
        eprintln!("streams: kill {} of {kills}, caught up after {:?}", kill + 1, began.elapsed());
    }
}

#[test]
fn a_streams_application_counts_every_flight_once_though_it_and_its_broker_are_killed() {
    let kills = std::env::var("MILLRACE_STREAMS_KILLS").map_or(2, |text| text.parse().expect("a number of kills"));
    let mut seed = Seed::from_environment("streams");
    let mut broker = Broker::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut client = session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there");
    client.create(FLIGHTS, PARTITIONS, json!({}));
    client.create(COUNTS, PARTITIONS, json!({}));
    let Some(mut application) = application(&broker.bootstrap(), dir.path()) else { return };
    let source = Source::start(&broker.bootstrap(), Seed::new(seed.number()));
    let follower = Follower::start(&broker.bootstrap());
    follower.reaches(100, &mut application);
    kill_in_turn(kills, &mut seed, &mut broker, &mut application, (&source, &follower));
    let first = |at| json!({"op": "times", "topic": REPARTITION, "partition": at, "timestamps": [-2]});
    application.wait("what was read of the repartition topic is deleted", PATIENCE, || {
        let deleted = (0..PARTITIONS).any(|at| client.must(first(at))["offsets"][0].as_i64() > Some(0));
        deleted.then_some(())
    });
    let sent = Arc::clone(&source.sent);
    let model = source.stop();
    let sent = sent.load(Ordering::Relaxed);
    follower.reaches(sent, &mut application);
    application.stop();
    assert_eq!(follower.stop(), model, "counts against flights, as they came");

    assert_eq!(client.must(json!({"op": "configs", "topic": CHANGELOG}))["configs"]["cleanup.policy"], "compact");

    broker.kill();
    broker.restart();
    let follower = Follower::start(&broker.bootstrap());
    let deadline = Instant::now() + PATIENCE;
    while follower.read.load(Ordering::Relaxed) < sent && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(follower.stop(), model, "counts against flights, after one more kill");
    broker.stop();
    let verdicts = [COUNTS, REPARTITION, CHANGELOG].map(|topic| segments::check_compacted(&broker.data_dir(), topic));
    // Streams gives a thread up when a call takes longer than it has patience; it goes on with another one.
    let replaced = application.log().matches("replaced a thread").count();
    eprintln!(
        "streams: {kills} kills, {sent} flights, {} carriers, {replaced} threads replaced, {verdicts:?}",
        model.len()
    );
}
