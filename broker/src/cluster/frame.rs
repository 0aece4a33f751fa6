//! Frames: how the journal and the snapshot hold their records.
//!
//! ```text
//! "MRF1"  length u32 LE  CRC-32C of the payload u32 LE  payload
//! ```
//!
//! Frames stand back to back. The mark in front lets a reader find out whether anything
//! valid follows a damaged frame.

const MARK: &[u8; 4] = b"MRF1";
const HEAD: usize = 12;

/// Nothing longer is written or believed.
pub(super) const MAX_PAYLOAD: usize = 256 << 20;

/// A payload in its frame; `None` where it is too long.
pub(super) fn encode(payload: &[u8]) -> Option<Vec<u8>> {
    let len = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD)?;
    let mut frame = Vec::with_capacity(HEAD + payload.len());
    frame.extend_from_slice(MARK);
    frame.extend_from_slice(&len.to_le_bytes());
    frame.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    frame.extend_from_slice(payload);
    Some(frame)
}

/// The payload at the front of `bytes` and what follows it; `None` where there is no whole frame.
pub(super) fn decode(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(MARK)?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok().filter(|len| *len <= MAX_PAYLOAD)?;
    let (payload, rest) = rest.split_at_checked(len)?;
    (crc32c::crc32c(payload) == u32::from_le_bytes(*crc)).then_some((payload, rest))
}

/// Whether a whole frame stands anywhere in `bytes`.
pub(super) fn any_in(bytes: &[u8]) -> bool {
    bytes
        .windows(MARK.len())
        .enumerate()
        .any(|(at, window)| window == MARK && bytes.get(at..).and_then(decode).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let frame = encode(b"payload").unwrap();
        assert_eq!(decode(&frame), Some((&b"payload"[..], &b""[..])));
        for len in 0..frame.len() {
            assert_eq!(decode(&frame[..len]), None, "cut to {len}");
        }
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn a_frame_is_found_behind_rubbish() {
        let mut bytes = b"MRF1MRFrubbish".to_vec();
        assert!(!any_in(&bytes));
        bytes.extend(encode(b"x").unwrap());
        assert!(any_in(&bytes));
    }

    #[test]
    fn an_announced_length_is_not_believed() {
        let mut bytes = MARK.to_vec();
        bytes.extend([0xff; 8]);
        assert_eq!(decode(&bytes), None);
    }
}
