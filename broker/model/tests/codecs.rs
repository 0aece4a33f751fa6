//! Each codec against itself, against other writers' framings and against
//! bytes that nobody wrote.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

use millrace_model::Compression;
use millrace_model::codec::{CodecError, check_frame, compress, decompress};
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes that compress about as well as records do.
fn text() -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), 0..64), 0usize..3000, vec(any::<u8>(), 0..64))
        .prop_map(|(part, times, rest)| [part.repeat(times), rest].concat())
}

fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(&Compression::ALL[..])
}

fn unfold(codec: Compression, bytes: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    decompress(codec, bytes, limit, &mut out).map(|()| out)
}

fn fold(codec: Compression, level: Option<i32>, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compress(codec, level, bytes, &mut out).unwrap();
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_compressed_comes_back(codec in codec(), level in prop::option::of(-3i32..20), bytes in text()) {
        let folded = fold(codec, level, &bytes);
        prop_assert_eq!(&unfold(codec, &folded, bytes.len()).unwrap(), &bytes);
        let mut behind = b"before".to_vec();
        decompress(codec, &folded, bytes.len() + 1, &mut behind).unwrap();
        prop_assert_eq!(behind, [b"before", &bytes[..]].concat());
    }

    #[test]
    fn the_limit_holds_to_the_byte(codec in codec(), bytes in text(), short in 1usize..100) {
        prop_assume!(!bytes.is_empty());
        let limit = bytes.len().saturating_sub(short);
        let mut out = b"before".to_vec();
        let refused = decompress(codec, &fold(codec, None, &bytes), limit, &mut out);
        prop_assert_eq!(refused, Err(CodecError::TooLarge { codec, limit }));
        prop_assert_eq!(out, b"before");
    }

    #[test]
    fn damaged_bytes_are_an_error_or_other_bytes_but_never_a_panic(
        codec in codec(),
        bytes in text(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut folded = fold(codec, None, &bytes);
        prop_assume!(!folded.is_empty());
        for (at, byte) in damage {
            let at = at.index(folded.len());
            folded[at] = byte;
        }
        let limit = 1 << 20;
        let _ = unfold(codec, &folded, limit);
        let _ = unfold(codec, &folded[..cut.index(folded.len())], limit);
    }

    #[test]
    fn bytes_that_nobody_wrote_never_panic(codec in codec(), bytes in vec(any::<u8>(), 0..300)) {
        let _ = unfold(codec, &bytes, 1 << 20);
    }

    #[test]
    fn cut_off_bytes_are_refused(codec in codec(), bytes in text(), cut in any::<prop::sample::Index>()) {
        prop_assume!(codec != Compression::None && !bytes.is_empty());
        let folded = fold(codec, None, &bytes);
        let at = cut.index(folded.len());
        // Snappy's frame has no end: cut between two blocks, it is only shorter.
        let unfolded = unfold(codec, &folded[..at], bytes.len());
        prop_assert_ne!(unfolded.as_ref().ok(), Some(&bytes), "cut at {}", at);
        if codec != Compression::Snappy && at > 0 {
            prop_assert!(unfolded.is_err(), "{} cut at {} of {}", codec, at, folded.len());
        }
    }
}

#[test]
fn a_small_batch_that_unfolds_to_gigabytes_stops_at_the_limit() {
    let zeros = vec![0; 64 << 20];
    for codec in Compression::ALL.into_iter().filter(|codec| *codec != Compression::None) {
        let folded = fold(codec, None, &zeros);
        assert_eq!(unfold(codec, &folded, 1 << 20), Err(CodecError::TooLarge { codec, limit: 1 << 20 }));
    }
}

#[test]
fn raw_snappy_is_read_as_librdkafka_writes_it() {
    let bytes = b"a row of boats, a row of boats, a row of boats".repeat(3000);
    let raw = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
    assert_eq!(unfold(Compression::Snappy, &raw, bytes.len()).unwrap(), bytes);
}

#[test]
fn a_snappy_block_cannot_claim_what_its_bytes_cannot_hold() {
    // Ten bytes that say they unfold to 100 MB.
    let lie = [0x80, 0xc2, 0xd7, 0x2f, 0, 0, 0, 0, 0, 0];
    assert!(matches!(unfold(Compression::Snappy, &lie, 1 << 30), Err(CodecError::Malformed { .. })));
}

#[test]
fn snappy_streams_may_follow_each_other() {
    let both = [fold(Compression::Snappy, None, b"one"), fold(Compression::Snappy, None, b"two")].concat();
    assert_eq!(unfold(Compression::Snappy, &both, 100).unwrap(), b"onetwo");
}

#[test]
fn lz4_frames_of_liblz4_and_go_are_read_with_linked_blocks_and_checksums() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use std::io::Write;
    let bytes: Vec<u8> = (0..400_000u32).flat_map(|i| (i / 7 * 31).to_le_bytes()).collect();
    for block_mode in [BlockMode::Linked, BlockMode::Independent] {
        for block_size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
            for (checksums, size) in [(false, None), (true, None), (true, Some(bytes.len() as u64))] {
                let info = FrameInfo::new()
                    .block_mode(block_mode)
                    .block_size(block_size)
                    .block_checksums(checksums)
                    .content_checksum(checksums)
                    .content_size(size);
                let mut to = FrameEncoder::with_frame_info(info, Vec::new());
                to.write_all(&bytes).unwrap();
                let folded = to.finish().unwrap();
                assert_eq!(unfold(Compression::Lz4, &folded, bytes.len()).unwrap(), bytes);
                if checksums {
                    let mut wrong = folded.clone();
                    *wrong.last_mut().unwrap() ^= 1;
                    assert!(unfold(Compression::Lz4, &wrong, bytes.len()).is_err());
                }
            }
        }
    }
}

#[test]
fn lz4_is_written_as_the_java_client_reads_it() {
    let folded = fold(Compression::Lz4, None, &b"abc".repeat(100));
    // Version 1, independent blocks, no checksums, no content size; 64 KiB.
    assert_eq!(folded[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    assert_eq!(folded[folded.len() - 4..], [0; 4]);
}

#[test]
fn every_level_that_a_codec_has_makes_a_difference_to_the_size_and_none_to_the_content() {
    // Words in an order that repeats only by chance.
    let mut state = 7_u32;
    let mut word = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ["alpha ", "beta ", "gamma ", "delta ", "epsilon ", "zeta "][(state >> 16) as usize % 6]
    };
    let bytes: Vec<u8> = (0..60_000).flat_map(|_| word().bytes()).collect();
    let size = |codec, level| {
        let folded = fold(codec, Some(level), &bytes);
        assert_eq!(unfold(codec, &folded, bytes.len()).unwrap(), bytes, "{codec} at level {level}");
        check_frame(codec, &folded).unwrap();
        folded.len()
    };
    for (codec, least, most) in [(Compression::Gzip, 1, 9), (Compression::Zstd, 1, 19), (Compression::Lz4, 9, 12)] {
        let (fast, small) = (size(codec, least), size(codec, most));
        assert!(small < fast, "{codec}: {fast} bytes at level {least}, {small} at level {most}");
    }
    assert!(size(Compression::Lz4, 12) < size(Compression::Lz4, 3));
    assert_eq!(size(Compression::Lz4, 17), size(Compression::Lz4, 12), "as liblz4 has it");
}

#[test]
fn the_slow_lz4_is_written_as_the_java_client_reads_it_whatever_it_is_given() {
    let noise: Vec<u8> = (0..200_001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for bytes in [Vec::new(), b"a".to_vec(), b"abc".repeat(100_000), noise] {
        for level in [1, 2, 3, 10, 17] {
            let folded = fold(Compression::Lz4, Some(level), &bytes);
            assert_eq!(folded[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
            assert_eq!(folded[folded.len() - 4..], [0; 4]);
            assert_eq!(unfold(Compression::Lz4, &folded, bytes.len()).unwrap(), bytes);
            let mut others = Vec::new();
            std::io::Read::read_to_end(&mut lz4_flex::frame::FrameDecoder::new(&folded[..]), &mut others).unwrap();
            assert_eq!(others, bytes, "as another library reads it");
        }
    }
}

#[test]
fn zstd_frames_without_a_content_size_and_several_in_a_row_are_read() {
    use std::io::Write;
    let bytes = b"the quick brown fox ".repeat(100_000);
    let mut to = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    to.write_all(&bytes).unwrap();
    let folded = to.finish().unwrap();
    assert!(zstd::zstd_safe::get_frame_content_size(&folded).unwrap().is_none());
    assert_eq!(unfold(Compression::Zstd, &folded, bytes.len()).unwrap(), bytes);
    let both = [&folded[..], &folded].concat();
    assert_eq!(unfold(Compression::Zstd, &both, 2 * bytes.len()).unwrap().len(), 2 * bytes.len());
}

#[test]
fn the_codecs_of_the_attributes_are_the_five_that_exist() {
    use millrace_model::batch::Attributes;
    for codec in Compression::ALL {
        assert_eq!(Compression::of(Attributes::new(codec.id())), Ok(codec));
    }
    for unknown in 5..8 {
        assert_eq!(Compression::of(Attributes::new(unknown)), Err(CodecError::Unknown(unknown)));
    }
}

proptest! {
    #[test]
    fn raw_snappy_is_known_without_unfolding_it(bytes in text(), other in vec(any::<u8>(), 0..40)) {
        let folded = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
        prop_assert_eq!(check_frame(Compression::Snappy, &folded), Ok(()));
        let unfolds = snap::raw::Decoder::new().decompress_vec(&other).is_ok();
        prop_assert_eq!(check_frame(Compression::Snappy, &other).is_ok(), unfolds && !other.is_empty(), "{:?}", other);
    }
}

#[test]
fn a_look_at_the_frame_knows_every_codecs_own_bytes_and_no_others() {
    let text: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut folded = Vec::new();
        compress(codec, None, &text, &mut folded).unwrap();
        let started = std::time::Instant::now();
        check_frame(codec, &folded).unwrap();
        let look = started.elapsed();
        let (started, mut out) = (std::time::Instant::now(), Vec::new());
        decompress(codec, &folded, usize::MAX, &mut out).unwrap();
        println!("{codec}: {} bytes, {look:?} for a look, {:?} to unfold", folded.len(), started.elapsed());
        assert!(check_frame(codec, b"\x06\x00\x00\x00\x01\x06one\x00").is_err(), "{codec}: plain records");
        assert!(check_frame(codec, &[0x5a; 100]).is_err(), "{codec}: noise");
        assert!(check_frame(codec, &[]).is_err(), "{codec}: nothing");
        // gzip has no lengths to walk along: what its end lacks shows only to who unfolds it.
        if codec != Compression::Gzip {
            assert!(check_frame(codec, &folded[..folded.len() - 3]).is_err(), "{codec}: cut off");
        }
    }
}
