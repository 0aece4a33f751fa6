//! For `broker/benches/plugin_overhead.rs`: the cheapest filter there is, in the form most authors will write.

use millrace::Record;

/// Half of all values end in a byte that is odd.
#[millrace::filter]
fn keep(record: &Record) -> bool {
    record.value().is_some_and(|value| value.last().is_some_and(|byte| byte & 1 == 1))
}
