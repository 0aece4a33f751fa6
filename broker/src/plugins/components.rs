//! Components by the hash of their content: files of this node, compiled when they are needed.

use super::builtin::builtins;
use bytes::Bytes;
use millrace_model::ContentHash;
use millrace_plugin_host::{LoadError, Plugin, Runtime};
use millrace_storage::io::Disk;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

/// The largest file that is read as a component.
const MOST: u64 = 64 << 20;

/// Why a component cannot be had, or is not kept.
#[derive(Debug, Error)]
pub enum ComponentError {
    /// This node does not have it.
    #[error("the component {0} is not on this node")]
    Missing(ContentHash),
    /// Its file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The bytes have another hash: the file was changed.
    #[error("{path}: the content's hash is {found}")]
    Changed {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: ContentHash,
    },
    /// The bytes are no plugin.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The work did not come to its end.
    #[error("compiling the component was interrupted")]
    Interrupted,
}

/// The components of this node.
pub(super) struct Components {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    runtime: Runtime,
    /// Compiled ones. Each has a lock of its own, so that a compilation holds up only who waits for it.
    compiled: Mutex<BTreeMap<ContentHash, Arc<Mutex<Option<Plugin>>>>>,
}

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Components").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Components {
    pub(super) fn open(dir: PathBuf, disk: Arc<dyn Disk>, runtime: Runtime) -> io::Result<Self> {
        disk.create_dir_all(&dir)?;
        Ok(Self { dir, disk, runtime, compiled: Mutex::default() })
    }

    pub(super) fn has(&self, hash: ContentHash) -> bool {
        builtins().iter().any(|builtin| builtin.hash == hash) || self.disk.stat(&self.path(hash)).is_ok()
    }

    pub(super) fn bytes(&self, hash: ContentHash) -> Result<Bytes, ComponentError> {
        if let Some(builtin) = builtins().iter().find(|builtin| builtin.hash == hash) {
            return Ok(Bytes::from_static(builtin.component));
        }
        let path = self.path(hash);
        let bytes = match self.disk.read(&path, MOST) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ComponentError::Missing(hash)),
            Err(error) => return Err(ComponentError::Io { path, error }),
        };
        let found = ContentHash::of(&bytes);
        if found == hash { Ok(bytes.into()) } else { Err(ComponentError::Changed { path, found }) }
    }

    /// The compiled component. Blocks for as long as compiling takes.
    pub(super) fn plugin(&self, hash: ContentHash) -> Result<Plugin, ComponentError> {
        let entry = self.entry(hash);
        let mut entry = entry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plugin) = &*entry {
            return Ok(plugin.clone());
        }
        let plugin = self.runtime.load(&self.bytes(hash)?)?;
        *entry = Some(plugin.clone());
        Ok(plugin)
    }

    /// Keeps a component that compiles and is a plugin.
    pub(super) fn store(&self, hash: ContentHash, component: &Bytes) -> Result<(), ComponentError> {
        let found = ContentHash::of(component);
        if found != hash {
            return Err(ComponentError::Changed { path: self.path(hash), found });
        }
        let plugin = self.runtime.load(component)?;
        self.keep(hash, component)?;
        *self.entry(hash).lock().unwrap_or_else(PoisonError::into_inner) = Some(plugin);
        Ok(())
    }

    /// Writes a component's file, unless it is there.
    pub(super) fn keep(&self, hash: ContentHash, component: &[u8]) -> Result<(), ComponentError> {
        let path = self.path(hash);
        if self.disk.stat(&path).is_ok_and(|stat| stat.len == component.len() as u64) {
            return Ok(());
        }
        self.disk.replace_synced(&path, component).map_err(|error| ComponentError::Io { path, error })
    }

    fn entry(&self, hash: ContentHash) -> Arc<Mutex<Option<Plugin>>> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(compiled.entry(hash).or_default())
    }

    fn path(&self, hash: ContentHash) -> PathBuf {
        self.dir.join(format!("{hash}.wasm"))
    }
}
