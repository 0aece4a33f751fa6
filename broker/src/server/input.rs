//! From bytes that arrive to frames.
//!
//! Nothing is copied on the way: frames are cut off the buffer that the socket was read into, and once they are dropped
//! the buffer's allocation is used again. Of a large frame exactly its rest is read, and the size of the next, so that
//! nothing but those four bytes ever has to be moved. Of small ones as many are read at once as have come.
//!
//! Invariants: no more is reserved than [`STEP`] beyond twice what has arrived, whatever a size field announces. A
//! silent connection holds no buffer.

use super::net::Stream;
use bytes::{Buf, Bytes, BytesMut};
use millrace_protocol::header::SIZE_LEN;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use thiserror::Error;
use tokio::io::ReadBuf;

/// What is read at first from a connection that has been silent.
const FIRST_READ: usize = 4 << 10;
/// What is read at once from a busy one.
const LARGEST_READ: usize = 128 << 10;
/// Frames from this size on are read exactly.
const EXACT_FROM: usize = 24 << 10;
/// What is reserved for a frame of which nothing has arrived.
const STEP: usize = 2 << 20;
/// A buffer that has grown beyond this is not kept after its frame.
const KEEP: usize = 4 << 20;

/// A size field that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a frame announces {size} bytes, the limit is {limit}")]
pub(super) struct FrameSize {
    size: i32,
    limit: usize,
}

/// What has arrived and is not yet a frame.
#[derive(Debug)]
pub(super) struct Input {
    buffer: BytesMut,
    /// How much to read where no frame says it.
    read: usize,
    /// The largest frame that may come, its size field not counted.
    limit: usize,
    /// Roughly what the buffer's allocation has grown to.
    grown: usize,
}

impl Input {
    pub(super) fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), read: FIRST_READ, limit, grown: 0 }
    }

    /// The bytes of the next frame with its size field; `None` until that has arrived.
    pub(super) fn announced(&self) -> Result<Option<usize>, FrameSize> {
        let Some(size) = self.buffer.first_chunk() else { return Ok(None) };
        let size = i32::from_be_bytes(*size);
        match usize::try_from(size) {
            Ok(length) if length <= self.limit => Ok(Some(SIZE_LEN + length)),
            _ => Err(FrameSize { size, limit: self.limit }),
        }
    }

    /// The key of the next frame's request, if the whole frame has arrived. A frame too short for one has key −1.
    pub(super) fn next_key(&self) -> Result<Option<i16>, FrameSize> {
        let Some(end) = self.announced()?.filter(|end| self.buffer.len() >= *end) else { return Ok(None) };
        let key = self.buffer.get(SIZE_LEN..end).and_then(|frame| frame.first_chunk());
        Ok(Some(key.map_or(-1, |key| i16::from_be_bytes(*key))))
    }

    /// Cuts off the next frame, without its size field, if it has arrived.
    pub(super) fn frame(&mut self) -> Result<Option<Bytes>, FrameSize> {
        let Some(end) = self.announced()?.filter(|end| self.buffer.len() >= *end) else { return Ok(None) };
        let mut frame = self.buffer.split_to(end).freeze();
        frame.advance(SIZE_LEN);
        if self.grown > KEEP {
            self.buffer = BytesMut::from(&self.buffer[..]);
            self.grown = 0;
        }
        Ok(Some(frame))
    }

    /// Whether a frame has begun to arrive and not ended.
    pub(super) fn is_within_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Gives the memory back if nothing has arrived.
    pub(super) fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.read = FIRST_READ;
            self.grown = 0;
        }
    }

    /// Reads what has arrived; 0 at the end.
    pub(super) fn poll_read<S: Stream>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() == 0 {
            ready!(stream.poll_readable(cx))?;
        }
        let want = self.want();
        self.buffer.reserve(want);
        self.grown = self.grown.max(self.buffer.capacity());
        let spare = self.buffer.spare_capacity_mut();
        let room = spare.get_mut(..want).unwrap_or_default();
        let mut room = ReadBuf::uninit(room);
        ready!(Pin::new(stream).poll_read(cx, &mut room))?;
        let count = room.filled().len();
        // SAFETY: poll_read has initialised the first `count` bytes of the spare capacity.
        unsafe { self.buffer.set_len(self.buffer.len() + count) };
        if count == want {
            self.read = (self.read * 2).min(LARGEST_READ);
        }
        Poll::Ready(Ok(count))
    }

    /// How much to read now; the buffer never holds a whole frame when this is asked.
    fn want(&self) -> usize {
        let have = self.buffer.len();
        match self.announced() {
            Ok(Some(end)) if end >= EXACT_FROM => {
                let rest = (end + SIZE_LEN).saturating_sub(have);
                rest.min(have + STEP).max(1)
            }
            Ok(Some(end)) => end.saturating_sub(have).max(self.read),
            _ => self.read,
        }
    }
}
