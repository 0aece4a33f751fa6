//! A compiled component that is known to be a plugin.

use crate::error::LoadError;
use crate::imports::{is_our_version, link};
use crate::state::State;
use millrace_model::ContentHash;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre};

/// What a plugin does, as its exports say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Keeps or drops records.
    Filter,
    /// Changes, drops or refuses records.
    Transform,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Filter, Self::Transform];

    /// The name of the interface it exports, and of that interface's function.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Transform => "transform",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A compiled plugin. Cloning shares it.
#[derive(Clone)]
pub struct Plugin(pub(crate) Arc<Compiled>);

pub(crate) struct Compiled {
    pub hash: ContentHash,
    pub kind: Kind,
    pub pre: InstancePre<State>,
    /// The full names of the exported interfaces, versions included.
    pub lifecycle: String,
    pub interface: String,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("hash", &self.0.hash).field("kind", &self.0.kind).finish_non_exhaustive()
    }
}

impl Plugin {
    /// The hash of the component's bytes.
    pub fn hash(&self) -> ContentHash {
        self.0.hash
    }

    /// What it does.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// A component that has been compiled (or mapped), once it is known to be a plugin.
    pub(crate) fn inspect(engine: &Engine, component: &Component, hash: ContentHash) -> Result<Self, LoadError> {
        let linker = link(engine, component)?;
        let ty = component.component_type();
        let mut kinds = Vec::new();
        let mut lifecycle = None;
        for (name, _) in ty.exports(engine) {
            let (interface, version) = name.split_once('@').unwrap_or((name, ""));
            let Some(interface) = interface.strip_prefix("millrace:plugin/") else { continue };
            if !is_our_version(version) {
                return Err(LoadError::Version { name: name.to_owned() });
            }
            if interface == "lifecycle" {
                lifecycle = Some(name.to_owned());
            }
            kinds.extend(Kind::ALL.iter().filter(|kind| kind.name() == interface).map(|kind| (*kind, name.to_owned())));
        }
        let several = kinds.len() > 1;
        let (kind, interface) = kinds.pop().filter(|_| !several).ok_or(if several {
            LoadError::SeveralKinds
        } else {
            LoadError::NoKind
        })?;
        let lifecycle = lifecycle.ok_or(LoadError::NoLifecycle)?;
        let pre = linker.instantiate_pre(component).map_err(|error| LoadError::Link(format!("{error:#}")))?;
        Ok(Self(Arc::new(Compiled { hash, kind, pre, lifecycle, interface })))
    }
}

/// Looks at the first bytes: what is not a component is told what it is instead.
pub(crate) fn check_bytes(bytes: &[u8], limit: usize) -> Result<(), LoadError> {
    if bytes.len() > limit {
        return Err(LoadError::Size { size: bytes.len(), limit });
    }
    match bytes.first_chunk::<8>() {
        Some(b"\0asm\x0d\0\x01\0") => Ok(()),
        Some(b"\0asm\x01\0\0\0") => Err(LoadError::CoreModule),
        _ => Err(LoadError::NotWasm),
    }
}

/// Compiles; a compiler that panics has refused the component.
pub(crate) fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, LoadError> {
    match catch_unwind(AssertUnwindSafe(|| Component::from_binary(engine, bytes))) {
        Ok(compiled) => compiled.map_err(|error| LoadError::Compile(format!("{error:#}"))),
        Err(_) => Err(LoadError::Compile("the compiler panicked".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_components_pass_the_first_look() {
        assert_eq!(check_bytes(b"\0asm\x0d\0\x01\0rest", 100), Ok(()));
        assert_eq!(check_bytes(b"\0asm\x01\0\0\0rest", 100), Err(LoadError::CoreModule));
        assert_eq!(check_bytes(b"\x7fELF\x02\x01\x01\0\0\0", 100), Err(LoadError::NotWasm));
        assert_eq!(check_bytes(b"", 100), Err(LoadError::NotWasm));
        assert_eq!(check_bytes(b"\0asm\x0d\0\x01\0rest", 8), Err(LoadError::Size { size: 12, limit: 8 }));
    }
}
