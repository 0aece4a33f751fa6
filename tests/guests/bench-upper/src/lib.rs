//! For `broker/benches/plugin_overhead.rs`: changes every byte of every value.

use millrace::{Batch, Changes};

#[millrace::transform(batch)]
fn upper(batch: &Batch, changes: &mut Changes) {
    let bytes = batch.records().filter_map(|record| record.value()).map(<[u8]>::len).sum();
    changes.reserve(bytes);
    for record in batch.records() {
        match record.value() {
            None => changes.keep(),
            Some(value) => changes.value_with(|out| {
                let from = out.len();
                out.extend_from_slice(value);
                out[from..].make_ascii_uppercase();
                true
            }),
        }
    }
}
