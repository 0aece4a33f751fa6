//! The only outbound Kafka wire: a connection to a broker, requests sent over it in order and answered in order.
//!
//! It is for the broker's own use: to talk to other brokers, and for the quickstart to be its own first client. It knows
//! no topics and no retries.

use bytes::{Bytes, BytesMut};
use millrace_protocol::header::SIZE_LEN;
use millrace_protocol::message::{common_versions, decode_response, encode_request};
use millrace_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use millrace_protocol::{DecodeError, EncodeError, ErrorCode, Request, StrBytes};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// The largest answer that is taken.
const LARGEST: usize = 128 << 20;

/// Why there is no answer. After any of these but [`PeerError::Version`] and [`PeerError::Encode`] the connection is of no
/// use.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The connection failed.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The request has a value that its version cannot carry.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The answer is not what it should be.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The answer is larger than [`LARGEST`], or its size is negative.
    #[error("an answer announces {size} bytes")]
    Size {
        /// The size.
        size: i32,
    },
    /// The other side serves no version of the request that is known here.
    #[error("the broker serves no version of api key {key} that is known here")]
    Version {
        /// The request.
        key: i16,
    },
    /// The other side refused to say what it serves.
    #[error("ApiVersions failed: {0}")]
    Refused(ErrorCode),
}

impl PeerError {
    const fn io(operation: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }
}

/// A connection to a broker.
#[derive(Debug)]
pub struct Peer<S = TcpStream> {
    stream: S,
    client_id: String,
    served: BTreeMap<i16, (i16, i16)>,
    next: i32,
    input: BytesMut,
}

/// A request that was sent; its answer is taken with [`Peer::receive`], in the order of sending.
#[derive(Debug)]
#[must_use]
pub struct Sent<R> {
    correlation: i32,
    version: i16,
    request: std::marker::PhantomData<fn() -> R>,
}

impl Peer {
    /// Connects and asks what is served.
    ///
    /// # Errors
    /// [`PeerError`] where the other side is no broker.
    pub async fn connect(address: SocketAddr, client_id: &str) -> Result<Self, PeerError> {
        let stream = TcpStream::connect(address).await.map_err(PeerError::io("connect"))?;
        stream.set_nodelay(true).map_err(PeerError::io("connect"))?;
        Peer::over(stream, client_id).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// Speaks over a stream that is connected; asks what is served.
    ///
    /// # Errors
    /// [`PeerError`] where the other side is no broker.
    pub async fn over(stream: S, client_id: &str) -> Result<Self, PeerError> {
        let mut peer =
            Self { stream, client_id: client_id.to_owned(), served: BTreeMap::new(), next: 0, input: BytesMut::new() };
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("millrace"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let sent = peer.send_version(3, &request).await?;
        let versions: ApiVersionsResponse = peer.receive(sent).await?;
        if let Some(error) = ErrorCode::from_code(versions.error_code).filter(|error| !error.is_none()) {
            return Err(PeerError::Refused(error));
        }
        peer.served = versions.api_keys.iter().map(|key| (key.api_key, (key.min_version, key.max_version))).collect();
        Ok(peer)
    }

    /// The newest version of a request that both sides know.
    ///
    /// # Errors
    /// [`PeerError::Version`] where there is none.
    pub fn version<R: Request>(&self) -> Result<i16, PeerError> {
        let none = || PeerError::Version { key: R::KEY };
        let ours = common_versions::<R>().ok_or_else(none)?;
        let (min, max) = *self.served.get(&R::KEY).ok_or_else(none)?;
        let version = max.min(ours.max);
        if version >= min.max(ours.min) { Ok(version) } else { Err(none()) }
    }

    /// Sends a request in the newest common version.
    ///
    /// # Errors
    /// [`PeerError`], see there.
    pub async fn send<R: Request>(&mut self, request: &R) -> Result<Sent<R>, PeerError> {
        let version = self.version::<R>()?;
        self.send_version(version, request).await
    }

    /// Sends a request in this version.
    ///
    /// # Errors
    /// [`PeerError`], see there.
    pub async fn send_version<R: Request>(&mut self, version: i16, request: &R) -> Result<Sent<R>, PeerError> {
        let correlation = self.next;
        self.next = self.next.wrapping_add(1);
        let mut out = BytesMut::new();
        encode_request(&mut out, version, correlation, &self.client_id, request)?;
        self.stream.write_all(&out).await.map_err(PeerError::io("send"))?;
        Ok(Sent { correlation, version, request: std::marker::PhantomData })
    }

    /// Takes the answer to a request.
    ///
    /// # Errors
    /// [`PeerError`], see there.
    pub async fn receive<R: Request>(&mut self, sent: Sent<R>) -> Result<R::Response, PeerError> {
        let frame = self.frame().await?;
        Ok(decode_response::<R>(frame, sent.version, sent.correlation)?)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`PeerError`], see there.
    pub async fn ask<R: Request>(&mut self, request: &R) -> Result<R::Response, PeerError> {
        let sent = self.send(request).await?;
        self.receive(sent).await
    }

    async fn frame(&mut self) -> Result<Bytes, PeerError> {
        loop {
            let mut missing = SIZE_LEN;
            if let Some(size) = self.input.first_chunk() {
                let size = i32::from_be_bytes(*size);
                let length = usize::try_from(size).ok().filter(|length| *length <= LARGEST);
                let end = SIZE_LEN + length.ok_or(PeerError::Size { size })?;
                if self.input.len() >= end {
                    return Ok(self.input.split_to(end).freeze().slice(SIZE_LEN..));
                }
                missing = end - self.input.len();
            }
            self.input.reserve(missing.min(1 << 20));
            if self.stream.read_buf(&mut self.input).await.map_err(PeerError::io("receive"))? == 0 {
                return Err(PeerError::io("receive")(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}
