//! The socket behind a seam: what a connection needs of it beyond reading and writing.
//!
//! [`TcpStream`] sends file regions with sendfile(2). A simulated stream implements [`AsyncRead`] and [`AsyncWrite`] and
//! takes the defaults for the rest, which read the file and write what they read.

use millrace_storage::io::DiskFile;
use rustix::net::SendFlags;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpStream};

/// One accepted connection's bytes.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Ready once there may be something to read, so that nobody has to keep a buffer for a silent client.
    fn poll_readable(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Sends bytes; `more` says that others follow at once.
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8], _more: bool) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, bytes)
    }

    /// Sends bytes of a file; 0 where the file has ended.
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &dyn DiskFile,
        position: u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        copy_from_file(self, cx, file, position, len)
    }
}

/// Where connections come from.
pub trait Listener: Send + 'static {
    /// The streams it accepts.
    type Stream: Stream;

    /// The next connection and where it comes from.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

/// A host's name that stands for no address.
#[derive(Debug, Error)]
#[error("{host} cannot be resolved: {source}")]
pub struct UnknownHost {
    host: String,
    source: io::Error,
}

/// The addresses of a host. Only names are looked up.
///
/// # Errors
/// Where there is none.
pub async fn addresses_of(host: &str) -> Result<Vec<IpAddr>, UnknownHost> {
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(vec![address.to_canonical()]);
    }
    let found = tokio::net::lookup_host((host, 0)).await;
    let found = found.map_err(|source| UnknownHost { host: host.to_owned(), source })?;
    Ok(found.map(|address| address.ip().to_canonical()).collect())
}

/// The listener of the machine, and how its sockets are set up.
#[derive(Debug)]
pub struct Tcp {
    listener: TcpListener,
    send_buffer: Option<u32>,
    receive_buffer: Option<u32>,
}

impl Tcp {
    /// A bound listener; the buffers' sizes are the system's choice where they are `None`.
    pub const fn new(listener: TcpListener, send_buffer: Option<u32>, receive_buffer: Option<u32>) -> Self {
        Self { listener, send_buffer, receive_buffer }
    }
}

impl Listener for Tcp {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        let socket = socket2::SockRef::from(&stream);
        // Within the machine there is no congestion to control: a system that paces (BBR) spends a timer per segment for it.
        if stream.local_addr()?.ip() == peer.ip()
            && let Err(error) = rustix::net::sockopt::set_tcp_congestion(&stream, "reno")
        {
            tracing::debug!(%peer, %error, "the system keeps its congestion control");
        }
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes as usize)?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes as usize)?;
        }
        Ok((stream, peer))
    }
}

impl Stream for TcpStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8], more: bool) -> Poll<io::Result<usize>> {
        let flags = if more { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
        attempt(self, cx, bytes.len(), |stream| Ok(rustix::net::send(stream, bytes, flags)?))
    }

    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &dyn DiskFile,
        position: u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        let Some(source) = file.as_fd() else { return copy_from_file(self, cx, file, position, len) };
        attempt(self, cx, len, |stream| {
            let mut position = position;
            Ok(rustix::fs::sendfile(stream, source, Some(&mut position), len)?)
        })
    }
}

/// Tries to send `len` bytes once the socket is writable. Where the socket took only a part it is full: the readiness is
/// cleared then without another system call to be told so.
fn attempt(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    len: usize,
    mut send: impl FnMut(&TcpStream) -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let mut part = None;
        let sent = stream.try_io(Interest::WRITABLE, || match send(stream)? {
            sent if 0 < sent && sent < len => {
                part = Some(sent);
                Err(io::ErrorKind::WouldBlock.into())
            }
            sent => Ok(sent),
        });
        match (sent, part) {
            (_, Some(part)) => return Poll::Ready(Ok(part)),
            (Err(e), None) if e.kind() == io::ErrorKind::WouldBlock => {}
            (Err(e), None) if e.kind() == io::ErrorKind::Interrupted => {}
            (sent, None) => return Poll::Ready(sent),
        }
    }
}

fn copy_from_file<S: AsyncWrite + Unpin + ?Sized>(
    mut stream: &mut S,
    cx: &mut Context<'_>,
    file: &dyn DiskFile,
    position: u64,
    len: usize,
) -> Poll<io::Result<usize>> {
    const AT_ONCE: usize = 64 << 10;
    let mut bytes = vec![0; len.min(AT_ONCE)];
    let read = file.read_at(position, &mut bytes)?;
    bytes.truncate(read);
    if bytes.is_empty() {
        return Poll::Ready(Ok(0));
    }
    Pin::new(&mut stream).poll_write(cx, &bytes)
}
