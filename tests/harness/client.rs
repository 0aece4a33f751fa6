//! The clients as tests see them: seven libraries, one set of commands.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::broker::Kind;
use crate::record::{Record, Seen};

/// A client library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Library {
    /// librdkafka, through crate rdkafka; always there.
    Librdkafka,
    /// Apache Kafka's own client.
    Java,
    /// franz-go.
    Go,
    /// kafka-python.
    Python,
    /// sarama.
    Sarama,
    /// kafkajs.
    Kafkajs,
    /// aiokafka.
    Aiokafka,
}

impl Library {
    /// Every library.
    pub const ALL: [Self; 7] =
        [Self::Librdkafka, Self::Java, Self::Go, Self::Python, Self::Sarama, Self::Kafkajs, Self::Aiokafka];

    /// A name for topics and groups.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Librdkafka => "librdkafka",
            Self::Java => "java",
            Self::Go => "go",
            Self::Python => "python",
            Self::Sarama => "sarama",
            Self::Kafkajs => "kafkajs",
            Self::Aiokafka => "aiokafka",
        }
    }

    /// Whether the library agrees to write a record. kafka-python and kafkajs read all of them, but fail to write a
    /// header without a value, and the Python libraries a record with neither key nor value.
    pub fn writes(self, record: &Record) -> bool {
        let null_header = record.headers.iter().any(|(_, value)| value.is_none());
        let nothing = record.key.is_none() && record.value.is_none();
        match self {
            Self::Python => !null_header && !nothing,
            Self::Aiokafka => !nothing,
            Self::Kafkajs => !null_header,
            Self::Librdkafka | Self::Java | Self::Go | Self::Sarama => true,
        }
    }

    /// The codecs the library has by itself.
    pub const fn codecs(self) -> &'static [&'static str] {
        match self {
            Self::Kafkajs => &["none", "gzip"],
            _ => &CODECS,
        }
    }

    /// Whether the library can read every codec that `writer` writes.
    pub fn reads_all_of(self, writer: Self) -> bool {
        writer.codecs().iter().all(|codec| self.codecs().contains(codec))
    }

    /// The record as the library can show or write it: kafkajs brings the headers of one name together.
    pub fn shows(self, record: &Record) -> Record {
        let mut shown = record.clone();
        if self == Self::Kafkajs {
            let names: Vec<String> = record.headers.iter().map(|(name, _)| name.clone()).collect();
            shown.headers.sort_by_key(|(name, _)| names.iter().position(|one| one == name));
        }
        shown
    }
}

/// The codecs a batch can have.
pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Something that obeys the driver protocol of `tests/clients/DRIVERS.md`.
pub trait Client: Send {
    /// Carries out one command; `Err` is the library's own words.
    fn call(&mut self, command: &Value) -> Result<Value, String>;
}

/// What a produced record came to: its partition and offset, or the library's error.
pub type Ack = Result<(i32, i64), String>;

/// The commands, typed; everything that can be called has them.
pub trait Commands {
    /// Carries out one command; `Err` is the library's own words.
    fn attempt(&mut self, command: &Value) -> Result<Value, String>;

    /// Carries out one command and panics, naming it, if it fails.
    fn must(&mut self, command: Value) -> Value;

    /// Produces records as one client does; an ack each.
    fn produce(&mut self, topic: &str, codec: &str, records: &[Record]) -> Vec<Ack> {
        let records: Vec<Value> = records.iter().map(Record::to_json).collect();
        let answer = self.must(json!({"op": "produce", "topic": topic, "codec": codec, "records": records}));
        acks(&answer)
    }

    /// Reads `count` records of a partition; fewer when they do not come in time.
    fn consume(&mut self, topic: &str, partition: i32, from: i64, count: usize) -> Vec<Seen> {
        let answer = self.must(json!({
            "op": "consume", "topic": topic, "partition": partition, "offset": from, "count": count,
        }));
        seen(&answer)
    }

    /// Creates a topic, which keeps records of any age unless `configs` says otherwise: the tests' timestamps are old.
    fn create(&mut self, topic: &str, partitions: i32, mut configs: Value) {
        if configs["retention.ms"].is_null() {
            configs["retention.ms"] = json!("-1");
        }
        let create = json!({"op": "create", "topic": topic, "partitions": partitions, "configs": configs});
        if Kind::from_environment() == Kind::Millrace {
            self.must(create);
            return;
        }
        match self.attempt(&create) {
            // kafkajs looks for the leaders at once, and fails.
            Err(error) if !error.contains("UNKNOWN_TOPIC_OR_PARTITION") => panic!("{create}: {error}"),
            _ => self.await_topic(topic, partitions),
        }
    }

    /// Kafka's controller answers before its broker knows of the topic, and leads it only a moment later. Where each
    /// library stumbles over that is not what a test asks: aiokafka, for one, stays without partitions for minutes.
    fn await_topic(&mut self, topic: &str, partitions: i32) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let last = json!({"op": "times", "topic": topic, "partition": partitions - 1, "timestamps": [-1]});
        for command in [json!({"op": "describe", "topic": topic}), last] {
            while let Err(error) = self.attempt(&command) {
                assert!(Instant::now() < deadline, "{topic} is created but not there: {error}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

impl<T: Client + ?Sized> Commands for T {
    fn attempt(&mut self, command: &Value) -> Result<Value, String> {
        self.call(command)
    }

    fn must(&mut self, command: Value) -> Value {
        self.call(&command).unwrap_or_else(|error| {
            let mut text = command.to_string();
            text.truncate(text.floor_char_boundary(300));
            panic!("{text}: {error}")
        })
    }
}

/// The acks in an answer to `produce`.
pub fn acks(answer: &Value) -> Vec<Ack> {
    let one = |ack: &Value| match ack["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok((
            i32::try_from(ack["partition"].as_i64().expect("a partition")).expect("a small number"),
            ack["offset"].as_i64().expect("an offset"),
        )),
    };
    answer["acks"].as_array().expect("acks").iter().map(one).collect()
}

/// The records in an answer to `consume` or `poll`.
pub fn seen(answer: &Value) -> Vec<Seen> {
    answer["records"].as_array().expect("records").iter().map(Seen::from_json).collect()
}
