use super::arguments::Arguments;
use super::output::Output;
use super::run;
use crate::http::tests::Port;
use clap::{CommandFactory, Parser};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Runs a command against a broker's port: what it says, and whether it succeeded.
async fn millrace(port: &Port, command: &[&str]) -> (String, bool) {
    let mut line = vec!["millrace".to_owned()];
    line.extend(command.iter().map(|word| (*word).to_owned()));
    line.extend(["--broker".to_owned(), port.base.clone()]);
    let arguments = Arguments::try_parse_from(line).unwrap();
    tokio::task::spawn_blocking(move || {
        let said = Buffer::default();
        let mut output = Output::plain(Box::new(said.clone()), Box::new(said.clone()));
        let done = run(arguments.command, &mut output);
        if let Err(fault) = &done {
            output.fault(fault);
        }
        (said.text(), done.is_ok())
    })
    .await
    .unwrap()
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

#[test]
fn the_command_line_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn a_command_that_does_not_exist_is_a_usage_error() {
    let error = Arguments::try_parse_from(["millrace", "aply"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("apply"), "{error}");
}

#[tokio::test]
async fn a_directory_is_planned_applied_and_then_as_it_should_be() {
    let port = Port::open(None).await;
    port.push("mask", "1.2.0").await;
    let dir = tempfile::tempdir().unwrap();
    let text = "[topic]\nname = \"orders\"\npartitions = 2\n[[plugin]]\nuse = \"mask@1\"\nstage = \"produce\"\n";
    write(dir.path(), "orders.toml", text);
    let path = dir.path().to_str().unwrap();
    let (said, done) = millrace(&port, &["plan", path]).await;
    assert!(done, "{said}");
    let expected = format!(
        "orders\n  + topic      partitions 2, replicas 1\n  + plugin[0]  mask@1.2.0, stage produce, on-fault reject, \
         config {{}}, limits 16MiB, 20ms\n\n2 things to change; do it with: millrace apply {path}\n"
    );
    assert_eq!(said, expected);
    let (said, done) = millrace(&port, &["apply", path]).await;
    assert!(done && said.ends_with("\ndone: 2 things changed\n"), "{said}");
    assert_eq!(millrace(&port, &["plan", path]).await.0, "nothing to change\n");
    // One file is a directory with nothing else in it; its components stand beside it.
    let plugin = "[[plugin]]\npath = \"mask.wasm\"\nstage = \"produce\"\n";
    write(dir.path(), "bills.toml", &format!("[topic]\nname = \"bills\"\n{plugin}"));
    write(dir.path(), "mask.wasm", "text");
    let file = dir.path().join("bills.toml");
    let (said, done) = millrace(&port, &["plan", file.to_str().unwrap()]).await;
    assert!(!done && said.contains("mask.wasm is not a WebAssembly component"), "{said}");
    // What only the broker finds out has the same place.
    write(dir.path(), "mask.wasm", "\0asm of no component");
    for command in ["plan", "apply"] {
        let (said, done) = millrace(&port, &[command, file.to_str().unwrap()]).await;
        assert!(!done && said.contains("bills.toml:4: plugin[0].path: mask.wasm: "), "{said}");
    }
    std::fs::remove_file(dir.path().join("mask.wasm")).unwrap();
    std::fs::create_dir(dir.path().join("mask.wasm")).unwrap();
    let (said, done) = millrace(&port, &["plan", file.to_str().unwrap()]).await;
    assert!(!done && said.contains("mask.wasm is not a file"), "{said}");
    write(dir.path(), "bills.toml", "[topic]\nname = \"bills\"\npartitions = 1\n");
    let (said, done) = millrace(&port, &["plan", file.to_str().unwrap()]).await;
    assert!(done && said.starts_with("bills\n  + topic  partitions 1") && !said.contains("orders"), "{said}");
    let (said, _) = millrace(&port, &["topics"]).await;
    assert_eq!(said, "TOPIC   PARTITIONS  REPLICAS  PLUGINS     CONFIG\norders  2           1         mask@1.2.0  -\n");
}

#[tokio::test]
async fn a_fault_is_shown_with_its_place_whether_the_file_or_the_broker_refuses() {
    let port = Port::open(None).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let (said, done) = millrace(&port, &["apply", path]).await;
    assert!(!done && said.starts_with(&format!("error: {path} holds no topic files\nnext: ")), "{said}");
    write(dir.path(), "a.toml", "[topic]\nname = \"a\"\nsize = 1\n");
    let (said, done) = millrace(&port, &["apply", path]).await;
    assert!(!done);
    assert!(said.contains(&format!("{path}/a.toml:3: topic.size: unknown key")), "{said}");
    write(dir.path(), "a.toml", "[topic]\nname = \"a\"\n[[plugin]]\nuse = \"none@1\"\nstage = \"produce\"\n");
    let (said, done) = millrace(&port, &["apply", path]).await;
    assert!(!done);
    assert!(said.contains(&format!("{path}/a.toml:4: plugin[0].use: the registry has no plugin none")), "{said}");
    write(dir.path(), "a.toml", "[topic]\nname = \"a\"\n[[plugin]]\npath = \"x.wasm\"\nstage = \"produce\"\n");
    let (said, _) = millrace(&port, &["apply", path]).await;
    assert!(said.contains(&format!("{path}/a.toml:4: plugin[0].path: {path}/x.wasm: No such file")), "{said}");
}

#[tokio::test]
async fn a_component_is_pushed_under_the_name_of_its_file() {
    let port = Port::open(None).await;
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "mask_cards.wasm", "\0asm component");
    write(dir.path(), "text.wasm", "text");
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (said, done) = millrace(&port, &["push", &file("mask_cards.wasm"), "--version", "1.0.0"]).await;
    assert!(done && said.starts_with("pushed mask-cards@1.0.0 (14B, "), "{said}");
    let (said, done) = millrace(&port, &["push", &file("text.wasm")]).await;
    assert!(!done && said.contains("is not a WebAssembly component"), "{said}");
    let (said, done) = millrace(&port, &["push", &file("mask_cards.wasm"), "--name", "a/../b"]).await;
    assert!(!done && said.contains("\"a/../b\" is not a plugin name"), "{said}");
    let (said, _) = millrace(&port, &["plugins"]).await;
    assert!(said.lines().nth(1).unwrap().starts_with("mask-cards  1.0.0    14B"), "{said}");
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_a_fault_with_advice() {
    let mut port = Port::open(None).await;
    port.base = "127.0.0.1:1".to_owned();
    let (said, done) = millrace(&port, &["status"]).await;
    assert!(!done && said.starts_with("error: no broker answers at 127.0.0.1:1: "), "{said}");
    assert!(said.contains("\nnext: start one with `millrace serve`"), "{said}");
}

#[tokio::test]
async fn a_token_is_asked_for_by_name() {
    let mut port = Port::open(Some("secret")).await;
    port.base = port.base.replace("http://", "");
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "token", "secret\n");
    write(dir.path(), "empty", "\n");
    let token = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (said, done) = millrace(&port, &["status"]).await;
    assert!(!done && said.contains("next: give the file with the broker's token: --token-file FILE"), "{said}");
    assert!(millrace(&port, &["status", "--token-file", &token("token")]).await.1);
    let (said, _) = millrace(&port, &["status", "--token-file", &token("empty")]).await;
    assert!(said.contains("holds no token"), "{said}");
    // The broker refuses before it has read more of this than the head.
    std::fs::write(dir.path().join("large.wasm"), [&b"\0asm"[..], &vec![0; 32 << 20]].concat()).unwrap();
    for _ in 0..3 {
        let (said, done) = millrace(&port, &["push", &token("large.wasm"), "--version", "1.0.0"]).await;
        assert!(!done && said.contains("next: give the file with the broker's token"), "{said}");
    }
}

#[test]
fn the_quickstarts_topic_file_is_sound() {
    let bundle = super::quickstart::bundle();
    let topics = crate::config::topic::parse_all(&bundle.request.files).unwrap();
    assert_eq!(topics[0].name.value, super::quickstart::TOPIC);
    assert_eq!(topics[0].plugins.len(), 3);
}
