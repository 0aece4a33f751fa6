//! snappy, as snappy-java frames it: a header, then blocks, each with its
//! compressed length in four bytes. librdkafka writes raw snappy without any
//! frame, so that is read as well.
//!
//! ```text
//! 82 'S' 'N' 'A' 'P' 'P' 'Y' 00   version i32 = 1   compatible with i32 = 1
//! (length i32, block)*
//! ```

use super::{CodecError, Compression, failed, malformed};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const HEADER_LEN: usize = 16;
/// What the Java client puts into a block.
const BLOCK: usize = 32 * 1024;
/// Three bytes of snappy give at most 64: a block cannot unfold further.
const MOST_GROWTH: usize = 22;

pub(super) fn decompress(from: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let ceiling = out.len().saturating_add(limit);
    each_block(from, |one| block(one, limit, ceiling, out))
}

/// Walks the blocks without unfolding them; a raw one, which has no frame, by its elements.
pub(super) fn check(from: &[u8]) -> Result<(), CodecError> {
    if from.is_empty() {
        return Err(malformed(Compression::Snappy, "there is no block"));
    }
    if from.starts_with(&MAGIC) {
        return each_block(from, |one| unfolded_len(one).map(drop));
    }
    let unfolded = unfolded_len(from)?;
    let length = from.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    match elements(from.get(length..).unwrap_or_default()) {
        Some(there) if there == unfolded => Ok(()),
        _ => Err(malformed(Compression::Snappy, "the elements do not give what is announced")),
    }
}

/// What the elements of a block unfold to; `None` where one is cut off or refers to what is not there.
fn elements(mut left: &[u8]) -> Option<usize> {
    let mut unfolded = 0_usize;
    while let Some((&tag, rest)) = left.split_first() {
        let number = |count: usize| {
            let bytes = rest.get(..count)?.iter().rev();
            Some(bytes.fold(0_usize, |number, byte| number << 8 | usize::from(*byte)))
        };
        let upper = usize::from(tag >> 2);
        // Literals, whose length stands in the tag or in up to four bytes after it, and three widths of references.
        let (taken, length, back) = match tag & 3 {
            0 if upper < 60 => (upper + 1, upper + 1, 0),
            0 => {
                let length = number(upper - 59)? + 1;
                (upper - 59 + length, length, 0)
            }
            1 => (1, (upper & 7) + 4, usize::from(tag >> 5) << 8 | number(1)?),
            2 => (2, upper + 1, number(2)?),
            _ => (4, upper + 1, number(4)?),
        };
        if tag & 3 != 0 && (back == 0 || back > unfolded) {
            return None;
        }
        left = rest.get(taken..)?;
        unfolded = unfolded.checked_add(length)?;
    }
    Some(unfolded)
}

fn each_block(from: &[u8], mut visit: impl FnMut(&[u8]) -> Result<(), CodecError>) -> Result<(), CodecError> {
    if !from.starts_with(&MAGIC) {
        return visit(from);
    }
    let mut left = from;
    while !left.is_empty() {
        // Streams may follow each other, each with its header. A length never
        // looks like one: read as a number, the magic is negative.
        if left.starts_with(&MAGIC) {
            left = left.get(HEADER_LEN..).ok_or_else(|| malformed(Compression::Snappy, "the header is cut off"))?;
            continue;
        }
        let cut_off = || malformed(Compression::Snappy, "a block is cut off");
        let (length, rest) = left.split_first_chunk().ok_or_else(cut_off)?;
        let length = usize::try_from(i32::from_be_bytes(*length))
            .map_err(|_| malformed(Compression::Snappy, "a block has a negative length"))?;
        let (one, rest) = rest.split_at_checked(length).ok_or_else(cut_off)?;
        visit(one)?;
        left = rest;
    }
    Ok(())
}

fn block(from: &[u8], limit: usize, ceiling: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let unfolded = unfolded_len(from)?;
    let before = out.len();
    let after = before.saturating_add(unfolded);
    if after > ceiling {
        return Err(CodecError::TooLarge { codec: Compression::Snappy, limit });
    }
    out.resize(after, 0);
    let to = out.get_mut(before..).unwrap_or_default();
    let written = snap::raw::Decoder::new().decompress(from, to).map_err(wrong)?;
    out.truncate(before.saturating_add(written));
    Ok(())
}

/// What a block says it unfolds to, if that can be.
fn unfolded_len(block: &[u8]) -> Result<usize, CodecError> {
    let unfolded = snap::raw::decompress_len(block).map_err(wrong)?;
    if unfolded > block.len().saturating_mul(MOST_GROWTH) {
        let reason = format!("{} bytes cannot unfold to {unfolded}", block.len());
        return Err(malformed(Compression::Snappy, reason));
    }
    Ok(unfolded)
}

fn wrong(error: snap::Error) -> CodecError {
    malformed(Compression::Snappy, error)
}

pub(super) fn compress(from: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for part in from.chunks(BLOCK) {
        let at = out.len();
        out.resize(at + 4 + snap::raw::max_compress_len(part.len()), 0);
        let Some((length, to)) = out.get_mut(at..).and_then(|room| room.split_first_chunk_mut()) else { continue };
        let written = encoder.compress(part, to).map_err(|error| failed(Compression::Snappy, error))?;
        *length = u32::try_from(written).unwrap_or(u32::MAX).to_be_bytes();
        out.truncate(at + 4 + written);
    }
    Ok(())
}
