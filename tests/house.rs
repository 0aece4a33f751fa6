//! The house as it is drawn, held against the code.
//!
//! The floors of `broker/src`, who may import whom, the one home of each large dependency, the top level of the
//! repository, and the folder map in README.md. Imports are found in the text, comments and strings aside: what a
//! macro hides is not seen, which no one here does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use millrace_tests::paths::root;

/// The rooms of package `millrace` by floor; a room that does not exist yet has its place already.
/// The top floor is for those who know all the others; there each may import those before it.
const FLOORS: [(u8, &[&str]); 8] = [
    (2, &["config", "metrics", "peer"]),
    (3, &["cluster", "partition"]),
    (4, &["plugins", "replication", "coordinator", "quota"]),
    (5, &["view", "share", "processor"]),
    (6, &["server", "http"]),
    (7, &["node"]),
    (8, &["cli"]),
    (9, &["main"]),
];

/// The crates below, and which of each other they may import.
const CRATES: [(&str, &[&str]); 5] = [
    ("model", &[]),
    ("storage", &["model"]),
    ("metadata", &["model"]),
    ("plugin-host", &["model"]),
    ("protocol", &["model"]),
];

/// Dependencies with one home (kafka-protocol: one for messages and one for each side of the wire).
const HOMES: [(&str, &[&str]); 5] = [
    ("wasmtime", &["broker/plugin-host/"]),
    ("openraft", &["broker/src/cluster/"]),
    ("kafka_protocol", &["broker/protocol/", "broker/src/server/", "broker/src/peer/"]),
    ("memmap2", &["broker/storage/"]),
    ("toml", &["broker/src/config/"]),
];

/// What may stand at the top, dotfiles aside.
const TOP: [&str; 10] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "rust-toolchain.toml",
    "broker",
    "plugin-sdk",
    "plugins",
    "wit",
    "tests",
];

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, rooms)| rooms.contains(&room)).map(|(floor, _)| *floor)
}

/// Every Rust file below a folder, as a path from the root with its text, without comments and string literals.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join(folder)];
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(&dir).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = code(&fs::read_to_string(&path).unwrap());
                found.push((path.strip_prefix(root()).unwrap().display().to_string(), text));
            }
        }
    }
    found.sort();
    found
}

/// The text without line comments and without what stands in double quotes.
fn code(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .flat_map(|line| [strip_strings(line), "\n".into()])
        .collect()
}

fn strip_strings(line: &str) -> String {
    line.split('"').step_by(2).collect::<Vec<_>>().join("\"")
}

/// The names that directly follow `prefix` in paths: `crate::a::b` and `use crate::{a::b, c}` give a, and a and c.
fn followers(text: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices(prefix) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(list) => names.extend(heads(list)),
            None => names.extend(word(rest)),
        }
    }
    names
}

fn word(text: &str) -> Option<String> {
    let word: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

/// The first names of a braced import list; `list` begins after its brace.
fn heads(list: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.extend(word(&list[begin..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.extend(word(&list[begin..at]));
                begin = at + 1;
            }
            _ => {}
        }
    }
    heads
}

fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("broker/src/")?;
    Some(inside.split_once('/').map_or(inside.trim_end_matches(".rs"), |(room, _)| room))
}

#[test]
fn imports_between_rooms_run_strictly_downward() {
    let mut wrong = Vec::new();
    for (path, text) in sources("broker/src") {
        let room = room_of(&path).expect("a file of the package");
        if room == "lib" {
            continue;
        }
        let here = floor(room).unwrap_or_else(|| panic!("{path}: the room {room} stands on no floor"));
        for other in followers(&text, "crate::").union(&followers(&text, "millrace::")) {
            let Some(there) = floor(other) else { continue };
            if other != room && there >= here {
                wrong.push(format!("{path}: {room} (floor {here}) imports {other} (floor {there})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_of_the_package_is_a_room() {
    let text = code(&fs::read_to_string(root().join("broker/src/lib.rs")).unwrap());
    for line in text.lines().filter_map(|line| line.trim().strip_prefix("pub mod ")) {
        let room = line.trim_end_matches(';');
        assert!(floor(room).is_some(), "broker/src/lib.rs: {room} stands on no floor");
    }
}

#[test]
fn lower_crates_know_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for (name, may) in CRATES {
        for (path, text) in sources(&format!("broker/{name}/src")) {
            if followers(&text, "millrace::").iter().any(|room| floor(room).is_some()) {
                wrong.push(format!("{path} imports the package above it"));
            }
            for (other, _) in CRATES.iter().filter(|(other, _)| *other != name && !may.contains(other)) {
                let import = format!("millrace_{}::", other.replace('-', "_"));
                if !followers(&text, &import).is_empty() {
                    wrong.push(format!("{path} imports {other}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_large_dependency_has_one_home() {
    let mut wrong = Vec::new();
    for (path, text) in sources("broker") {
        // A test may hold our bytes against another's.
        if path.contains("/tests/")
            || path.contains("/benches/")
            || path.ends_with("tests.rs")
            || path.contains("/fuzz/")
        {
            continue;
        }
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (dependency, homes) in HOMES {
            let used = !followers(text, &format!("{dependency}::")).is_empty();
            if used && !homes.iter().any(|home| path.starts_with(home)) {
                wrong.push(format!("{path} uses {dependency}, whose home is {}", homes.join(" and ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cargo_run_means_the_broker() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(
        manifest.contains("\ndefault-members = [\"broker\"]\n"),
        "README's first command finds more than one binary"
    );
}

#[test]
fn nothing_else_is_visible_at_the_top() {
    let ignored = ["target", "millrace-data"];
    let tops: BTreeSet<&str> = TOP.into_iter().chain(["examples"]).collect();
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = name.starts_with('.') || tops.contains(name.as_str()) || ignored.contains(&name.as_str());
        assert!(known, "{name} stands at the top level");
    }
}

/// README's map is the code block in which a line begins with `broker/`; a line is a folder, by indentation below the
/// one above it, and what it is for. A small folder may stand in its parent's line instead.
#[test]
fn the_folder_map_in_the_readme_is_the_tree() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let map =
        readme.split("```").skip(1).step_by(2).find(|block| block.lines().any(|line| line.starts_with("broker/")));
    let map = map.expect("README.md has a map of the folders");
    let mut drawn: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut above: Vec<(usize, PathBuf)> = Vec::new();
    for line in map.lines() {
        let indent = line.len() - line.trim_start().len();
        let Some((name, about)) = line.trim_start().split_once(' ') else { continue };
        if !name.ends_with('/') {
            continue;
        }
        above.retain(|(other, _)| *other < indent);
        let path = above.last().map_or_else(PathBuf::new, |(_, path)| path.clone()).join(name.trim_end_matches('/'));
        above.push((indent, path.clone()));
        drawn.insert(path, about.trim().to_owned());
    }
    for (path, about) in &drawn {
        assert!(root().join(path).is_dir(), "README.md draws {}, which is not there", path.display());
        assert!(!about.is_empty(), "README.md says nothing about {}", path.display());
    }
    for folder in ["", "broker", "tests"] {
        for name in folders(&root().join(folder)) {
            let path = Path::new(folder).join(&name);
            let mentioned = drawn.get(Path::new(folder)).is_some_and(|about| about.contains(&format!("{name}/")));
            assert!(mentioned || drawn.contains_key(&path), "README.md does not draw {}", path.display());
        }
    }
}

/// Visible folders that hold at least one file that git would keep.
fn folders(dir: &Path) -> Vec<String> {
    let holds_files = |path: &Path| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    let named = |entry: fs::DirEntry| Some((entry.path(), entry.file_name().into_string().ok()?));
    fs::read_dir(dir)
        .unwrap()
        .filter_map(|entry| named(entry.unwrap()))
        .filter(|(path, name)| path.is_dir() && holds_files(path) && !name.starts_with('.'))
        .map(|(_, name)| name)
        .filter(|name| !["target", "millrace-data", "src"].contains(&name.as_str()))
        .collect()
}

#[test]
fn the_import_scanner_sees_what_it_should() {
    let text = code(
        "use crate::{alpha::{x, y}, beta, gamma as g};\n// crate::hidden\nlet s = \"crate::text\"; crate::delta::f(); my_crate::no",
    );
    let found: Vec<String> = followers(&text, "crate::").into_iter().collect();
    assert_eq!(found, ["alpha", "beta", "delta", "gamma"]);
}
