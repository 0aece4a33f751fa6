//! A node on this machine's own sockets, with its HTTP port and its topic files: what `serve` and `quickstart` run.

use super::{Node, Seams, StartError};
use crate::config::{Bundle, HostPort, NodeOptions, Problems};
use crate::http::{self, Applier, AtStart, GenerationInfo, HttpContext};
use crate::partition::{PartitionHandle, Partitions};
use crate::server::net::{Listener, Tcp};
use millrace_model::TopicId;
use millrace_storage::{GenerationStart, StorageError};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A node that serves on this machine.
#[derive(Debug)]
pub struct Running {
    node: Node,
    kafka: SocketAddr,
    http: Option<SocketAddr>,
    applier: Arc<Applier>,
    stop: watch::Sender<bool>,
    open: watch::Sender<bool>,
    http_task: Option<JoinHandle<()>>,
}

impl Running {
    /// Binds the sockets and starts the node. Topic files are not looked at yet, and Kafka clients wait until
    /// [`Running::open`].
    ///
    /// # Errors
    /// Why it cannot start.
    pub async fn start(options: &NodeOptions) -> Result<Self, StartError> {
        let settings = &options.settings;
        let listener = listen("--listen", &options.listen, settings.listen_backlog)?;
        let kafka = bound("--listen", &options.listen, &listener)?;
        let http_listener = match listen("--http", &options.http, 128) {
            Ok(listener) => Some(listener),
            Err(error) if options.http_required => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "no HTTP: metrics, plan, apply and push are out of reach; choose with --http");
                None
            }
        };
        let http = http_listener.as_ref().map(|listener| bound("--http", &options.http, listener)).transpose()?;
        let token = options.http_token_file.as_deref().map(read_token).transpose()?;
        let mut advertised = options.advertised.clone();
        if advertised.port == 0 {
            advertised.port = kafka.port();
        }
        let tcp = Tcp::new(listener, settings.socket_send_buffer, settings.socket_receive_buffer);
        let (open, opened) = watch::channel(false);
        let gate = Gate { tcp, opened: opened.clone() };
        let node = Node::start(options, Seams::of_this_machine(options.plugin_threads), gate, advertised).await?;
        let applier = Arc::clone(node.applier());
        let (stop, stopped) = watch::channel(false);
        let http_task = http_listener.map(|listener| {
            let context = context(&node, token, options, (opened, stopped.clone()));
            tokio::spawn(serve_http(listener, context, stopped))
        });
        Ok(Self { node, kafka, http, applier, stop, open, http_task })
    }

    /// Applies or compares topic files, as is right at a start.
    ///
    /// # Errors
    /// What is wrong with them, with file, line, key and reason.
    pub async fn topic_files(&self, files: &Result<Bundle, Problems>) -> Result<AtStart, Problems> {
        self.applier.at_start(files).await
    }

    /// Lets Kafka clients in.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Where Kafka clients are served.
    pub fn kafka(&self) -> SocketAddr {
        self.kafka
    }

    /// Where HTTP is served; nowhere if its port was taken.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Stops in order.
    ///
    /// # Errors
    /// What could not be closed; the next start then looks at the logs.
    pub async fn shutdown(self) -> Result<(), StorageError> {
        self.stop.send_replace(true);
        if let Some(task) = self.http_task {
            task.abort();
        }
        self.node.shutdown().await
    }
}

/// Connections wait in the backlog until the topics are as their files say. A client that came sooner could create a
/// topic by asking for it, and its records would be stored without the topic's plugins.
struct Gate {
    tcp: Tcp,
    opened: watch::Receiver<bool>,
}

impl Listener for Gate {
    type Stream = TcpStream;

    async fn accept(&mut self) -> std::io::Result<(TcpStream, SocketAddr)> {
        // An error means that the node is gone, and so is the one who would accept.
        let _ = self.opened.wait_for(|opened| *opened).await;
        self.tcp.accept().await
    }
}

/// The node is ready from when it was opened until it is to stop.
fn context(
    node: &Node,
    token: Option<Arc<str>>,
    options: &NodeOptions,
    (opened, stopped): (watch::Receiver<bool>, watch::Receiver<bool>),
) -> HttpContext {
    let (metrics, partitions) = (Arc::clone(node.metrics()), node.partitions().clone());
    HttpContext {
        generations: Arc::new(move |topic| generations(&partitions, topic)),
        applier: Arc::clone(node.applier()),
        metrics: Arc::new(move || metrics.encode()),
        ready: Arc::new(move || *opened.borrow() && !*stopped.borrow()),
        token,
        node_id: options.node_id,
    }
}

/// What this node's partitions of a topic have noted of its plugins.
fn generations(partitions: &Partitions, topic: TopicId) -> Vec<GenerationInfo> {
    let Some(topic) = partitions.topic(topic) else { return Vec::new() };
    let of = |partition: &PartitionHandle| {
        let index = partition.index().get();
        let info = |entry: &GenerationStart| GenerationInfo {
            partition: index,
            generation: entry.generation,
            first_offset: entry.start.get(),
            plugins: entry.plugins.split_whitespace().map(str::to_owned).collect(),
        };
        partition.generations().iter().map(info).collect::<Vec<_>>()
    };
    topic.iter().flat_map(of).collect()
}

async fn serve_http(listener: TcpListener, context: HttpContext, mut stopped: watch::Receiver<bool>) {
    let stop = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    if let Err(error) = http::serve(listener, context, stop).await {
        tracing::error!(%error, "the HTTP port failed");
    }
}

/// A listening socket. The port of a broker that ended a moment ago is free for the next.
fn listen(option: &'static str, address: &HostPort, backlog: u32) -> Result<TcpListener, StartError> {
    let failed = |source| StartError::Listen { option, address: address.to_string(), source };
    let mut last = std::io::ErrorKind::AddrNotAvailable.into();
    for target in (address.host.as_str(), address.port).to_socket_addrs().map_err(failed)? {
        let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let attempt = socket.and_then(|socket| {
            socket.set_reuseaddr(true)?;
            socket.bind(target)?;
            socket.listen(backlog)
        });
        match attempt {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn bound(option: &'static str, address: &HostPort, listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { option, address: address.to_string(), source })
}

fn read_token(path: &std::path::Path) -> Result<Arc<str>, StartError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| StartError::Config(format!("http-token-file {}: {error}", path.display())))?;
    match text.trim() {
        "" => Err(StartError::Config(format!("http-token-file {} is empty", path.display()))),
        token => Ok(Arc::from(token)),
    }
}
