//! The port over a real socket, with the facts in memory and a store that knows a good component from a bad one.

use super::*;
use crate::config::bundle::ApplyRequest;
use crate::config::plan::{Defaults, Fault, Upload};
use crate::config::topic::SourceFile;
use bytes::Bytes;
use futures::future::BoxFuture;
use millrace_metadata::{Attachment, BrokerRegistration, Command, ContentHash, Image};
use millrace_model::{NodeId, SystemRandom};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

const COMPONENT: &[u8] = b"\0asm component";

#[derive(Debug)]
struct Memory(Mutex<Arc<Image>>);

impl Facts for Memory {
    fn image(&self) -> Arc<Image> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn propose(&self, command: Command) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let mut image = self.0.lock().unwrap();
            let (next, answer) = image.apply(image.index() + 1, &command);
            *image = Arc::new(next);
            answer.map(drop).map_err(|error| error.to_string())
        })
    }
}

#[derive(Debug, Default)]
struct Store(Mutex<BTreeSet<ContentHash>>);

impl PluginStore for Store {
    fn store(&self, hash: ContentHash, component: Bytes) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            if !component.starts_with(b"\0asm") || component.ends_with(b"no component") {
                return Err("not a component".to_owned());
            }
            self.0.lock().unwrap().insert(hash);
            Ok(())
        })
    }

    fn has(&self, hash: ContentHash) -> bool {
        self.0.lock().unwrap().contains(&hash)
    }

    fn check(&self, attachment: &Attachment) -> BoxFuture<'_, Result<(), Fault>> {
        let known = self.has(attachment.plugin.hash);
        let bad = attachment.config.contains("bad");
        Box::pin(async move {
            match (known, bad) {
                (false, _) => Err(Fault::Component("the component is not there".to_owned())),
                (_, true) => Err(Fault::Config("field 'bad' is unknown".to_owned())),
                _ => Ok(()),
            }
        })
    }
}

pub(crate) struct Port {
    pub(crate) base: String,
    facts: Arc<Memory>,
    applier: Arc<Applier>,
    token: Option<&'static str>,
}

impl Port {
    pub(crate) async fn open(token: Option<&'static str>) -> Self {
        let broker = BrokerRegistration {
            id: NodeId::new(1),
            host: "127.0.0.1".to_owned(),
            port: 9092,
            rack: None,
            incarnation: uuid::Uuid::from_u128(1),
        };
        let (image, registered) = Image::default().apply(1, &Command::RegisterBroker(broker));
        registered.unwrap();
        let facts = Arc::new(Memory(Mutex::new(Arc::new(image))));
        let defaults = Defaults { partitions: 3, replication_factor: 1 };
        let shared: Arc<dyn Facts> = Arc::clone(&facts) as _;
        let applier = Applier::new(shared, Arc::new(Store::default()), Arc::new(SystemRandom), defaults);
        let applier = Arc::new(applier);
        let context = HttpContext {
            applier: Arc::clone(&applier),
            metrics: Arc::new(|| "# EOF\n".to_owned()),
            generations: Arc::new(|_| Vec::new()),
            ready: Arc::new(|| true),
            token: token.map(Arc::from),
            node_id: NodeId::new(1),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, context, std::future::pending()));
        Self { base, facts, applier, token }
    }

    async fn ask(&self, method: &'static str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, String) {
        let agent = ureq::Agent::new_with_config(ureq::config::Config::builder().http_status_as_error(false).build());
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(body).unwrap();
        tokio::task::spawn_blocking(move || {
            let mut answer = agent.run(request).unwrap();
            (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
        })
        .await
        .unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, &[], Vec::new()).await
    }

    async fn post(&self, path: &str, files: &[(&str, &str)], components: Vec<Upload>) -> (u16, String) {
        let files = files
            .iter()
            .map(|(file, text)| SourceFile { file: (*file).to_owned(), text: (*text).to_owned() })
            .collect();
        let body = serde_json::to_vec(&ApplyRequest { files, components }).unwrap();
        self.ask("POST", path, &[("content-type", "application/json")], body).await
    }

    pub(crate) async fn push(&self, name: &str, version: &str) -> (u16, String) {
        self.ask("PUT", &format!("/v1/plugins/{name}/{version}"), &[], COMPONENT.to_vec()).await
    }
}

fn differences(body: &str) -> Vec<String> {
    let answer: PlanAnswer = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    let line = |d: &crate::config::plan::Difference| {
        format!(
            "{} {} {}: {} -> {}",
            d.action.name(),
            d.topic,
            d.what,
            d.before.as_deref().unwrap_or("-"),
            d.after.as_deref().unwrap_or("-")
        )
    };
    answer.differences.iter().map(line).collect()
}

fn problems(body: &str) -> Vec<String> {
    let answer: ErrorAnswer = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    answer.problems.iter().map(|p| format!("{}:{}: {}: {}", p.file, p.line, p.key, p.reason)).collect()
}

const ORDERS: &str = r#"[topic]
name = "orders"
[topic.config]
"retention.ms" = 1000
[[plugin]]
use = "mask@1"
stage = "produce"
config = { fields = ["card"] }
"#;

#[tokio::test]
async fn a_plan_changes_nothing_and_an_apply_leaves_nothing_to_plan() {
    let port = Port::open(None).await;
    assert_eq!(port.push("mask", "1.2.0").await.0, 200);
    let (status, body) = port.post("/v1/plan", &[("orders.toml", ORDERS)], Vec::new()).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        differences(&body),
        [
            "create orders topic: - -> partitions 3, replicas 1",
            "create orders retention.ms: - -> 1000",
            "create orders plugin[0]: - -> mask@1.2.0, stage produce, on-fault reject, config {\"fields\":[\"card\"]}, \
             limits 16MiB, 20ms",
        ]
    );
    assert!(port.facts.image().topic("orders").is_none());
    assert_eq!(port.post("/v1/apply", &[("orders.toml", ORDERS)], Vec::new()).await.0, 200);
    assert_eq!(port.facts.image().topic("orders").unwrap().partitions.len(), 3);
    let (_, body) = port.post("/v1/plan", &[("orders.toml", ORDERS)], Vec::new()).await;
    assert!(differences(&body).is_empty(), "{body}");
}

#[tokio::test]
async fn a_topic_is_brought_in_line_with_its_file() {
    let port = Port::open(None).await;
    port.push("mask", "1.2.0").await;
    port.post("/v1/apply", &[("orders.toml", ORDERS)], Vec::new()).await;
    let changed = ORDERS
        .replace("name = \"orders\"", "name = \"orders\"\npartitions = 5")
        .replace("\"retention.ms\" = 1000", "\"retention.bytes\" = 7")
        .replace("card", "email");
    let (status, body) = port.post("/v1/apply", &[("orders.toml", &changed)], Vec::new()).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        differences(&body),
        [
            "change orders partitions: 3 -> 5",
            "create orders retention.bytes: - -> 7",
            "remove orders retention.ms: 1000 -> -",
            "change orders plugin[0].config: {\"fields\":[\"card\"]} -> {\"fields\":[\"email\"]}",
        ]
    );
    let image = port.facts.image();
    let topic = image.topic("orders").unwrap();
    assert_eq!(topic.partitions.len(), 5);
    assert_eq!(topic.config.get("retention.bytes").map(String::as_str), Some("7"));
    assert!(!topic.config.contains_key("retention.ms"));
    assert_eq!(topic.attachments[0].config, "{\"fields\":[\"email\"]}");
}

#[tokio::test]
async fn a_refused_file_refuses_them_all_and_names_file_line_key_and_reason() {
    let port = Port::open(None).await;
    port.push("mask", "1.2.0").await;
    let missing = ORDERS.replace("orders", "other").replace("mask@1", "mask@2");
    let files = [("a.toml", ORDERS), ("b.toml", missing.as_str())];
    let (status, body) = port.post("/v1/apply", &files, Vec::new()).await;
    assert_eq!(status, 422);
    assert_eq!(problems(&body), ["b.toml:6: plugin[0].use: the registry has no version 2 of mask; it has 1.2.0"]);
    assert_eq!(port.facts.image().topic_count(), 0);

    let bad = ORDERS.replace("card", "bad");
    let (status, body) = port.post("/v1/apply", &[("a.toml", &bad)], Vec::new()).await;
    assert_eq!(status, 422);
    assert_eq!(problems(&body), ["a.toml:8: plugin[0].config: field 'bad' is unknown"]);
}

#[tokio::test]
async fn a_topic_that_refuses_its_new_file_keeps_what_it_had() {
    let port = Port::open(None).await;
    port.push("mask", "1.2.0").await;
    port.post("/v1/apply", &[("orders.toml", ORDERS)], Vec::new()).await;
    let before = port.facts.image();
    let fewer = ORDERS.replace("name = \"orders\"", "name = \"orders\"\npartitions = 2");
    let (status, body) = port.post("/v1/apply", &[("orders.toml", &fewer)], Vec::new()).await;
    assert_eq!(status, 422);
    assert_eq!(
        problems(&body),
        ["orders.toml:3: topic.partitions: the topic has 3 partitions; they can be added to, not taken away"]
    );
    assert_eq!(before.topic("orders"), port.facts.image().topic("orders"));
}

#[tokio::test]
async fn a_start_applies_to_a_cluster_without_topics_and_only_compares_afterwards() {
    let port = Port::open(None).await;
    let bundle = |text: &str| {
        let files = vec![SourceFile { file: "a.toml".to_owned(), text: text.to_owned() }];
        Ok(crate::config::Bundle { request: ApplyRequest { files, components: Vec::new() }, components: Vec::new() })
    };
    let first = port.applier.at_start(&bundle("[topic]\nname = \"a\"\n")).await.unwrap();
    assert!(matches!(first, AtStart::Applied(plan) if plan.differences.len() == 1));
    let changed = "[topic]\nname = \"a\"\n[topic.config]\n\"retention.ms\" = 5\n";
    let second = port.applier.at_start(&bundle(changed)).await.unwrap();
    assert!(matches!(second, AtStart::Compared(plan) if plan.differences.len() == 1));
    assert!(port.facts.image().topic("a").unwrap().config.is_empty());
    let unsound = port.applier.at_start(&bundle("[topic]\nnames = \"a\"\n")).await.unwrap();
    assert!(matches!(unsound, AtStart::Unsound(_)));
}

#[tokio::test]
async fn a_topic_that_lost_its_file_keeps_its_plugins_and_is_named() {
    let port = Port::open(None).await;
    port.push("mask", "1.2.0").await;
    let (status, body) = port.post("/v1/apply", &[("orders.toml", ORDERS)], Vec::new()).await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = port.post("/v1/plan", &[("a.toml", "[topic]\nname = \"a\"\n")], Vec::new()).await;
    let answer: PlanAnswer = serde_json::from_str(&body).unwrap();
    assert_eq!((status, answer.unnamed), (200, vec!["orders".to_owned()]));
    let (_, body) = port.post("/v1/plan", &[("orders.toml", ORDERS)], Vec::new()).await;
    let answer: PlanAnswer = serde_json::from_str(&body).unwrap();
    assert!(answer.unnamed.is_empty() && answer.differences.is_empty(), "{body}");
}

#[tokio::test]
async fn names_that_collide_are_refused_at_the_second_file() {
    let port = Port::open(None).await;
    let files = [("a.toml", "[topic]\nname = \"a.b\"\n"), ("b.toml", "[topic]\nname = \"a_b\"\n")];
    let (status, body) = port.post("/v1/plan", &files, Vec::new()).await;
    assert_eq!(status, 422);
    assert_eq!(problems(&body), ["b.toml:2: topic.name: Topic 'a_b' collides with existing topic: a.b"]);
}

#[tokio::test]
async fn a_component_named_by_its_path_is_sent_first_and_registered_with_the_topic() {
    let port = Port::open(None).await;
    let text = "[topic]\nname = \"own\"\n[[plugin]]\npath = \"bin/My Own.wasm\"\nstage = \"produce\"\n";
    let hash = ContentHash::of(COMPONENT);
    let upload = || Upload {
        file: "own.toml".to_owned(),
        path: "bin/My Own.wasm".to_owned(),
        hash,
        size: COMPONENT.len() as u64,
    };
    let (status, body) = port.post("/v1/apply", &[("own.toml", text)], vec![upload()]).await;
    assert_eq!(status, 422);
    assert_eq!(problems(&body), ["own.toml:4: plugin[0].path: the component is not there"]);
    let wrong = port.ask("PUT", &format!("/v1/components/{hash}"), &[], b"\0asm other".to_vec()).await;
    assert_eq!(wrong.0, 422);
    let path = format!("/v1/components/{hash}");
    assert_eq!(port.ask("PUT", &path, &[], COMPONENT.to_vec()).await.0, 204);
    assert_eq!(port.post("/v1/apply", &[("own.toml", text)], vec![upload()]).await.0, 200);
    let image = port.facts.image();
    let plugin = &image.topic("own").unwrap().attachments[0].plugin;
    assert_eq!(plugin.name, "my-own");
    assert_eq!(plugin.hash, hash);
    assert!(image.plugin(&plugin.name, &plugin.version).is_some());
}

#[tokio::test]
async fn a_plugin_is_pushed_listed_and_removed_unless_a_topic_runs_it() {
    let port = Port::open(None).await;
    assert_eq!(port.push("mask", "1").await.0, 400);
    assert_eq!(port.push("Mask", "1.0.0").await.0, 400);
    assert_eq!(port.ask("PUT", "/v1/plugins/mask/1.0.0", &[], b"text".to_vec()).await.0, 422);
    assert_eq!(port.push("mask", "1.0.0").await.0, 200);
    port.post("/v1/apply", &[("orders.toml", ORDERS)], Vec::new()).await;
    let (_, listed) = port.get("/v1/plugins").await;
    let listed: Vec<PluginInfo> = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0].topics, ["orders"]);
    assert_eq!(port.ask("DELETE", "/v1/plugins/mask/1.0.0", &[], Vec::new()).await.0, 409);
    assert_eq!(port.push("spare", "1.0.0").await.0, 200);
    assert_eq!(port.ask("DELETE", "/v1/plugins/spare/1.0.0", &[], Vec::new()).await.0, 204);
}

#[tokio::test]
async fn status_topics_and_metrics_are_served() {
    let port = Port::open(None).await;
    assert_eq!(port.get("/health").await, (200, "ok\n".to_owned()));
    assert_eq!(port.get("/ready").await.0, 200);
    assert_eq!(port.get("/metrics").await, (200, "# EOF\n".to_owned()));
    let status: StatusAnswer = serde_json::from_str(&port.get("/v1/status").await.1).unwrap();
    assert_eq!(status.brokers[0].address, "127.0.0.1:9092");
    let topics: Vec<TopicInfo> = serde_json::from_str(&port.get("/v1/topics").await.1).unwrap();
    assert!(topics.is_empty());
    assert_eq!(port.get("/nothing").await.0, 404);
}

#[tokio::test]
async fn with_a_token_nothing_but_health_is_told_without_it() {
    let mut port = Port::open(Some("secret")).await;
    assert_eq!(port.get("/v1/topics").await.0, 200);
    port.token = Some("secreT");
    assert_eq!(port.get("/v1/topics").await.0, 401);
    port.token = None;
    assert_eq!(port.get("/metrics").await.0, 401);
    assert_eq!(port.get("/health").await.0, 200);
}

#[tokio::test]
async fn without_a_token_a_page_from_elsewhere_is_refused() {
    let port = Port::open(None).await;
    let ask = |name: &'static str, value: &'static str| {
        let port = &port;
        async move { port.ask("GET", "/v1/topics", &[(name, value)], Vec::new()).await.0 }
    };
    assert_eq!(ask("host", "evil.example").await, 403);
    assert_eq!(ask("origin", "http://localhost").await, 403);
    assert_eq!(ask("host", "localhost:8092").await, 200);
}

#[tokio::test]
async fn hostile_bodies_are_refused() {
    let port = Port::open(None).await;
    let json = [("content-type", "application/json")];
    for (body, expected) in
        [(b"{".to_vec(), 400), (b"{\"files\":[],\"evil\":1}".to_vec(), 422), (vec![b' '; MAX_REQUEST + 1], 413)]
    {
        assert_eq!(port.ask("POST", "/v1/apply", &json, body).await.0, expected);
    }
    // A form that a web page could send without asking first.
    let text = [("content-type", "text/plain")];
    assert_eq!(port.ask("POST", "/v1/apply", &text, b"{\"files\":[]}".to_vec()).await.0, 415);
}
