//! LZ4 in its frame format. Written: independent blocks of 64 KiB without
//! checksums, which is what Kafka's Java client writes and reads. Read: what
//! the format allows short of dictionaries, so also linked blocks (the default
//! of liblz4), block and content checksums, and content sizes.
//!
//! ```text
//! magic 04 22 4d 18
//! FLG   version 01, independent, block checksums, content size, content checksum, 0, dictionary id
//! BD    largest block: 4 = 64 KiB, 5 = 256 KiB, 6 = 1 MiB, 7 = 4 MiB
//! [content size u64]   HC: second byte of the descriptor's xxh32
//! (length u32, top bit = stored as it is; block; [xxh32])*   0 u32   [xxh32 of the content]
//! ```
//!
//! Blocks unfold in place, at the end of `out`, where a linked block also finds
//! what it refers to.

use super::{CodecError, Compression, failed, malformed};
use lz4::block::{CompressionMode, compress_bound, compress_to_buffer};
use lz4_flex::block::{DecompressError, decompress_into_with_dict};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use std::io::Write;
use twox_hash::XxHash32;

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
/// How far back a linked block may refer.
const WINDOW: usize = 64 * 1024;
/// What is written: blocks that stand by themselves, and how long they are before.
const INDEPENDENT: u8 = 0x60;
const BLOCKS_OF_64_KIB: u8 = 0x40;
const BLOCK: usize = 64 * 1024;
/// In a block's length: it is stored as it is.
const STORED: usize = 0x8000_0000;
/// A byte of LZ4 gives at most 255.
const MOST_GROWTH: usize = 255;

pub(super) fn decompress(from: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let mut left = Input(from);
    let start = out.len();
    let frame = Frame::read(&mut left)?;
    let ceiling = start.saturating_add(limit);
    while let Some((block, stored)) = frame.block(&mut left)? {
        if frame.block_checksums && left.u32()? != XxHash32::oneshot(0, block) {
            return Err(wrong("a block's checksum does not match"));
        }
        let first = if frame.independent { out.len() } else { start.max(out.len().saturating_sub(WINDOW)) };
        unfold(block, stored, first, frame.largest_block, ceiling, out)
            .map_err(|error| error.unwrap_or(CodecError::TooLarge { codec: Compression::Lz4, limit }))?;
    }
    let content = out.get(start..).unwrap_or_default();
    if frame.content_size.is_some_and(|size| size != content.len() as u64) {
        return Err(wrong("the content's size does not match"));
    }
    if frame.content_checksum && left.u32()? != XxHash32::oneshot(0, content) {
        return Err(wrong("the content's checksum does not match"));
    }
    match left.0.len() {
        0 => Ok(()),
        more => Err(wrong(format!("{more} bytes follow the frame"))),
    }
}

/// Walks the blocks without unfolding them.
pub(super) fn check(from: &[u8]) -> Result<(), CodecError> {
    let mut left = Input(from);
    let frame = Frame::read(&mut left)?;
    while frame.block(&mut left)?.is_some() {
        if frame.block_checksums {
            left.u32()?;
        }
    }
    if frame.content_checksum {
        left.u32()?;
    }
    match left.0.len() {
        0 => Ok(()),
        more => Err(wrong(format!("{more} bytes follow the frame"))),
    }
}

/// Appends what one block unfolds to, with `out` from `dictionary` on to refer
/// to. An error of `None`: more than up to `ceiling`.
fn unfold(
    block: &[u8],
    stored: bool,
    dictionary: usize,
    largest: usize,
    ceiling: usize,
    out: &mut Vec<u8>,
) -> Result<(), Option<CodecError>> {
    let at = out.len();
    let allowed = ceiling.saturating_sub(at);
    if stored {
        if block.len() > allowed {
            return Err(None);
        }
        out.extend_from_slice(block);
        return Ok(());
    }
    let most = largest.min(block.len().saturating_mul(MOST_GROWTH));
    // A frame may announce blocks of 4 MiB and hold a few bytes: room is made
    // (and cleared) for what is likely, and again for more where that was too little.
    let mut room = most.min(allowed).min(block.len().saturating_mul(4).max(4096));
    loop {
        out.resize(at + room, 0);
        let (before, to) = out.split_at_mut(at);
        match decompress_into_with_dict(block, to, before.get(dictionary..).unwrap_or_default()) {
            Ok(written) => {
                out.truncate(at + written);
                return Ok(());
            }
            Err(DecompressError::OutputTooSmall { .. }) if room < most.min(allowed) => {
                room = room.saturating_mul(4).min(most.min(allowed));
            }
            Err(DecompressError::OutputTooSmall { .. }) if allowed < most => return Err(None),
            Err(error) => return Err(Some(wrong(error))),
        }
    }
}

/// At its default level Kafka takes the fast compressor, and the slow one at every other.
pub(super) fn compress(level: i32, from: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    if level != Compression::Lz4.default_level() {
        return compress_slowly(level.clamp(1, 17), from, out);
    }
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut to = FrameEncoder::with_frame_info(info, out);
    to.write_all(from).map_err(|error| failed(Compression::Lz4, error))?;
    to.finish().map(|_| ()).map_err(|error| failed(Compression::Lz4, error))
}

/// The frame by hand, as above, around blocks of liblz4's.
fn compress_slowly(level: i32, from: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let broken = |error| failed(Compression::Lz4, error);
    let descriptor = [INDEPENDENT, BLOCKS_OF_64_KIB];
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&descriptor);
    out.push(descriptor_checksum(&descriptor));
    let mut room = vec![0; compress_bound(BLOCK.min(from.len())).map_err(broken)?];
    for block in from.chunks(BLOCK) {
        let mode = Some(CompressionMode::HIGHCOMPRESSION(level));
        let length = compress_to_buffer(block, mode, false, &mut room).map_err(broken)?;
        let folded = room.get(..length).filter(|folded| folded.len() < block.len());
        let (length, bytes) = match folded {
            Some(folded) => (length, folded),
            None => (block.len() | STORED, block),
        };
        let length = u32::try_from(length).map_err(|error| failed(Compression::Lz4, error))?;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(bytes);
    }
    out.extend_from_slice(&[0; 4]);
    Ok(())
}

fn descriptor_checksum(descriptor: &[u8]) -> u8 {
    XxHash32::oneshot(0, descriptor).to_le_bytes()[1]
}

struct Frame {
    independent: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_size: Option<u64>,
    largest_block: usize,
}

impl Frame {
    /// The next block, and whether it is stored as it is; `None` at the frame's end.
    fn block<'a>(&self, left: &mut Input<'a>) -> Result<Option<(&'a [u8], bool)>, CodecError> {
        let length = left.u32()?;
        if length == 0 {
            return Ok(None);
        }
        let stored = length & 0x8000_0000 != 0;
        let length = (length & 0x7fff_ffff) as usize;
        if length > self.largest_block {
            return Err(wrong(format!("a block of {length} bytes, where {} are allowed", self.largest_block)));
        }
        Ok(Some((left.take(length)?, stored)))
    }

    fn read(from: &mut Input<'_>) -> Result<Self, CodecError> {
        if from.take(MAGIC.len())? != MAGIC {
            return Err(wrong("no frame magic"));
        }
        let descriptor = from.0;
        let flags = from.byte()?;
        let largest = from.byte()?;
        if flags >> 6 != 1 || flags & 0x02 != 0 {
            return Err(wrong(format!("frame flags {flags:#04x}")));
        }
        if flags & 0x01 != 0 {
            return Err(wrong("the frame needs a dictionary"));
        }
        let largest_block = match largest {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            other => return Err(wrong(format!("block size code {other:#04x}"))),
        };
        let content_size = if flags & 0x08 != 0 { Some(from.u64()?) } else { None };
        let covered = descriptor.get(..descriptor.len() - from.0.len()).unwrap_or_default();
        if from.byte()? != descriptor_checksum(covered) {
            return Err(wrong("the frame descriptor's checksum does not match"));
        }
        Ok(Self {
            independent: flags & 0x20 != 0,
            block_checksums: flags & 0x10 != 0,
            content_checksum: flags & 0x04 != 0,
            content_size,
            largest_block,
        })
    }
}

fn wrong(reason: impl std::fmt::Display) -> CodecError {
    malformed(Compression::Lz4, reason)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let (taken, left) = self.0.split_at_checked(length).ok_or_else(|| wrong("the frame is cut off"))?;
        self.0 = left;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, left) = self.0.split_first_chunk().ok_or_else(|| wrong("the frame is cut off"))?;
        self.0 = left;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        self.chunk().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, CodecError> {
        self.chunk().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, CodecError> {
        self.chunk().map(u64::from_le_bytes)
    }
}
