//! A client library in a process of its own, one command and one answer a line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::client::{Client, Library};
use crate::leash::Leashed;
use crate::librdkafka::Librdkafka;
use crate::{paths, patience, tools};

/// A driver process.
#[derive(Debug)]
pub struct Session {
    library: Library,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    _process: Leashed,
}

/// Opens a client of this library, or `None` if the machine lacks its language.
pub fn open(library: Library, bootstrap: &str) -> Option<Box<dyn Client>> {
    let mut command = match library {
        Library::Librdkafka => return Some(Box::new(Librdkafka::new(bootstrap))),
        Library::Java => tools::java()?.tool("Driver"),
        Library::Go => Command::new(tools::go()?.join("franz")),
        Library::Sarama => Command::new(tools::go()?.join("sarama")),
        Library::Python => python("driver.py")?,
        Library::Aiokafka => python("aio.py")?,
        Library::Kafkajs => {
            let mut node = Command::new("node");
            node.arg(tools::node()?.join("driver.js"));
            node
        }
    };
    let mut process = Leashed::spawn(command.arg(bootstrap).stdin(Stdio::piped()).stdout(Stdio::piped()));
    let stdin = process.child().stdin.take().expect("a pipe");
    let stdout = BufReader::new(process.child().stdout.take().expect("a pipe"));
    Some(Box::new(Session { library, stdin, stdout, _process: process }))
}

fn python(driver: &str) -> Option<Command> {
    let mut python = Command::new(tools::python()?);
    // Without a cache of what it compiled, which would lie beside the sources.
    python.arg("-B").arg(paths::root().join("tests/clients/python").join(driver));
    Some(python)
}

impl Client for Session {
    fn call(&mut self, command: &Value) -> Result<Value, String> {
        writeln!(self.stdin, "{command}").and_then(|()| self.stdin.flush()).map_err(|error| error.to_string())?;
        let mut line = String::new();
        patience::during(command, || self.stdout.read_line(&mut line)).map_err(|error| error.to_string())?;
        assert!(!line.is_empty(), "the {} driver ended at {}", self.library.name(), command["op"]);
        let mut answer: Value = serde_json::from_str(&line).map_err(|error| format!("{error}: {line}"))?;
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["ok"].take()),
        }
    }
}
