//! The node's file and its command line: one set of options, checked before anything starts.
//!
//! ```toml
//! node-id = 1
//! listen = "127.0.0.1:9092"            # for Kafka clients
//! advertised = "broker.example:9092"   # what clients are told to connect to; `listen` where nothing is said
//! http = "127.0.0.1:8092"              # health, metrics, plan, apply, push
//! http-token-file = "token"            # needed where `http` is not a loopback address
//! data-dir = "data"                    # relative paths are relative to this file
//! topics = "topics"
//! [plugins]
//! memory = "256MiB"                    # for all instances together
//! threads = 2                          # that run guest code; as many as there are cores where nothing is said
//! [config]                             # Kafka's broker keys, by their names
//! "log.retention.hours" = 24
//! ```
//!
//! An option of the command line goes before the same one in the file.

use super::document::{Document, Located, Section};
use super::kafka_keys::{BrokerKeys, BrokerSettings, KeyError};
use super::problem::{Place, Problem, Problems};
use super::units;
use millrace_model::NodeId;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where Kafka clients are served when nothing is said.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9092";
/// Where HTTP is served when nothing is said.
pub const DEFAULT_HTTP: &str = "127.0.0.1:8092";
/// Where data is kept when nothing is said.
pub const DEFAULT_DATA_DIR: &str = "millrace-data";
/// The node's number when nothing is said.
const DEFAULT_NODE_ID: i32 = 1;
/// What all plugin instances together may use when nothing is said.
const DEFAULT_PLUGIN_MEMORY: u64 = 256 << 20;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port; 0 lets the system choose one.
    pub port: u16,
}

impl HostPort {
    /// Whether this is every address of the machine, which no client can connect to.
    pub fn is_unspecified(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
    }

    /// Whether only this machine can connect to it.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.parse::<Ipv6Addr>().is_ok() {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address; write it as \"127.0.0.1:9092\"");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or_else(wrong)?;
                inner.parse::<Ipv6Addr>().map_err(|_| wrong())?;
                inner
            }
            None => host,
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c) || (text.starts_with('[') && c == ':');
        if host.is_empty() || host.len() > 253 || !host.chars().all(legal) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// What the command line says; it goes before the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--node-id`
    pub node_id: Option<i32>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--advertised`
    pub advertised: Option<String>,
    /// `--http`
    pub http: Option<String>,
    /// `--http-token-file`
    pub http_token_file: Option<PathBuf>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--topics`
    pub topics: Option<PathBuf>,
}

/// The options of a node, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeOptions {
    /// The node's number.
    pub node_id: NodeId,
    /// Where Kafka clients are served.
    pub listen: HostPort,
    /// What they are told to connect to. Its port is 0 where `listen`'s is: it is whatever the system chooses.
    pub advertised: HostPort,
    /// Where HTTP is served.
    pub http: HostPort,
    /// Whether `http` was asked for: if not, a port that is taken is no reason not to start.
    pub http_required: bool,
    /// A file with the token that HTTP requests must carry.
    pub http_token_file: Option<PathBuf>,
    /// Where data is kept.
    pub data_dir: PathBuf,
    /// Where topic files are.
    pub topics: Option<PathBuf>,
    /// What all plugin instances together may use, in bytes.
    pub plugin_memory: u64,
    /// How many threads run guest code; as many as there are cores where `None`.
    pub plugin_threads: Option<usize>,
    /// Kafka's keys that are set.
    pub keys: BrokerKeys,
    /// What the keys come to.
    pub settings: BrokerSettings,
}

impl NodeOptions {
    /// Reads the file, if there is one, and puts the command line over it.
    ///
    /// # Errors
    /// Everything that is wrong, with file, line, key and reason.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, Problems> {
        let Some(path) = file else { return Self::from_text(None, overrides) };
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Place::file(&shown).problem(error.to_string()))?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::from_text(Some((&shown, &text, base)), overrides)
    }

    /// As [`NodeOptions::load`], from a file's name, its text and the directory that its paths are relative to.
    ///
    /// # Errors
    /// As [`NodeOptions::load`].
    pub fn from_text(file: Option<(&str, &str, &Path)>, overrides: &Overrides) -> Result<Self, Problems> {
        let (name, text, base) = file.unwrap_or(("", "", Path::new("")));
        let document = Document::new(name, text);
        let Some(table) = document.parse() else {
            Problems::check(document.into_problems())?;
            return Err(Place::file(name).problem("the file cannot be read").into());
        };
        let root = document.root(&table);
        let raw = Raw::read(&root, base);
        root.finish();
        let mut problems = document.into_problems();
        let options = raw.over(overrides).resolve(&mut problems);
        Problems::check(problems)?;
        options.ok_or_else(|| Place::file(name).problem("the options are incomplete").into())
    }

    /// The keys of DescribeConfigs that these options decide.
    pub fn facts(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("node.id", self.node_id.to_string()),
            ("broker.id", self.node_id.to_string()),
            ("listeners", format!("PLAINTEXT://{}", self.listen)),
            ("advertised.listeners", format!("PLAINTEXT://{}", self.advertised)),
            ("log.dirs", self.data_dir.display().to_string()),
            ("log.dir", self.data_dir.display().to_string()),
            ("process.roles", "broker,controller".to_owned()),
        ])
    }
}

/// What the file says, before the command line is put over it.
struct Raw {
    whole: Place,
    node_id: Option<Located<i64>>,
    listen: Option<Located<String>>,
    advertised: Option<Located<String>>,
    http: Option<Located<String>>,
    http_token_file: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    topics: Option<PathBuf>,
    plugin_memory: u64,
    plugin_threads: Option<usize>,
    keys: BTreeMap<String, Located<String>>,
    key_problems: Vec<Problem>,
}

impl Raw {
    fn read(root: &Section<'_, '_>, base: &Path) -> Self {
        let path = |key| root.text(key).map(|text: Located<String>| base.join(text.value));
        let (plugin_memory, plugin_threads) = match root.table("plugins") {
            Some(plugins) => plugins_section(plugins),
            None => (DEFAULT_PLUGIN_MEMORY, None),
        };
        let (keys, key_problems) = root.table("config").map(|section| kafka_section(&section)).unwrap_or_default();
        Self {
            whole: Place { line: 0, ..root.place() },
            node_id: root.integer("node-id", 0, i32::MAX.into()),
            listen: root.text("listen"),
            advertised: root.text("advertised"),
            http: root.text("http"),
            http_token_file: path("http-token-file"),
            data_dir: path("data-dir"),
            topics: path("topics"),
            plugin_memory,
            plugin_threads,
            keys,
            key_problems,
        }
    }

    fn over(mut self, command_line: &Overrides) -> Self {
        let option = |key: &str| Place { file: "command line".to_owned(), line: 0, key: key.to_owned() };
        let text = |given: &Option<String>, key, place: &mut Option<Located<String>>| {
            if let Some(value) = given {
                *place = Some(Located { value: value.clone(), place: option(key) });
            }
        };
        text(&command_line.listen, "--listen", &mut self.listen);
        text(&command_line.advertised, "--advertised", &mut self.advertised);
        text(&command_line.http, "--http", &mut self.http);
        if let Some(id) = command_line.node_id {
            self.node_id = Some(Located { value: id.into(), place: option("--node-id") });
        }
        self.http_token_file = command_line.http_token_file.clone().or(self.http_token_file);
        self.data_dir = command_line.data_dir.clone().or(self.data_dir);
        self.topics = command_line.topics.clone().or(self.topics);
        self
    }

    fn resolve(self, problems: &mut Vec<Problem>) -> Option<NodeOptions> {
        problems.extend(self.key_problems);
        let whole = self.whole;
        let http_required = self.http.is_some();
        let listen_place = place(&self.listen, &whole, "listen");
        let told_place =
            if self.advertised.is_some() { place(&self.advertised, &whole, "advertised") } else { listen_place };
        let http_place = place(&self.http, &whole, "http");
        let mut address = |given: Option<Located<String>>, default: &str| {
            let (text, place) = match &given {
                Some(located) => (located.value.as_str(), &located.place),
                None => (default, &whole),
            };
            text.parse::<HostPort>().map_err(|reason| problems.push(place.problem(reason))).ok()
        };
        let listen = address(self.listen, DEFAULT_LISTEN);
        let http = address(self.http, DEFAULT_HTTP);
        let advertised = match self.advertised {
            Some(given) => address(Some(given), DEFAULT_LISTEN),
            None => listen.clone(),
        };
        if listen.is_some() && advertised.as_ref().is_some_and(HostPort::is_unspecified) {
            let reason = "clients cannot connect to this address; say what they connect to with \
                          advertised = \"HOST:PORT\" (--advertised)";
            problems.push(told_place.problem(reason));
        }
        if http.as_ref().is_some_and(|http| !http.is_loopback()) && self.http_token_file.is_none() {
            let reason = "others than this machine could reach it; name a file that holds a secret with \
                          http-token-file = \"FILE\" (--http-token-file)";
            problems.push(http_place.problem(reason));
        }
        if let Some(id) = self.node_id.as_ref().filter(|id| id.value < 0) {
            problems.push(id.place.problem(format!("{} is not between 0 and {}", id.value, i32::MAX)));
        }
        let set = self.keys.iter().map(|(name, text)| (name.clone(), text.value.clone())).collect();
        let mut complain = |error: KeyError| {
            let place = self.keys.get(error.key()).map_or(&whole, |text| &text.place);
            problems.push(place.problem(error.to_string()));
        };
        let keys = BrokerKeys::new(set).map_err(&mut complain).ok()?;
        let settings = BrokerSettings::resolve(&keys).map_err(&mut complain).ok()?;
        Some(NodeOptions {
            node_id: NodeId::new(
                self.node_id.map_or(DEFAULT_NODE_ID, |id| i32::try_from(id.value).unwrap_or_default()),
            ),
            listen: listen?,
            advertised: advertised?,
            http: http?,
            http_required,
            http_token_file: self.http_token_file,
            data_dir: self.data_dir.unwrap_or_else(|| DEFAULT_DATA_DIR.into()),
            topics: self.topics,
            plugin_memory: self.plugin_memory,
            plugin_threads: self.plugin_threads,
            keys,
            settings,
        })
    }
}

fn place(given: &Option<Located<String>>, whole: &Place, key: &str) -> Place {
    match given {
        Some(located) => located.place.clone(),
        None => Place { key: key.to_owned(), ..whole.clone() },
    }
}

fn plugins_section(section: Section<'_, '_>) -> (u64, Option<usize>) {
    let memory = section.text("memory").and_then(|text| match units::bytes(&text.value) {
        Ok(bytes) if bytes >= 1 << 20 => Some(bytes),
        Ok(_) => {
            section.complain("memory", format!("{} is less than 1MiB", text.value));
            None
        }
        Err(reason) => {
            section.complain("memory", reason);
            None
        }
    });
    let threads = section.integer("threads", 1, 1024).and_then(|threads| usize::try_from(threads.value).ok());
    section.finish();
    (memory.unwrap_or(DEFAULT_PLUGIN_MEMORY), threads)
}

/// The keys that are sound, and what is wrong with the others. Keys that a node's own option decides are refused, so
/// that nothing is said twice.
fn kafka_section(section: &Section<'_, '_>) -> (BTreeMap<String, Located<String>>, Vec<Problem>) {
    let mut keys = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, text) in section.scalars() {
        let option = match name.as_str() {
            "node.id" | "broker.id" => Some("node-id"),
            "listeners" => Some("listen"),
            "advertised.listeners" => Some("advertised"),
            "log.dir" | "log.dirs" => Some("data-dir"),
            _ => None,
        };
        if let Some(option) = option {
            problems.push(text.place.problem(format!("is set by {option} = ... at the top of this file")));
            continue;
        }
        if name == "process.roles" {
            problems.push(text.place.problem("every node of this broker is broker and controller; leave it out"));
            continue;
        }
        match BrokerKeys::check(&name, &text.value) {
            Ok(_) => {
                keys.insert(name, text);
            }
            Err(error) => problems.push(text.place.problem(hint(&name, &error))),
        }
    }
    (keys, problems)
}

/// A topic's key in a node's file is the likeliest mistake: name the broker's key for it.
fn hint(name: &str, error: &KeyError) -> String {
    let broker_key = super::kafka_keys::topic_key(name).and_then(|key| key.synonyms.first());
    match (error, broker_key) {
        (KeyError::UnknownBrokerKey { .. }, Some((key, _))) => {
            format!("{error}; this is a topic's key, for all topics it is {key}")
        }
        _ => error.to_string(),
    }
}
