//! RE2's syntax of expressions in that of the library here.
//!
//! They differ in little: RE2 quotes with `\Q…\E`, takes a brace that bounds nothing and, within a class, `[`, `&&` and `~~`
//! for themselves, and refuses a repetition of a repetition (`a**`, `a++`), classes `[[:name:]]` of no known name, and
//! flags and escapes that only the library here has.

/// The names of classes.
const CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// The most times that something may be repeated.
const MOST_TIMES: u32 = 1_000;

/// An expression in the library's syntax. Not all that is wrong with it is found here.
///
/// # Errors
/// What RE2 refuses and the library would take.
pub(super) fn translated(expression: &str) -> Result<String, String> {
    let mut translation = Translation { rest: expression, out: String::new(), repeated: false };
    while let Some(next) = translation.next() {
        translation.step(next)?;
    }
    Ok(translation.out)
}

struct Translation<'a> {
    rest: &'a str,
    out: String,
    /// The last thing was a repetition.
    repeated: bool,
}

impl Translation<'_> {
    fn next(&mut self) -> Option<char> {
        let mut rest = self.rest.chars();
        let next = rest.next();
        self.rest = rest.as_str();
        next
    }

    /// Takes over a character, if it is the next one.
    fn keep(&mut self, wanted: char) -> bool {
        let Some(rest) = self.rest.strip_prefix(wanted) else { return false };
        self.rest = rest;
        self.out.push(wanted);
        true
    }

    fn step(&mut self, next: char) -> Result<(), String> {
        match next {
            '*' | '+' | '?' => return self.repetition(next.encode_utf8(&mut [0; 4])),
            '{' => match self.bounds()? {
                Some(bounds) => return self.repetition(&bounds),
                None => self.out.push_str(r"\{"),
            },
            '\\' => self.escape()?,
            '[' => self.class()?,
            '(' => self.group()?,
            other => self.out.push(other),
        }
        self.repeated = false;
        Ok(())
    }

    fn repetition(&mut self, what: &str) -> Result<(), String> {
        if std::mem::replace(&mut self.repeated, true) {
            return Err("invalid nested repetition operator".to_owned());
        }
        self.out.push_str(what);
        self.keep('?');
        Ok(())
    }

    /// The bounds of a repetition behind its brace; `None` where the brace is one.
    fn bounds(&mut self) -> Result<Option<String>, String> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(self.rest.len());
        let (bounds, rest) = self.rest.split_at(end);
        let Some(rest) = rest.strip_prefix('}') else { return Ok(None) };
        let (low, high) = bounds.split_once(',').unwrap_or((bounds, bounds));
        if low.is_empty() || high.contains(',') {
            return Ok(None);
        }
        let times = |text: &str| text.parse::<u32>().ok().filter(|times| *times <= MOST_TIMES);
        match (times(low), times(high)) {
            (Some(low), Some(high)) if low <= high => {}
            (Some(_), None) if high.is_empty() => {}
            _ => return Err("invalid repeat count".to_owned()),
        }
        self.rest = rest;
        Ok(Some(format!("{{{bounds}}}")))
    }

    fn escape(&mut self) -> Result<(), String> {
        match self.next() {
            Some('Q') => {
                let (quoted, rest) = self.rest.split_once(r"\E").unwrap_or((self.rest, ""));
                self.rest = rest;
                self.out.push_str(&regex::escape(quoted));
            }
            // Edges of words here, and themselves there.
            Some(edge @ ('<' | '>')) => self.out.push(edge),
            Some('u' | 'U') => return Err("invalid escape sequence".to_owned()),
            Some(other) => self.out.extend(['\\', other]),
            None => return Err("trailing backslash at end of expression".to_owned()),
        }
        Ok(())
    }

    fn group(&mut self) -> Result<(), String> {
        self.out.push('(');
        if !self.keep('?') || self.rest.starts_with(['P', '<']) {
            return Ok(());
        }
        let other = self.rest.find(|c: char| !"imsU-".contains(c)).and_then(|at| self.rest.get(at..));
        match other {
            Some(other) if !other.starts_with([':', ')']) => Err("invalid or unsupported Perl syntax".to_owned()),
            _ => Ok(()),
        }
    }

    /// A class behind its bracket, to its end.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        self.keep('^');
        // A bracket that would close nothing is one.
        self.keep(']');
        while let Some(next) = self.next() {
            match next {
                ']' => {
                    self.out.push(']');
                    return Ok(());
                }
                '[' => self.named_class()?,
                '&' | '~' => self.out.extend(['\\', next]),
                '\\' => self.escape()?,
                other => self.out.push(other),
            }
        }
        Err("missing closing ]".to_owned())
    }

    /// `[:name:]` behind its bracket, or the bracket alone.
    fn named_class(&mut self) -> Result<(), String> {
        let Some((name, rest)) = self.rest.strip_prefix(':').and_then(|rest| rest.split_once(":]")) else {
            self.out.push_str(r"\[");
            return Ok(());
        };
        if !CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err("invalid character class range".to_owned());
        }
        self.out.push_str(&format!("[:{name}:]"));
        self.rest = rest;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_take_stays_and_what_means_something_else_is_rewritten() {
        for same in
            ["a|b", "a*?b+?", "(?i)x", "(?P<n>a)", "(?:a)", "[^]a]", "[[:alpha:][:^digit:]_]", "a{2,3}?", r"\pL\."]
        {
            assert_eq!(translated(same).as_deref(), Ok(same));
        }
        for (theirs, ours) in [
            (r"\Qa.b\E.", r"a\.b."),
            (r"\Qa.", r"a\."),
            (r"\\Q", r"\\Q"),
            ("[[a]", r"[\[a]"),
            ("[a&&b]", r"[a\&\&b]"),
            ("a{,3}", r"a\{,3}"),
            ("a{", r"a\{"),
            (r"\<a\>", "<a>"),
        ] {
            assert_eq!(translated(theirs).as_deref(), Ok(ours), "{theirs}");
        }
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        for bad in
            ["a**", "a++", "a?+*", "a{2}{3}", "a??+", "[[:no:]]", "a{2,1}", "a{1001}", "(?x)a", r"\u0061", r"\", "[a"]
        {
            assert!(translated(bad).is_err(), "{bad}");
        }
    }
}
