//! `millrace serve` and `millrace quickstart`: a broker until it is told to stop.

use super::arguments::NodeArguments;
use super::fault::Fault;
use super::output::Output;
use super::quickstart;
use crate::config::{Bundle, NodeOptions};
use crate::node::{Running, StartError};
use millrace_storage::StorageError;
use std::future::Future;
use std::io::IsTerminal;
use std::path::Path;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// What is logged unless `RUST_LOG` says otherwise.
const LOG: &str = "info,openraft=warn";

/// Serves until SIGTERM or SIGINT.
pub(super) fn serve(arguments: &NodeArguments) -> Result<(), Fault> {
    let options = NodeOptions::load(arguments.config.as_deref(), &arguments.overrides())?;
    let topics = match options.topics.as_deref() {
        Some(dir) => Some((dir, Bundle::read(dir)?)),
        None => None,
    };
    start_log(LOG);
    in_runtime(async {
        let mut stop = Stop::new()?;
        let running = Running::start(&options).await?;
        if let Some((dir, files)) = &topics {
            apply(&running, dir, files).await?;
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
        let running = Running::start(&options).await?;
        running.topic_files(&quickstart::bundle()).await?;
        running.open();
        let http = running.http().map(|http| http.to_string());
        let told = tokio::select! {
            biased;
            () = stop.asked() => Ok(()),
            told = quickstart::present(running.kafka(), http.as_deref(), output) => match told {
                Ok(()) => {
                    stop.asked().await;
                    Ok(())
                }
                failed => failed,
            },
        };
        running.shutdown().await?;
        told
    })
}

async fn apply(running: &Running, dir: &Path, files: &Bundle) -> Result<(), Fault> {
    running.topic_files(files).await?.log(dir);
    Ok(())
}

fn start_log(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
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

/// The signals that end a broker.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> Result<Self, Fault> {
        let listen = |kind| signal(kind).map_err(|error| Fault::new(format!("signals cannot be listened to: {error}")));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
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
