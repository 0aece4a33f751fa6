//! The masking itself: one walk over the text, which is copied in pieces around the fields that are masked.

use crate::config::{Config, Field, FieldWith, Invalid, Mask};
use crate::scan::{self, Kind, Scanner};
use hmac::{Hmac, Mac};
use serde::Deserialize;
use sha2::Sha256;
use std::borrow::Cow;

/// A config, ready for use.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Config")]
pub struct Masker {
    root: Node,
    invalid: Invalid,
}

/// The paths, as a tree of names.
#[derive(Debug, Default)]
struct Node {
    children: Vec<(Vec<u8>, Node)>,
    mask: Option<Ready>,
}

/// A mask, ready for use.
#[derive(Debug)]
enum Ready {
    /// The text as JSON, quotes included.
    Text(Vec<u8>),
    KeepLast(usize),
    Hash(Box<Hmac<Sha256>>),
}

impl TryFrom<Config> for Masker {
    type Error = String;

    fn try_from(config: Config) -> Result<Self, String> {
        if config.fields.is_empty() {
            return Err("`fields` names no field".to_owned());
        }
        let mut root = Node::default();
        for field in config.fields {
            let FieldWith { path, with } = match field {
                Field::Path(path) => FieldWith { path, with: config.with.clone() },
                Field::With(with) => with,
            };
            let mut node = &mut root;
            for name in names(&path)? {
                let place = node.children.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
                    node.children.push((name, Node::default()));
                    node.children.len() - 1
                });
                node = &mut node.children[place].1;
            }
            if node.mask.replace(ready(&with)).is_some() {
                return Err(format!("`fields` names {path:?} twice"));
            }
        }
        Ok(Self { root, invalid: config.invalid })
    }
}

fn names(path: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut names = vec![Vec::new()];
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match (byte, names.last_mut()) {
            (b'.', _) => names.push(Vec::new()),
            (b'\\', Some(name)) => name.push(bytes.next().ok_or_else(|| format!("the path {path:?} ends in `\\`"))?),
            (_, Some(name)) => name.push(byte),
            (_, None) => {}
        }
    }
    if names.iter().any(Vec::is_empty) { Err(format!("the path {path:?} has an empty name in it")) } else { Ok(names) }
}

fn ready(mask: &Mask) -> Ready {
    match mask {
        Mask::Text(text) => {
            let mut json = Vec::new();
            quote(text, &mut json);
            Ready::Text(json)
        }
        Mask::KeepLast(count) => Ready::KeepLast(*count),
        Mask::Hash(key) => {
            Ready::Hash(Box::new(Hmac::new_from_slice(key.as_bytes()).expect("HMAC takes keys of every length")))
        }
    }
}

impl Masker {
    /// Appends the masked text to `out`; whether anything was masked (where not, what was appended means nothing).
    ///
    /// # Errors
    /// For a text that is not JSON, except where the config keeps it.
    pub fn mask(&self, text: &[u8], out: &mut Vec<u8>) -> Result<bool, scan::Invalid> {
        let begin = out.len();
        let mut walk = Walk { text, copied: 0, out };
        let done = Scanner::new(text).and_then(|mut scanner| {
            walk.value(&mut scanner, &self.root, 0)?;
            scanner.end()
        });
        match done {
            Ok(()) if walk.out.len() == begin => Ok(false),
            Ok(()) => {
                let rest = walk.copied;
                out.extend_from_slice(&text[rest..]);
                Ok(true)
            }
            Err(_) if self.invalid == Invalid::Keep => Ok(false),
            Err(invalid) => Err(invalid),
        }
    }
}

struct Walk<'a> {
    text: &'a [u8],
    /// How much of the text stands in `out` already, masked or not.
    copied: usize,
    out: &'a mut Vec<u8>,
}

impl Walk<'_> {
    fn value(&mut self, scanner: &mut Scanner<'_>, node: &Node, depth: u32) -> Result<(), scan::Invalid> {
        match scanner.kind()? {
            Kind::Object if !node.children.is_empty() => {
                scanner.check_depth(depth)?;
                let mut more = scanner.enter()?;
                while more {
                    let key = scanner.key()?;
                    match node.children.iter().find(|(name, _)| *name == *key) {
                        Some((_, child)) => self.field(scanner, child, depth + 1)?,
                        None => scanner.pass(depth + 1)?,
                    }
                    more = scanner.more(b'}')?;
                }
            }
            Kind::Array if !node.children.is_empty() => {
                scanner.check_depth(depth)?;
                let mut more = scanner.enter()?;
                while more {
                    self.value(scanner, node, depth + 1)?;
                    more = scanner.more(b']')?;
                }
            }
            _ => scanner.pass(depth)?,
        }
        Ok(())
    }

    /// A value that a path leads to or through.
    fn field(&mut self, scanner: &mut Scanner<'_>, node: &Node, depth: u32) -> Result<(), scan::Invalid> {
        let Some(mask) = &node.mask else { return self.value(scanner, node, depth) };
        let kind = scanner.kind()?;
        let place = scanner.skip(depth)?;
        if kind != Kind::Null {
            self.out.extend_from_slice(&self.text[self.copied..place.start]);
            self.copied = place.end;
            mask.write(kind, &self.text[place], self.out);
        }
        Ok(())
    }
}

impl Ready {
    fn write(&self, kind: Kind, value: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text),
            Self::Hash(mac) => {
                let mut mac = mac.clone();
                mac.update(&meaning(kind, value));
                out.push(b'"');
                for byte in mac.finalize().into_bytes().iter().take(16) {
                    out.extend_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
                }
                out.push(b'"');
            }
            // An object is no text: nothing of it is kept.
            Self::KeepLast(_) if matches!(kind, Kind::Object | Kind::Array) => out.extend_from_slice(b"\"***\""),
            Self::KeepLast(count) => {
                let meaning = meaning(kind, value);
                let text = String::from_utf8_lossy(&meaning);
                let masked = text.chars().count().saturating_sub(*count);
                let text: String =
                    text.chars().enumerate().map(|(i, character)| if i < masked { '*' } else { character }).collect();
                quote(&text, out);
            }
        }
    }
}

/// What a string says, or the text of another value.
fn meaning(kind: Kind, value: &[u8]) -> Cow<'_, [u8]> {
    match kind {
        Kind::String => {
            let raw = &value[1..value.len() - 1];
            if raw.contains(&b'\\') { scan::unescape(raw).into() } else { raw.into() }
        }
        _ => value.into(),
    }
}

fn hex(digit: u8) -> u8 {
    b"0123456789abcdef"[usize::from(digit)]
}

/// A text as JSON.
fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
#[path = "mask/tests.rs"] // The benchmark includes this file from another folder.
mod tests;
