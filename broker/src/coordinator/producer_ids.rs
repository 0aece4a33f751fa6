//! Producer ids, given out of blocks that the cluster hands to this node.

use crate::cluster::{ClusterHandle, ProposeError};
use millrace_metadata::{Command, Response};
use millrace_model::ProducerId;
use tokio::sync::Mutex;

/// Ids in a block, as in Kafka.
const BLOCK: u32 = 1000;

/// The rest of the block that this node has. What is left of it when the node ends is never given out.
#[derive(Debug, Default)]
pub struct ProducerIdBlocks {
    rest: Mutex<(i64, i64)>,
}

impl ProducerIdBlocks {
    /// An id that nobody was given before.
    ///
    /// # Errors
    /// Why the cluster gave no block.
    pub async fn next(&self, cluster: &ClusterHandle) -> Result<ProducerId, ProposeError> {
        let mut rest = self.rest.lock().await;
        if rest.0 >= rest.1
            && let Response::ProducerIds(block) = cluster.propose(Command::AllocateProducerIds { count: BLOCK }).await?
        {
            *rest = (block.first.get(), block.first.get() + i64::from(block.count));
        }
        let id = rest.0;
        rest.0 += 1;
        Ok(ProducerId::new(id))
    }
}
