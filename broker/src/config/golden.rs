//! A configuration and the exact text that its author sees, pair by pair: `cases/topic/*.toml` and `cases/node/*.toml`,
//! each beside its `.said`. `MILLRACE_BLESS=1` writes what is said now, to be read before it is committed.

use super::{NodeOptions, Overrides, TopicFile};
use std::path::{Path, PathBuf};

fn cases(kind: &str) -> Vec<(String, String, PathBuf)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/cases").join(kind);
    let mut cases: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            (name, text, path.with_extension("said"))
        })
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn compare(kind: &str, say: impl Fn(&str, &str) -> String) {
    let mut differences = Vec::new();
    for (name, text, golden) in cases(kind) {
        let said = say(&name, &text) + "\n";
        if std::env::var_os("MILLRACE_BLESS").is_some() {
            std::fs::write(&golden, said).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if said != expected {
            differences.push(format!("{name}\n  expected: {expected}  said:     {said}"));
        }
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

#[test]
fn every_topic_file_is_accepted_or_refused_in_the_words_of_its_golden_file() {
    compare("topic", |name, text| match TopicFile::parse(name, text) {
        Ok(topic) => format!("accepted: {}, {} plugins", topic.name.value, topic.plugins.len()),
        Err(problems) => problems.to_string(),
    });
}

#[test]
fn every_node_file_is_accepted_or_refused_in_the_words_of_its_golden_file() {
    compare("node", |name, text| {
        match NodeOptions::from_text(Some((name, text, Path::new("dir"))), &Overrides::default()) {
            Ok(options) => format!(
                "accepted: node {}, listen {}, advertised {}, http {}, data in {}",
                options.node_id,
                options.listen,
                options.advertised,
                options.http,
                options.data_dir.display()
            ),
            Err(problems) => problems.to_string(),
        }
    });
}
