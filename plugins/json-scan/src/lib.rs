//! Walks over JSON text in place: checks all of it (RFC 8259), builds nothing, and says where each value begins and ends.
//!
//! A walk is driven by its caller, who decides at each value whether to go into it or to skip it:
//!
//! ```text
//! scanner.kind()?  Object ─▶ enter, then key / (value) / more …   String, Number, … ─▶ skip
//! ```

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// How deep values may lie within each other.
pub const DEPTH: u32 = 128;

/// Why a text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The byte.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid JSON at byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for Invalid {}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// A number.
    Number,
    /// `true`
    True,
    /// `false`
    False,
    /// `null`
    Null,
}

/// A place in a text.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// At the text's beginning.
    ///
    /// # Errors
    /// For bytes that are not UTF-8.
    pub fn new(text: &'a [u8]) -> Result<Self, Invalid> {
        match str::from_utf8(text) {
            Ok(_) => Ok(Self { text, at: 0 }),
            Err(error) => Err(Invalid { at: error.valid_up_to(), what: "not UTF-8" }),
        }
    }

    /// The byte it stands at.
    pub fn at(&self) -> usize {
        self.at
    }

    /// What the next value is. White space before it is passed.
    pub fn kind(&mut self) -> Result<Kind, Invalid> {
        self.space();
        Ok(match self.peek() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(b't') => Kind::True,
            Some(b'f') => Kind::False,
            Some(b'n') => Kind::Null,
            Some(_) => return Err(self.invalid("a value is expected")),
            None => return Err(self.invalid("the text ends where a value is expected")),
        })
    }

    /// Goes into an object or an array; whether there is anything in it.
    pub fn enter(&mut self) -> Result<bool, Invalid> {
        let close = if self.peek() == Some(b'{') { b'}' } else { b']' };
        self.at += 1;
        self.space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// An object's next key, and the colon after it.
    pub fn key(&mut self) -> Result<Cow<'a, [u8]>, Invalid> {
        self.space();
        if self.peek() != Some(b'"') {
            return Err(self.invalid("a key is expected"));
        }
        let from = self.at;
        let escaped = self.string()?;
        let raw = &self.text[from + 1..self.at - 1];
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.invalid("a colon is expected"));
        }
        self.at += 1;
        Ok(if escaped { Cow::Owned(unescape(raw)) } else { Cow::Borrowed(raw) })
    }

    /// After a value in an object (`close` is `}`) or an array (`]`): whether another one follows.
    pub fn more(&mut self, close: u8) -> Result<bool, Invalid> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.invalid("a comma or the end of the value is expected")),
        }
    }

    /// Passes a whole value and says where it stands.
    pub fn skip(&mut self, depth: u32) -> Result<Range<usize>, Invalid> {
        let kind = self.kind()?;
        let from = self.at;
        match kind {
            Kind::Object => {
                self.check_depth(depth)?;
                let mut more = self.enter()?;
                while more {
                    self.pass_key()?;
                    self.skip(depth + 1)?;
                    more = self.more(b'}')?;
                }
            }
            Kind::Array => {
                self.check_depth(depth)?;
                let mut more = self.enter()?;
                while more {
                    self.skip(depth + 1)?;
                    more = self.more(b']')?;
                }
            }
            Kind::String => {
                self.string()?;
            }
            Kind::Number => self.number()?,
            Kind::True => self.word(b"true")?,
            Kind::False => self.word(b"false")?,
            Kind::Null => self.word(b"null")?,
        }
        Ok(from..self.at)
    }

    /// Passes a whole value that nobody asks for.
    pub fn pass(&mut self, depth: u32) -> Result<(), Invalid> {
        self.skip(depth).map(|_| ())
    }

    /// An error where values lie too deep in each other.
    pub fn check_depth(&self, depth: u32) -> Result<(), Invalid> {
        if depth < DEPTH { Ok(()) } else { Err(self.invalid("nested deeper than 128 values")) }
    }

    /// Only white space may be left.
    pub fn end(mut self) -> Result<(), Invalid> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.invalid("something follows the value")) }
    }

    fn pass_key(&mut self) -> Result<(), Invalid> {
        self.space();
        if self.peek() != Some(b'"') {
            return Err(self.invalid("a key is expected"));
        }
        self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.invalid("a colon is expected"));
        }
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Passes a string; whether there are escapes in it.
    fn string(&mut self) -> Result<bool, Invalid> {
        self.at += 1;
        let mut escaped = false;
        loop {
            self.at += plain_prefix(&self.text[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.invalid("a control character stands in a string")),
                None => return Err(self.invalid("a string does not end")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Invalid> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => match self.text.get(self.at + 2..self.at + 6) {
                Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => {
                    self.at += 6;
                    Ok(())
                }
                _ => Err(self.invalid("four hexadecimal digits are expected")),
            },
            _ => Err(self.invalid("an escape that does not exist")),
        }
    }

    fn number(&mut self) -> Result<(), Invalid> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.invalid("a digit is expected")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), Invalid> {
        let from = self.at;
        self.digits();
        if self.at > from { Ok(()) } else { Err(self.invalid("a digit is expected")) }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Invalid> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.invalid("a value is expected"))
        }
    }

    fn invalid(&self, what: &'static str) -> Invalid {
        Invalid { at: self.at, what }
    }
}

/// How many bytes at the front are neither a quote nor a backslash nor a control character: eight at a time.
#[inline]
fn plain_prefix(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // Marks bytes that are zero. A mark above the first true one may be false, the first one never is.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (words, rest) = text.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let special = zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\'))) | control;
        if special != 0 {
            return i * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let tail = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len());
    words.len() * 8 + tail
}

/// What a string means: the text between its quotes, escapes resolved. A lone surrogate reads as U+FFFD.
pub fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut units = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        if raw[at] == b'\\' && raw.get(at + 1) == Some(&b'u') {
            let digits = raw.get(at + 2..at + 6).and_then(|digits| str::from_utf8(digits).ok());
            units.push(digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()).unwrap_or(0xfffd));
            at += 6;
            continue;
        }
        flush(&mut units, &mut out);
        if raw[at] != b'\\' {
            out.push(raw[at]);
            at += 1;
            continue;
        }
        out.push(match raw.get(at + 1) {
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(other) => *other,
            None => b'\\',
        });
        at += 2;
    }
    flush(&mut units, &mut out);
    out
}

fn flush(units: &mut Vec<u16>, out: &mut Vec<u8>) {
    for character in char::decode_utf16(units.drain(..)) {
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), Invalid> {
        let mut scanner = Scanner::new(text.as_bytes())?;
        scanner.skip(0)?;
        scanner.end()
    }

    #[test]
    fn json_passes_and_anything_else_is_told_with_its_place() {
        for good in [
            "{}",
            "[]",
            " [ ] ",
            "null",
            "true",
            "false",
            "0",
            "-0.5e+10",
            "1E9",
            "\"\"",
            "\"\\u00e9\\n\\\"\"",
            "\"é\"",
            "{\"a\":[1,2,{\"b\":null}],\"c\":\"x\"}",
            "\"0123456789\\\\\"",
            "[\"01234567\",\"012345678\"]",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, at) in [
            ("", 0),
            ("{", 1),
            ("[1,]", 3),
            ("{\"a\"}", 4),
            ("{\"a\":}", 5),
            ("01", 1),
            ("1.", 2),
            ("-", 1),
            ("1e", 2),
            ("\"", 1),
            ("\"\\x\"", 1),
            ("\"\\u12g4\"", 1),
            ("\"a\nb\"", 2),
            ("nul", 0),
            ("{} {}", 3),
            ("{a:1}", 1),
            ("[1 2]", 3),
            ("'a'", 0),
            ("\"01234567\u{1}\"", 9),
        ] {
            assert_eq!(check(bad).map_err(|invalid| invalid.at), Err(at), "{bad}");
        }
    }

    #[test]
    fn a_string_is_scanned_alike_at_every_length_and_place() {
        for len in 0..40 {
            for place in 0..len {
                for (byte, special) in
                    [(b'"', true), (b'\\', true), (0x1f, true), (0x20, false), (0x7f, false), (0xc3, false)]
                {
                    let mut text = vec![b'x'; len];
                    text[place] = byte;
                    assert_eq!(plain_prefix(&text), if special { place } else { len }, "{byte:#x} at {place} of {len}");
                }
            }
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert_eq!(check(&deep(128)), Ok(()));
        assert!(check(&deep(129)).is_err());
        assert!(check(&deep(1_000_000)).is_err());
    }

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(unescape(br#"a\u0062\n\ud83d\ude00\"\\\/x"#), "ab\n😀\"\\/x".as_bytes());
        assert_eq!(unescape(br"\ud83dx\udc00"), "\u{fffd}x\u{fffd}".as_bytes());
    }
}
