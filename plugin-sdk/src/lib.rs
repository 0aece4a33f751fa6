//! Plugins for the Millrace broker, in Rust. A plugin is one function:
//!
//! ```ignore
//! use millrace::{Change, Record};
//!
//! #[derive(serde::Deserialize)]
//! struct Config {
//!     suffix: String,
//! }
//!
//! #[millrace::transform]
//! fn append(record: &Record, config: &Config) -> Change {
//!     let mut value = record.value().unwrap_or_default().to_vec();
//!     value.extend_from_slice(config.suffix.as_bytes());
//!     Change::Value(value)
//! }
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` makes a component of a crate with `crate-type = ["cdylib"]` at once.
//! The config is the attachment's `config` from the topic file, read by serde; where reading it takes more than that (a
//! pattern to compile), `#[serde(try_from = "…")]` is the place, and its error is shown to whoever attaches the plugin.
//!
//! The forms over a record cost a few nanoseconds a record more than the `batch` forms, which see the whole batch and
//! write into their answer ([`Batch`], [`Keep`], [`Changes`]).
//!
//! A panic ends the call: the host puts its message into the broker's log, replaces the instance, and the attachment's
//! `on-fault` decides over the batch.

#[doc(hidden)]
pub mod __private;
mod answer;
mod host;
mod record;

pub use answer::{Change, Changes, IntoChange, IntoKeep, Keep, NewRecord};
pub use host::{Level, log, now, random};
#[doc(hidden)]
pub use millrace_macros::generate;
pub use millrace_macros::{filter, transform};
pub use record::{Batch, Header, Headers, Record};
pub use serde;
pub use serde_json;

/// The config of a plugin that has none: anything in it is refused.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// What wit-bindgen makes of `wit/` for every kind of plugin; the attributes add what a kind exports.
#[doc(hidden)]
#[allow(missing_docs, reason = "generated")]
pub mod bindings {
    pub use self::millrace::plugin::{clock, logging, random, types};

    wit_bindgen::generate!({ path: "../wit", world: "basics" });
}
