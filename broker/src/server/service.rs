//! What a connection knows of the requests: a [`Service`] takes them and answers, now or later.

use super::fetch_session::Session;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use millrace_protocol::{ApiKey, RequestHeader};
use millrace_storage::FileSlice;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

/// What is known of a connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// Its number, for the log.
    pub id: u64,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// What its client calls itself in ApiVersions (KIP-511): name and version.
    pub software: OnceLock<(String, String)>,
    /// Its fetch session, while no request is using it.
    pub(super) session: Mutex<Option<Session>>,
}

impl ConnectionInfo {
    /// A connection that has just come.
    pub fn new(id: u64, peer: SocketAddr) -> Self {
        Self { id, peer, software: OnceLock::new(), session: Mutex::default() }
    }
}

/// A request that has come, with its body still as bytes.
#[derive(Debug)]
pub struct Call {
    /// Its header.
    pub header: RequestHeader,
    /// Its body, a part of the frame.
    pub body: Bytes,
    /// An empty buffer for the answer, possibly with room in it already.
    pub out: BytesMut,
    /// Who asks.
    pub connection: Arc<ConnectionInfo>,
}

/// An answer's bytes, size and header included, and the regions of files that belong between them.
#[derive(Debug, Default)]
pub struct Reply {
    /// The bytes.
    pub bytes: BytesMut,
    /// The regions, each with the place in `bytes` before which it is sent, in order.
    pub regions: Vec<(usize, FileSlice)>,
}

impl From<BytesMut> for Reply {
    fn from(bytes: BytesMut) -> Self {
        Self { bytes, regions: Vec::new() }
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Outcome {
    /// It is answered.
    Reply(Reply),
    /// It wants no answer (Produce with acks=0). The buffer comes back.
    Silent(BytesMut),
    /// The connection is closed, for this reason.
    Close(String),
}

/// When it does.
pub enum Answer {
    /// Now.
    Now(Outcome),
    /// Once this is done. It is polled before the next request of the connection is looked at.
    Later(BoxFuture<'static, Outcome>),
    /// Once this is done, and no other request of the connection is looked at before.
    Alone(BoxFuture<'static, Outcome>),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(outcome) => f.debug_tuple("Now").field(outcome).finish(),
            Self::Later(_) => f.write_str("Later"),
            Self::Alone(_) => f.write_str("Alone"),
        }
    }
}

/// The requests that are served.
pub trait Service: Send + Sync + 'static {
    /// Takes a request. What its order depends on must be fixed in this call or in the answer's first poll.
    fn call(&self, call: Call) -> Answer;

    /// Takes requests that came together and that [`Self::may_gather`] allows: the same as one [`Self::call`] after the
    /// other. There is an answer for each, in their order, up to the first that closes the connection.
    fn call_together(&self, calls: Vec<Call>) -> Vec<Answer> {
        calls.into_iter().map(|call| self.call(call)).collect()
    }

    /// Whether this request may be taken together with those behind it. Its answer is never [`Answer::Alone`] then, nor does
    /// what becomes of it close the connection.
    fn may_gather(&self, _call: &Call) -> bool {
        false
    }

    /// Whether requests of this kind may be started while others of the kind are unanswered. All others wait until
    /// everything before them is answered, as they do in Kafka.
    fn may_overlap(&self, key: ApiKey) -> bool {
        key == ApiKey::Produce
    }

    /// Notes that a connection has come (+1) or gone (−1).
    fn connections(&self, _change: i64) {}

    /// Notes that a connection was closed because of what it sent, or because there were too many.
    fn refused(&self) {}

    /// Notes that so many bytes were sent.
    fn sent(&self, _bytes: u64) {}
}
