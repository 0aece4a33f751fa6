//! Expressions that members subscribe to: which topics they match.
//!
//! Kafka's syntax is RE2's, which `syntax` turns into that of the library here. A whole name has to match. Both match in
//! linear time; the size of what an expression compiles to is bounded.

use super::syntax;
use millrace_metadata::Image;
use regex::{Regex, RegexBuilder};
use std::collections::BTreeSet;

/// An expression that needs more than this compiled is refused.
const LARGEST: usize = 1024 * 1024;

/// Compiles an expression so that it matches whole names.
///
/// # Errors
/// What is wrong with it, in words for the client.
pub(super) fn compile(expression: &str) -> Result<Regex, String> {
    let plain = syntax::translated(expression)?;
    let build = |text: &str| RegexBuilder::new(text).size_limit(LARGEST).build();
    // Alone first: a parenthesis too many must not pair with those that are put around it.
    build(&plain).and_then(|_| build(&format!(r"\A(?:{plain})\z"))).map_err(|error| {
        let text = error.to_string();
        text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

/// The topics whose names match; none for what is no expression.
pub(super) fn topics_matching(expression: &str, image: &Image) -> BTreeSet<String> {
    let Ok(regex) = compile(expression) else { return BTreeSet::new() };
    image.topics().filter(|topic| regex.is_match(&topic.name)).map(|topic| topic.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_match_and_quotes_are_taken_literally() {
        let matches = |expression: &str, name: &str| compile(expression).unwrap().is_match(name);
        assert!(matches("foo.*", "foobar") && !matches("foo", "foobar") && !matches("bar", "foobar"));
        assert!(matches("a|b", "b") && !matches("a|b", "ab"));
        assert!(matches(r"\Qa.b\E.", "a.bc") && !matches(r"\Qa.b\E.", "axbc"));
        assert!(matches(r"\\Q", r"\Q") && matches(r"\Qa.", "a."));
        assert!(matches(r"(?P<x>t)\d+", "t12"));
    }

    #[test]
    fn what_is_no_expression_or_too_large_is_refused_with_words() {
        for bad in ["[", "a)(b", "(?=x)", r"\1", "*"] {
            assert!(!compile(bad).unwrap_err().is_empty(), "{bad}");
        }
        assert!(compile(&format!("(({}){{1000}}){{1000}}", "a{1000}")).is_err());
    }
}
