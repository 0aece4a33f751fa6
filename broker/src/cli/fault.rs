//! A command that cannot go on: what is wrong, and what to do next.

use crate::config::Problems;

/// Why a command ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong, on one line or on several.
    pub what: String,
    /// What to do about it, where that is known.
    pub next: Option<String>,
    /// The exit code.
    pub code: u8,
}

impl Fault {
    /// A fault without advice.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), next: None, code: 1 }
    }

    /// The same with advice.
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl From<Problems> for Fault {
    fn from(problems: Problems) -> Self {
        let count = problems.iter().len();
        let faults = if count == 1 { "1 fault".to_owned() } else { format!("{count} faults") };
        Self::new(format!("the configuration has {faults}\n{problems}"))
    }
}
