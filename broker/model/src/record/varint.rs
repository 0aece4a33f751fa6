//! Zigzag varints as Kafka's records use them: seven bits a byte, the lowest
//! first, the sign in the lowest bit.

/// Why a varint could not be read: the bytes ended, or they are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncated {
    /// The bytes ended.
    Yes,
    /// More bits than the type holds.
    No,
}

/// Reads a 32-bit number off the front.
///
/// # Errors
/// [`Truncated::Yes`] where the bytes end, [`Truncated::No`] where it is longer than 32 bits.
#[inline(always)]
pub fn read_varint(from: &mut &[u8]) -> Result<i32, Truncated> {
    // Nearly every length and delta takes one byte or two.
    match *from {
        [first @ ..0x80, rest @ ..] => {
            *from = rest;
            Ok(unzigzag32(u32::from(*first)))
        }
        [first, second @ ..0x80, rest @ ..] => {
            *from = rest;
            Ok(unzigzag32(u32::from(*first & 0x7f) | u32::from(*second) << 7))
        }
        _ => {
            let raw = read_long(from, 5)?;
            u32::try_from(raw).map(unzigzag32).map_err(|_| Truncated::No)
        }
    }
}

/// Reads a 64-bit number off the front.
///
/// # Errors
/// [`Truncated::Yes`] where the bytes end, [`Truncated::No`] where it is longer than 64 bits.
#[inline(always)]
pub fn read_varlong(from: &mut &[u8]) -> Result<i64, Truncated> {
    match *from {
        [first @ ..0x80, rest @ ..] => {
            *from = rest;
            Ok(unzigzag64(u64::from(*first)))
        }
        [first, second @ ..0x80, rest @ ..] => {
            *from = rest;
            Ok(unzigzag64(u64::from(*first & 0x7f) | u64::from(*second) << 7))
        }
        _ => read_long(from, 10).map(unzigzag64),
    }
}

#[inline(never)]
fn read_long(from: &mut &[u8], most: u32) -> Result<u64, Truncated> {
    let mut value = 0u64;
    for place in 0..most {
        let (byte, rest) = from.split_first().ok_or(Truncated::Yes)?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit only.
        if place == 9 && bits > 1 {
            return Err(Truncated::No);
        }
        value |= bits << (7 * place);
        if *byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Truncated::No)
}

/// Appends a 32-bit number.
#[inline]
pub fn write_varint(out: &mut Vec<u8>, value: i32) {
    write_raw(out, zigzag32(value).into());
}

/// Appends a 64-bit number.
#[inline]
pub fn write_varlong(out: &mut Vec<u8>, value: i64) {
    write_raw(out, zigzag64(value));
}

#[inline(always)]
fn write_raw(out: &mut Vec<u8>, raw: u64) {
    match raw {
        0..0x80 => out.push(raw as u8),
        0x80..0x4000 => out.extend_from_slice(&[raw as u8 | 0x80, (raw >> 7) as u8]),
        _ => write_long(out, raw),
    }
}

#[inline(never)]
fn write_long(out: &mut Vec<u8>, mut raw: u64) {
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// Bytes that [`write_varint`] appends.
#[inline]
pub const fn varint_len(value: i32) -> usize {
    raw_len(zigzag32(value) as u64)
}

/// Bytes that [`write_varlong`] appends.
#[inline]
pub const fn varlong_len(value: i64) -> usize {
    raw_len(zigzag64(value))
}

#[inline]
const fn raw_len(raw: u64) -> usize {
    let bits = 64 - (raw | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[inline]
const fn zigzag32(value: i32) -> u32 {
    (value.cast_unsigned() << 1) ^ (value >> 31).cast_unsigned()
}

#[inline]
const fn zigzag64(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

#[inline]
const fn unzigzag32(raw: u32) -> i32 {
    (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed()
}

#[inline]
const fn unzigzag64(raw: u64) -> i64 {
    (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_have_the_bytes_that_kafka_gives_them() {
        for (value, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (-8192, &[0xff, 0x7f]),
            (8192, &[0x80, 0x80, 0x01]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            let mut out = Vec::new();
            write_varint(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(varint_len(value), bytes.len(), "{value}");
            assert_eq!(read_varint(&mut &out[..]), Ok(value));
        }
    }

    #[test]
    fn too_many_bits_and_too_few_bytes_are_told_apart() {
        assert_eq!(read_varint(&mut &[][..]), Err(Truncated::Yes));
        assert_eq!(read_varint(&mut &[0x80][..]), Err(Truncated::Yes));
        assert_eq!(read_varint(&mut &[0x80; 4][..]), Err(Truncated::Yes));
        assert_eq!(read_varint(&mut &[0x80; 5][..]), Err(Truncated::No));
        assert_eq!(read_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x10][..]), Err(Truncated::No));
        assert_eq!(read_varlong(&mut &[0x80; 9][..]), Err(Truncated::Yes));
        assert_eq!(read_varlong(&mut &[0x80; 10][..]), Err(Truncated::No));
        let mut last = [0xff; 10];
        last[9] = 2;
        assert_eq!(read_varlong(&mut &last[..]), Err(Truncated::No));
    }

    proptest! {
        #[test]
        fn every_number_comes_back(small: i32, large: i64, by in 0u32..64) {
            let (small, large) = (small >> (by % 32), large >> by);
            let mut out = Vec::new();
            write_varint(&mut out, small);
            prop_assert_eq!(out.len(), varint_len(small));
            write_varlong(&mut out, large);
            prop_assert_eq!(out.len(), varint_len(small) + varlong_len(large));
            let mut from = &out[..];
            prop_assert_eq!(read_varint(&mut from), Ok(small));
            prop_assert_eq!(read_varlong(&mut from), Ok(large));
            prop_assert!(from.is_empty());
        }
    }
}
