//! Topic files: one TOML file is one topic, its configs and the plugins attached to it, in order.
//!
//! ```toml
//! [topic]
//! name = "orders"
//! partitions = 6                       # else the broker's num.partitions
//! [topic.config]
//! "retention.ms" = 604800000
//! [[plugin]]
//! use = "mask-fields@1"                # or path = "mask_fields.wasm", relative to this file
//! stage = "produce"
//! on-fault = "reject"                  # or "drop", "pass"
//! config = { fields = ["email", "card"] }
//! limits = { memory = "16MiB", time = "20ms" }
//! ```
//!
//! What can be said without a broker is said here; whether a plugin exists and takes its config is the broker's to say.
//! Stages, policies and grants of the design that this broker does not have yet are refused by name, never ignored.

use super::document::{Document, Located, Section};
use super::kafka_keys::{self, Effect};
use super::problem::{Place, Problem, Problems};
use super::units;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most attachments that one topic may have.
const MAX_PLUGINS: usize = 64;
/// The most partitions that a topic file may ask for.
const MAX_PARTITIONS: i64 = 100_000;
/// Bounds on a plugin's memory, and what it gets where nothing is said.
const MEMORY: (u64, u64, u64) = (1 << 20, 4 << 30, 16 << 20);
/// Bounds on the time of one call, and what it gets where nothing is said.
const TIME: (Duration, Duration, Duration) =
    (Duration::from_millis(1), Duration::from_secs(60), Duration::from_millis(20));

/// Where a plugin stands between producer, log and consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before the producer's ack.
    Produce,
}

/// What becomes of a record that a plugin fails on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPolicy {
    /// The batch fails and the producer is told which records and why.
    Reject,
    /// The record is left out.
    Drop,
    /// The record is stored as it came.
    Pass,
}

impl FaultPolicy {
    /// As topic files write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Drop => "drop",
            Self::Pass => "pass",
        }
    }
}

impl Stage {
    /// As topic files write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
        }
    }
}

/// Which component an attachment runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component {
    /// One from the registry (`use`).
    Registered {
        /// Its name.
        name: String,
        /// Its version or the front of one (`1`, `1.2`); the newest where nothing is said.
        version: Option<String>,
    },
    /// A file (`path`), as it is written; relative to the topic file.
    File(String),
}

/// One `[[plugin]]` of a topic file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginUse {
    /// The component, and where it is named.
    pub component: Located<Component>,
    /// Its stage.
    pub stage: Stage,
    /// What becomes of records that it fails on.
    pub on_fault: FaultPolicy,
    /// Its configuration as JSON text, `{}` where nothing is said, and where it stands.
    pub config: Located<String>,
    /// Bytes of memory for each instance.
    pub memory: u64,
    /// CPU time for each call.
    pub time: Duration,
    /// Where the limits stand.
    pub limits: Place,
}

/// One topic file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFile {
    /// The topic's name, and where it stands.
    pub name: Located<String>,
    /// How many partitions; the broker's default where nothing is said.
    pub partitions: Option<Located<i32>>,
    /// How many replicas of each; the broker's default where nothing is said.
    pub replication_factor: Option<Located<i16>>,
    /// The topic's own configs, each with its place.
    pub config: BTreeMap<String, Located<String>>,
    /// Its plugins in order.
    pub plugins: Vec<PluginUse>,
}

impl TopicFile {
    /// Reads the text of one topic file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        let document = Document::new(file, text);
        let parsed = document.parse().and_then(|root| {
            let root = document.root(&root);
            let read = read(&root);
            root.finish();
            read
        });
        let whole = document.whole();
        Problems::check(document.into_problems())?;
        // Whatever made the file unreadable has been noted as a problem; this line is for the reader's peace of mind.
        parsed.ok_or_else(|| whole.problem("the file does not describe a topic").into())
    }

    /// The topic's own configs without their places.
    pub fn configs(&self) -> BTreeMap<String, String> {
        self.config.iter().map(|(name, text)| (name.clone(), text.value.clone())).collect()
    }
}

/// A file's name and its text.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// The name that complaints carry.
    pub file: String,
    /// The text.
    pub text: String,
}

/// The texts of the topic files of a directory (`*.toml`, not in directories below), in the order of their names; or of one
/// file.
///
/// # Errors
/// The directory or a file cannot be read.
pub fn read_files(from: &Path) -> Result<Vec<SourceFile>, Problem> {
    let shown = from.display().to_string();
    let fail = |file: &str, error: &dyn std::fmt::Display| Place::file(file).problem(error.to_string());
    let mut paths = Vec::new();
    if from.is_file() {
        paths.push(from.to_owned());
    } else {
        for entry in std::fs::read_dir(from).map_err(|error| fail(&shown, &error))? {
            let path = entry.map_err(|error| fail(&shown, &error))?.path();
            let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
            if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| fail(&file, &error))?;
        Ok(SourceFile { file, text })
    };
    paths.iter().map(read).collect()
}

/// Reads topic files that belong together: no two may describe the same topic.
///
/// # Errors
/// Everything that is wrong with any of them.
pub fn parse_all(files: &[SourceFile]) -> Result<Vec<TopicFile>, Problems> {
    let mut topics: Vec<TopicFile> = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        match TopicFile::parse(&file.file, &file.text) {
            Err(found) => problems.extend(found.into_vec()),
            Ok(topic) => match topics.iter().find(|other| other.name.value == topic.name.value) {
                None => topics.push(topic),
                Some(first) => {
                    let reason = format!("{} describes the topic {} already", first.name.place.file, topic.name.value);
                    problems.push(topic.name.place.problem(reason));
                }
            },
        }
    }
    Problems::check(problems)?;
    Ok(topics)
}

fn read(root: &Section<'_, '_>) -> Option<TopicFile> {
    let plugins = plugins(root);
    let Some(topic) = root.table("topic") else {
        if !root.has("topic") {
            root.complain("topic", "missing: a topic file begins with [topic] and name = \"...\"");
        }
        return None;
    };
    let name = topic.text("name");
    match &name {
        None if !topic.has("name") => topic.complain("name", "missing: every topic file names its topic"),
        Some(name) => {
            if let Err(reason) = check_name(&name.value) {
                topic.complain("name", reason);
            }
        }
        None => {}
    }
    let partitions = topic
        .integer("partitions", 1, MAX_PARTITIONS)
        .and_then(|found| i32::try_from(found.value).ok().map(|value| Located { value, place: found.place }));
    let replication_factor = topic
        .integer("replication-factor", 1, i16::MAX.into())
        .and_then(|found| i16::try_from(found.value).ok().map(|value| Located { value, place: found.place }));
    let config = topic.table("config").map(|section| configs(&section)).unwrap_or_default();
    topic.finish();
    Some(TopicFile { name: name?, partitions, replication_factor, config, plugins })
}

/// Kafka's rules for topic names, and that internal topics are nobody's to configure by file.
fn check_name(name: &str) -> Result<(), String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name == "." || name == ".." {
        return Err(format!("{name:?} is not a topic name"));
    }
    if name.len() > 249 {
        return Err(format!("the topic name has {} characters; it may have 249", name.len()));
    }
    if !name.bytes().all(legal) {
        return Err(format!("{name:?} is not a topic name: letters, digits, '.', '_' and '-' are allowed"));
    }
    if name.starts_with("__") {
        return Err(format!("{name} is the name of an internal topic"));
    }
    Ok(())
}

fn configs(section: &Section<'_, '_>) -> BTreeMap<String, Located<String>> {
    let mut configs = BTreeMap::new();
    for (name, text) in section.scalars() {
        let single = BTreeMap::from([(name.clone(), text.value.clone())]);
        let reason = match (kafka_keys::validate_topic(&single), kafka_keys::topic_key(&name)) {
            (Err(error), _) => Some(error.to_string()),
            (Ok(()), Some(key)) if key.effect == Effect::Refused && Some(text.value.as_str()) != key.default => {
                Some(key.doc.to_owned())
            }
            (Ok(()), _) => None,
        };
        if let Some(reason) = reason {
            section.complain(&name, reason);
        }
        configs.insert(name, text);
    }
    // Each by itself is sound: what is left is what contradicts each other.
    let together = configs.iter().map(|(name, text)| (name.clone(), text.value.clone())).collect();
    if let Err(error @ kafka_keys::KeyError::Conflict { .. }) = kafka_keys::validate_topic(&together) {
        section.complain(error.key(), error.to_string());
    }
    configs
}

fn plugins(root: &Section<'_, '_>) -> Vec<PluginUse> {
    let sections = root.tables("plugin");
    if sections.len() > MAX_PLUGINS {
        root.complain("plugin", format!("{} plugins are attached; {MAX_PLUGINS} is the most", sections.len()));
    }
    let read = |section: Section<'_, '_>| {
        let plugin = plugin(&section);
        section.finish();
        plugin
    };
    sections.into_iter().filter_map(read).collect()
}

fn plugin(section: &Section<'_, '_>) -> Option<PluginUse> {
    let component = component(section);
    let stage = stage(section);
    let on_fault = on_fault(section);
    let config = match section.json("config") {
        Some(found) if found.value.is_object() => Located { value: found.value.to_string(), place: found.place },
        Some(_) => {
            section.complain("config", "expected a table: what the plugin is configured with");
            return None;
        }
        None => Located { value: "{}".to_owned(), place: section.place() },
    };
    let (memory, time, limits) = match section.table("limits") {
        Some(limits) => {
            let read = (memory(&limits), time(&limits), limits.place());
            limits.finish();
            read
        }
        None => (MEMORY.2, TIME.2, section.place()),
    };
    refuse_what_is_not_there_yet(section);
    Some(PluginUse { component: component?, stage: stage?, on_fault: on_fault?, config, memory, time, limits })
}

fn component(section: &Section<'_, '_>) -> Option<Located<Component>> {
    match (section.text("use"), section.text("path")) {
        (Some(_), Some(_)) => {
            section.complain("path", "use and path are both given: a plugin comes from the registry or from a file");
            None
        }
        (Some(named), None) => match registered(&named.value) {
            Ok(component) => Some(Located { value: component, place: named.place }),
            Err(reason) => {
                section.complain("use", reason);
                None
            }
        },
        (None, Some(path)) if path.value.is_empty() => {
            section.complain("path", "names no file");
            None
        }
        (None, Some(path)) => Some(Located { value: Component::File(path.value), place: path.place }),
        (None, None) => {
            if !section.has("use") && !section.has("path") {
                section.complain("use", "missing: name a plugin with use = \"name@version\" or path = \"file.wasm\"");
            }
            None
        }
    }
}

fn registered(text: &str) -> Result<Component, String> {
    let (name, version) = match text.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    check_plugin_name(name)?;
    if let Some(version) = version {
        check_plugin_version(version)?;
    }
    Ok(Component::Registered { name: name.to_owned(), version: version.map(str::to_owned) })
}

/// What a plugin may be called.
///
/// # Errors
/// What is wrong with the name.
pub fn check_plugin_name(name: &str) -> Result<(), String> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(legal) {
        return Err(format!("{name:?} is not a plugin name: lower-case letters, digits and '-', at most 64"));
    }
    Ok(())
}

/// What a plugin's version may be, or the front of one.
///
/// # Errors
/// What is wrong with the version.
pub fn check_plugin_version(version: &str) -> Result<(), String> {
    let number = |part: &str| !part.is_empty() && part.len() <= 9 && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = version.split('.').collect();
    if parts.len() > 3 || !parts.into_iter().all(number) {
        return Err(format!("{version:?} is not a version: write 1, 1.2 or 1.2.3"));
    }
    Ok(())
}

fn stage(section: &Section<'_, '_>) -> Option<Stage> {
    let Some(stage) = section.text("stage") else {
        if !section.has("stage") {
            section.complain("stage", "missing: write stage = \"produce\"");
        }
        return None;
    };
    match stage.value.as_str() {
        "produce" => return Some(Stage::Produce),
        later @ ("fetch" | "follow") => {
            section.complain("stage", format!("the stage {later} is not supported yet; produce is"));
        }
        other => section.complain("stage", format!("there is no stage {other:?}; write produce")),
    }
    None
}

fn on_fault(section: &Section<'_, '_>) -> Option<FaultPolicy> {
    if !section.has("on-fault") {
        return Some(FaultPolicy::Reject);
    }
    let policy = section.text("on-fault")?;
    match policy.value.as_str() {
        "reject" => return Some(FaultPolicy::Reject),
        "drop" => return Some(FaultPolicy::Drop),
        "pass" => return Some(FaultPolicy::Pass),
        later @ ("dead-letter" | "halt") => {
            let reason = format!("the fault policy {later} is not supported yet; reject, drop and pass are");
            section.complain("on-fault", reason);
        }
        other => {
            section.complain("on-fault", format!("there is no fault policy {other:?}; write reject, drop or pass"));
        }
    }
    None
}

fn memory(limits: &Section<'_, '_>) -> u64 {
    let Some(text) = limits.text("memory") else { return MEMORY.2 };
    let found = units::bytes(&text.value).and_then(|bytes| {
        let fits = (MEMORY.0..=MEMORY.1).contains(&bytes);
        let bounds = || format!("{} is not between {} and {}", text.value, "1MiB", "4GiB");
        if fits { Ok(bytes) } else { Err(bounds()) }
    });
    found.unwrap_or_else(|reason| {
        limits.complain("memory", reason);
        MEMORY.2
    })
}

fn time(limits: &Section<'_, '_>) -> Duration {
    let Some(text) = limits.text("time") else { return TIME.2 };
    let found = units::duration(&text.value).and_then(|time| {
        let fits = (TIME.0..=TIME.1).contains(&time);
        let bounds = || format!("{} is not between {} and {}", text.value, "1ms", "60s");
        if fits { Ok(time) } else { Err(bounds()) }
    });
    found.unwrap_or_else(|reason| {
        limits.complain("time", reason);
        TIME.2
    })
}

/// Grants and outputs belong to stages that follow the log. A plugin before the ack has no clock of the system's, no
/// files and no network, so granting them there would promise what the host never gives.
fn refuse_what_is_not_there_yet(section: &Section<'_, '_>) {
    for grant in ["network", "env", "dirs", "state"] {
        if section.has(grant) {
            let reason = format!(
                "{grant} cannot be granted at the stage produce: a plugin before the ack reaches nothing outside its \
                 batch; stages that follow the log are not supported yet"
            );
            section.complain(grant, reason);
        }
    }
    for routing in ["outputs", "keep"] {
        if section.has(routing) {
            section.complain(routing, format!("{routing} belongs to routers, which are not supported yet"));
        }
    }
}
