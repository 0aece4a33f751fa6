//! Group commit: while one entry is being written, the next proposals gather, and all that
//! waited become one entry and one fsync.

use super::error::ProposeError;
use super::log_store::LogStore;
use super::types::{Proposal, Raft};
use millrace_metadata::{Command, Response};
use millrace_model::NodeId;
use openraft::error::{ClientWriteError, RaftError};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// How many proposals may wait before their senders do, and how many one entry holds.
pub(super) const QUEUE: usize = 1024;

/// A journal longer than this asks for a snapshot, however few entries it has.
const SNAPSHOT_BYTES: u64 = 4 << 20;

/// A proposal that waits for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) command: Command,
    pub(super) answer: oneshot::Sender<Result<Response, ProposeError>>,
}

/// Runs until every handle is gone.
pub(super) async fn run(raft: Raft, log: LogStore, mut queue: mpsc::Receiver<Pending>) {
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, QUEUE).await > 0 {
        let (commands, answers): (Vec<_>, Vec<_>) =
            waiting.drain(..).map(|pending| (pending.command, pending.answer)).unzip();
        let written = raft.client_write(Proposal { commands: Arc::new(commands) }).await;
        match written {
            Ok(response) => {
                for (answer, outcome) in answers.into_iter().zip(response.data) {
                    // Whoever asked may have given up.
                    drop(answer.send(outcome.map_err(ProposeError::Refused)));
                }
            }
            Err(error) => {
                let error = refused(error);
                answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone()))));
            }
        }
        if log.bytes() > SNAPSHOT_BYTES {
            // It only fails when the core is gone, which the next proposal will tell.
            drop(raft.trigger().snapshot().await);
        }
    }
}

fn refused(error: RaftError<u64, ClientWriteError<u64, openraft::BasicNode>>) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            let id = forward.leader_id.and_then(|id| i32::try_from(id).ok());
            ProposeError::NotController { controller: id.map(NodeId::new) }
        }
        other => ProposeError::Stopped { reason: other.to_string() },
    }
}
