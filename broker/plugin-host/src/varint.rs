//! Kafka's zigzag varints, read at a cursor and appended to a buffer.

/// A place in some bytes. Every read checks what is left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// A varint of at most five bytes and 32 bits.
    #[inline]
    pub(crate) fn int(&mut self) -> Option<i32> {
        // Lengths below 64 take one byte: nearly all there are.
        let first = self.byte()?;
        if first & 0x80 == 0 {
            return Some((i32::from(first) >> 1) ^ -(i32::from(first) & 1));
        }
        let mut raw = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let byte = self.byte()?;
            raw |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // Of a fifth byte four bits have room.
                if shift == 28 && byte > 0x0f {
                    return None;
                }
                return Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
            }
        }
        None
    }

    /// A varint of at most ten bytes and 64 bits.
    #[inline]
    pub(crate) fn long(&mut self) -> Option<i64> {
        let mut raw = 0_u64;
        let mut shift = 0;
        while shift < 64 {
            let byte = self.byte()?;
            raw |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                if shift == 63 && byte > 1 {
                    return None;
                }
                return Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
            }
            shift += 7;
        }
        None
    }

    /// A length and as many bytes: where they begin and how many they are, `None` within for null (any negative length).
    #[inline]
    #[expect(clippy::option_option, reason = "the outer one is an encoding that ends too early, the inner one null")]
    pub(crate) fn span(&mut self) -> Option<Option<(u32, u32)>> {
        let Ok(len) = usize::try_from(self.int()?) else { return Some(None) };
        let from = self.at;
        let end = from.checked_add(len).filter(|&end| end <= self.bytes.len())?;
        self.at = end;
        Some(Some((u32::try_from(from).ok()?, u32::try_from(len).ok()?)))
    }
}

/// Appends a varint.
#[inline]
pub(crate) fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while raw >= 0x80 {
        out.push((raw & 0x7f) as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// How many bytes [`put_long`] appends.
#[inline]
pub(crate) fn long_len(value: i64) -> usize {
    let raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    ((63 - (raw | 1).leading_zeros() as usize) / 7) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read_again_in_as_many_bytes_as_foretold() {
        let edges = (0..63).flat_map(|bit| [(1_i64 << bit) - 1, 1 << bit, -(1 << bit), -(1 << bit) - 1]);
        for value in edges.chain([i64::MIN, i64::MAX]) {
            let mut out = Vec::new();
            put_long(&mut out, value);
            assert_eq!(out.len(), long_len(value), "{value}");
            assert_eq!(Cursor::new(&out, 0).long(), Some(value));
            let int = i32::try_from(value).ok();
            assert_eq!(Cursor::new(&out, 0).int().filter(|_| int.is_some()), int, "{value}");
        }
    }

    #[test]
    fn an_endless_varint_is_refused() {
        assert_eq!(Cursor::new(&[0xff; 20], 0).int(), None);
        assert_eq!(Cursor::new(&[0xff; 20], 0).long(), None);
        assert_eq!(Cursor::new(&[0x80], 0).int(), None);
        assert_eq!(Cursor::new(&[4, 1], 0).span(), None);
    }

    #[test]
    fn bits_for_which_there_is_no_room_are_refused_as_the_model_refuses_them() {
        for last in 0..0x80 {
            let five = [0xff, 0x80, 0x80, 0x80, last];
            assert_eq!(Cursor::new(&five, 0).int().is_some(), last <= 0x0f, "{last:#x}");
            let ten = [0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, last];
            assert_eq!(Cursor::new(&ten, 0).long().is_some(), last <= 1, "{last:#x}");
        }
    }
}
