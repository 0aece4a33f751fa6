//! A condition as a tree over tests, and the values that tests are made on.

use crate::scan::{Kind, unescape};
use std::borrow::Cow;
use std::cmp::Ordering;

/// How tests are joined.
#[derive(Debug, PartialEq)]
pub(crate) enum Condition {
    /// The test at this place.
    Test(usize),
    Not(Box<Condition>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

/// What a test looks at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Field(Vec<Vec<u8>>),
    Key,
    Value,
    Timestamp,
    Header(String),
}

#[derive(Debug, PartialEq)]
pub(crate) struct Test {
    pub(crate) operand: Operand,
    pub(crate) check: Check,
}

/// What a test asks.
#[derive(Debug, PartialEq)]
pub(crate) enum Check {
    Exists,
    Equal(Literal),
    Less(Literal),
    LessOrEqual(Literal),
    More(Literal),
    MoreOrEqual(Literal),
    In(Vec<Literal>),
    StartsWith(Vec<u8>),
    EndsWith(Vec<u8>),
    Contains(Vec<u8>),
}

/// A value in a condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Text(Vec<u8>),
    Number(Number),
    Bool(bool),
    Null,
}

/// A number, exact where it is whole and not too large.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Whole(i64),
    Other(f64),
}

impl Number {
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?;
        if let Ok(whole) = text.parse() {
            return Some(Self::Whole(whole));
        }
        // Rust's parser takes more than numbers: "inf", "nan".
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite())?;
        Some(Self::Other(number))
    }

    fn compare(self, other: Self) -> Option<Ordering> {
        let float = |number| match number {
            Self::Whole(whole) => whole as f64,
            Self::Other(other) => other,
        };
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a.cmp(&b)),
            (a, b) => float(a).partial_cmp(&float(b)),
        }
    }
}

/// A value that a test is made on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    /// A part of the JSON text.
    Json(Kind, &'a [u8]),
    /// A key, a header or a whole value: text, and a number where it is compared with one.
    Bytes(&'a [u8]),
    Number(i64),
    Null,
}

impl Check {
    pub(crate) fn holds(&self, value: Value<'_>) -> bool {
        match self {
            Self::Exists => true,
            Self::Equal(literal) => compare(value, literal) == Some(Ordering::Equal),
            Self::Less(literal) => compare(value, literal) == Some(Ordering::Less),
            Self::LessOrEqual(literal) => compare(value, literal).is_some_and(Ordering::is_le),
            Self::More(literal) => compare(value, literal) == Some(Ordering::Greater),
            Self::MoreOrEqual(literal) => compare(value, literal).is_some_and(Ordering::is_ge),
            Self::In(literals) => literals.iter().any(|literal| compare(value, literal) == Some(Ordering::Equal)),
            Self::StartsWith(part) => text(value).is_some_and(|text| text.starts_with(part)),
            Self::EndsWith(part) => text(value).is_some_and(|text| text.ends_with(part)),
            Self::Contains(part) => text(value).is_some_and(|text| contains(&text, part)),
        }
    }
}

/// How a value stands to a literal; nothing where they are of different kinds.
fn compare(value: Value<'_>, literal: &Literal) -> Option<Ordering> {
    match (literal, value) {
        (Literal::Text(other), value) => Some(text(value)?.as_ref().cmp(other)),
        (Literal::Number(other), Value::Json(Kind::Number, text) | Value::Bytes(text)) => {
            Number::read(text)?.compare(*other)
        }
        (Literal::Number(other), Value::Number(number)) => Number::Whole(number).compare(*other),
        (Literal::Bool(true), Value::Json(Kind::True, _)) | (Literal::Bool(false), Value::Json(Kind::False, _)) => {
            Some(Ordering::Equal)
        }
        (Literal::Null, Value::Json(Kind::Null, _) | Value::Null) => Some(Ordering::Equal),
        _ => None,
    }
}

fn text(value: Value<'_>) -> Option<Cow<'_, [u8]>> {
    match value {
        Value::Json(Kind::String, raw) => {
            let raw = &raw[1..raw.len() - 1];
            Some(if raw.contains(&b'\\') { unescape(raw).into() } else { raw.into() })
        }
        Value::Bytes(bytes) => Some(bytes.into()),
        _ => None,
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

impl Condition {
    /// Whether it holds, given which tests do.
    pub(crate) fn holds(&self, tests: &[bool]) -> bool {
        match self {
            Self::Test(at) => tests[*at],
            Self::Not(inner) => !inner.holds(tests),
            Self::All(inner) => inner.iter().all(|condition| condition.holds(tests)),
            Self::Any(inner) => inner.iter().any(|condition| condition.holds(tests)),
        }
    }
}
