//! The log under a shard, as narrow as a shard needs it. It is a trait so that a test can make it fail.

use super::machine::Refusal;
use crate::partition::Claim;
use bytes::Bytes;
use futures::future::BoxFuture;
use millrace_model::{Batch, LeaderEpoch, Offset};
use std::fmt;

/// Why records did not get into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFailure {
    /// They never will be in it.
    Refused(Refusal),
    /// This node does not lead the partition any more.
    Lost,
}

/// One partition of a coordinator's topic.
pub trait ShardLog: Send + Sync + fmt::Debug + 'static {
    /// Appends a batch; the outcome comes when it is committed.
    fn append(&self, batch: Batch, claim: Claim) -> BoxFuture<'static, Result<Offset, AppendFailure>>;

    /// The epoch in which this node leads the partition.
    fn epoch(&self) -> LeaderEpoch;

    /// The first offset there is.
    fn start(&self) -> Offset;

    /// The offset after the last that is committed.
    fn end(&self) -> Offset;

    /// Whole batches from the one that holds `from` on; the last may be cut short. Empty at `upto`. Where the bytes are
    /// not in memory they are read beside the I/O workers.
    fn read(&self, from: Offset, upto: Offset) -> BoxFuture<'static, Result<Bytes, String>>;
}
