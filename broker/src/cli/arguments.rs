//! What can be written after `millrace`.

use crate::config::Overrides;
use crate::config::node::{DEFAULT_DATA_DIR, DEFAULT_HTTP, DEFAULT_LISTEN};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A Kafka-compatible broker that runs WebAssembly plugins.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, about, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  millrace quickstart                        a broker with real records and plugins
  millrace serve --topics topics             a broker, with the topics of a directory
  millrace plan topics                       what applying a directory would change
  millrace apply topics                      change it
  kcat -b 127.0.0.1:9092 -L                  any Kafka client works")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a broker with real records and three plugins, to look around.
    #[command(after_help = "\
Examples:
  millrace quickstart
  millrace quickstart --listen 127.0.0.1:19092 --data-dir /tmp/millrace")]
    Quickstart(NodeArguments),
    /// Run a broker until it is stopped.
    #[command(after_help = "\
Examples:
  millrace serve
  millrace serve --config node.toml
  millrace serve --listen 0.0.0.0:9092 --advertised broker.example:9092 --data-dir /var/lib/millrace --topics topics")]
    Serve(NodeArguments),
    /// Show what applying topic files would change.
    #[command(after_help = "\
Examples:
  millrace plan topics
  millrace plan topics --exit-code && echo 'nothing to do'")]
    Plan(PlanOptions),
    /// Bring the broker in line with topic files, all of them or none.
    #[command(after_help = "\
A topic that a file describes gets what the file says: configs and plugins that it does not name are taken off.
Topics that no file describes are left alone. Nothing is ever deleted.

Examples:
  millrace apply topics
  millrace apply topics --broker 10.0.0.5:8092 --token-file secret")]
    Apply(ApplyOptions),
    /// Put a plugin into the registry, for topic files to name.
    #[command(after_help = "\
Examples:
  millrace push target/wasm32-wasip2/release/mask_cards.wasm --version 1.0.0
  millrace push plugin.wasm --name mask-cards --version 1.0.1")]
    Push(PushOptions),
    /// List topics with their plugins.
    Topics(Connection),
    /// List the plugins of the registry.
    Plugins(Connection),
    /// Show the node and its cluster.
    Status(Connection),
}

/// The options of a node, each as in its file; they go before the file's.
#[derive(Clone, Debug, Args)]
pub struct NodeArguments {
    /// The node's file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[doc = "Serve Kafka clients here"]
    #[arg(long, value_name = "HOST:PORT", help = format!("Serve Kafka clients here [default: {DEFAULT_LISTEN}]"))]
    pub listen: Option<String>,
    /// Tell clients to connect here [default: where it listens]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertised: Option<String>,
    #[doc = "Serve HTTP here"]
    #[arg(
        long,
        value_name = "HOST:PORT",
        help = format!("Serve health, metrics, plan, apply and push here [default: {DEFAULT_HTTP}]")
    )]
    pub http: Option<String>,
    /// Require this file's content as a token on the HTTP port
    #[arg(long, value_name = "FILE")]
    pub http_token_file: Option<PathBuf>,
    #[doc = "Keep data here"]
    #[arg(long, value_name = "DIR", help = format!("Keep data here [default: {DEFAULT_DATA_DIR}]"))]
    pub data_dir: Option<PathBuf>,
    /// Apply these topic files on the first start; show what differs on later ones
    #[arg(long, value_name = "DIR")]
    pub topics: Option<PathBuf>,
    /// This node's number in its cluster [default: 1]
    #[arg(long, value_name = "N")]
    pub node_id: Option<i32>,
}

impl NodeArguments {
    /// What goes before the file.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            node_id: self.node_id,
            listen: self.listen.clone(),
            advertised: self.advertised.clone(),
            http: self.http.clone(),
            http_token_file: self.http_token_file.clone(),
            data_dir: self.data_dir.clone(),
            topics: self.topics.clone(),
        }
    }
}

/// How to reach a running broker.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// The broker's HTTP port
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_HTTP)]
    pub broker: String,
    /// A file with the broker's token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// `millrace plan`
#[derive(Clone, Debug, Args)]
pub struct PlanOptions {
    /// The directory with topic files (*.toml), or one of them
    pub path: PathBuf,
    /// Exit with 3 if anything differs
    #[arg(long)]
    pub exit_code: bool,
    /// How to reach the broker.
    #[command(flatten)]
    pub connection: Connection,
}

/// `millrace apply`
#[derive(Clone, Debug, Args)]
pub struct ApplyOptions {
    /// The directory with topic files (*.toml), or one of them
    pub path: PathBuf,
    /// How to reach the broker.
    #[command(flatten)]
    pub connection: Connection,
}

/// `millrace push`
#[derive(Clone, Debug, Args)]
pub struct PushOptions {
    /// The component
    pub file: PathBuf,
    /// The plugin's name [default: the file's, with dashes]
    #[arg(long)]
    pub name: Option<String>,
    /// The plugin's version
    #[arg(long = "version", value_name = "X.Y.Z", default_value = "0.1.0")]
    pub plugin_version: String,
    /// How to reach the broker.
    #[command(flatten)]
    pub connection: Connection,
}
