//! Plugins as WebAssembly components: wasmtime lives in this crate and nowhere else.
//!
//! A [`Runtime`] (one per process) compiles a component into a [`Plugin`]; a plugin with a config and limits is an
//! [`Attachment`], which keeps a small pool of instances and answers calls over a range of [`Records`]. The answer, once
//! checked, is applied by [`Records::apply`]: what is stored is always encoded here, so no guest can write a malformed
//! record.
//!
//! ```text
//! records section ─parse─▶ Records ─call (bytes + index)─▶ Answer ─apply─▶ records section
//! ```
//!
//! Invariants:
//! - Guest code runs on [`GuestThreads`], never on a thread that serves sockets; a lane that burns CPU is served after those
//!   that do not.
//! - Every call is bounded in CPU time, memory and size of its answer. An instance that has trapped is never used again.
//! - Nothing in guest memory is durable: an instance may be replaced between any two batches.
//! - Only WebAssembly is compiled; precompiled artifacts are read from nowhere but the cache directory, which the host alone
//!   writes.
//!
//! This crate knows no batch header, no codec, no topic file and no fault policy.

mod answer;
mod apply;
mod attachment;
mod cache;
mod error;
mod host;
mod imports;
mod instance;
mod limits;
mod plugin;
mod records;
mod runtime;
mod state;
mod threads;
mod ticker;
mod varint;

pub use answer::{Answer, Fault, Rejection};
pub use apply::{Applied, OnRejection};
pub use attachment::Attachment;
pub use error::{AttachError, LoadError, RuntimeError};
pub use limits::{AttachmentOptions, LimitError, Limits};
pub use plugin::{Kind, Plugin};
pub use records::{Records, RecordsError};
pub use runtime::{Interruption, Runtime, RuntimeOptions};
pub use threads::{GuestThreads, InlineThreads, Job, Lane, OsThreads};
