//! From topic files to commands: what a broker would have to change to be as the files say.
//!
//! Pure: files and an image in, differences and commands out. What the files say of a topic is all there is to it: a
//! config or a plugin that they do not name is taken off. Topics that no file describes are left alone, and nothing here
//! deletes a topic or takes partitions away.

use super::problem::{Place, Problem, Problems};
use super::topic::{Component, FaultPolicy, PluginUse, Stage, TopicFile};
use super::units::show_bytes;
use millrace_metadata::{
    Attachment, Command, ContentHash, Grants, Image, Limits, NewPartitions, NewTopic, Placement, Plugin,
    PluginReference, Topic,
};
use millrace_model::{Random, TopicId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A component that a topic file names by its path. Its bytes are with the broker already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// The topic file.
    pub file: String,
    /// The path as the topic file writes it.
    pub path: String,
    /// The component's content.
    pub hash: ContentHash,
    /// Its size in bytes.
    pub size: u64,
}

/// One topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// What its file says.
    pub file: TopicFile,
    /// Its plugins, found: in the order of the file's.
    pub attachments: Vec<Attachment>,
    /// Components that have to be registered for it.
    pub register: Vec<Plugin>,
}

/// What applies where a topic file is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `num.partitions`.
    pub partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i16,
}

/// What happens to the thing that a [`Difference`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is not there and will be.
    Create,
    /// It is there and will be otherwise.
    Change,
    /// It is there and will not be.
    Remove,
}

impl Action {
    /// For tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Remove => "remove",
        }
    }
}

/// One thing that is otherwise than the files say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The topic.
    pub topic: String,
    /// What would be done.
    pub action: Action,
    /// What it is about: `topic`, `partitions`, a config's key, `plugin[0]`, `plugin[0].config`.
    pub what: String,
    /// As it is.
    #[serde(default)]
    pub before: Option<String>,
    /// As it would be.
    #[serde(default)]
    pub after: Option<String>,
}

/// All differences, and the commands that take them away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order of the files.
    pub differences: Vec<Difference>,
    /// To be proposed together: all of them or none.
    pub commands: Vec<Command>,
    /// Topics with plugins attached that no file names. They keep them.
    pub unnamed: Vec<String>,
}

/// Finds the components that topic files name.
///
/// # Errors
/// Every plugin that is not there.
pub fn resolve(files: Vec<TopicFile>, image: &Image, uploads: &[Upload]) -> Result<Vec<Desired>, Problems> {
    let mut problems = Vec::new();
    let mut all = Vec::new();
    for file in files {
        let mut desired = Desired { attachments: Vec::new(), register: Vec::new(), file };
        for plugin in &desired.file.plugins {
            match component(plugin, image, uploads) {
                Ok((reference, register)) => {
                    desired.attachments.push(attachment(plugin, reference));
                    desired.register.extend(register);
                }
                Err(problem) => problems.push(problem),
            }
        }
        all.push(desired);
    }
    Problems::check(problems)?;
    Ok(all)
}

fn component(
    plugin: &PluginUse,
    image: &Image,
    uploads: &[Upload],
) -> Result<(PluginReference, Option<Plugin>), Problem> {
    let place = &plugin.component.place;
    match &plugin.component.value {
        Component::Registered { name, version } => {
            let found = newest(image, name, version.as_deref()).map_err(|reason| place.problem(reason))?;
            Ok((reference(found), None))
        }
        Component::File(path) => {
            let upload = uploads
                .iter()
                .find(|upload| upload.file == place.file && upload.path == *path)
                .ok_or_else(|| place.problem(format!("the component {path} was not sent along")))?;
            let entry = entry_for(path, upload);
            match image.plugins().find(|known| known.hash == entry.hash) {
                Some(known) => Ok((reference(known), None)),
                None => Ok((reference(&entry), Some(entry))),
            }
        }
    }
}

fn reference(plugin: &Plugin) -> PluginReference {
    PluginReference { name: plugin.name.clone(), version: plugin.version.clone(), hash: plugin.hash }
}

/// A component without a version of its own is named after its file and told apart by its content.
fn entry_for(path: &str, upload: &Upload) -> Plugin {
    let stem = path.rsplit(['/', '\\']).next().unwrap_or(path).trim_end_matches(".wasm").to_lowercase();
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = stem.chars().map(legal).take(64).collect();
    let name = if name.is_empty() { "plugin".to_owned() } else { name };
    let content: String = upload.hash.to_string().chars().take(12).collect();
    Plugin { name, version: format!("0.0.0+{content}"), hash: upload.hash, size: upload.size }
}

/// The newest plugin of a name whose version begins with the one that is asked for.
fn newest<'i>(image: &'i Image, name: &str, wanted: Option<&str>) -> Result<&'i Plugin, String> {
    let fits = |version: &str| match wanted {
        None => true,
        Some(wanted) => version == wanted || version.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.')),
    };
    let named =
        || image.plugins().filter(|plugin| plugin.name == name).filter(|plugin| numbers(&plugin.version).is_some());
    let found = named().filter(|plugin| fits(&plugin.version)).max_by_key(|plugin| numbers(&plugin.version));
    found.map(|plugin| &**plugin).ok_or_else(|| {
        let versions: Vec<&str> = named().map(|plugin| plugin.version.as_str()).collect();
        match (versions.is_empty(), wanted) {
            (true, _) => {
                let mut names: Vec<&str> = image.plugins().map(|plugin| plugin.name.as_str()).collect();
                names.dedup();
                let there =
                    if names.is_empty() { "it is empty".to_owned() } else { format!("it has {}", names.join(", ")) };
                format!(
                    "the registry has no plugin {name} ({there}); push it with: millrace push FILE.wasm --name {name}"
                )
            }
            (false, wanted) => format!(
                "the registry has no version {} of {name}; it has {}",
                wanted.unwrap_or("with a number"),
                versions.join(", ")
            ),
        }
    })
}

fn numbers(version: &str) -> Option<Vec<u64>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

fn attachment(plugin: &PluginUse, reference: PluginReference) -> Attachment {
    Attachment {
        plugin: reference,
        stage: match plugin.stage {
            Stage::Produce => millrace_metadata::Stage::Produce,
        },
        config: plugin.config.value.clone(),
        limits: Limits {
            memory_bytes: plugin.memory,
            time_ms: u32::try_from(plugin.time.as_micros().div_ceil(1000)).unwrap_or(u32::MAX),
        },
        on_fault: match plugin.on_fault {
            FaultPolicy::Reject => millrace_metadata::FaultPolicy::Reject,
            FaultPolicy::Drop => millrace_metadata::FaultPolicy::Drop,
            FaultPolicy::Pass => millrace_metadata::FaultPolicy::Pass,
        },
        grants: Grants::default(),
        outputs: Vec::new(),
    }
}

impl Plan {
    /// What differs between the files and the image. Every command is tried on the image, so that what comes out will
    /// be accepted unless the cluster changes in between.
    ///
    /// # Errors
    /// Whatever cannot be done, with the place in the file that asks for it.
    pub fn new(desired: &[Desired], image: &Image, defaults: Defaults, random: &dyn Random) -> Result<Self, Problems> {
        let mut plan = Self::default();
        let mut problems = Vec::new();
        let mut tried = image.clone();
        for topic in desired {
            let step = match image.topic(&topic.file.name.value) {
                None => create(topic, &tried, defaults, random),
                Some(existing) => change(topic, existing, &tried, random),
            };
            let outcome = step.and_then(|(differences, commands)| {
                if commands.is_empty() {
                    return Ok((differences, commands, tried.clone()));
                }
                let (next, answer) = tried.apply(tried.index() + 1, &Command::All(commands.clone()));
                let place = || topic.file.name.place.clone();
                answer.map(|_| (differences, commands, next)).map_err(|error| place().problem(error.to_string()))
            });
            match outcome {
                Ok((differences, commands, next)) => {
                    plan.differences.extend(differences);
                    plan.commands.extend(commands);
                    tried = next;
                }
                Err(problem) => problems.push(problem),
            }
        }
        Problems::check(problems)?;
        let is_named = |topic: &Topic| desired.iter().any(|it| it.file.name.value == topic.name);
        let unnamed = image.topics().filter(|topic| !topic.attachments.is_empty() && !is_named(topic));
        plan.unnamed = unnamed.map(|topic| topic.name.clone()).collect();
        Ok(plan)
    }

    /// Whether the broker is as the files say.
    pub const fn is_empty(&self) -> bool {
        self.differences.is_empty()
    }
}

type Step = Result<(Vec<Difference>, Vec<Command>), Problem>;

fn create(topic: &Desired, image: &Image, defaults: Defaults, random: &dyn Random) -> Step {
    let name = &topic.file.name.value;
    let partitions = topic.file.partitions.as_ref().map_or(defaults.partitions, |found| found.value);
    let factor = topic.file.replication_factor.as_ref().map_or(defaults.replication_factor, |found| found.value);
    let about = |what: String, after: String| Difference {
        topic: name.clone(),
        action: Action::Create,
        what,
        before: None,
        after: Some(after),
    };
    let mut differences = vec![about("topic".to_owned(), format!("partitions {partitions}, replicas {factor}"))];
    differences.extend(topic.file.config.iter().map(|(key, text)| about(key.clone(), text.value.clone())));
    for (at, plugin) in topic.attachments.iter().enumerate() {
        differences.push(about(format!("plugin[{at}]"), shown(plugin)));
    }
    let mut commands = registrations(topic, image);
    commands.push(Command::CreateTopics {
        topics: vec![NewTopic {
            id: topic_id(random),
            name: name.clone(),
            placement: Placement::Spread { partitions, factor, seed: random.u64() },
            config: topic.file.configs(),
            attachments: topic.attachments.clone(),
        }],
    });
    Ok((differences, commands))
}

fn change(topic: &Desired, existing: &Topic, image: &Image, random: &dyn Random) -> Step {
    let mut differences = Vec::new();
    let mut commands = registrations(topic, image);
    partitions(topic, existing, random, &mut differences, &mut commands)?;
    let configs = topic.file.configs();
    let before = differences.len();
    config_differences(&topic.file.name.value, &existing.config, &configs, &mut differences);
    if differences.len() > before {
        let set = configs.into_iter().map(|(key, text)| (key, Some(text))).collect();
        commands.push(Command::SetTopicConfig { topic: existing.id, set, replace: true });
    }
    if existing.attachments != topic.attachments {
        attachment_differences(&topic.file.name.value, &existing.attachments, &topic.attachments, &mut differences);
        let attachments = topic.attachments.clone();
        commands.push(Command::SetAttachments { topic: existing.id, attachments });
    }
    // A component alone, with nothing that runs it, is no reason to change anything.
    if differences.is_empty() {
        commands.clear();
    }
    Ok((differences, commands))
}

fn partitions(
    topic: &Desired,
    existing: &Topic,
    random: &dyn Random,
    differences: &mut Vec<Difference>,
    commands: &mut Vec<Command>,
) -> Result<(), Problem> {
    let there = existing.partitions.len();
    if let Some(factor) = &topic.file.replication_factor {
        let now = existing.replication_factor();
        if usize::try_from(factor.value).ok() != Some(now) {
            let reason = format!("the topic has {now} replicas; changing that is not supported yet");
            return Err(factor.place.problem(reason));
        }
    }
    let Some(wanted) = &topic.file.partitions else { return Ok(()) };
    let total = usize::try_from(wanted.value).unwrap_or_default();
    if total < there {
        let reason = format!("the topic has {there} partitions; they can be added to, not taken away");
        return Err(wanted.place.problem(reason));
    }
    if total > there {
        differences.push(Difference {
            topic: topic.file.name.value.clone(),
            action: Action::Change,
            what: "partitions".to_owned(),
            before: Some(there.to_string()),
            after: Some(total.to_string()),
        });
        let more = NewPartitions { topic: existing.id, total: wanted.value, assignment: None, seed: random.u64() };
        commands.push(Command::CreatePartitions { topics: vec![more] });
    }
    Ok(())
}

fn registrations(topic: &Desired, image: &Image) -> Vec<Command> {
    let mut new: Vec<&Plugin> = Vec::new();
    for plugin in &topic.register {
        if image.plugin(&plugin.name, &plugin.version).is_none() && !new.contains(&plugin) {
            new.push(plugin);
        }
    }
    new.into_iter().cloned().map(Command::RegisterPlugin).collect()
}

fn config_differences(
    topic: &str,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    differences: &mut Vec<Difference>,
) {
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        push(topic, key, before.get(key).cloned(), after.get(key).cloned(), differences);
    }
}

fn attachment_differences(topic: &str, before: &[Attachment], after: &[Attachment], differences: &mut Vec<Difference>) {
    for at in 0..before.len().max(after.len()) {
        let what = format!("plugin[{at}]");
        match (before.get(at), after.get(at)) {
            (Some(old), Some(new)) if old.plugin.name == new.plugin.name => {
                let mut part = |name: &str, old: String, new: String| {
                    push(topic, &format!("{what}{name}"), Some(old), Some(new), differences);
                };
                part("", named(old), named(new));
                part(".stage", format!("{:?}", old.stage).to_lowercase(), format!("{:?}", new.stage).to_lowercase());
                part(".on-fault", fault(old), fault(new));
                part(".config", old.config.clone(), new.config.clone());
                part(".limits", limits(old), limits(new));
                part(".grants", format!("{:?}", old.grants), format!("{:?}", new.grants));
                part(".outputs", old.outputs.join(", "), new.outputs.join(", "));
            }
            (old, new) => push(topic, &what, old.map(shown), new.map(shown), differences),
        }
    }
}

fn push(topic: &str, what: &str, before: Option<String>, after: Option<String>, to: &mut Vec<Difference>) {
    let action = match (&before, &after) {
        (Some(old), Some(new)) if old == new => return,
        (Some(_), Some(_)) => Action::Change,
        (None, Some(_)) => Action::Create,
        (Some(_), None) => Action::Remove,
        (None, None) => return,
    };
    to.push(Difference { topic: topic.to_owned(), action, what: what.to_owned(), before, after });
}

/// Two contents of one name and version are told apart by their first digits.
fn named(attachment: &Attachment) -> String {
    let content: String = attachment.plugin.hash.to_string().chars().take(12).collect();
    format!("{} ({content})", attachment.plugin)
}

fn fault(attachment: &Attachment) -> String {
    match attachment.on_fault {
        millrace_metadata::FaultPolicy::Reject => "reject",
        millrace_metadata::FaultPolicy::Drop => "drop",
        millrace_metadata::FaultPolicy::Pass => "pass",
        millrace_metadata::FaultPolicy::DeadLetter => "dead-letter",
        millrace_metadata::FaultPolicy::Halt => "halt",
    }
    .to_owned()
}

fn limits(attachment: &Attachment) -> String {
    format!("{}, {}ms", show_bytes(attachment.limits.memory_bytes), attachment.limits.time_ms)
}

fn shown(attachment: &Attachment) -> String {
    let stage = format!("{:?}", attachment.stage).to_lowercase();
    format!(
        "{}, stage {stage}, on-fault {}, config {}, limits {}",
        attachment.plugin,
        fault(attachment),
        attachment.config,
        limits(attachment)
    )
}

/// Kafka draws topic ids that do not begin with a dash in base64, because tools would take them for options.
fn topic_id(random: &dyn Random) -> TopicId {
    loop {
        let id = random.uuid();
        if id.as_bytes().first().is_some_and(|byte| byte >> 2 != 62) {
            return TopicId::new(id);
        }
    }
}

/// The problem that a refused attachment is, at the key that is at fault.
pub fn refused(plugin: &PluginUse, fault: Fault) -> Problem {
    let (place, reason): (&Place, String) = match fault {
        Fault::Component(reason) => (&plugin.component.place, reason),
        Fault::Config(reason) => (&plugin.config.place, reason),
        Fault::Limits(reason) => (&plugin.limits, reason),
    };
    place.problem(reason)
}

/// Why the broker does not take an attachment: which part of it, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The component is missing, is no component, or does not fit the stage.
    Component(String),
    /// The plugin refuses its configuration.
    Config(String),
    /// It does not start within its limits, or they are beyond the node's.
    Limits(String),
}
