//! What `plan` and `apply` send: topic files and the components that they name by path, read from a directory or a file.

use super::plan::Upload;
use super::problem::{Place, Problem, Problems};
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
    /// The components, each once.
    pub components: Vec<ComponentFile>,
}

/// A component that a topic file names by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentFile {
    /// The hash of its bytes.
    pub hash: ContentHash,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where it is named first.
    pub place: Place,
    /// How it is named there.
    pub path: String,
}

impl ComponentFile {
    /// It is refused, for this reason.
    pub fn refused(&self, reason: &str) -> Problem {
        self.place.problem(format!("{}: {reason}", self.path))
    }
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
                Ok(bytes) => self.add(&plugin.component.place, path, bytes),
                Err(reason) => problems.push(plugin.component.place.problem(reason)),
            }
        }
        problems
    }

    fn add(&mut self, place: &Place, path: &str, bytes: Vec<u8>) {
        let hash = ContentHash::of(&bytes);
        let upload = Upload { file: place.file.clone(), path: path.to_owned(), hash, size: bytes.len() as u64 };
        if !self.request.components.contains(&upload) {
            self.request.components.push(upload);
        }
        if !self.components.iter().any(|known| known.hash == hash) {
            self.components.push(ComponentFile { hash, bytes, place: place.clone(), path: path.to_owned() });
        }
    }
}

/// Reads a component's file. Whether it is one is the broker's to find out; a text file is told apart here.
///
/// # Errors
/// What is wrong, without the place.
pub fn read_component(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let stat = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?;
    // To read a pipe or a device may never end.
    if !stat.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    let size = stat.len();
    if size > MAX_COMPONENT as u64 {
        return Err(format!("{shown} has {size} bytes; a component may have {MAX_COMPONENT}"));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
    if !bytes.starts_with(b"\0asm") {
        return Err(format!("{shown} is not a WebAssembly component"));
    }
    Ok(bytes)
}
