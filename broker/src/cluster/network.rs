//! The wire between voters. A cluster of one has none: every call says that the other
//! node cannot be reached. Here `peer` comes in when there are more.

use super::types::Types;
use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::{BasicNode, RaftNetwork, RaftNetworkFactory};
use std::io;

type Failure<E = RaftError<u64>> = RPCError<u64, BasicNode, E>;

/// Connections to the other voters.
#[derive(Debug)]
pub(super) struct Network;

/// The connection to one of them.
#[derive(Debug)]
pub(super) struct Connection {
    target: u64,
}

impl Connection {
    fn unreachable<E: std::error::Error>(&self) -> Failure<E> {
        let reason = format!("node {} has no address", self.target);
        RPCError::Unreachable(Unreachable::new(&NetworkError::new(&io::Error::other(reason))))
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> Connection {
        Connection { target }
    }
}

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failure> {
        Err(self.unreachable())
    }

    async fn install_snapshot(
        &mut self,
        _rpc: InstallSnapshotRequest<Types>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failure<RaftError<u64, InstallSnapshotError>>> {
        Err(self.unreachable())
    }

    async fn vote(&mut self, _rpc: VoteRequest<u64>, _option: RPCOption) -> Result<VoteResponse<u64>, Failure> {
        Err(self.unreachable())
    }
}
