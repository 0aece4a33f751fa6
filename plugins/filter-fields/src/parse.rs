//! A condition's text into its tree.
//!
//! ```text
//! any  = all { "or" all }
//! all  = one { "and" one }
//! one  = "not" one | "(" any ")" | operand check
//! ```

use crate::condition::{Check, Condition, Literal, Number, Operand, Test};
use std::fmt;

/// How deep parentheses and `not` may be nested.
const DEPTH: u32 = 64;

/// What is wrong with a condition, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct ParseError {
    column: usize,
    what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.what)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A word, its backslashes still in it.
    Word(String),
    Text(Vec<u8>),
    Number(Number),
    Sign(&'static str),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "`{word}`"),
            Self::Text(text) => write!(f, "'{}'", String::from_utf8_lossy(text)),
            Self::Number(_) => f.write_str("a number"),
            Self::Sign(sign) => write!(f, "`{sign}`"),
            Self::End => f.write_str("the end"),
        }
    }
}

const SIGNS: [&str; 11] = ["==", "!=", "<=", ">=", "<", ">", "(", ")", "[", "]", ","];
const WORDS: [&str; 11] =
    ["and", "or", "not", "in", "exists", "starts-with", "ends-with", "contains", "true", "false", "null"];

/// The tree, and the tests in it.
pub fn parse(text: &str) -> Result<(Condition, Vec<Test>), ParseError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, tests: Vec::new() };
    let condition = parser.any(0)?;
    match parser.peek() {
        Token::End => Ok((condition, parser.tests)),
        other => Err(parser.expected("`and`, `or` or the end", &other.clone())),
    }
}

struct Parser {
    /// Each with its column. The last is the end.
    tokens: Vec<(usize, Token)>,
    at: usize,
    tests: Vec<Test>,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)].1
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn is_word(&mut self, word: &str) -> bool {
        let is = matches!(self.peek(), Token::Word(found) if found == word);
        self.at += usize::from(is);
        is
    }

    fn is_sign(&mut self, sign: &str) -> bool {
        let is = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.at += usize::from(is);
        is
    }

    fn expected(&self, what: &str, found: &Token) -> ParseError {
        let at = self.at.min(self.tokens.len() - 1);
        ParseError { column: self.tokens[at].0, what: format!("{what} is expected, not {found}") }
    }

    fn any(&mut self, depth: u32) -> Result<Condition, ParseError> {
        let mut all = vec![self.all(depth)?];
        while self.is_word("or") {
            all.push(self.all(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::Any(all) })
    }

    fn all(&mut self, depth: u32) -> Result<Condition, ParseError> {
        let mut all = vec![self.one(depth)?];
        while self.is_word("and") {
            all.push(self.one(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::All(all) })
    }

    fn one(&mut self, depth: u32) -> Result<Condition, ParseError> {
        if depth > DEPTH {
            return Err(self.expected("less nesting", &self.peek().clone()));
        }
        if self.is_word("not") {
            return Ok(Condition::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.is_sign("(") {
            let inner = self.any(depth + 1)?;
            if self.is_sign(")") {
                return Ok(inner);
            }
            return Err(self.expected("`)`", &self.peek().clone()));
        }
        let operand = self.operand()?;
        let (check, negated) = self.check()?;
        self.tests.push(Test { operand, check });
        let test = Condition::Test(self.tests.len() - 1);
        Ok(if negated { Condition::Not(Box::new(test)) } else { test })
    }

    fn operand(&mut self) -> Result<Operand, ParseError> {
        let what = "a field, `$key`, `$value`, `$timestamp` or `$header.NAME`";
        let operand = match self.peek() {
            Token::Word(word) if !WORDS.contains(&word.as_str()) => operand(word),
            _ => None,
        };
        let operand = operand.ok_or_else(|| self.expected(what, &self.peek().clone()))?;
        self.at += 1;
        Ok(operand)
    }

    /// The check, and whether it must not hold.
    fn check(&mut self) -> Result<(Check, bool), ParseError> {
        if self.is_word("exists") {
            return Ok((Check::Exists, false));
        }
        if self.is_word("in") {
            return Ok((Check::In(self.list()?), false));
        }
        for (word, make) in [
            ("starts-with", Check::StartsWith as fn(Vec<u8>) -> Check),
            ("ends-with", Check::EndsWith),
            ("contains", Check::Contains),
        ] {
            if self.is_word(word) {
                return match self.next() {
                    Token::Text(text) => Ok((make(text), false)),
                    other => {
                        self.at -= 1;
                        Err(self.expected("a text in quotes", &other))
                    }
                };
            }
        }
        for (sign, make, negated) in [
            ("==", Check::Equal as fn(Literal) -> Check, false),
            ("!=", Check::Equal, true),
            ("<=", Check::LessOrEqual, false),
            (">=", Check::MoreOrEqual, false),
            ("<", Check::Less, false),
            (">", Check::More, false),
        ] {
            if self.is_sign(sign) {
                return Ok((make(self.literal()?), negated));
            }
        }
        Err(self.expected("a comparison, `in` or `exists`", &self.peek().clone()))
    }

    fn list(&mut self) -> Result<Vec<Literal>, ParseError> {
        if !self.is_sign("[") {
            return Err(self.expected("`[`", &self.peek().clone()));
        }
        let mut list = vec![self.literal()?];
        while self.is_sign(",") {
            list.push(self.literal()?);
        }
        if self.is_sign("]") { Ok(list) } else { Err(self.expected("`,` or `]`", &self.peek().clone())) }
    }

    fn literal(&mut self) -> Result<Literal, ParseError> {
        let literal = match self.peek() {
            Token::Text(text) => Some(Literal::Text(text.clone())),
            Token::Number(number) => Some(Literal::Number(*number)),
            Token::Word(word) => match word.as_str() {
                "true" => Some(Literal::Bool(true)),
                "false" => Some(Literal::Bool(false)),
                "null" => Some(Literal::Null),
                _ => None,
            },
            _ => None,
        };
        let what = "a text in quotes, a number, `true`, `false` or `null`";
        let literal = literal.ok_or_else(|| self.expected(what, &self.peek().clone()))?;
        self.at += 1;
        Ok(literal)
    }
}

fn operand(word: &str) -> Option<Operand> {
    match word {
        "$key" => return Some(Operand::Key),
        "$value" => return Some(Operand::Value),
        "$timestamp" => return Some(Operand::Timestamp),
        _ => {}
    }
    if let Some(name) = word.strip_prefix("$header.") {
        return Some(Operand::Header(unescaped(name))).filter(|_| !name.is_empty());
    }
    if word.starts_with('$') {
        return None;
    }
    let mut names = vec![Vec::new()];
    let mut bytes = word.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'.' => {
                names.push(Vec::new());
                continue;
            }
            b'\\' => bytes.next()?,
            _ => byte,
        };
        names.last_mut()?.push(byte);
    }
    Some(Operand::Field(names))
        .filter(|operand| !matches!(operand, Operand::Field(names) if names.iter().any(Vec::is_empty)))
}

fn unescaped(word: &str) -> String {
    let mut out = String::new();
    let mut characters = word.chars();
    while let Some(character) = characters.next() {
        out.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    out
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ParseError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let column = text[..text.len() - rest.len()].chars().count() + 1;
        let Some(first) = rest.chars().next() else {
            tokens.push((column, Token::End));
            return Ok(tokens);
        };
        let wrong = |what: &str| ParseError { column, what: what.to_owned() };
        let (token, len) = match first {
            '\'' | '"' => quoted(rest, first).ok_or_else(|| wrong("a text does not end"))?,
            '0'..='9' | '-' => {
                let number = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-');
                let len = rest.find(|c| !number(c)).unwrap_or(rest.len());
                let number = Number::read(&rest.as_bytes()[..len]);
                (Token::Number(number.ok_or_else(|| wrong("this is not a number"))?), len)
            }
            _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => (Token::Sign(sign), sign.len()),
                None => match word(rest) {
                    0 => return Err(wrong(&format!("`{first}` means nothing here"))),
                    len => (Token::Word(rest[..len].to_owned()), len),
                },
            },
        };
        tokens.push((column, token));
        rest = &rest[len..];
    }
}

/// A text in quotes; a backslash takes the next character as it is.
fn quoted(text: &str, quote: char) -> Option<(Token, usize)> {
    let mut out = String::new();
    let mut characters = text.char_indices().skip(1);
    loop {
        match characters.next()? {
            (_, '\\') => out.push(characters.next()?.1),
            (at, character) if character == quote => return Some((Token::Text(out.into_bytes()), at + 1)),
            (_, character) => out.push(character),
        }
    }
}

/// How long the word at the front is.
fn word(text: &str) -> usize {
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                if characters.next().is_none() {
                    return at;
                }
            }
            '_' | '-' | '.' | '$' => {}
            character if character.is_alphanumeric() => {}
            _ => return at,
        }
    }
    text.len()
}
