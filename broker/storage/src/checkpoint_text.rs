//! The text of Kafka's checkpoint files: the version 0, how many lines follow, and those.

/// The lines of a file; `None` if it is not such a text, or not all of one.
pub(crate) fn lines(text: &str) -> Option<Vec<&str>> {
    // A text that ends within a number is a text too.
    if !text.ends_with('\n') {
        return None;
    }
    let mut lines = text.lines().map(str::trim);
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    (lines.len() == count).then_some(lines)
}
