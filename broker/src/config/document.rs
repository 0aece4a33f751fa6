//! Reading a TOML file so that every complaint can name its line.
//!
//! A [`Section`] hands out the values of one table and remembers which keys were asked for: whatever is left over at
//! [`Section::finish`] is an unknown key. Faults are collected, not returned, so that a file is complained about once
//! and in full; a value that is missing or wrong reads as `None`.

use super::problem::{Place, Problem};
use std::cell::RefCell;
use toml::de::{DeTable, DeValue};

/// The largest file that is read: a topic file is a page, not a book.
pub const MAX_FILE: usize = 1 << 20;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub place: Place,
}

/// One file that is being read.
#[derive(Debug)]
pub struct Document<'a> {
    file: &'a str,
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Document<'a> {
    /// A document with this name and this text.
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, problems: RefCell::new(Vec::new()) }
    }

    /// Parses the text; a fault of syntax is a problem like others.
    pub fn parse(&self) -> Option<DeTable<'a>> {
        if self.text.len() > MAX_FILE {
            self.add(self.whole().problem(format!("the file is larger than {MAX_FILE} bytes")));
            return None;
        }
        match DeTable::parse(self.text) {
            Ok(root) => Some(root.into_inner()),
            Err(error) => {
                let line = error.span().map_or(0, |span| self.line(span.start));
                let place = Place { file: self.file.to_owned(), line, key: String::new() };
                self.add(place.problem(format!("not valid TOML: {}", error.message().replace('\n', ", "))));
                None
            }
        }
    }

    /// The file's top level.
    pub fn root<'s>(&'s self, table: &'s DeTable<'a>) -> Section<'s, 'a> {
        Section { document: self, table, path: String::new(), line: 1, seen: RefCell::default() }
    }

    /// The file as a place.
    pub fn whole(&self) -> Place {
        Place::file(self.file)
    }

    /// Notes a problem.
    pub fn add(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// All problems that were noted.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// One table of a document.
#[derive(Debug)]
pub struct Section<'s, 'a> {
    document: &'s Document<'a>,
    table: &'s DeTable<'a>,
    path: String,
    line: usize,
    seen: RefCell<Vec<&'static str>>,
}

impl<'s, 'a> Section<'s, 'a> {
    /// Where the table stands.
    pub fn place(&self) -> Place {
        Place { file: self.document.file.to_owned(), line: self.line, key: self.path.clone() }
    }

    /// Where one of its keys stands; the table itself where the key is not there.
    pub fn place_of(&self, key: &str) -> Place {
        let line = self.find(key).map_or(self.line, |(line, _)| line);
        Place { file: self.document.file.to_owned(), line, key: self.join(key) }
    }

    /// Notes that something is wrong with a key.
    pub fn complain(&self, key: &str, reason: impl Into<String>) {
        self.document.add(self.place_of(key).problem(reason));
    }

    /// Whether the key is there.
    pub fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// A text.
    pub fn text(&self, key: &'static str) -> Option<Located<String>> {
        self.read(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// An integer within a range.
    pub fn integer(&self, key: &'static str, low: i64, high: i64) -> Option<Located<i64>> {
        let found = self.read(key, "an integer", integer)?;
        if (low..=high).contains(&found.value) {
            return Some(found);
        }
        self.document.add(found.place.problem(format!("{} is not between {low} and {high}", found.value)));
        None
    }

    /// Any value, as JSON.
    pub fn json(&self, key: &'static str) -> Option<Located<serde_json::Value>> {
        self.read(key, "a value that JSON can express", json)
    }

    /// A table within the table.
    pub fn table(&self, key: &'static str) -> Option<Section<'s, 'a>> {
        let (line, value) = self.get(key)?;
        match value.as_table() {
            Some(table) => Some(self.child(self.join(key), line, table)),
            None => {
                self.complain(key, format!("expected a table, found {}", described(value)));
                None
            }
        }
    }

    /// The tables of an array of tables, in their order.
    pub fn tables(&self, key: &'static str) -> Vec<Section<'s, 'a>> {
        let Some((line, value)) = self.get(key) else { return Vec::new() };
        let sections = value.as_array().and_then(|items| {
            items
                .iter()
                .enumerate()
                .map(|(at, item)| {
                    let line = self.document.line(item.span().start).max(line);
                    item.get_ref().as_table().map(|table| self.child(format!("{}[{at}]", self.join(key)), line, table))
                })
                .collect::<Option<Vec<_>>>()
        });
        sections.unwrap_or_else(|| {
            self.complain(key, format!("expected tables, written [[{key}]], found {}", described(value)));
            Vec::new()
        })
    }

    /// All scalars of the table with the texts that stand for them; what is no scalar is complained about.
    pub fn scalars(&self) -> Vec<(String, Located<String>)> {
        let mut all = Vec::new();
        for (key, value) in self.table {
            let line = self.document.line(key.span().start);
            let name = key.get_ref().to_string();
            let place = Place { file: self.document.file.to_owned(), line, key: self.join(&name) };
            match scalar(value.get_ref()) {
                Some(text) => all.push((name, Located { value: text, place })),
                None if value.get_ref().is_table() => {
                    let reason = "expected a value, found a table: a key with dots in it needs quotes around it, as in \
                                  \"retention.ms\" = 1000";
                    self.document.add(place.problem(reason));
                }
                None => {
                    let found = described(value.get_ref());
                    let reason = format!("expected a string, a number or a boolean, found {found}");
                    self.document.add(place.problem(reason));
                }
            }
        }
        all
    }

    /// Complains of every key that nobody asked for.
    pub fn finish(self) {
        let seen = self.seen.borrow();
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if seen.contains(&name) {
                continue;
            }
            let place = Place {
                file: self.document.file.to_owned(),
                line: self.document.line(key.span().start),
                key: self.join(name),
            };
            let near = nearest(name, &seen).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            let known = if near.is_empty() { format!("; known here: {}", seen.join(", ")) } else { near };
            self.document.add(place.problem(format!("unknown key{known}")));
        }
    }

    fn child(&self, path: String, line: usize, table: &'s DeTable<'a>) -> Self {
        Section { document: self.document, table, path, line, seen: RefCell::default() }
    }

    fn find(&self, key: &str) -> Option<(usize, &'s DeValue<'a>)> {
        let (found, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((self.document.line(found.span().start), value.get_ref()))
    }

    fn get(&self, key: &'static str) -> Option<(usize, &'s DeValue<'a>)> {
        let mut seen = self.seen.borrow_mut();
        if !seen.contains(&key) {
            seen.push(key);
        }
        drop(seen);
        self.find(key)
    }

    fn read<T>(
        &self,
        key: &'static str,
        expected: &str,
        convert: impl FnOnce(&DeValue<'a>) -> Option<T>,
    ) -> Option<Located<T>> {
        let (_, value) = self.get(key)?;
        let place = self.place_of(key);
        match convert(value) {
            Some(value) => Some(Located { value, place }),
            None => {
                self.document.add(place.problem(format!("expected {expected}, found {}", described(value))));
                None
            }
        }
    }

    fn join(&self, key: &str) -> String {
        let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        let key = if bare { key.to_owned() } else { format!("{key:?}") };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.len() <= 40 => format!("the string {text:?}"),
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(flag) => format!("{flag}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(_) => integer(value).map(|number| number.to_string()),
        DeValue::Float(number) => number.as_str().parse::<f64>().ok().map(|number| number.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        // Kafka's lists are texts with commas; TOML's may be lists.
        DeValue::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            texts.map(|texts| texts.join(","))
        }
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn json(value: &DeValue<'_>) -> Option<serde_json::Value> {
    Some(match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(_) => integer(value)?.into(),
        DeValue::Float(number) => serde_json::Number::from_f64(number.as_str().replace('_', "").parse().ok()?)?.into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Array(items) => {
            serde_json::Value::Array(items.iter().map(|item| json(item.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => serde_json::Value::Object(
            table
                .iter()
                .map(|(key, value)| Some((key.get_ref().to_string(), json(value.get_ref())?)))
                .collect::<Option<_>>()?,
        ),
    })
}

/// The known key that a mistyped one most likely was.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let limit = (name.chars().count() / 3).max(1);
    let plain = |text: &str| text.replace('_', "-").to_lowercase();
    known
        .iter()
        .map(|key| (distance(&plain(name), key), *key))
        .filter(|(far, _)| *far <= limit)
        .min()
        .map(|(_, key)| key)
}

/// How many letters must be changed, added or removed to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let replaced = row.get(j).copied().unwrap_or_default() + usize::from(left != *right);
            let removed = row.get(j + 1).copied().unwrap_or_default() + 1;
            let added = next.last().copied().unwrap_or_default() + 1;
            next.push(replaced.min(removed).min(added));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
