//! Java, Go, Python, Node and kcat: found on the machine, prepared once, or missed loudly.
//!
//! What a language needs is built under the cache directory, named by the contents of its sources, under a lock: test
//! binaries of several checkouts may start at once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock};

use crate::paths;

/// Java with the jars and the compiled classes of one folder.
#[derive(Debug)]
pub struct Java {
    libs: PathBuf,
    classes: PathBuf,
    log4j: PathBuf,
}

impl Java {
    /// `java CLASS`, with the jars on the class path.
    pub fn class(&self, jvm: &[&str], class: &str) -> Command {
        let mut command = Command::new("java");
        command.args(jvm).arg(format!("-Dlog4j2.configurationFile={}", self.log4j.display())).arg("-cp");
        command.arg(format!("{}:{}/*", self.classes.display(), self.libs.display())).arg(class);
        command
    }

    /// One of Kafka's tools. Short lived, so the compiler is kept from spending a core on it.
    pub fn tool(&self, class: &str) -> Command {
        self.class(&["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"], class)
    }

    /// An application that runs as long as its test.
    pub fn application(&self, class: &str) -> Command {
        self.class(&["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"], class)
    }
}

/// Whether a missing tool is a failure.
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// Says once, past libtest's capture, that tests are skipped for want of a tool; panics in CI.
pub fn missing(tool: &str, why: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    assert!(!in_ci(), "{tool} is missing, and CI skips nothing: {why}");
    if SAID.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(tool.to_owned()) {
        drop(writeln!(std::io::stderr(), "\n*** SKIPPED: the tests that need {tool}: {why}\n"));
    }
}

fn found(program: &str) -> Result<(), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if known { Ok(()) } else { Err(format!("no {program} on PATH")) }
}

fn once<T>(cell: &'static OnceLock<Option<T>>, tool: &str, prepare: fn() -> Result<T, String>) -> Option<&'static T> {
    let prepared = cell.get_or_init(|| prepare().map_err(|why| missing(tool, &why)).ok());
    prepared.as_ref()
}

/// Java 17 or later with mvn and javac.
pub fn java() -> Option<&'static Java> {
    static CELL: OnceLock<Option<Java>> = OnceLock::new();
    once(&CELL, "Java", prepare_java)
}

/// The same with Spring Boot's jars and the application in `java-spring`.
pub fn spring() -> Option<&'static Java> {
    static CELL: OnceLock<Option<Java>> = OnceLock::new();
    once(&CELL, "Java", prepare_spring)
}

/// The folder of the Go drivers' binaries.
pub fn go() -> Option<&'static Path> {
    static CELL: OnceLock<Option<PathBuf>> = OnceLock::new();
    once(&CELL, "Go", prepare_go).map(PathBuf::as_path)
}

/// A Python interpreter with the driver's packages.
pub fn python() -> Option<&'static Path> {
    static CELL: OnceLock<Option<PathBuf>> = OnceLock::new();
    once(&CELL, "Python", prepare_python).map(PathBuf::as_path)
}

/// A folder with the Node driver and its packages.
pub fn node() -> Option<&'static Path> {
    static CELL: OnceLock<Option<PathBuf>> = OnceLock::new();
    once(&CELL, "Node", prepare_node).map(PathBuf::as_path)
}

/// kcat, Debian's package.
pub fn kcat() -> Option<&'static str> {
    static CELL: OnceLock<Option<&'static str>> = OnceLock::new();
    once(&CELL, "kcat", || found("kcat").map(|()| "kcat")).copied()
}

fn prepare_java() -> Result<Java, String> {
    project("java", &["Driver.java", "Counts.java"])
}

fn prepare_spring() -> Result<Java, String> {
    project("java-spring", &["Orders.java"])
}

/// A folder with a pom.xml, whose dependencies come from Maven Central, and sources.
fn project(folder: &str, sources: &[&str]) -> Result<Java, String> {
    for program in ["java", "javac", "mvn"] {
        found(program)?;
    }
    let clients = paths::root().join("tests/clients");
    let pom = clients.join(folder).join("pom.xml");
    let libs = built(&format!("{folder}-libs"), std::slice::from_ref(&pom), |dir| {
        let mut mvn = Command::new("mvn");
        mvn.args(["-q", "-B", "-f"]).arg(&pom).arg("dependency:copy-dependencies");
        run(mvn.arg(format!("-DoutputDirectory={}", dir.display())))
    })?;
    let sources: Vec<PathBuf> = sources.iter().map(|name| clients.join(folder).join(name)).collect();
    let classes = built(&format!("{folder}-classes"), &[&sources[..], &[pom]].concat(), |dir| {
        let mut javac = Command::new("javac");
        javac.args(["-parameters", "-cp"]).arg(format!("{}/*", libs.display()));
        run(javac.arg("-d").arg(dir).args(&sources))
    })?;
    Ok(Java { libs, classes, log4j: clients.join("java/log4j2.yaml") })
}

fn prepare_go() -> Result<PathBuf, String> {
    found("go")?;
    let source = paths::root().join("tests/clients/go");
    let mut files = vec![source.join("go.mod"), source.join("go.sum")];
    for package in ["lines", "franz", "sarama"] {
        let sources = fs::read_dir(source.join(package)).map_err(|error| error.to_string())?;
        files.extend(sources.filter_map(|entry| entry.ok().map(|entry| entry.path())));
    }
    files.sort();
    built("go", &files, |dir| {
        run(Command::new("go").current_dir(&source).arg("build").arg("-o").arg(dir).args(["./franz", "./sarama"]))
    })
}

fn prepare_node() -> Result<PathBuf, String> {
    found("node")?;
    found("npm")?;
    let source = paths::root().join("tests/clients/node");
    let files = ["package.json", "package-lock.json", "driver.js"].map(|name| source.join(name));
    // npm installs beside the package's file, and a module finds its packages beside itself.
    built("node", &files, |dir| {
        for file in &files {
            let name = file.file_name().ok_or("a file without a name")?;
            fs::copy(file, dir.join(name)).map_err(|error| error.to_string())?;
        }
        run(Command::new("npm").current_dir(dir).args(["ci", "--silent", "--no-audit", "--no-fund"]))
    })
}

fn prepare_python() -> Result<PathBuf, String> {
    found("python3")?;
    let requirements = paths::root().join("tests/clients/python/requirements.txt");
    let dir = built("python", std::slice::from_ref(&requirements), |dir| {
        run(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
        let mut pip = Command::new(dir.join("bin/pip"));
        run(pip.args(["install", "-q", "--disable-pip-version-check", "-r"]).arg(&requirements))
    })?;
    Ok(dir.join("bin/python"))
}

/// The directory that `build` fills from `sources`, built if it is not there yet.
fn built(name: &str, sources: &[PathBuf], build: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let dir = paths::cache().join(format!("{name}-{}", paths::fingerprint(sources)));
    let lock = File::create(paths::cache().join(format!("{name}.lock"))).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let complete = dir.join(".complete");
    if !complete.exists() {
        drop(fs::remove_dir_all(&dir));
        fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
        build(&dir)?;
        File::create(complete).map_err(|error| error.to_string())?;
    }
    Ok(dir)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}:\n{}", everything(&output))) }
}

/// What a process wrote, both streams.
pub fn everything(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a tool to its end and returns its standard output; panics with all it said if it failed.
pub fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed with {}:\n{}", output.status, everything(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}
