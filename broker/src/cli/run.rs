//! `millrace serve` and `millrace quickstart`: a broker until it is told to stop.

use super::arguments::NodeArguments;
use super::fault::Fault;
use super::output::Output;
use super::quickstart;
use super::remote::progress;
use crate::config::{Bundle, NodeOptions};
use crate::node::{Running, StartError};
use millrace_storage::StorageError;
use std::future::Future;
use std::io::IsTerminal;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// What is logged unless `RUST_LOG` says otherwise.
const LOG: &str = "info,openraft=warn";

/// Serves until SIGTERM or SIGINT.
pub(super) fn serve(arguments: &NodeArguments) -> Result<(), Fault> {
    let options = NodeOptions::load(arguments.config.as_deref(), &arguments.overrides())?;
    start_log(LOG);
    for key in options.keys.without_effect() {
        tracing::warn!(key, "this key has no effect here");
    }
    let topics = options.topics.as_deref().map(|dir| (dir, Bundle::read(dir)));
    in_runtime(async {
        let mut stop = Stop::new()?;
        let running = Running::start(&options).await?;
        if let Some((dir, files)) = &topics {
            match stop.or(running.topic_files(files)).await {
                Some(Ok(at_start)) => at_start.log(dir),
                Some(Err(problems)) => {
                    running.shutdown().await?;
                    return Err(problems.into());
                }
                None => return Ok(running.shutdown().await?),
            }
        }
        running.open();
        let (kafka, http) = (running.kafka(), running.http().map(|http| http.to_string()));
        tracing::info!(%kafka, http, data = %options.data_dir.display(), "serving");
        stop.asked().await;
        tracing::info!("stopping");
        Ok(running.shutdown().await?)
    })
}

/// Serves with the quickstart's topic, tells its story, and goes on serving.
pub(super) fn quickstart(arguments: &NodeArguments, output: &mut Output) -> Result<(), Fault> {
    let options = NodeOptions::load(arguments.config.as_deref(), &arguments.overrides())?;
    start_log("warn");
    in_runtime(async {
        let mut stop = Stop::new()?;
        let running = start_anywhere(options, arguments, output).await?;
        let told = stop.or(look_around(&running, output)).await;
        if matches!(told, Some(Ok(()))) {
            stop.asked().await;
        }
        running.shutdown().await?;
        told.unwrap_or(Ok(()))
    })
}

/// Applies the quickstart's topic file, lets clients in, and tells the story as one of them.
async fn look_around(running: &Running, output: &mut Output) -> Result<(), Fault> {
    const WHAT: &str = "starting; the first start compiles the plugins";
    let working = progress(WHAT.to_owned());
    if working.is_hidden() {
        output.note(WHAT);
    }
    let applied = running.topic_files(&Ok(quickstart::bundle())).await;
    working.finish_and_clear();
    applied?;
    running.open();
    let http = running.http().map(|http| http.to_string());
    quickstart::present(running.kafka(), http.as_deref(), output).await
}

/// Where nobody asked for a certain port and the usual one is taken, any other will do for looking around.
async fn start_anywhere(
    mut options: NodeOptions,
    arguments: &NodeArguments,
    output: &mut Output,
) -> Result<Running, Fault> {
    let mut started = Running::start(&options).await;
    let asked_for = arguments.listen.is_some() || arguments.config.is_some();
    if let Err(StartError::Listen { option: "--listen", address, source }) = &started
        && source.kind() == std::io::ErrorKind::AddrInUse
        && !asked_for
    {
        output.line(format!("{address} is taken by another program: serving on a free port instead"));
        (options.listen.port, options.advertised.port) = (0, 0);
        started = Running::start(&options).await;
    }
    let running = started?;
    let data = options.data_dir.display();
    output.line(format!("millrace {} serves on {}, data in {data}", env!("CARGO_PKG_VERSION"), running.kafka()));
    Ok(running)
}

fn start_log(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A line that cannot be written is lost. Without the last setting the library would say so on stderr, of all places, and
    // panic where that fails: a full disk under the log would end whichever task has something to say.
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .log_internal_errors(false);
    // Somebody who embeds the command line may have a log already.
    let _ = log.try_init();
}

fn in_runtime(work: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("millrace-io")
        .build()
        .map_err(|error| Fault::new(format!("no threads to run on: {error}")))?;
    runtime.block_on(work)
}

/// The signals that end a broker in order. The hangup, where a terminal is closed, is one, but not under `nohup`.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Stop {
    fn new() -> Result<Self, Fault> {
        let listen = |kind| signal(kind).map_err(|error| Fault::new(format!("signals cannot be listened to: {error}")));
        let hangup = (!ignores_hangup()).then(|| listen(SignalKind::hangup())).transpose()?;
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())?, hangup })
    }

    /// The outcome of some work, or nothing where the signal comes first.
    async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.asked() => None,
            done = work => Some(done),
        }
    }

    async fn asked(&mut self) {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hung_up => {}
        }
    }
}

/// Whether whoever started this process wants it to live on where the terminal is closed: a handler would undo that.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is signal 1, the hangup.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

impl From<StartError> for Fault {
    fn from(error: StartError) -> Self {
        let fault = Self::new(error.to_string());
        match error {
            StartError::Storage(StorageError::InUse { .. }) => {
                fault.next("another millrace runs on this data directory; stop it, or choose another with --data-dir")
            }
            _ => fault,
        }
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Self::new(error.to_string())
    }
}
