//! One partition's log on disk, in Kafka's own file formats.
//!
//! ```text
//! <data dir>/topic-0/00000000000000000000.log        batches, byte for byte as on the wire
//!                    00000000000000000000.index      (relative offset i32, position i32), every index.interval.bytes
//!                    00000000000000000000.timeindex  (largest timestamp i64, relative offset i32)
//!                    00000000000000000000.txnindex   aborted transactions, 34 bytes each
//!                    00000000000000000123.snapshot   producer state as of offset 123
//!                    leader-epoch-checkpoint         (epoch, first offset), text
//!                    partition.metadata              the topic's id, text
//!                    plugin-generations              (generation of the topic's plugins, first offset, plugins), text
//! ```
//!
//! [`Log`] is the single writer's side: synchronous, no locks, no tasks. [`LogReader`] is everybody else's: cheap to
//! clone, never waits for the writer. [`data_dir::DataDir`] knows what all partitions of a node share. All of it
//! reaches the disk through [`io::Disk`], so that a simulation can stand in for it.
//!
//! Absent here: requests, sockets, the high watermark (a reader is told how far it may read), plugins, threads.

mod checkpoint_text;
pub mod clean;
mod config;
pub mod data_dir;
mod epochs;
mod error;
mod generations;
mod index;
pub mod io;
mod legacy;
mod log;
mod producers;
mod reader;
mod retention;
mod segment;
mod tail;
mod transactions;
mod walk;

pub use config::{Cleanup, Compaction, LogConfig};
pub use error::{ProducerError, ReadError, StorageError};
pub use generations::{GenerationStart, Generations, NextGenerations};
pub use log::{Appended, DeletedDir, DeletedFiles, FlushTask, Log, OpenContext, Recovered, Retained};
pub use producers::{ProducerFacts, SequenceCheck};
pub use reader::{FileSlice, LogReader};
pub use segment::FileCache;
pub use transactions::AbortedTransaction;
