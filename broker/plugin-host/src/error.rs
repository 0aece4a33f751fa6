//! Why there is no runtime, no plugin, no attachment.

use crate::answer::Fault;
use crate::limits::LimitError;
use std::path::PathBuf;
use thiserror::Error;

/// Why plugins cannot run at all.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// The engine refuses its configuration: a processor or a kernel that it does not know, or no address space.
    #[error("the engine for plugins does not start: {0}")]
    Engine(String),
    /// The cache directory cannot be used.
    #[error("{dir}: {error}")]
    Cache {
        /// The directory.
        dir: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// There is no thread for the tick.
    #[error("no thread for the epoch tick: {0}")]
    Ticker(std::io::Error),
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

/// Why a plugin cannot be attached as asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AttachError {
    /// A limit is impossible.
    #[error(transparent)]
    Limits(#[from] LimitError),
    /// A function has another type than the interface says.
    #[error("its function {name} does not fit: {reason}")]
    Signature {
        /// The function.
        name: &'static str,
        /// What differs.
        reason: String,
    },
    /// The plugin refuses its config.
    #[error("{0}")]
    Configure(String),
    /// It does not start.
    #[error(transparent)]
    Fault(#[from] Fault),
}
