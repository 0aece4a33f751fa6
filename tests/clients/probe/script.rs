//! Sequences of requests, in which what a broker answered goes into later requests.
//!
//! Both brokers walk through a script side by side, and each answer is compared before the next request is built. What
//! is one broker's own (producer ids, member ids, topic ids) is remembered by side.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::Request;
use millrace_tests::wire::Wire;
use uuid::Uuid;

use super::{Pair, answer, frame, read, text};

/// What one side has learnt.
#[derive(Debug, Default)]
pub struct Side {
    pub port: u16,
    /// Producer ids and epochs: now, and before the last change.
    pub producer: (i64, i16),
    pub before: (i64, i16),
    /// The next sequence of each partition, by the epoch.
    pub sequences: BTreeMap<(i16, i32), i32>,
    /// Member ids by their names in the script.
    pub members: BTreeMap<String, String>,
    /// Member epochs or generations by the same names.
    pub epochs: BTreeMap<String, i32>,
    /// What members own, by topic.
    pub assigned: BTreeMap<String, Vec<(Uuid, Vec<i32>)>>,
    /// Requests whose answers are still to come, by name.
    waiting: BTreeMap<String, Wire>,
}

impl Side {
    /// A topic's id here; nil for one that is not there.
    pub fn topic_id(&self, topic: &str) -> Uuid {
        let asked = MetadataRequestTopic::default().with_name(Some(TopicName(text(topic))));
        let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
        let found = answer::<MetadataRequest>(self.port, &frame(&request, 12).expect("version 12 can say it"), 12);
        found.map_or(Uuid::nil(), |answer| answer.topics.first().map_or(Uuid::nil(), |topic| topic.topic_id))
    }

    /// A member's id, or the name itself for one that nobody has heard of.
    pub fn member(&self, name: &str) -> String {
        self.members.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }
}

/// A script on its way.
pub struct Script<'a> {
    pair: &'a mut Pair,
    name: String,
    ours: Side,
    kafka: Side,
}

impl Pair {
    /// Begins a script.
    pub fn script(&mut self, name: impl Into<String>) -> Script<'_> {
        let side = |port| Side { port, producer: (-1, -1), before: (-1, -1), ..Side::default() };
        let (ours, kafka) = (side(self.ours.port()), side(self.kafka.port()));
        Script { pair: self, name: name.into(), ours, kafka }
    }
}

impl Script<'_> {
    /// One request and its answers. `keep` learns from an answer, and may put it in order, before it is compared.
    pub fn step<R>(
        &mut self,
        step: &str,
        version: i16,
        build: impl Fn(&Side) -> R,
        keep: impl Fn(&mut Side, &mut R::Response),
    ) where
        R: Request,
        R::Response: Debug,
    {
        let each = |side: &mut Side| {
            let frame =
                frame(&build(side), version).unwrap_or_else(|| panic!("{step}: version {version} cannot say it"));
            shown(answer::<R>(side.port, &frame, version), |answer| keep(side, answer))
        };
        let (ours, kafkas) = (each(&mut self.ours), each(&mut self.kafka));
        self.pair.compare(&format!("{}: {step}", self.name), version, &ours, &kafkas);
    }

    /// A request that kafka-protocol cannot write: the body by hand, and the answer's body as `show` has it.
    pub fn raw(
        &mut self,
        step: &str,
        (key, version): (i16, i16),
        body: impl Fn(&Side) -> Vec<u8>,
        show: impl Fn(&Side, &[u8]) -> String,
    ) {
        let each = |side: &Side| {
            let mut frame = [key.to_be_bytes(), version.to_be_bytes()].concat();
            // The correlation id, the client's name and no tags, as flexible versions have them.
            frame.extend([0, 0, 0, 77, 0, 5, b'p', b'r', b'o', b'b', b'e', 0]);
            frame.extend(body(side));
            let mut wire = Wire::connect(side.port, Duration::from_secs(5)).expect("a connection");
            wire.send_frame(&frame).expect("the request is sent");
            match wire.receive_frame() {
                Ok(answer) => answer.get(5..).map_or_else(|| "short".to_owned(), |body| show(side, body)),
                Err(error) => format!("no answer: {:?}", error.kind()),
            }
        };
        let (ours, kafkas) = (each(&self.ours), each(&self.kafka));
        self.pair.compare(&format!("{}: {step}", self.name), version, &ours, &kafkas);
    }

    /// The same request many times over one connection; nothing is compared.
    pub fn repeat<R: Request>(
        &mut self,
        times: usize,
        version: i16,
        request: &R,
        keep: impl Fn(&mut Side, &R::Response),
    ) {
        const IN_FLIGHT: usize = 64;
        let frame = frame(request, version).expect("the version can say it");
        for side in [&mut self.ours, &mut self.kafka] {
            let mut wire = Wire::connect(side.port, Duration::from_secs(30)).expect("a connection");
            for round in (0..times).step_by(IN_FLIGHT) {
                let now = IN_FLIGHT.min(times - round);
                (0..now).for_each(|_| wire.send_frame(&frame).expect("the request is sent"));
                (0..now).for_each(|_| keep(side, &read::<R>(&mut wire, version).expect("an answer")));
            }
        }
    }

    /// A request whose answer takes until other requests have come; [`Self::end`] receives it.
    pub fn begin<R: Request>(&mut self, wait: &str, version: i16, build: impl Fn(&Side) -> R) {
        for side in [&mut self.ours, &mut self.kafka] {
            let frame = frame(&build(side), version).expect("the version can say it");
            let mut wire = Wire::connect(side.port, Duration::from_secs(20)).expect("a connection");
            wire.send_frame(&frame).expect("the request is sent");
            side.waiting.insert(wait.to_owned(), wire);
        }
        // Who is asked next may depend on who came first.
        std::thread::sleep(Duration::from_millis(200));
    }

    /// The answer to [`Self::begin`].
    pub fn end<R>(&mut self, wait: &str, version: i16, keep: impl Fn(&mut Side, &mut R::Response))
    where
        R: Request,
        R::Response: Debug,
    {
        let each = |side: &mut Side| {
            let mut wire = side.waiting.remove(wait).expect("a request is on its way");
            shown(read::<R>(&mut wire, version), |answer| keep(side, answer))
        };
        let (ours, kafkas) = (each(&mut self.ours), each(&mut self.kafka));
        self.pair.compare(&format!("{}: {wait}, in the end", self.name), version, &ours, &kafkas);
    }

    /// Asks each side again and again until `done`; nothing is compared. What was asked last may be wrong for good, which the
    /// next step shows.
    pub fn until<R>(&mut self, version: i16, build: impl Fn(&Side) -> R, done: impl Fn(&mut Side, &R::Response) -> bool)
    where
        R: Request,
    {
        for side in [&mut self.ours, &mut self.kafka] {
            for _ in 0..100 {
                let frame = frame(&build(side), version).expect("the version can say it");
                let answered = answer::<R>(side.port, &frame, version);
                if answered.is_ok_and(|answer| done(side, &answer)) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

fn shown<T: Debug>(answer: Result<T, String>, keep: impl FnOnce(&mut T)) -> String {
    match answer {
        Ok(mut answer) => {
            keep(&mut answer);
            format!("{answer:#?}")
        }
        Err(error) => error,
    }
}
