//! The node's metadata as the applier of topic files needs it: a change is done when the partitions have followed it.
//!
//! Otherwise a producer that comes right behind an apply would find no partition, or the plugins of before.

use crate::cluster::ClusterHandle;
use crate::http::Facts;
use crate::partition::Partitions;
use futures::future::BoxFuture;
use millrace_metadata::{Command, Image};
use std::sync::Arc;

/// The cluster's facts, and this node's partitions in line with them.
#[derive(Clone, Debug)]
pub(super) struct FollowedFacts {
    pub(super) cluster: ClusterHandle,
    pub(super) partitions: Partitions,
}

impl Facts for FollowedFacts {
    fn image(&self) -> Arc<Image> {
        self.cluster.image()
    }

    fn propose(&self, command: Command) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            self.cluster.propose(command).await.map_err(|error| error.to_string())?;
            self.partitions.in_line_with(self.cluster.image().index()).await;
            Ok(())
        })
    }
}
