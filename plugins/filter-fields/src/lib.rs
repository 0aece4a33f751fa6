//! `filter-fields`: keeps the records for which a condition holds.
//!
//! ```toml
//! [[plugin]]
//! use = "filter-fields@1"
//! stage = "produce"
//! config = { where = "carrier in ['UA', 'AA'] and (distance > 500 or $header.source == 'test')" }
//! ```
//!
//! A condition compares **fields** of a JSON value (`a.b`; through arrays: true if any element fits), `$key`, `$value`,
//! `$timestamp` (milliseconds) or `$header.NAME` with texts in quotes, numbers, `true`, `false`, `null`: by `==`, `!=`,
//! `<`, `<=`, `>`, `>=`, `in [...]`, `starts-with`, `ends-with`, `contains`; or asks whether they are there: `exists`.
//! `not`, `and`, `or` and parentheses join them. What is not there equals nothing and is neither less nor more; `a != 1`
//! means `not a == 1`. Characters that are not letters, digits, `_` or `-` stand in a name after a backslash.

mod condition;
mod config;
mod parse;
mod record;

use config::Filter;
use json_scan as scan;
use millrace::Record;

#[millrace::filter]
fn keep(record: &Record, filter: &Filter) -> Result<bool, scan::Invalid> {
    filter.keeps(record)
}
