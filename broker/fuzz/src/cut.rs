//! How the inputs of targets with several parts are cut: a byte here, a part with its length there. Everything is an input:
//! what is missing at the end is zero or empty.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut<'a>(pub(crate) &'a [u8]);

impl<'a> Cut<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    /// A part with two bytes of length before it.
    pub(crate) fn part(&mut self) -> &'a [u8] {
        let length = usize::from(self.u16()).min(self.0.len());
        let (part, rest) = self.0.split_at(length);
        self.0 = rest;
        part
    }
}

/// Writes what [`Cut::part`] reads.
pub(crate) fn put_part(to: &mut Vec<u8>, part: &[u8]) {
    to.extend(u16::try_from(part.len()).expect("seeds are small").to_be_bytes());
    to.extend(part);
}
