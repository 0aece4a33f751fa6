//! The walk over a request's bytes before they are decoded.
//!
//! The decoders of kafka-protocol reserve room for as many elements as an array announces, before they look at one: four
//! hostile bytes would end the process. So every request has a [`Shape`], the layout of its versions, and its bytes are
//! walked along it first. The walk allocates nothing. What passes it has arrays that stand in the bytes as announced, tagged fields
//! as long as their types, and decodes to at most [`decoded_limit`] bytes.
//!
//! Invariant: for all bytes, what the walk takes for a length is what the decoder takes for that length. A test holds every
//! shape against the encoders of kafka-protocol, version by version.

use crate::wire::{Reader, WireError};

/// What a field is made of.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Always so many bytes.
    Fixed(usize),
    /// Text, null or not.
    Text,
    /// Bytes, null or not.
    Blob,
    /// An array, null or not, of something that is no struct.
    List(&'static Kind),
    /// An array, null or not, of structs.
    Structs(&'static Fields),
    /// A struct.
    One(&'static Fields),
    /// A struct after a byte that says whether it is there (1) or null.
    Maybe(&'static Fields),
}

/// A field in the versions that have it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    from: i16,
    to: i16,
    kind: Kind,
}

/// A struct: fields in order, and the tagged fields that are known.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    fields: &'static [Field],
    tags: &'static [(u32, Field)],
}

/// The layout of one request in all of its versions.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The first version with compact lengths and tags.
    pub flexible_from: i16,
    /// The body.
    pub body: Fields,
}

/// A field that all versions have.
pub const fn all(kind: Kind) -> Field {
    Field { from: 0, to: i16::MAX, kind }
}

/// A field that the versions from this one on have.
pub const fn from(version: i16, kind: Kind) -> Field {
    Field { from: version, to: i16::MAX, kind }
}

/// A field that the versions up to this one have.
pub const fn upto(version: i16, kind: Kind) -> Field {
    Field { from: 0, to: version, kind }
}

/// A field that the versions between these two have, both included.
pub const fn between(first: i16, last: i16, kind: Kind) -> Field {
    Field { from: first, to: last, kind }
}

/// A struct without known tagged fields.
pub const fn fields(fields: &'static [Field]) -> Fields {
    Fields { fields, tags: &[] }
}

/// A struct with known tagged fields.
pub const fn tagged(fields: &'static [Field], tags: &'static [(u32, Field)]) -> Fields {
    Fields { fields, tags }
}

/// What an element of an array of structs takes once decoded, nested arrays apart. No request has a larger one; a test
/// holds the largest against it.
pub const STRUCT_WEIGHT: usize = 192;
const TEXT_WEIGHT: usize = 32;
const TAG_WEIGHT: usize = 64;

/// How much memory a request of so many bytes may take once decoded. Honest ones take less than ten times their bytes.
pub const fn decoded_limit(body: usize) -> usize {
    const LEAST: usize = 64 << 10;
    const MOST: usize = 64 << 20;
    let limit = body.saturating_mul(32).saturating_add(LEAST);
    if limit < MOST { limit } else { MOST }
}

impl Shape {
    /// Walks the body of a request of this version.
    ///
    /// # Errors
    /// [`WireError`] where it is cut short, announces what it does not hold, or would decode to too much.
    pub fn check(&self, version: i16, body: &[u8]) -> Result<(), WireError> {
        let limit = decoded_limit(body.len());
        let flexible = version >= self.flexible_from;
        let mut walk = Walk { reader: Reader::new(body), version, flexible, budget: limit, limit };
        walk.fields(&self.body)
    }
}

struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
    flexible: bool,
    budget: usize,
    limit: usize,
}

impl Walk<'_> {
    fn fields(&mut self, of: &Fields) -> Result<(), WireError> {
        for field in of.fields {
            if field.from <= self.version && self.version <= field.to {
                self.kind(&field.kind)?;
            }
        }
        if self.flexible { self.tags(of.tags) } else { Ok(()) }
    }

    fn kind(&mut self, kind: &Kind) -> Result<(), WireError> {
        match kind {
            Kind::Fixed(length) => self.reader.take(*length).map(drop),
            Kind::Text => {
                let length = if self.flexible { self.reader.compact_length() } else { self.reader.length16() };
                self.reader.take(length?.unwrap_or(0)).map(drop)
            }
            Kind::Blob => {
                let length = self.count()?.unwrap_or(0);
                self.reader.take(length).map(drop)
            }
            Kind::List(element) => self.list(element),
            Kind::Structs(of) => {
                let count = self.announced(STRUCT_WEIGHT)?;
                (0..count).try_for_each(|_| self.fields(of))
            }
            Kind::One(of) => self.fields(of),
            Kind::Maybe(of) => match self.reader.i8()? {
                1 => self.fields(of),
                _ => Ok(()),
            },
        }
    }

    fn list(&mut self, element: &Kind) -> Result<(), WireError> {
        if let Kind::Fixed(length) = element {
            let count = self.announced(*length)?;
            self.reader.take(count.saturating_mul(*length)).map(drop)
        } else {
            let count = self.announced(TEXT_WEIGHT)?;
            (0..count).try_for_each(|_| self.kind(element))
        }
    }

    /// The length of an array or of bytes.
    fn count(&mut self) -> Result<Option<usize>, WireError> {
        if self.flexible { self.reader.compact_length() } else { self.reader.length32() }
    }

    /// The length of an array whose elements take so much room each. There is no element without bytes.
    fn announced(&mut self, weight: usize) -> Result<usize, WireError> {
        let at = self.reader.at();
        let count = self.count()?.unwrap_or(0);
        let have = self.reader.left();
        if count > have {
            return Err(WireError::Count { at, count, have });
        }
        self.spend(count.saturating_mul(weight))?;
        Ok(count)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), WireError> {
        self.budget = self.budget.checked_sub(bytes).ok_or(WireError::TooLarge { limit: self.limit })?;
        Ok(())
    }

    fn tags(&mut self, known: &[(u32, Field)]) -> Result<(), WireError> {
        for _ in 0..self.reader.varint()? {
            self.spend(TAG_WEIGHT)?;
            let at = self.reader.at();
            let tag = self.reader.varint()?;
            let length = self.reader.varint()? as usize;
            let Some((_, field)) = known.iter().find(|(number, _)| *number == tag) else {
                self.reader.take(length)?;
                continue;
            };
            // The decoder reads a known field without regard to the length before it.
            let begin = self.reader.at();
            self.kind(&field.kind)?;
            if self.reader.at() - begin != length {
                return Err(WireError::Tag { at, tag });
            }
        }
        Ok(())
    }
}

impl Shape {
    /// Some body that has this shape, for tests: `below(n)` draws a number below n.
    pub fn example(&self, version: i16, below: &mut dyn FnMut(u64) -> u64) -> Vec<u8> {
        let mut example = Example { out: Vec::new(), version, flexible: version >= self.flexible_from, below };
        example.fields(&self.body);
        example.out
    }
}

/// Writes what [`Walk`] reads.
struct Example<'a> {
    out: Vec<u8>,
    version: i16,
    flexible: bool,
    below: &'a mut dyn FnMut(u64) -> u64,
}

impl Example<'_> {
    fn fields(&mut self, of: &Fields) {
        for field in of.fields {
            if field.from <= self.version && self.version <= field.to {
                self.kind(&field.kind);
            }
        }
        if self.flexible {
            self.tags(of.tags);
        }
    }

    fn tags(&mut self, known: &[(u32, Field)]) {
        let known: Vec<_> = known.iter().filter(|(_, field)| field.from <= self.version).collect();
        let known = if (self.below)(2) == 0 { known } else { Vec::new() };
        let unknown = (self.below)(2);
        self.out.push((known.len() as u64 + unknown) as u8);
        for (tag, field) in known {
            let mut value = Example { out: Vec::new(), below: &mut *self.below, ..*self };
            value.kind(&field.kind);
            let value = value.out;
            self.out.extend([*tag as u8, value.len() as u8]);
            self.out.extend(value);
        }
        if unknown == 1 {
            self.out.extend([99, 2, 0xab, 0xcd]);
        }
    }

    fn count(&mut self, count: u8) {
        if self.flexible {
            self.out.push(count + 1);
        } else {
            self.out.extend([0, 0, 0, count]);
        }
    }

    fn kind(&mut self, kind: &Kind) {
        match kind {
            Kind::Fixed(length) => {
                for _ in 0..*length {
                    let byte = (self.below)(2) as u8;
                    self.out.push(byte);
                }
            }
            Kind::Text => {
                let length = (self.below)(5) as u8;
                self.out.extend(if self.flexible { vec![length + 1] } else { vec![0, length] });
                self.out.extend(std::iter::repeat_n(b'x', length.into()));
            }
            Kind::Blob => {
                let length = (self.below)(9) as u8;
                self.count(length);
                self.out.extend(std::iter::repeat_n(0xee, length.into()));
            }
            Kind::List(element) => {
                let count = (self.below)(4) as u8;
                self.count(count);
                (0..count).for_each(|_| self.kind(element));
            }
            Kind::Structs(of) => {
                let count = (self.below)(4) as u8;
                self.count(count);
                (0..count).for_each(|_| self.fields(of));
            }
            Kind::One(of) => self.fields(of),
            Kind::Maybe(of) => {
                let there = (self.below)(2) == 1;
                self.out.push(if there { 1 } else { 0xff });
                if there {
                    self.fields(of);
                }
            }
        }
    }
}
