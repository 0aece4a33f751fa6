//! Requests written by hand, below every client library.

use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection on which requests are bytes.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// Connects; reading and writing give up after `patience`.
    pub fn connect(port: u16, patience: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Sends raw bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends one frame: the length and `body`.
    pub fn send_frame(&mut self, body: &[u8]) -> Result<()> {
        let length = i32::try_from(body.len()).map_err(|_| Error::from(ErrorKind::InvalidInput))?;
        self.send(&[&length.to_be_bytes(), body].concat())
    }

    /// Receives one frame without its length; `UnexpectedEof` when the other side hung up.
    pub fn receive_frame(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).map_err(|_| Error::from(ErrorKind::InvalidData))?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    /// Whether the other side has closed the connection (waits for that as long as `patience` says).
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0)) || self.stream.take_error().ok().flatten().is_some()
    }
}

/// Whether a broker on this port answers Metadata with at least one broker.
pub fn answers_metadata(port: u16) -> bool {
    brokers(port).is_ok_and(|count| count > 0)
}

fn brokers(port: u16) -> Result<i32> {
    let mut wire = Wire::connect(port, Duration::from_millis(500))?;
    // Key 3, version 1, correlation id 7, no client id, and no topics.
    wire.send_frame(&[0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0])?;
    let answer = wire.receive_frame()?;
    let count = answer.get(4..8).and_then(|bytes| bytes.try_into().ok()).ok_or(ErrorKind::UnexpectedEof)?;
    Ok(i32::from_be_bytes(count))
}
