//! One broker process on loopback with a data directory of its own.
//!
//! Millrace, or Kafka where `MILLRACE_REFEREE=kafka`. When a test fails, the broker's last lines follow the panic; with
//! `MILLRACE_KEEP=1` its directory stays.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::leash::Leashed;
use crate::{kafka, paths, ports, wire};

const PATIENCE: Duration = Duration::from_secs(60);

/// Which broker the tests judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Millrace,
    /// Apache Kafka, to prove a test.
    Kafka,
}

impl Kind {
    /// As the environment says.
    pub fn from_environment() -> Self {
        match std::env::var("MILLRACE_REFEREE").as_deref() {
            Ok("kafka") => Self::Kafka,
            Ok(other) => panic!("MILLRACE_REFEREE is {other}, the only referee is kafka"),
            Err(_) => Self::Millrace,
        }
    }
}

/// Whether a test that asks what only Millrace has is skipped, because Kafka is judged: says so, past libtest's capture.
pub fn skipped_on_kafka(why: &str) -> bool {
    let skipped = Kind::from_environment() == Kind::Kafka;
    if skipped {
        drop(writeln!(std::io::stderr(), "\n*** SKIPPED on Kafka: {why}\n"));
    }
    skipped
}

/// What a broker is started with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A directory of topic files (Millrace only).
    pub topics: Option<PathBuf>,
    /// Broker settings by Kafka's names.
    pub config: Vec<(String, String)>,
    /// Where the log goes, if not into a file that [`Broker::log`] reads.
    pub log: Option<PathBuf>,
}

/// A broker, running or not.
#[derive(Debug)]
pub struct Broker {
    kind: Kind,
    options: Options,
    port: u16,
    http: u16,
    properties: PathBuf,
    process: Option<Leashed>,
    dir: Option<tempfile::TempDir>,
}

impl Broker {
    /// Starts a broker and waits until it answers.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// Starts a broker with options and waits until it answers.
    pub fn with(options: Options) -> Self {
        Self::of(Kind::from_environment(), options)
    }

    /// Starts a broker of this kind and waits until it answers.
    pub fn of(kind: Kind, options: Options) -> Self {
        let dir = tempfile::Builder::new().prefix("millrace-test-").tempdir().expect("a temporary directory");
        let (port, http) = (ports::free(), ports::free());
        let properties = match kind {
            Kind::Kafka => kafka::format(dir.path(), port, &options.config),
            Kind::Millrace => node_toml(dir.path(), &options.config),
        };
        let mut broker = Self { kind, options, port, http, properties, process: None, dir: Some(dir) };
        broker.restart();
        broker
    }

    /// `127.0.0.1:PORT`, for clients.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port of the Kafka protocol.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The port of HTTP (Millrace only).
    pub const fn http(&self) -> u16 {
        self.http
    }

    /// Which broker this is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The process id, while it runs.
    pub fn pid(&mut self) -> Option<u32> {
        self.process.as_mut().map(|process| process.child().id())
    }

    /// Where it keeps its partitions.
    pub fn data_dir(&self) -> PathBuf {
        kafka::data_dir(self.home())
    }

    fn home(&self) -> &Path {
        self.dir.as_ref().expect("the directory lives as long as the broker").path()
    }

    /// Starts the process without waiting for it.
    pub fn spawn(&mut self) {
        let path = self.options.log.clone().unwrap_or_else(|| self.home().join("broker.log"));
        let log = File::options().create(true).append(true).open(path).expect("a log file");
        let mut command = match self.kind {
            Kind::Kafka => kafka::run(&self.properties),
            Kind::Millrace => self.serve(),
        };
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.process = Some(Leashed::spawn(&mut command));
    }

    fn serve(&self) -> Command {
        let mut command = Command::new(millrace());
        command.arg("serve").arg("--listen").arg(self.bootstrap());
        command.arg("--http").arg(format!("127.0.0.1:{}", self.http)).arg("--data-dir").arg(self.data_dir());
        if !self.options.config.is_empty() {
            command.arg("--config").arg(&self.properties);
        }
        if let Some(topics) = &self.options.topics {
            command.arg("--topics").arg(topics);
        }
        command
    }

    /// Makes the directory of a Kafka that was stopped Millrace's, under the same port. It is not started.
    pub fn hand_over(&mut self, config: &[(&str, &str)]) {
        assert!(self.process.is_none(), "Kafka runs in the directory");
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.options = Options { config, ..Options::default() };
        self.properties = node_toml(self.home(), &self.options.config);
        self.kind = Kind::Millrace;
    }

    /// Starts the process again and waits until it answers. Returns how long that took.
    pub fn restart(&mut self) -> Duration {
        let began = Instant::now();
        self.spawn();
        self.wait();
        began.elapsed()
    }

    /// Waits until the started process answers Metadata.
    pub fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !wire::answers_metadata(self.port) {
            let running = self.process.as_mut().is_some_and(Leashed::is_running);
            assert!(running, "the broker ended while it started");
            assert!(Instant::now() < deadline, "the broker does not answer after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM, and waits until the process has ended. Panics if it does not end, or not with success.
    pub fn stop(&mut self) {
        self.end_by(Signal::TERM);
    }

    /// The same with SIGHUP: its terminal was closed.
    pub fn hang_up(&mut self) {
        self.end_by(Signal::HUP);
    }

    fn end_by(&mut self, signal: Signal) {
        let Some(mut process) = self.process.take() else { return };
        process.signal(signal);
        let deadline = Instant::now() + PATIENCE;
        while process.is_running() {
            assert!(Instant::now() < deadline, "the broker does not end after {signal:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let status = process.child().wait().expect("it has ended");
        // The JVM dies of the signal it was sent; we exit.
        assert!(self.kind == Kind::Kafka || status.success(), "the broker ended with {status}");
    }

    /// Everything it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home().join("broker.log")).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process = None;
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the broker's last lines\n{}\n---", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        if std::env::var_os("MILLRACE_KEEP").is_some() {
            eprintln!("kept: {}", self.dir.take().expect("not dropped yet").keep().display());
        }
    }
}

fn node_toml(dir: &Path, config: &[(String, String)]) -> PathBuf {
    let file = dir.join("node.toml");
    let lines: Vec<String> = config.iter().map(|(key, value)| format!("{key:?} = {value:?}\n")).collect();
    std::fs::write(&file, format!("[config]\n{}", lines.concat())).expect("the configuration can be written");
    file
}

/// The binary under test: `MILLRACE_BIN`, or the one that cargo built beside the tests. It is `millrace` itself, one call
/// to `millrace::cli::main`, but of this package, so that `cargo test` alone brings it up to date.
pub fn millrace() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("MILLRACE_BIN") {
        Some(path) => PathBuf::from(path),
        None => copy(&beside_this_test()),
    })
}

fn beside_this_test() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let deps = test.parent().expect("a test lies in a folder");
    deps.parent().expect("and that in another").join("broker-under-test")
}

/// Keeps a copy for this process: another checkout that shares the target directory may replace the original meanwhile.
fn copy(executable: &Path) -> PathBuf {
    let copies = paths::cache().join("bin");
    std::fs::create_dir_all(&copies).expect("a directory for the copy");
    let name = paths::fingerprint(&[executable.to_path_buf()]);
    let copy = copies.join(format!("millrace-{name}"));
    if !copy.exists() {
        let part = copies.join(format!("part-{}", std::process::id()));
        std::fs::copy(executable, &part).and_then(|_| std::fs::rename(&part, &copy)).expect("the binary can be copied");
    }
    copy
}
