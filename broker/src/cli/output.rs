//! Where text goes, and whether it is coloured: only on a terminal, and not where NO_COLOR is set.

use super::fault::Fault;
use crate::config::plan::{Action, Difference};
use comfy_table::{ContentArrangement, Table, presets};
use std::fmt;
use std::io::{IsTerminal, Write};

/// Something that text is written to.
pub struct Output {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    colour_out: bool,
    colour_err: bool,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("colour_out", &self.colour_out).finish_non_exhaustive()
    }
}

/// The colours that mean something here.
#[derive(Clone, Copy, Debug)]
pub enum Paint {
    /// Added, done.
    Green,
    /// Changed.
    Yellow,
    /// Taken away, wrong.
    Red,
    /// Beside the point.
    Dim,
    /// A heading.
    Bold,
}

impl Output {
    /// The process's own stdout and stderr.
    pub fn of_the_process() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            out: Box::new(std::io::stdout()),
            err: Box::new(std::io::stderr()),
            colour_out: !plain && std::io::stdout().is_terminal(),
            colour_err: !plain && std::io::stderr().is_terminal(),
        }
    }

    /// Two places of the caller's, without colours.
    #[cfg(test)]
    pub fn plain(out: Box<dyn Write>, err: Box<dyn Write>) -> Self {
        Self { out, err, colour_out: false, colour_err: false }
    }

    /// One line to stdout. A reader that has gone away is no fault.
    pub fn line(&mut self, text: impl fmt::Display) {
        let _ = writeln!(self.out, "{text}");
        let _ = self.out.flush();
    }

    /// One line to stderr.
    pub fn note(&mut self, text: impl fmt::Display) {
        let _ = writeln!(self.err, "{text}");
    }

    /// A text in a colour, for stdout.
    pub fn paint(&self, paint: Paint, text: impl fmt::Display) -> String {
        coloured(self.colour_out, paint, &text.to_string())
    }

    /// A fault, with what to do next.
    pub fn fault(&mut self, fault: &Fault) {
        let head = coloured(self.colour_err, Paint::Red, "error:");
        self.note(format!("{head} {}", fault.what));
        if let Some(next) = &fault.next {
            let head = coloured(self.colour_err, Paint::Bold, "next:");
            self.note(format!("{head} {next}"));
        }
    }

    /// A table.
    pub fn table(&mut self, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(head.iter().map(|name| name.to_uppercase()));
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            self.line(line.trim_end());
        }
    }

    /// Differences, topic by topic.
    pub fn differences(&mut self, differences: &[Difference]) {
        let width = differences.iter().map(|one| one.what.chars().count()).max().unwrap_or_default();
        let mut topic = "";
        for one in differences {
            if one.topic != topic {
                let heading = self.paint(Paint::Bold, &one.topic);
                self.line(heading);
                topic = &one.topic;
            }
            let (sign, paint) = match one.action {
                Action::Create => ("+", Paint::Green),
                Action::Change => ("~", Paint::Yellow),
                Action::Remove => ("-", Paint::Red),
            };
            let value = match (&one.before, &one.after) {
                (Some(before), Some(after)) => format!("{before} → {after}"),
                (Some(only), None) | (None, Some(only)) => only.clone(),
                (None, None) => String::new(),
            };
            let text = self.paint(paint, format!("{sign} {:width$}", one.what));
            self.line(format!("  {text}  {value}"));
        }
    }
}

fn coloured(yes: bool, paint: Paint, text: &str) -> String {
    let code = match paint {
        Paint::Green => "32",
        Paint::Yellow => "33",
        Paint::Red => "31",
        Paint::Dim => "2",
        Paint::Bold => "1",
    };
    if yes { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}
