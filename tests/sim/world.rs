//! The simulated machine: what the node's seams are given, and when the node dies.

use crate::{client, transactions};
use millrace::config::bundle::{ApplyRequest, Bundle};
use millrace::config::topic::SourceFile;
use millrace::config::{HostPort, NodeOptions, Overrides, Problems};
use millrace::node::{Node, Seams};
use millrace::server::net::{Listener, Stream};
use millrace_model::{Clock, Offload, Random, Timestamp};
use millrace_plugin_host::{InlineThreads, Interruption};
use millrace_storage::io::sim::{Crash, SimDisk};
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// 2026-01-01, when every simulation begins.
const EPOCH_MS: i64 = 1_767_225_600_000;
const PORT: u16 = 9092;
const KILLS: u32 = 6;

/// What a run leaves behind, written down as it happens.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Vec<String>>>);

impl History {
    pub fn note(&self, line: impl AsRef<str>) {
        let at = turmoil::sim_elapsed().unwrap_or_default().as_millis();
        self.push(format!("{at:>6} ms  {}", line.as_ref()));
    }

    fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

/// SplitMix64: small, and the same everywhere.
#[derive(Debug)]
pub struct Seeded(AtomicU64);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    pub fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&self, limit: u64) -> u64 {
        self.next() % limit
    }
}

impl Random for Seeded {
    fn fill(&self, into: &mut [u8]) {
        for chunk in into.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

#[derive(Debug)]
struct SimClock;

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let since = turmoil::sim_elapsed().unwrap_or_default().as_millis();
        Timestamp::new(EPOCH_MS + i64::try_from(since).unwrap())
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(turmoil::sim_elapsed().unwrap_or_default().as_nanos()).unwrap()
    }
}

/// Blocking work happens at once: the simulation has one thread.
#[derive(Debug)]
struct Inline;

impl Offload for Inline {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}

struct SimListener(TcpListener);

impl Listener for SimListener {
    type Stream = SimStream;

    async fn accept(&mut self) -> io::Result<(SimStream, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((SimStream(stream), peer))
    }
}

struct SimStream(TcpStream);

impl AsyncRead for SimStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Stream for SimStream {}

/// One simulated machine.
pub struct World {
    seed: u64,
    random: Arc<Seeded>,
    disk: Arc<Mutex<SimDisk>>,
    history: History,
    done: Arc<AtomicBool>,
    transactional: bool,
    fills: bool,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            random: Arc::new(Seeded::new(seed)),
            disk: Arc::new(Mutex::new(SimDisk::new(seed))),
            history: History::default(),
            done: Arc::default(),
            transactional: false,
            fills: false,
        }
    }

    /// The same machine with producers that write in transactions.
    pub fn with_transactions(seed: u64) -> Self {
        Self { transactional: true, ..Self::new(seed) }
    }

    /// The same machine with a disk that is full now and then, in place of kills.
    pub fn with_a_full_disk(self) -> Self {
        Self { fills: true, ..self }
    }

    /// In odd seeds the power fails, and the topic asks for the disk before every ack; in even ones the process dies.
    fn crash(&self) -> Crash {
        if self.seed % 2 == 1 { Crash::Power } else { Crash::Process }
    }

    pub fn run(self) -> Vec<String> {
        let mut sim = turmoil::Builder::new()
            .rng_seed(self.seed)
            .simulation_duration(Duration::from_secs(120))
            .tcp_capacity(1024)
            .build();
        let flush = matches!(self.crash(), Crash::Power);
        let (disk, random, history) = (Arc::clone(&self.disk), Arc::clone(&self.random), self.history.clone());
        sim.host("broker", move || broker(Arc::clone(&disk), Arc::clone(&random), history.clone(), flush));
        let (random, history, done) = (Arc::clone(&self.random), self.history.clone(), Arc::clone(&self.done));
        let (seed, transactional) = (self.seed, self.transactional);
        sim.client("producer", async move {
            let broker = ("broker", PORT);
            let outcome = match transactional {
                true => transactions::transact_and_check(broker, &random, &history).await,
                false => client::produce_and_check(broker, &random, &history).await,
            };
            outcome.map_err(|reason| format!("seed {seed}: {reason}"))?;
            done.store(true, Ordering::Relaxed);
            Ok(())
        });
        self.drive(&mut sim);
        let mut lines = std::mem::take(&mut *self.history.0.lock().unwrap());
        lines.push(format!("{} disk operations", self.disk.lock().unwrap().operations()));
        lines
    }

    fn drive(&self, sim: &mut turmoil::Sim<'_>) {
        let mut kills = 0;
        let mut next = 500 + self.random.below(2_000);
        let mut up = true;
        for tick in 0.. {
            let over = sim.step().unwrap_or_else(|error| {
                let history = self.history.0.lock().unwrap();
                let last = &history[history.len().saturating_sub(20)..];
                panic!("seed {}: {error}; the last that happened:\n{}", self.seed, last.join("\n"))
            });
            if over {
                return;
            }
            if tick < next || self.done.load(Ordering::Relaxed) {
                continue;
            }
            if self.fills {
                up &= kills < KILLS;
                // Not even a byte more; what is there may be written over.
                self.disk.lock().unwrap().set_capacity(up.then_some(0));
                self.history.push(format!("tick {tick}: the disk {}", if up { "is full" } else { "has room" }));
                (up, kills, next) = (!up, kills + u32::from(up), tick + 100 + self.random.below(1_500));
            } else if up && kills < KILLS {
                sim.crash("broker");
                let mut disk = self.disk.lock().unwrap();
                let crash = self.crash();
                let after = disk.restart(crash);
                *disk = after;
                self.history.push(format!("tick {tick}: killed ({crash:?})"));
                (up, kills, next) = (false, kills + 1, tick + 10 + self.random.below(500));
            } else if !up {
                sim.bounce("broker");
                self.history.push(format!("tick {tick}: started again"));
                (up, next) = (true, tick + 100 + self.random.below(3_000));
            }
        }
    }
}

async fn broker(
    disk: Arc<Mutex<SimDisk>>,
    random: Arc<Seeded>,
    history: History,
    flush: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let overrides = Overrides { data_dir: Some("/data".into()), ..Overrides::default() };
    // Where the power fails, the broker's own topics ask for the disk as well.
    let text = format!(
        "[config]\n\"log.segment.bytes\" = 1048576\n\"log.index.interval.bytes\" = 256\n{}",
        if flush { "\"log.flush.interval.messages\" = 1\n" } else { "" }
    );
    let options = NodeOptions::from_text(Some(("node.toml", text.as_str(), "/".as_ref())), &overrides)
        .map_err(|problems| problems.to_string())?;
    let disk = disk.lock().unwrap().clone();
    let seams = Seams {
        clock: Arc::new(SimClock),
        random,
        disk: Arc::new(disk),
        offload: Arc::new(Inline),
        guests: Arc::new(InlineThreads),
        interruption: Interruption::Fuel { per_millisecond: 1_000_000 },
        compile_cache: false,
    };
    let address = HostPort { host: "broker".to_owned(), port: PORT };
    let node = Node::start(&options, seams, SimListener(listener), address).await?;
    node.applier().at_start(&topic_files(flush)).await.map_err(|problems| problems.to_string())?;
    history.note("the node serves");
    pending::<()>().await;
    drop(node);
    Ok(())
}

fn topic_files(flush: bool) -> Result<Bundle, Problems> {
    let mut text = String::from(
        "[topic]\nname = \"cards\"\npartitions = 1\n\n[[plugin]]\nuse = \"mask-fields@1\"\nstage = \"produce\"\n\
         on-fault = \"reject\"\nconfig = { fields = [\"card\"] }\n",
    );
    if flush {
        text.push_str("\n[topic.config]\n\"flush.messages\" = 1\n");
    }
    let files = vec![SourceFile { file: "cards.toml".to_owned(), text }];
    Ok(Bundle { request: ApplyRequest { files, components: Vec::new() }, components: Vec::new() })
}
