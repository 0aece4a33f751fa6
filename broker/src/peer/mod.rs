//! The only outbound wire: a small Kafka client, one request at a time on one connection.
//!
//! What comes back is trusted no further than its length: a frame beyond the limit closes the connection. After any
//! error the connection is not used again.

use bytes::{Bytes, BytesMut};
use millrace_protocol::{DecodeError, EncodeError, Request, decode_response, encode_request};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};

/// The largest answer that is read.
const MAX_FRAME: usize = 128 << 20;
/// As much room is made at once for an answer, whatever its length field says.
const STEP: usize = 1 << 20;

/// Why a request has no answer.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The connection failed.
    #[error("{doing}: {error}")]
    Io {
        /// What was under way.
        doing: &'static str,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// The request cannot be written in this version.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The answer is malformed, or another request's.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The answer's length is impossible.
    #[error("the answer announces {0} bytes")]
    Length(i32),
}

/// A connection to a broker. `S` is a socket, or what a simulation puts in its place.
#[derive(Debug)]
pub struct Peer<S = TcpStream> {
    stream: S,
    client_id: String,
    next_correlation: i32,
}

impl Peer {
    /// Connects to a broker.
    ///
    /// # Errors
    /// [`PeerError::Io`].
    pub async fn connect(address: impl ToSocketAddrs, client_id: &str) -> Result<Self, PeerError> {
        let stream = TcpStream::connect(address).await.map_err(io("connect"))?;
        stream.set_nodelay(true).map_err(io("set TCP_NODELAY"))?;
        Ok(Self::over(stream, client_id))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// A peer over a connection that stands.
    pub fn over(stream: S, client_id: &str) -> Self {
        Self { stream, client_id: client_id.to_owned(), next_correlation: 0 }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// Any [`PeerError`]; the connection is of no use then.
    pub async fn call<T: Request>(&mut self, version: i16, request: &T) -> Result<T::Response, PeerError> {
        let correlation = self.next_correlation;
        self.next_correlation = correlation.wrapping_add(1);
        let mut frame = BytesMut::new();
        encode_request(&mut frame, version, correlation, &self.client_id, request)?;
        self.stream.write_all(&frame).await.map_err(io("send a request"))?;
        let answer = self.read_frame().await?;
        Ok(decode_response::<T>(answer, version, correlation)?)
    }

    async fn read_frame(&mut self) -> Result<Bytes, PeerError> {
        let announced = self.stream.read_i32().await.map_err(io("wait for an answer"))?;
        let length = usize::try_from(announced).ok().filter(|length| *length <= MAX_FRAME);
        let length = length.ok_or(PeerError::Length(announced))?;
        let mut frame = BytesMut::with_capacity(length.min(STEP));
        let mut rest = (&mut self.stream).take(length as u64);
        while frame.len() < length {
            frame.reserve((length - frame.len()).min(STEP));
            if rest.read_buf(&mut frame).await.map_err(io("read an answer"))? == 0 {
                return Err(io("read an answer")(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(frame.freeze())
    }
}

fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> PeerError {
    move |error| PeerError::Io { doing, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
    use millrace_protocol::{ApiKey, encode_response};

    /// Answers one request with these bytes.
    async fn answered_with(answer: Vec<u8>) -> Result<ApiVersionsResponse, PeerError> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let server = tokio::spawn(async move {
            let length = theirs.read_i32().await.unwrap();
            let mut frame = vec![0; usize::try_from(length).unwrap()];
            theirs.read_exact(&mut frame).await.unwrap();
            theirs.write_all(&answer).await.unwrap();
            frame
        });
        let answer = Peer::over(ours, "test").call(0, &ApiVersionsRequest::default()).await;
        server.await.unwrap();
        answer
    }

    fn answer(correlation: i32) -> Vec<u8> {
        let mut out = BytesMut::new();
        let response = ApiVersionsResponse::default().with_error_code(35);
        encode_response(&mut out, ApiKey::ApiVersions, 0, correlation, &response).unwrap();
        out.to_vec()
    }

    #[tokio::test]
    async fn an_answer_belongs_to_the_request_before_it() {
        assert_eq!(answered_with(answer(0)).await.unwrap().error_code, 35);
        assert!(matches!(answered_with(answer(7)).await, Err(PeerError::Decode(_))));
    }

    #[tokio::test]
    async fn impossible_lengths_and_half_answers_are_errors() {
        assert!(matches!(answered_with(vec![0xff; 4]).await, Err(PeerError::Length(-1))));
        assert!(matches!(answered_with(vec![0x7f, 0, 0, 0]).await, Err(PeerError::Length(_))));
        let whole = answer(0);
        let half = whole[..whole.len() - 2].to_vec();
        assert!(matches!(answered_with(half).await, Err(PeerError::Io { .. })));
    }
}
