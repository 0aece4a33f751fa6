//! Zstandard: one frame or several. The contexts are costly to make and keep
//! no state between calls, so each thread keeps one of each.

use super::{CodecError, Compression, failed, malformed};
use std::cell::RefCell;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, InBuffer, OutBuffer, ResetDirective};

thread_local! {
    static READER: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
    static WRITER: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
}

/// Room is made in steps of this size where the frame does not tell its content's.
const STEP: usize = 64 * 1024;

pub(super) fn decompress(from: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    READER.with_borrow_mut(|context| {
        context.reset(ResetDirective::SessionOnly).map_err(wrong)?;
        stream(context, from, limit, out)
    })
}

/// Walks the frames by their blocks' headers.
pub(super) fn check(from: &[u8]) -> Result<(), CodecError> {
    let mut left = from;
    if left.is_empty() {
        return Err(malformed(Compression::Zstd, "there is no frame"));
    }
    while !left.is_empty() {
        let size = zstd_safe::find_frame_compressed_size(left).map_err(wrong)?;
        left =
            left.get(size..).filter(|_| size > 0).ok_or_else(|| malformed(Compression::Zstd, "a frame is cut off"))?;
    }
    Ok(())
}

fn stream(context: &mut DCtx<'static>, from: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    let ceiling = start.saturating_add(limit);
    let mut input = InBuffer::around(from);
    out.reserve(likely(from, limit));
    // Whether the last frame was finished: a hint of 0.
    let mut hint = 0;
    while input.pos < from.len() || hint != 0 {
        let at = out.len();
        if at > ceiling {
            return Err(CodecError::TooLarge { codec: Compression::Zstd, limit });
        }
        if out.capacity() == at {
            out.reserve(STEP.max(at - start));
        }
        let before = input.pos;
        let mut output = OutBuffer::around_pos(out, at);
        hint = context.decompress_stream(&mut output, &mut input).map_err(wrong)?;
        if input.pos == before && out.len() == at && out.capacity() > at {
            return Err(malformed(Compression::Zstd, "the frame is cut off"));
        }
    }
    if out.len() > ceiling {
        return Err(CodecError::TooLarge { codec: Compression::Zstd, limit });
    }
    Ok(())
}

/// How much room to make at first: the content's size, if the frame tells it
/// and it is believable, else a guess.
fn likely(from: &[u8], limit: usize) -> usize {
    let guess = from.len().saturating_mul(4).max(STEP);
    let told = zstd_safe::get_frame_content_size(from).ok().flatten().and_then(|size| usize::try_from(size).ok());
    // One byte more, so that "just fits" needs no second look.
    told.unwrap_or(guess).min(guess.saturating_mul(4)).min(limit).saturating_add(1)
}

pub(super) fn compress(level: i32, from: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let level = level.clamp(zstd_safe::min_c_level(), zstd_safe::max_c_level());
    WRITER.with_borrow_mut(|context| {
        context.reset(ResetDirective::SessionOnly).map_err(broken)?;
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(broken)?;
        let at = out.len();
        out.reserve(zstd_safe::compress_bound(from.len()));
        let mut output = OutBuffer::around_pos(out, at);
        let mut input = InBuffer::around(from);
        context.set_pledged_src_size(Some(from.len() as u64)).map_err(broken)?;
        let left = context
            .compress_stream2(&mut output, &mut input, zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_end)
            .map_err(broken)?;
        match left {
            0 => Ok(()),
            more => Err(failed(Compression::Zstd, format!("{more} bytes had no room"))),
        }
    })
}

fn wrong(code: usize) -> CodecError {
    malformed(Compression::Zstd, zstd_safe::get_error_name(code))
}

fn broken(code: usize) -> CodecError {
    failed(Compression::Zstd, zstd_safe::get_error_name(code))
}
