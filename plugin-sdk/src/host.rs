//! What a plugin may ask of the broker.

use crate::bindings::{clock, logging, random};

/// How much a line in the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Every step.
    Trace,
    /// For whoever looks for a mistake.
    Debug,
    /// Worth knowing.
    Info,
    /// Odd, but work goes on.
    Warn,
    /// Work does not go on.
    Error,
}

/// Writes a line to the broker's log. It is cut at 1 KiB, and lines beyond some tens a second are dropped.
pub fn log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => logging::Level::Trace,
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
    };
    logging::log(level, message);
}

/// The broker's clock: milliseconds since the Unix epoch.
pub fn now() -> i64 {
    clock::now()
}

/// Sixty-four random bits.
pub fn random() -> u64 {
    random::next()
}
