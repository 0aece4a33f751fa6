//! Kafka's DumpLogSegments as the judge of what lies on disk.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::tools;

/// Every partition's segment files with one of these extensions, in order.
pub fn files(data_dir: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![data_dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("cannot list {}: {error}", dir.display())) {
            let path = entry.expect("a directory entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if is_segment(&path, extensions) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Segment files are named by their first offset in twenty digits.
fn is_segment(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|text| text.to_str()).unwrap_or_default();
    let stem = path.file_stem().and_then(|text| text.to_str()).unwrap_or_default();
    extensions.contains(&extension) && stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit())
}

/// What the tool found in all segments of a topic.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// `.log`, `.index`, `.timeindex`, `.txnindex` and `.snapshot` files read.
    pub files: usize,
    /// Batches, every one with a valid checksum.
    pub batches: usize,
    /// Records found by walking every batch.
    pub records: usize,
}

/// Reads every segment file of the topics whose directory names begin with `topic`, and panics with the tool's words if
/// it finds anything wrong. `None` without Java.
pub fn check(data_dir: &Path, topic: &str) -> Option<Verdict> {
    check_with(data_dir, topic, false)
}

/// The same for compacted topics, whose offsets have gaps.
pub fn check_compacted(data_dir: &Path, topic: &str) -> Option<Verdict> {
    check_with(data_dir, topic, true)
}

fn check_with(data_dir: &Path, topic: &str, gaps: bool) -> Option<Verdict> {
    let java = tools::java()?;
    let ours = |path: &PathBuf| {
        let dir = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        dir.rsplit_once('-').is_some_and(|(name, _)| name.starts_with(topic))
    };
    let all: Vec<PathBuf> =
        files(data_dir, &["log", "index", "timeindex", "txnindex", "snapshot"]).into_iter().filter(ours).collect();
    assert!(!all.is_empty(), "no segments of {topic} in {}", data_dir.display());
    let mut verdict = Verdict { files: all.len(), ..Verdict::default() };
    // An argument list has a limit, and one unreadable file should be found among few.
    for some in all.chunks(200) {
        let list: Vec<String> = some.iter().map(|path| path.display().to_string()).collect();
        // A long walk: here the compiler is worth its time.
        let mut dump = java.class(&["-XX:+UseSerialGC"], "org.apache.kafka.tools.DumpLogSegments");
        dump.args(["--deep-iteration", "--files", &list.join(",")]);
        judge(&tools::stdout(&mut dump), gaps, &mut verdict);
    }
    Some(verdict)
}

/// What the transaction log says of a transactional id, record by record, as Kafka decodes it. `None` without Java.
pub fn transaction(data_dir: &Path, id: &str) -> Option<Vec<Value>> {
    let said = decoded(data_dir, "__transaction_state", "--transaction-log-decoder")?;
    Some(said.into_iter().filter(|(key, _)| key["data"]["transactionalId"] == id).map(|(_, payload)| payload).collect())
}

/// What the offsets topic says, the key (with its type) and the payload of each record, as Kafka decodes it. `None` without Java.
pub fn group_state(data_dir: &Path) -> Option<Vec<(Value, Value)>> {
    decoded(data_dir, "__consumer_offsets", "--offsets-decoder")
}

fn decoded(data_dir: &Path, topic: &str, decoder: &str) -> Option<Vec<(Value, Value)>> {
    let java = tools::java()?;
    let is_log = |path: &PathBuf| path.to_string_lossy().contains(&format!("/{topic}-"));
    let logs: Vec<String> =
        files(data_dir, &["log"]).iter().filter(|path| is_log(path)).map(|path| path.display().to_string()).collect();
    let mut dump = java.class(&["-XX:+UseSerialGC"], "org.apache.kafka.tools.DumpLogSegments");
    dump.args([decoder, "--files", &logs.join(",")]);
    let said = tools::stdout(&mut dump);
    let records = said.lines().filter_map(|line| line.split_once(" key: ")?.1.split_once(" payload: "));
    // Both are {"version" or "type", "data"}; a tombstone's payload is no JSON.
    let parsed = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    Some(records.map(|(key, payload)| (parsed(key), parsed(payload)["data"].take())).collect())
}

fn judge(dump: &str, gaps: bool, verdict: &mut Verdict) {
    for line in dump.lines() {
        let bad = line.contains("isvalid: false")
            || line.starts_with("Mismatches in")
            || line.starts_with("Non-consecutive offsets") && !gaps
            || line.starts_with("Found ")
            || line.contains("invalid bytes at the end")
            || line.contains("Exception")
            || line.starts_with("WARN");
        assert!(!bad, "DumpLogSegments found: {line}\n{}", context(dump, line));
        if line.starts_with("baseOffset: ") {
            verdict.batches += 1;
        } else if line.starts_with("| offset: ") {
            verdict.records += 1;
        }
    }
}

fn context<'a>(dump: &'a str, line: &str) -> &'a str {
    let at = dump.find(line).unwrap_or(0);
    let begin = dump.floor_char_boundary(at.saturating_sub(2000));
    &dump[begin..dump.floor_char_boundary(at + 2000)]
}
