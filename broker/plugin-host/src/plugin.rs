//! A compiled component that is known to be a plugin.

use crate::imports::{is_our_version, link};
use crate::instance::State;
use sha2::{Digest, Sha256};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::Arc;
use thiserror::Error;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre};

/// The SHA-256 of a component's bytes: its name for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash with these 256 bits.
    pub const fn new(bits: [u8; 32]) -> Self {
        Self(bits)
    }

    /// The 256 bits.
    pub const fn get(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

/// A text that is not a content hash.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a content hash: 64 hexadecimal digits")]
pub struct HashError(String);

impl FromStr for ContentHash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let mut bits = [0; 32];
        let digits = text.as_bytes().as_chunks::<2>();
        let is_hash = text.len() == 64
            && digits.0.iter().zip(&mut bits).all(|(pair, bit)| {
                let byte = str::from_utf8(pair).ok().filter(|pair| !pair.contains('+'));
                byte.and_then(|pair| u8::from_str_radix(pair, 16).ok()).map(|byte| *bit = byte).is_some()
            });
        if is_hash { Ok(Self(bits)) } else { Err(HashError(text.to_owned())) }
    }
}

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

/// Why bytes are not a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    /// Too many bytes.
    #[error("the component has {size} bytes; a plugin may have {limit}")]
    Size {
        /// What it has.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Something else, precompiled code for instance.
    #[error("this is not WebAssembly")]
    NotWasm,
    /// A module instead of a component.
    #[error("this is a core WebAssembly module; a plugin is a component (build it for wasm32-wasip2)")]
    CoreModule,
    /// The compiler refuses it.
    #[error("it does not compile: {0}")]
    Compile(String),
    /// It asks for what an inline plugin does not get.
    #[error("it imports {name}, which this host does not grant to a plugin in the path of a record")]
    Import {
        /// The import.
        name: String,
    },
    /// It speaks a version of the interface that this host does not.
    #[error("it uses {name}; this host speaks millrace:plugin@0.1.0")]
    Version {
        /// The interface.
        name: String,
    },
    /// It exports no interface of a plugin.
    #[error("it exports neither millrace:plugin/filter nor millrace:plugin/transform")]
    NoKind,
    /// It exports several.
    #[error("it exports both millrace:plugin/filter and millrace:plugin/transform; a plugin is of one kind")]
    SeveralKinds,
    /// `lifecycle` is missing.
    #[error("it does not export millrace:plugin/lifecycle")]
    NoLifecycle,
    /// An import has a type that this host does not give it.
    #[error("it does not link: {0}")]
    Link(String),
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
    fn a_content_hash_is_read_as_it_is_written() {
        let hash = ContentHash::of(b"abc");
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for bad in ["", "ba78", &"g".repeat(64), &"+1".repeat(32), &"é".repeat(32)] {
            assert!(bad.parse::<ContentHash>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_components_pass_the_first_look() {
        assert_eq!(check_bytes(b"\0asm\x0d\0\x01\0rest", 100), Ok(()));
        assert_eq!(check_bytes(b"\0asm\x01\0\0\0rest", 100), Err(LoadError::CoreModule));
        assert_eq!(check_bytes(b"\x7fELF\x02\x01\x01\0\0\0", 100), Err(LoadError::NotWasm));
        assert_eq!(check_bytes(b"", 100), Err(LoadError::NotWasm));
        assert_eq!(check_bytes(b"\0asm\x0d\0\x01\0rest", 8), Err(LoadError::Size { size: 12, limit: 8 }));
    }
}
