//! The first-party plugins, which the binary carries.

use millrace_metadata::{ContentHash, Plugin};

/// A first-party plugin.
#[derive(Clone, Copy)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The hash of its component.
    pub hash: ContentHash,
    /// Its component.
    pub component: &'static [u8],
}

impl std::fmt::Debug for Builtin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{} ({} bytes)", self.name, self.version, self.component.len())
    }
}

impl Builtin {
    /// What the registry holds of it.
    pub fn registration(&self) -> Plugin {
        Plugin {
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            hash: self.hash,
            size: self.component.len() as u64,
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// All of them.
pub fn builtins() -> &'static [Builtin] {
    &BUILTIN
}
