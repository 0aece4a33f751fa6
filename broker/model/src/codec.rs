//! The five ways in which a batch's records section may stand: plain, gzip,
//! snappy, lz4, zstd. Both directions, in the framings that Kafka's Java
//! client, librdkafka and the Go clients write and read.
//!
//! Invariants: decompression never gives more than its limit, and never
//! allocates much more than what the compressed bytes can really unfold to;
//! neither direction keeps anything in `out` when it fails.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use crate::batch::Attributes;
use std::fmt;
use std::ops::RangeInclusive;
use thiserror::Error;

/// Why bytes could not be compressed or decompressed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// The attributes name a codec that does not exist.
    #[error("there is no compression codec {0}")]
    Unknown(i16),
    /// Bytes that the codec did not write.
    #[error("malformed {codec} data: {reason}")]
    Malformed {
        /// The codec.
        codec: Compression,
        /// What is wrong with them.
        reason: String,
    },
    /// More bytes than allowed would come out.
    #[error("{codec} data unfold to more than {limit} bytes")]
    TooLarge {
        /// The codec.
        codec: Compression,
        /// What is allowed.
        limit: usize,
    },
    /// The compressor failed.
    #[error("cannot compress with {codec}: {reason}")]
    Compress {
        /// The codec.
        codec: Compression,
        /// What it says.
        reason: String,
    },
}

/// How a records section is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Deflate in gzip's frame.
    Gzip,
    /// Snappy, in the frame of snappy-java or raw.
    Snappy,
    /// LZ4, in its frame format.
    Lz4,
    /// Zstandard (KIP-110).
    Zstd,
}

impl Compression {
    /// All of them, by number.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec that a batch's attributes name.
    ///
    /// # Errors
    /// [`CodecError::Unknown`] for 5, 6 and 7.
    pub const fn of(attributes: Attributes) -> Result<Self, CodecError> {
        match attributes.codec() {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            other => Err(CodecError::Unknown(other)),
        }
    }

    /// Its number in the attributes.
    pub const fn id(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Its name, as in a topic's `compression.type` (where `none` is `uncompressed`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The levels that Kafka's `compression.gzip.level`, `compression.lz4.level`
    /// and `compression.zstd.level` allow (KIP-390). For gzip, −1 is allowed
    /// too and means the default.
    pub const fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::None | Self::Snappy => None,
            Self::Gzip => Some(1..=9),
            Self::Lz4 => Some(1..=17),
            Self::Zstd => Some(-131_072..=22),
        }
    }

    /// The level that Kafka takes where none is configured.
    pub const fn default_level(self) -> i32 {
        match self {
            Self::None | Self::Snappy => 0,
            Self::Gzip => -1,
            Self::Lz4 => 9,
            Self::Zstd => 3,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Appends to `out` what `from` unfolds to: at most `limit` bytes. `out` is as
/// it was where that fails.
///
/// # Errors
/// [`CodecError::Malformed`] and [`CodecError::TooLarge`].
pub fn decompress(codec: Compression, from: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let before = out.len();
    let done = match codec {
        Compression::None if from.len() > limit => Err(CodecError::TooLarge { codec, limit }),
        Compression::None => {
            out.extend_from_slice(from);
            Ok(())
        }
        Compression::Gzip => gzip::decompress(from, limit, out),
        Compression::Snappy => snappy::decompress(from, limit, out),
        Compression::Lz4 => lz4::decompress(from, limit, out),
        Compression::Zstd => zstd::decompress(from, limit, out),
    };
    if done.is_err() {
        out.truncate(before);
    }
    done
}

/// Looks whether bytes are a codec's as far as that shows without unfolding them: frames and the lengths of their blocks
/// are walked to the end, a few bytes of gzip, which has neither, are unfolded. Costs by the block, not by the byte; what
/// stands inside a block may still be malformed.
///
/// # Errors
/// [`CodecError::Malformed`].
pub fn check_frame(codec: Compression, from: &[u8]) -> Result<(), CodecError> {
    match codec {
        Compression::None => Ok(()),
        Compression::Gzip => gzip::check(from),
        Compression::Snappy => snappy::check(from),
        Compression::Lz4 => lz4::check(from),
        Compression::Zstd => zstd::check(from),
    }
}

/// Appends `from`, compressed, to `out`. A level out of [`Compression::levels`]
/// means the nearest one; `None` means [`Compression::default_level`].
///
/// # Errors
/// [`CodecError::Compress`]; `out` is then as it was.
pub fn compress(codec: Compression, level: Option<i32>, from: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let before = out.len();
    let level = level.unwrap_or_else(|| codec.default_level());
    let done = match codec {
        Compression::None => {
            out.extend_from_slice(from);
            Ok(())
        }
        Compression::Gzip => gzip::compress(level, from, out),
        Compression::Snappy => snappy::compress(from, out),
        Compression::Lz4 => lz4::compress(level, from, out),
        Compression::Zstd => zstd::compress(level, from, out),
    };
    if done.is_err() {
        out.truncate(before);
    }
    done
}

fn malformed(codec: Compression, reason: impl fmt::Display) -> CodecError {
    CodecError::Malformed { codec, reason: reason.to_string() }
}

fn failed(codec: Compression, reason: impl fmt::Display) -> CodecError {
    CodecError::Compress { codec, reason: reason.to_string() }
}
