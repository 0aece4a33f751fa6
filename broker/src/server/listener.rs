//! Accepts connections and gives each a task.

use super::connection::{Closed, Connection};
use super::limits::{Options, Shared};
use super::net::{Listener, Stream};
use super::service::{ConnectionInfo, Service};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Accepts and serves connections until `stop` turns true, then drops those that are open.
pub async fn serve<L: Listener, V: Service>(
    mut listener: L,
    service: Arc<V>,
    options: Options,
    mut stop: watch::Receiver<bool>,
) {
    let shared = Shared::new(options);
    let mut tasks = JoinSet::new();
    let mut said: Option<Instant> = None;
    for id in 0.. {
        let accepted = loop {
            let has_room = shared.has_room();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                Some(_) = tasks.join_next() => {}
                () = shared.options.limits.changed(), if !has_room => {}
                accepted = listener.accept(), if has_room => break accepted,
            }
        };
        let (stream, peer) = match accepted {
            // An address of the fourth version is the same one behind a socket of the sixth.
            Ok((stream, peer)) => (stream, SocketAddr::new(peer.ip().to_canonical(), peer.port())),
            Err(error) => {
                // It fails again and again until descriptors are given back.
                if said.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
                    tracing::warn!(%error, "a connection could not be accepted");
                    said = Some(Instant::now());
                }
                // Out of descriptors: nothing is won by trying again at once.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err((key, limit)) = shared.admit(peer.ip()) {
            tracing::warn!(%peer, key, limit, "a connection too many was refused");
            service.refused();
            continue;
        }
        tasks.spawn(connection(stream, peer, id, Arc::clone(&service), Arc::clone(&shared)));
    }
}

async fn connection<S: Stream, V: Service>(stream: S, peer: SocketAddr, id: u64, service: Arc<V>, shared: Arc<Shared>) {
    let _open = Open { shared: Arc::clone(&shared), service: Arc::clone(&service), peer: peer.ip() };
    service.connections(1);
    let info = Arc::new(ConnectionInfo::new(id, peer));
    match Connection::new(stream, Arc::clone(&service), shared, info).run().await {
        Closed::ByClient => tracing::debug!(id, %peer, "connection closed by the client"),
        reason @ (Closed::Idle(_) | Closed::Io(_)) => tracing::debug!(id, %peer, %reason, "connection closed"),
        reason => {
            service.refused();
            tracing::info!(id, %peer, %reason, "connection closed");
        }
    }
}

/// Counts a connection for as long as its task lives, even if that is aborted.
struct Open<V: Service> {
    shared: Arc<Shared>,
    service: Arc<V>,
    peer: IpAddr,
}

impl<V: Service> Drop for Open<V> {
    fn drop(&mut self) {
        self.shared.dismiss(self.peer);
        self.service.connections(-1);
    }
}
