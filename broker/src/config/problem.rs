//! What is wrong with a configuration, and where.

use std::fmt::{self, Write as _};

/// The place in a file that a value came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named to us.
    pub file: String,
    /// The line, from 1; 0 where the fault is no single line's.
    pub line: usize,
    /// The key with its path, such as `plugin[1].limits.time`; empty for the file as a whole.
    pub key: String,
}

impl Place {
    /// A file as a whole.
    pub fn file(file: impl Into<String>) -> Self {
        Self { file: file.into(), line: 0, key: String::new() }
    }

    /// The fault at this place.
    pub fn problem(&self, reason: impl Into<String>) -> Problem {
        Problem { place: self.clone(), reason: reason.into() }
    }
}

/// One fault: place and reason, printed on one line as `file:line: key: reason`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place.file)?;
        if self.place.line > 0 {
            write!(f, ":{}", self.place.line)?;
        }
        if !self.place.key.is_empty() {
            write!(f, ": {}", self.place.key)?;
        }
        f.write_str(": ")?;
        // It may quote what stands in the file, and whoever wrote that does not get to write lines of the log.
        self.reason.chars().try_for_each(|char| match char {
            char if char.is_control() => write!(f, "{}", char.escape_default()),
            char => f.write_char(char),
        })
    }
}

/// All that is wrong: never empty. The whole configuration is refused for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `Ok` where there are none. They are put in the order of file and line.
    ///
    /// # Errors
    /// The problems, where there are any.
    pub fn check(mut problems: Vec<Problem>) -> Result<(), Self> {
        problems.sort_by(|a, b| (&a.place.file, a.place.line).cmp(&(&b.place.file, b.place.line)));
        problems.dedup();
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }

    /// In the order of file and line.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.0.iter()
    }

    /// The faults themselves.
    pub fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    /// One line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            let newline = if at == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_whatever_it_quotes() {
        let place = Place { file: "node.toml".to_owned(), line: 3, key: "config".to_owned() };
        let shown = place.problem("unknown key a\nb\u{1b}[2J").to_string();
        assert_eq!(shown, "node.toml:3: config: unknown key a\\nb\\u{1b}[2J");
    }
}
