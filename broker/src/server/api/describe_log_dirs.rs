//! DescribeLogDirs (35), versions 1 to 5: what this node has on its disk.
//!
//! There is one directory for each node. Version 4 adds the size of its volume (KIP-827), 5 whether it is cordoned, which
//! it never is.

use super::{Asked, Context, refuse, text};
use crate::partition::beside;
use crate::server::service::{Answer, Call, Outcome};
use millrace_protocol::decode;
use millrace_protocol::log_dirs::encode_log_dirs;
use millrace_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use millrace_protocol::messages::{DescribeLogDirsRequest, TopicName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Writes the answer by hand, because kafka-protocol does not know the last version.
pub(super) fn handle(context: &Arc<Context>, call: Call) -> Answer {
    let Call { header, body, mut out, connection } = call;
    let (key, version) = (header.key, header.version);
    let request = match decode::<DescribeLogDirsRequest>(body, version) {
        Ok(request) => request,
        Err(error) => return refuse(format!("{key} version {version}: {error}")),
    };
    let asked = Asked { context: Arc::clone(context), key, version, client_id: header.client_id, connection };
    Answer::Later(Box::pin(async move {
        match encode_log_dirs(&mut out, version, header.correlation_id, &describe(&asked, request).await) {
            Ok(()) => Outcome::Reply(out.into()),
            Err(error) => Outcome::Close(error.to_string()),
        }
    }))
}

async fn describe(asked: &Asked, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let wanted = request.topics.map(|topics| {
        let mut wanted = BTreeMap::<String, BTreeSet<i32>>::new();
        for topic in topics {
            wanted.entry(topic.topic.to_string()).or_default().extend(topic.partitions);
        }
        wanted
    });
    let mut topics = BTreeMap::<Arc<str>, Vec<DescribeLogDirsPartition>>::new();
    for handle in asked.context.partitions.all() {
        let index = handle.index().get();
        let of_topic = |wanted: &BTreeMap<String, BTreeSet<i32>>| {
            wanted.get(&**handle.topic()).is_some_and(|partitions| partitions.contains(&index))
        };
        if wanted.as_ref().is_none_or(of_topic) {
            let size = i64::try_from(handle.reader().size()).unwrap_or(i64::MAX);
            let partition = DescribeLogDirsPartition::default().with_partition_index(index).with_partition_size(size);
            topics.entry(Arc::clone(handle.topic())).or_default().push(partition);
        }
    }
    let partitions = asked.context.partitions.clone();
    let (path, space) = beside(&*asked.context.offload, move || partitions.volume()).await.unwrap_or_default();
    let bytes = |bytes: Option<u64>| bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let topics = topics.into_iter().map(|(name, partitions)| {
        DescribeLogDirsTopic::default().with_name(TopicName(text(name))).with_partitions(partitions)
    });
    let mut dir = DescribeLogDirsResult::default().with_log_dir(text(path)).with_topics(topics.collect());
    if asked.version >= 4 {
        dir = dir.with_total_bytes(bytes(space.map(|it| it.0))).with_usable_bytes(bytes(space.map(|it| it.1)));
    }
    DescribeLogDirsResponse::default().with_results(vec![dir])
}
