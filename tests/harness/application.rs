//! A program that uses a broker: started, killed and started again by a test.
//!
//! What it says goes to a file; when a test fails, its last lines follow the panic.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::leash::Leashed;

const PATIENCE: Duration = Duration::from_secs(60);

/// A program, running or not.
#[derive(Debug)]
pub struct Application {
    name: &'static str,
    log: PathBuf,
    command: Command,
    process: Option<Leashed>,
}

impl Application {
    /// Starts a program; its log goes into `dir`.
    pub fn start(name: &'static str, dir: &Path, mut command: Command) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a second handle")).stderr(file);
        let mut application = Self { name, log, command, process: None };
        application.restart();
        application
    }

    /// Starts the program again.
    pub fn restart(&mut self) {
        self.process = Some(Leashed::spawn(&mut self.command));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM, and waits until the program has ended.
    pub fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.terminate();
        let deadline = Instant::now() + PATIENCE;
        while process.is_running() {
            assert!(Instant::now() < deadline, "{} does not end after SIGTERM", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Panics if the program has ended by itself.
    pub fn check(&mut self) {
        let is_running = self.process.as_mut().is_some_and(Leashed::is_running);
        assert!(is_running, "{} has ended by itself", self.name);
    }

    /// Waits until `done` gives something; panics after `patience`, or when the program ends by itself.
    pub fn wait<T>(&mut self, what: &str, patience: Duration, mut done: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(done) = done() {
                return done;
            }
            self.check();
            assert!(Instant::now() < deadline, "{}: not in {patience:?}: {what}", self.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Everything it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.process = None;
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!("--- the last lines of {}\n{last}\n---", self.name);
        }
    }
}
