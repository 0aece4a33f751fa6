//! Apache Kafka as the referee: one node, broker and controller at once, with the stock defaults.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{ports, tools};

/// Writes the node's configuration and formats its storage. Returns the configuration's path.
pub fn format(dir: &Path, port: u16, config: &[(String, String)]) -> PathBuf {
    let java = tools::java().expect("the referee is Kafka, which needs Java");
    let controller = ports::free();
    let file = dir.join("server.properties");
    let mut text = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\nlog.dirs={}\n\
         offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n",
        data_dir(dir).display()
    );
    for (key, value) in config {
        text.push_str(&format!("{key}={value}\n"));
    }
    std::fs::write(&file, text).expect("the configuration can be written");
    let mut format = java.tool("kafka.tools.StorageTool");
    tools::stdout(format.args(["format", "-t", "bWlsbHJhY2UtcmVmZXJlZQ", "-c"]).arg(&file));
    file
}

/// Where the node keeps its partitions.
pub fn data_dir(dir: &Path) -> PathBuf {
    dir.join("data")
}

/// The command that runs a formatted node.
pub fn run(properties: &Path) -> Command {
    let java = tools::java().expect("the referee is Kafka, which needs Java");
    let mut command = java.class(&["-Xmx512m", "-XX:+UseG1GC"], "kafka.Kafka");
    command.arg(properties);
    command
}
