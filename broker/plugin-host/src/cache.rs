//! Compiled components on disk, so that a start maps them instead of compiling: `<content hash>-<engine>.cwasm`.
//!
//! A file is written whole and synced before it gets its name, and only this module writes there: loading one is as safe
//! as running the broker's own binary. A component compiled by another engine has another name and is never read.

use millrace_model::ContentHash;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use wasmtime::Engine;
use wasmtime::component::Component;

#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    /// What the engine's version, configuration and the machine come to.
    engine: String,
}

impl Cache {
    pub(crate) fn open(dir: &Path, engine: &Engine) -> std::io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut hasher = Sha(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let digest = hasher.0.finalize();
        let engine = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { dir: dir.to_owned(), engine })
    }

    fn path(&self, hash: ContentHash) -> PathBuf {
        self.dir.join(format!("{hash}-{}.cwasm", self.engine))
    }

    pub(crate) fn get(&self, engine: &Engine, hash: ContentHash) -> Option<Component> {
        let path = self.path(hash);
        if !path.exists() {
            return None;
        }
        // SAFETY: the file was written by `put` below, whole, by an engine like this one: its name says so, and nobody
        // but the host writes to the data directory.
        #[expect(unsafe_code, reason = "mapping compiled code is what a cache of compiled code does")]
        match unsafe { Component::deserialize_file(engine, &path) } {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled plugin is unusable, compiling anew");
                None
            }
        }
    }

    /// Keeps a compiled component. A failure costs a compilation at the next start, nothing else.
    pub(crate) fn put(&self, hash: ContentHash, component: &Component) {
        if let Err(error) = self.write(hash, component) {
            tracing::warn!(dir = %self.dir.display(), %hash, %error, "compiled plugin is not kept");
        }
    }

    fn write(&self, hash: ContentHash, component: &Component) -> Result<(), Box<dyn std::error::Error>> {
        let bytes = component.serialize()?;
        let path = self.path(hash);
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(&self.dir)?.sync_all()?;
        Ok(())
    }
}

/// A hasher whose result does not differ between runs.
struct Sha(Sha256);

impl Hasher for Sha {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}
