//! What the attributes' code calls. Not part of the public interface.

pub use wit_bindgen;

use crate::answer::{WireChanges, WireSelection};
use crate::bindings::types;
use crate::{Batch, Changes, IntoChange, IntoKeep, Keep, Record};
use serde::de::DeserializeOwned;
use std::sync::OnceLock;

/// Where an instance keeps its config.
pub struct Slot<T>(OnceLock<T>);

impl<T> Slot<T> {
    #[allow(clippy::new_without_default, reason = "only ever a static")]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The config; `configure` has been called before any batch comes.
    pub fn get(&self) -> &T {
        self.0.get().expect("configure comes first")
    }
}

impl<T: DeserializeOwned> Slot<T> {
    /// Reads the config, and from here on lets panics be seen in the broker's log.
    pub fn fill(&self, config: &str) -> Result<(), String> {
        std::panic::set_hook(Box::new(|info| crate::log(crate::Level::Error, &info.to_string())));
        let config = serde_json::from_str(config).map_err(|error| error.to_string())?;
        self.0.set(config).map_err(|_| "configured twice".to_owned())
    }
}

pub fn filter_each<R: IntoKeep>(batch: &types::Batch, each: impl Fn(Record<'_>) -> R) -> WireSelection {
    filter_whole(batch, |batch, keep| {
        for record in batch.records() {
            keep.push(each(record));
        }
    })
}

pub fn filter_whole(batch: &types::Batch, whole: impl FnOnce(&Batch<'_>, &mut Keep)) -> WireSelection {
    let batch = Batch::new(&batch.data, &batch.index);
    let mut keep = Keep::new(batch.len());
    whole(&batch, &mut keep);
    keep.into_wire()
}

pub fn transform_each<R: IntoChange>(batch: &types::Batch, each: impl Fn(Record<'_>) -> R) -> WireChanges {
    transform_whole(batch, |batch, changes| {
        for record in batch.records() {
            changes.push(each(record));
        }
    })
}

pub fn transform_whole(batch: &types::Batch, whole: impl FnOnce(&Batch<'_>, &mut Changes)) -> WireChanges {
    let batch = Batch::new(&batch.data, &batch.index);
    let mut changes = Changes::new(batch.len());
    whole(&batch, &mut changes);
    changes.into_answer()
}
