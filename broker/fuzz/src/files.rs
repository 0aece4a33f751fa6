//! What an operator writes, and what is posted to be planned and applied.

use millrace::config::plan::{Defaults, Plan, Upload, resolve};
use millrace::config::topic::{SourceFile, parse_all};
use millrace::config::{ApplyRequest, NodeOptions, Overrides, Problems, TopicFile};
use millrace_metadata::{BrokerRegistration, Command, ContentHash, Image, Plugin};
use millrace_model::{NodeId, Random};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

const FILE: &str = "orders.toml";

/// A complaint names the file, and a line that it has.
fn fits(problems: &Problems, text: &str) {
    assert!(problems.iter().len() > 0, "a refusal without a reason");
    for problem in problems.iter() {
        assert_eq!(problem.place.file, FILE);
        assert!(problem.place.line <= text.lines().count() + 1, "{problem}");
        assert!(!problem.reason.is_empty());
        assert!(!problem.to_string().contains('\n'), "one line for each: {problem:?}");
    }
}

/// A topic file.
pub(crate) fn topics(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match TopicFile::parse(FILE, text) {
        Err(problems) => fits(&problems, text),
        Ok(topic) => {
            assert!(!topic.name.value.is_empty() && topic.name.value.len() <= 249);
            assert!(topic.partitions.as_ref().is_none_or(|count| count.value > 0));
            assert!(
                topic
                    .plugins
                    .iter()
                    .all(|plugin| serde_json::from_str::<serde_json::Value>(&plugin.config.value).is_ok())
            );
        }
    }
}

/// A node's file.
pub(crate) fn nodes(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match NodeOptions::from_text(Some((FILE, text, Path::new("dir"))), &Overrides::default()) {
        Err(problems) => fits(&problems, text),
        Ok(options) => {
            assert!(!options.facts().is_empty());
            assert!(options.node_id >= NodeId::new(0));
        }
    }
}

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Random for Counter {
    fn fill(&self, into: &mut [u8]) {
        into.fill_with(|| self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9) as u8);
    }
}

/// The text of `POST /v1/apply`, to a broker with one plugin and no topic.
pub(crate) fn applies(data: &[u8]) {
    let Ok(request) = serde_json::from_slice::<ApplyRequest>(data) else { return };
    let text = serde_json::to_vec(&request).expect("a request is written");
    assert_eq!(serde_json::from_slice::<ApplyRequest>(&text).expect("it was just written"), request);
    let defaults = Defaults { partitions: 1, replication_factor: 1 };
    let image = image();
    let plan = |image: &Image| {
        let files = parse_all(&request.files)?;
        let desired = resolve(files, image, &request.components)?;
        Plan::new(&desired, image, defaults, &Counter::default())
    };
    let Ok(first) = plan(&image) else { return };
    let (applied, answer) = image.apply(image.index() + 1, &Command::All(first.commands));
    answer.expect("what is planned can be done");
    let second = plan(&applied).expect("what was applied can be planned again");
    assert!(second.is_empty(), "applied once and not done: {second:?}");
}

fn image() -> Image {
    let broker = BrokerRegistration {
        id: NodeId::new(0),
        host: "h".into(),
        port: 9092,
        rack: None,
        incarnation: Uuid::from_u128(5),
    };
    let plugin =
        Plugin { name: "mask-fields".into(), version: "1.0.0".into(), hash: ContentHash::new([3; 32]), size: 10 };
    let (image, _) = Image::default().apply(1, &Command::RegisterBroker(broker));
    image.apply(2, &Command::RegisterPlugin(plugin)).0
}

/// The texts whose refusals and acceptances the golden files hold.
fn cases(kind: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/config/cases").join(kind);
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let files = paths.iter().filter(|path| path.extension().is_some_and(|end| end == "toml"));
    files.map(|path| std::fs::read(path).unwrap()).collect()
}

pub(crate) fn topic_seeds() -> Vec<Vec<u8>> {
    cases("topic")
}

pub(crate) fn node_seeds() -> Vec<Vec<u8>> {
    cases("node")
}

pub(crate) fn apply_seeds() -> Vec<Vec<u8>> {
    let files: Vec<_> = cases("topic").into_iter().map(|text| String::from_utf8(text).unwrap()).collect();
    let upload = Upload { file: "own.toml".into(), path: "own.wasm".into(), hash: ContentHash::new([7; 32]), size: 9 };
    let request = |name: &str, text: &str| ApplyRequest {
        files: vec![SourceFile { file: name.to_owned(), text: text.to_owned() }],
        components: vec![upload.clone()],
    };
    let mut all: Vec<_> = files.iter().map(|text| request("own.toml", text)).collect();
    let texts = [
        "[topic]\nname = \"a\"\npartitions = 2\n[topic.config]\n\"retention.ms\" = 5\n[[plugin]]\nuse = \"mask-fields@1\"\n",
        "[topic]\nname = \"b\"\n[[plugin]]\npath = \"own.wasm\"\nconfig = { fields = [\"x\"] }\n",
    ];
    all.extend(texts.map(|text| request("own.toml", text)));
    let two = texts.iter().zip(["a.toml", "own.toml"]).map(|(text, name)| request(name, text).files.remove(0));
    all.push(ApplyRequest { files: two.collect(), components: vec![upload.clone()] });
    all.iter().map(|request| serde_json::to_vec(request).unwrap()).collect()
}
