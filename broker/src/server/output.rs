//! Answers on their way out. Small ones are joined into one write; file regions go by sendfile.

use super::net::Stream;
use super::service::Reply;
use bytes::{Buf, Bytes, BytesMut};
use millrace_storage::FileSlice;
use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    File { slice: FileSlice, sent: u32 },
}

/// The bytes that are to be sent, in order.
#[derive(Debug, Default)]
pub(super) struct Output {
    pieces: VecDeque<Piece>,
    /// What follows the pieces; grows until it is sent.
    tail: BytesMut,
    /// How much of the tail has been sent.
    tail_sent: usize,
    backlog: u64,
}

impl Output {
    pub(super) fn is_empty(&self) -> bool {
        self.backlog == 0
    }

    /// Bytes that wait to be sent.
    pub(super) const fn backlog(&self) -> u64 {
        self.backlog
    }

    /// Whether regions of files wait to be sent.
    pub(super) fn has_files(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Adds an answer.
    pub(super) fn push(&mut self, reply: Reply) {
        let Reply { mut bytes, regions } = reply;
        self.backlog += bytes.len() as u64;
        if regions.is_empty() {
            self.push_bytes(bytes);
            return;
        }
        let mut cut = 0;
        for (at, slice) in regions {
            self.push_bytes(bytes.split_to(at.saturating_sub(cut).min(bytes.len())));
            cut = at;
            self.seal_tail();
            self.backlog += u64::from(slice.len());
            self.pieces.push_back(Piece::File { slice, sent: 0 });
        }
        self.push_bytes(bytes);
    }

    fn push_bytes(&mut self, bytes: BytesMut) {
        if self.tail.is_empty() {
            self.tail = bytes;
        } else {
            self.tail.extend_from_slice(&bytes);
        }
    }

    fn seal_tail(&mut self) {
        let mut tail = std::mem::take(&mut self.tail);
        tail.advance(self.tail_sent);
        self.tail_sent = 0;
        if !tail.is_empty() {
            self.pieces.push_back(Piece::Bytes(tail.freeze()));
        }
    }

    /// An empty buffer for the next answer, with room in it if there is one.
    pub(super) fn spare(&mut self) -> BytesMut {
        if self.backlog == 0 { std::mem::take(&mut self.tail) } else { BytesMut::new() }
    }

    /// Takes back a buffer that [`Self::spare`] gave.
    pub(super) fn give_back(&mut self, buffer: BytesMut) {
        if self.backlog == 0 && buffer.is_empty() {
            self.tail = buffer;
        }
    }

    /// Gives the memory back if nothing is to be sent.
    pub(super) fn rest(&mut self) {
        if self.backlog == 0 {
            *self = Self::default();
        }
    }

    /// Sends some of it; returns how much. Call it only where there is something.
    pub(super) fn poll_send<S: Stream>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        const KEEP: usize = 16 << 10;
        let more = self.pieces.len() > 1 || !self.tail.is_empty();
        let sent = match self.pieces.front_mut() {
            Some(Piece::Bytes(bytes)) => {
                let sent = ready!(stream.poll_send(cx, bytes, more))?;
                bytes.advance(sent.min(bytes.len()));
                if bytes.is_empty() {
                    self.pieces.pop_front();
                }
                sent
            }
            Some(Piece::File { slice, sent }) => {
                let (position, left) = (slice.position() + u64::from(*sent), slice.len() - *sent);
                let Some(file) = slice.file() else { return Poll::Ready(Err(ended())) };
                let count = ready!(stream.poll_send_file(cx, &**file, position, left as usize))?;
                *sent += u32::try_from(count).unwrap_or(left).min(left);
                if *sent == slice.len() {
                    self.pieces.pop_front();
                }
                count
            }
            None => {
                let rest = self.tail.get(self.tail_sent..).unwrap_or_default();
                let sent = ready!(stream.poll_send(cx, rest, false))?;
                self.tail_sent += sent;
                if self.tail_sent >= self.tail.len() {
                    self.tail_sent = 0;
                    self.tail.clear();
                    if self.tail.capacity() > KEEP {
                        self.tail = BytesMut::new();
                    }
                }
                sent
            }
        };
        if sent == 0 {
            return Poll::Ready(Err(ended()));
        }
        self.backlog = self.backlog.saturating_sub(sent as u64);
        Poll::Ready(Ok(sent as u64))
    }
}

fn ended() -> io::Error {
    io::ErrorKind::WriteZero.into()
}
