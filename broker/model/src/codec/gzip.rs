//! gzip: one member or several, one after the other.

use super::{CodecError, Compression, failed, malformed};
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::io::{Read, Write};

pub(super) fn decompress(from: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    // One byte more than allowed tells "too large" from "just fits".
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read =
        MultiGzDecoder::new(from).take(most).read_to_end(out).map_err(|error| malformed(Compression::Gzip, error))?;
    if read > limit {
        return Err(CodecError::TooLarge { codec: Compression::Gzip, limit });
    }
    Ok(())
}

/// Unfolds the beginning.
pub(super) fn check(from: &[u8]) -> Result<(), CodecError> {
    const ENOUGH: u64 = 64;
    let mut out = Vec::new();
    let read = MultiGzDecoder::new(from).take(ENOUGH).read_to_end(&mut out);
    read.map(drop).map_err(|error| malformed(Compression::Gzip, error))
}

pub(super) fn compress(level: i32, from: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let level = match level {
        -1 => flate2::Compression::default(),
        level => flate2::Compression::new(level.clamp(1, 9).unsigned_abs()),
    };
    let mut to = GzEncoder::new(out, level);
    to.write_all(from).and_then(|()| to.finish().map(|_| ())).map_err(|error| failed(Compression::Gzip, error))
}
