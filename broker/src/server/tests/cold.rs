//! Who reads what is on the disk only waits for it alone.

use super::node::{Machine, Node, Stages};
use super::requests::{append, create, fetch, only, read};
use crate::server::Options;
use millrace_model::Offload;
use millrace_protocol::messages::FetchResponse;
use millrace_storage::io::sim::SimDisk;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Keeps what may wait for the disk until it is let go.
#[derive(Default)]
struct Held(Mutex<Vec<Box<dyn FnOnce() + Send>>>);

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

impl Offload for Held {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        self.0.lock().unwrap().push(job);
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }

    fn let_go(&self) {
        let jobs = std::mem::take(&mut *self.0.lock().unwrap());
        jobs.into_iter().for_each(|job| job());
    }
}

/// On one thread: a read that waited on it would hold everybody up.
#[tokio::test]
async fn cold_reads_do_not_stall_hot_ones() {
    let (disk, held) = (SimDisk::new(1), Arc::new(Held::default()));
    let machine =
        Machine { disk: Arc::new(disk.clone()), dir: "/".into(), offload: Arc::clone(&held) as Arc<dyn Offload> };
    let node = Node::on(machine, &[], Options::default(), Stages::default()).await;
    let (mut hot, mut cold) = (node.client().await, node.client().await);
    let id = create(&mut hot, "orders", 2).await;
    let long = "x".repeat(40);
    let values = vec![long.as_str(), long.as_str()];
    // More than what counts as written a moment ago, in more batches than the writer remembers.
    let many = vec![long.as_str(); 63];
    for _ in 0..500 {
        append(&mut hot, "orders", id, 0, &many).await;
    }
    for isolation in [0, 1] {
        let waited = disk.waits();
        disk.drop_cached(Path::new("/data/orders-0"));
        let mut request = fetch("orders", id, &[(0, 1000)]);
        request.isolation_level = isolation;
        let sent = cold.send_version(12, &request).await.unwrap();
        let left_to_others = async {
            while held.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), left_to_others).await.unwrap();
        for _ in 0..10 {
            append(&mut hot, "orders", id, 0, &values).await;
            let at = append(&mut hot, "orders", id, 1, &values).await;
            let answer = read(&mut hot, 12, &fetch("orders", id, &[(1, at)])).await;
            assert!(only(&answer).records.as_ref().is_some_and(|records| !records.is_empty()));
        }
        assert_eq!(disk.waits(), waited, "reads have waited where they must not");
        let answer = async {
            let answer: FetchResponse = cold.receive(sent).await.unwrap();
            answer
        };
        let letting_go = async {
            loop {
                held.let_go();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let answer = tokio::select! { answer = answer => answer, () = letting_go => unreachable!() };
        assert!(disk.waits() > waited, "nothing was cold");
        let records = only(&answer).records.clone().unwrap();
        assert_eq!(records[..8], (1000_i64 / 63 * 63).to_be_bytes(), "isolation level {isolation}");
    }
}
