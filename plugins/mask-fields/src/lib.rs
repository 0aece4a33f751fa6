//! `mask-fields`: masks fields of JSON values before they are stored; every byte beside them stays as it is.
//!
//! ```toml
//! [[plugin]]
//! use = "mask-fields@1"
//! stage = "produce"
//! config = { fields = ["email", "address.street", { path = "card", with = { keep-last = 4 } }] }
//! ```

mod config;
mod mask;

use json_scan as scan;
use mask::Masker;
use millrace::{Batch, Changes};

/// A null value has no fields and stays null.
#[millrace::transform(batch)]
fn mask(batch: &Batch, changes: &mut Changes, masker: &Masker) {
    for record in batch.records() {
        match record.value() {
            None => changes.keep(),
            Some(value) => changes.try_value_with(|out| masker.mask(value, out)),
        }
    }
}
