//! Transactions in every library: what each reads, writes and commits at once, and what all others see of that.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millrace_tests::client::{Client as _, Commands as _, Library, acks, seen};
use millrace_tests::record::{Record, Seen};
use millrace_tests::shared::{self, Shared};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// One library's work: it reads a topic as a member of a group, and writes another in transactions.
struct Worker {
    client: Shared,
    input: String,
    output: String,
    /// The member's name, and the group's.
    member: String,
    /// The transactional id.
    id: String,
    got: BTreeSet<i64>,
}

impl Worker {
    fn new(library: Library) -> Option<Self> {
        let mut client = shared::client(library)?;
        let name = |what: &str| format!("exactly-once-{what}-{}", library.name());
        let [input, output, member, id] = ["in", "out", "group", "id"].map(name);
        client.create(&input, 1, json!({}));
        client.create(&output, 1, json!({}));
        client.must(json!({
            "op": "join", "member": member, "group": member, "topic": input, "session_timeout_ms": 10_000,
            "transactional": id,
        }));
        Some(Self { client, input, output, member, id, got: BTreeSet::new() })
    }

    /// More to read, and reads until everything there is was read.
    fn read(&mut self, count: usize) {
        let records = named("input", count);
        let acks = self.client.produce(&self.input, "none", &records);
        let last = acks.last().expect("some").clone().expect("acked").1;
        let deadline = Instant::now() + PATIENCE;
        while !self.got.contains(&last) {
            assert!(Instant::now() < deadline, "{}: not read to {last}: {:?}", self.input, self.got);
            let polled = self.client.must(json!({"op": "poll", "member": self.member, "timeout_ms": 200}));
            self.got.extend(seen(&polled).iter().map(|seen| seen.offset));
        }
    }

    fn committed(&mut self) -> Value {
        self.client.must(json!({"op": "committed", "member": self.member, "topic": self.input}))["offset"].take()
    }

    /// The answer to a commit may come before its marker has reached the group.
    fn has_committed(&mut self, offset: i64) {
        let deadline = Instant::now() + PATIENCE;
        let mut found = self.committed();
        while found != offset {
            assert!(Instant::now() < deadline, "{}: {found} instead of {offset}", self.input);
            std::thread::sleep(Duration::from_millis(20));
            found = self.committed();
        }
    }

    fn begin(&mut self, producer: &str, label: &str) {
        self.client.must(json!({"op": "begin", "producer": self.name(producer)}));
        let sent = self.send(producer, label).expect("carried out");
        assert!(acks(&sent).iter().all(Result::is_ok), "{}, {label}: {sent}", self.output);
    }

    fn init(&mut self, producer: &str, member: Option<&str>) {
        let init = json!({"op": "init", "producer": self.name(producer), "transactional": self.id, "member": member});
        self.client.must(init);
    }

    fn send(&mut self, producer: &str, label: &str) -> Result<Value, String> {
        let records: Vec<Value> = named(label, 5).iter().map(Record::to_json).collect();
        let producer = self.name(producer);
        self.client.call(&json!({"op": "send", "producer": producer, "topic": self.output, "records": records}))
    }

    fn offsets(&mut self, producer: &str) {
        self.client.must(json!({"op": "offsets", "producer": self.name(producer), "member": self.member}));
    }

    fn end(&mut self, producer: &str, commit: bool) -> Result<Value, String> {
        self.client.call(&json!({"op": "end", "producer": self.name(producer), "commit": commit}))
    }

    /// Everything the first producer is told once a second one has its id: errors only, one of them of that.
    fn is_fenced(&mut self, producer: &str) {
        let mut words = Vec::new();
        match self.send(producer, "fenced") {
            Ok(sent) => words.extend(acks(&sent).into_iter().filter_map(Result::err)),
            Err(error) => words.push(error),
        }
        words.push(self.end(producer, true).expect_err("a commit of what was aborted by another"));
        let told = words.iter().any(|word| ["fence", "epoch"].iter().any(|told| word.to_lowercase().contains(told)));
        assert!(told, "{}: {words:?}", self.output);
        // And so it stays: there is no way back for this producer.
        let again = self.client.call(&json!({"op": "begin", "producer": self.name(producer)}));
        let again = again.and_then(|_| self.send(producer, "fenced")).and_then(|_| self.end(producer, true));
        assert!(again.is_err(), "{}: a fenced producer went on", self.output);
    }

    /// What a library thinks of closing a fenced producer is its own affair.
    fn close(&mut self, producer: &str) {
        let producer = self.name(producer);
        drop(self.client.call(&json!({"op": "close", "producer": producer})));
    }

    fn name(&self, producer: &str) -> String {
        format!("{}-{producer}", self.id)
    }
}

fn named(label: &str, count: usize) -> Vec<Record> {
    let one = |i| Record::new(None, Some(format!("{label} {i}").as_bytes()), 1_700_000_000_000);
    (0..count).map(one).collect()
}

fn values(labels: &[&str]) -> Vec<Vec<u8>> {
    labels.iter().flat_map(|label| named(label, 5)).filter_map(|record| record.value).collect()
}

/// What every library reads from a topic, with what it is allowed to see.
fn all_see(topic: &str, committed: bool, expected: &[Vec<u8>]) {
    for (reader, mut client) in shared::clients() {
        let answer = client.must(json!({
            "op": "consume", "topic": topic, "offset": 0, "count": expected.len(), "committed": committed,
        }));
        let found: Vec<Seen> = seen(&answer);
        let found: Vec<String> = found.iter().map(|seen| text(seen.record.value.as_deref())).collect();
        let expected: Vec<String> = expected.iter().map(|value| text(Some(value))).collect();
        assert_eq!(found, expected, "{topic} read by {}, committed: {committed}", reader.name());
    }
}

fn text(value: Option<&[u8]>) -> String {
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

fn transactions_of(library: Library) {
    let Some(mut worker) = Worker::new(library) else { return };
    let member = worker.member.clone();
    worker.init("first", Some(&member));
    worker.read(10);
    worker.begin("first", "committed");
    worker.offsets("first");
    worker.end("first", true).expect("a commit");
    worker.has_committed(10);

    worker.read(5);
    worker.begin("first", "aborted");
    worker.offsets("first");
    worker.end("first", false).expect("an abort");
    worker.begin("first", "after");
    worker.end("first", true).expect("a commit after an abort");
    assert_eq!(worker.committed(), 10, "{}: not committed without the records", worker.input);

    // Another instance takes over in the middle of a transaction.
    worker.begin("first", "zombie");
    worker.init("second", None);
    worker.begin("second", "second");
    worker.end("second", true).expect("a commit of the second");
    // Only now: kafka-python's answer to INVALID_PRODUCER_EPOCH is InitProducerId with its old epoch, and where a
    // transaction is open the coordinator aborts that before it looks at the epoch (Kafka's too). It asks in the
    // background and again while the commit is not complete, which Kafka's is only after its answer: so it is closed
    // before another begins.
    worker.is_fenced("first");
    worker.close("first");

    // One is still open while all read: only those who ask for everything see it.
    worker.begin("second", "open");
    all_see(&worker.output, false, &values(&["committed", "aborted", "after", "zombie", "second", "open"]));
    all_see(&worker.output, true, &values(&["committed", "after", "second"]));
    worker.end("second", false).expect("an abort of the second");
    worker.close("second");
    worker.client.must(json!({"op": "leave", "member": worker.member}));
}

#[test]
fn every_library_reads_processes_and_writes_in_transactions_and_all_others_see_just_the_committed_records() {
    shared::at_once(&Library::ALL, |library| transactions_of(*library));
}
