//! What `plan` and `apply` send: topic files and the components that they name by path, read from a directory or a file.

use super::plan::Upload;
use super::problem::{Problem, Problems};
use super::topic::{Component, SourceFile, TopicFile, parse_all, read_files};
use millrace_metadata::ContentHash;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The largest component that is read.
pub const MAX_COMPONENT: usize = 64 << 20;

/// The text of `POST /v1/plan` and `POST /v1/apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The topic files.
    pub files: Vec<SourceFile>,
    /// The components that they name by path, sent before.
    #[serde(default)]
    pub components: Vec<Upload>,
}

/// Topic files with their components.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    /// What is asked for.
    pub request: ApplyRequest,
    /// The components' bytes, each once.
    pub components: Vec<(ContentHash, Vec<u8>)>,
}

impl Bundle {
    /// Reads a directory of topic files, or one of them. They are checked as far as that goes without a broker.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, and components that cannot be read.
    pub fn read(from: &Path) -> Result<Self, Problems> {
        let files = read_files(from)?;
        let dir = if from.is_file() { from.parent().unwrap_or(from) } else { from };
        let topics = parse_all(&files)?;
        let mut bundle = Self { request: ApplyRequest { files, components: Vec::new() }, components: Vec::new() };
        let mut problems = Vec::new();
        for topic in &topics {
            problems.extend(bundle.add_components(topic, dir));
        }
        Problems::check(problems)?;
        Ok(bundle)
    }

    fn add_components(&mut self, topic: &TopicFile, dir: &Path) -> Vec<Problem> {
        let mut problems = Vec::new();
        for plugin in &topic.plugins {
            let Component::File(path) = &plugin.component.value else { continue };
            match read_component(&dir.join(path)) {
                Ok(bytes) => self.add(&topic.name.place.file, path, bytes),
                Err(reason) => problems.push(plugin.component.place.problem(reason)),
            }
        }
        problems
    }

    fn add(&mut self, file: &str, path: &str, bytes: Vec<u8>) {
        let hash = ContentHash::of(&bytes);
        let upload = Upload { file: file.to_owned(), path: path.to_owned(), hash, size: bytes.len() as u64 };
        if !self.request.components.contains(&upload) {
            self.request.components.push(upload);
        }
        if !self.components.iter().any(|(known, _)| *known == hash) {
            self.components.push((hash, bytes));
        }
    }
}

/// Reads a component's file. Whether it is one is the broker's to find out; a text file is told apart here.
///
/// # Errors
/// What is wrong, without the place.
pub fn read_component(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?.len();
    if size > MAX_COMPONENT as u64 {
        return Err(format!("{shown} has {size} bytes; a component may have {MAX_COMPONENT}"));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
    if !bytes.starts_with(b"\0asm") {
        return Err(format!("{shown} is not a WebAssembly component"));
    }
    Ok(bytes)
}
