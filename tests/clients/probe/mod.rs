//! The same raw requests to Millrace and to Kafka, and the answers compared field by field.
//!
//! Every served key in every version that kafka-protocol can write, at ordinary and at edge values. What is one
//! broker's own (ids, ports, clocks) is replaced by a placeholder first. A difference is a failure unless it stands in
//! `known.md` with its reason, and so is one that stands there and is gone. With `MILLRACE_REFEREE=kafka` two Kafkas are compared, which proves the placeholders.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion as _, Request, StrBytes};
use millrace_tests::broker::{Broker, Kind, Options};
use millrace_tests::tools;
use millrace_tests::wire::Wire;

mod admin;
pub mod batch;
mod data;
mod edges;
mod frames;
mod group_scripts;
mod groups;
mod script;
pub mod topics;
mod transactions;
mod txn_scripts;

/// Differences that are meant, each with its reason.
const KNOWN: &str = include_str!("known.md");

/// How much of one difference is shown.
const MOST_LINES: usize = 40;

/// A line of [`KNOWN`].
struct Known {
    /// The case's name, or its beginning and `*`.
    case: &'static str,
    /// What the lines contain that differ; `*` for the whole answer.
    lines: Vec<&'static str>,
    met: bool,
}

impl Known {
    /// The rows of the table: case, lines (separated by semicolons), reason.
    fn all() -> Vec<Self> {
        let rows = KNOWN.lines().filter(|line| line.starts_with("| ")).skip(1);
        let rows = rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>());
        rows.map(|columns| match columns[..] {
            [case, lines, why] if !why.is_empty() => {
                Self { case, lines: lines.split(';').map(str::trim).collect(), met: false }
            }
            _ => panic!("known.md: {columns:?} is not a case, lines and a reason"),
        })
        .collect()
    }

    fn covers(&self, case: &str, line: &str) -> bool {
        let is_case = match self.case.strip_suffix('*') {
            Some(beginning) => case.starts_with(beginning),
            None => case == self.case,
        };
        is_case && self.lines.iter().any(|part| *part == "*" || line.contains(part))
    }
}

/// Two brokers that should not be told apart.
pub struct Pair {
    ours: Broker,
    kafka: Broker,
    asked: usize,
    known: Vec<Known>,
    /// By what differs: the case, and the versions in which it does.
    differences: BTreeMap<String, Vec<i16>>,
}

impl Pair {
    /// Starts both; `None` without Java.
    fn start() -> Option<Self> {
        tools::java()?;
        let config = [
            // Both would wait three seconds for more members before a group's first generation.
            ("group.initial.rebalance.delay.ms", "0"),
            // Targets are computed at once, so that they do not depend on the moment.
            ("group.consumer.assignment.interval.ms", "0"),
            ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500"),
        ];
        let config: Vec<_> = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let kafka = Broker::of(Kind::Kafka, Options { config: config.clone(), ..Options::default() });
        let ours = Broker::with(Options { config, ..Options::default() });
        Some(Self { ours, kafka, asked: 0, known: Known::all(), differences: BTreeMap::new() })
    }

    /// Asks both in every version that can say it.
    pub fn ask<R>(&mut self, case: &str, build: impl Fn(i16) -> R)
    where
        R: Request,
        R::Response: Debug,
    {
        self.ask_tidy(case, build, |_| {});
    }

    /// Asks both in one version.
    pub fn ask_in<R>(&mut self, case: &str, version: i16, request: R)
    where
        R: Request,
        R::Response: Debug,
    {
        let frame = frame(&request, version).expect("the version can say it");
        let answer = |broker: &Broker| match answer::<R>(broker.port(), &frame, version) {
            Ok(response) => format!("{response:#?}"),
            Err(error) => error,
        };
        let (ours, kafkas) = (answer(&self.ours), answer(&self.kafka));
        self.compare(case, version, &ours, &kafkas);
    }

    /// Asks both in every version that can say it, and puts the answers in order before they are compared.
    pub fn ask_tidy<R>(&mut self, case: &str, build: impl Fn(i16) -> R, tidy: impl Fn(&mut R::Response))
    where
        R: Request,
        R::Response: Debug,
    {
        for version in R::VERSIONS.min..=R::VERSIONS.max {
            let Some(frame) = frame(&build(version), version) else { continue };
            let answer = |broker: &Broker| match answer::<R>(broker.port(), &frame, version) {
                Ok(mut response) => {
                    tidy(&mut response);
                    format!("{response:#?}")
                }
                Err(error) => error,
            };
            let (ours, kafkas) = (answer(&self.ours), answer(&self.kafka));
            self.compare(case, version, &ours, &kafkas);
        }
    }

    /// Sends raw bytes to both and compares what `judge` makes of the connection.
    pub fn send(&mut self, case: &str, bytes: &[u8], judge: impl Fn(&mut Wire) -> String) {
        let answer = |broker: &Broker| {
            let mut wire = Wire::connect(broker.port(), Duration::from_secs(5)).expect("a connection");
            // A broker may hang up before it has read everything.
            drop(wire.send(bytes).err());
            judge(&mut wire)
        };
        let (ours, kafkas) = (answer(&self.ours), answer(&self.kafka));
        self.compare(case, 0, &ours, &kafkas);
    }

    fn compare(&mut self, case: &str, version: i16, ours: &str, kafkas: &str) {
        self.asked += 1;
        let (ours, kafkas) = (normalised(ours), normalised(kafkas));
        if ours == kafkas {
            return;
        }
        let lines = differing(&ours, &kafkas);
        let mut is_known = |line: &str| {
            let mut covered = false;
            for known in self.known.iter_mut().filter(|known| known.covers(case, line)) {
                (known.met, covered) = (true, true);
            }
            covered
        };
        let mut lines: Vec<String> = lines.into_iter().filter(|line| !is_known(line)).collect();
        if !lines.is_empty() {
            let more = lines.len().saturating_sub(MOST_LINES);
            lines.truncate(MOST_LINES);
            lines.extend((more > 0).then(|| format!("  and {more} lines more")));
            self.differences.entry(format!("{case}\n{}", lines.join("\n"))).or_default().push(version);
        }
    }
}

/// The request with its header, or `None` if this version cannot say it.
pub fn frame<R: Request>(request: &R, version: i16) -> Option<Vec<u8>> {
    let mut header = RequestHeader::default();
    header.request_api_key = R::KEY;
    header.request_api_version = version;
    header.correlation_id = 77;
    header.client_id = Some(StrBytes::from_static_str("probe"));
    let mut bytes = Vec::new();
    header.encode(&mut bytes, R::header_version(version)).ok()?;
    request.encode(&mut bytes, version).ok()?;
    Some(bytes)
}

/// Sends a frame and decodes what comes back.
pub fn answer<R: Request>(port: u16, frame: &[u8], version: i16) -> Result<R::Response, String> {
    let mut wire = Wire::connect(port, Duration::from_secs(5)).map_err(|error| format!("no connection: {error}"))?;
    wire.send_frame(frame).map_err(|error| format!("cannot send: {:?}", error.kind()))?;
    read::<R>(&mut wire, version)
}

/// Decodes what comes on a connection.
pub fn read<R: Request>(wire: &mut Wire, version: i16) -> Result<R::Response, String> {
    let bytes = wire.receive_frame().map_err(|error| format!("no answer: {:?}", error.kind()))?;
    let mut bytes = bytes::Bytes::from(bytes);
    let header =
        ResponseHeader::decode(&mut bytes, R::Response::header_version(version)).map_err(|e| format!("{e:?}"))?;
    let response = R::Response::decode(&mut bytes, version).map_err(|error| format!("undecodable: {error:?}"))?;
    match (header.correlation_id, bytes.len()) {
        (77, 0) => Ok(response),
        (id, left) => Err(format!("correlation id {id}, {left} bytes left over")),
    }
}

/// An answer without what is each broker's own.
fn normalised(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().map(own_values) {
        // A text that may be null has a line of its own.
        if lines.last().is_some_and(|before| before.ends_with("cluster_id: <own>")) && line.trim().starts_with('"') {
            continue;
        }
        lines.push(line);
    }
    lines.join("\n")
}

fn own_values(line: &str) -> String {
    let mut line = without_uuids(line);
    // A member's id in Kafka's form of a UUID.
    let is_id =
        |text: &str| text.len() == 22 && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it));
    if let Some((before, quoted)) = line.split_once("member_id: \"")
        && quoted.strip_suffix("\",").is_some_and(is_id)
    {
        return format!("{before}member_id: <base64>");
    }
    // Bounds that move with each broker's clock.
    if let Some(at) = line.find("should be within [") {
        line.truncate(at);
    }
    let indent = line.len() - line.trim_start().len();
    let Some((name, value)) = line.trim_start().split_once(": ") else { return line };
    let hide = match name {
        "port" | "cluster_id" => true,
        "producer_id" | "log_append_time_ms" | "session_id" | "transaction_start_time_ms" | "last_timestamp" => {
            !matches!(value, "-1," | "0,")
        }
        _ => false,
    };
    if hide { format!("{}{name}: <own>", " ".repeat(indent)) } else { line }
}

/// Replaces every UUID but the null one.
fn without_uuids(line: &str) -> String {
    let shape = |bytes: &[u8]| {
        bytes.iter().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    let mut out = line.to_owned();
    let mut at = 0;
    while at + 36 <= out.len() {
        if !out.is_char_boundary(at) {
            at += 1;
            continue;
        }
        let found = out.as_bytes().get(at..at + 36).is_some_and(shape);
        if found && out[at..at + 36].bytes().any(|byte| byte != b'0' && byte != b'-') {
            out.replace_range(at..at + 36, "<uuid>");
        }
        at += 1;
    }
    out
}

/// The lines by which two texts differ, in order, each with the name of the side that has it.
fn differing(ours: &str, kafkas: &str) -> Vec<String> {
    let (ours, kafkas): (Vec<&str>, Vec<&str>) = (ours.lines().collect(), kafkas.lines().collect());
    let same = ours.iter().zip(&kafkas).take_while(|(ours, kafkas)| ours == kafkas).count();
    let (ours, kafkas) = (&ours[same..], &kafkas[same..]);
    // The longest common subsequence from each pair of places on.
    let mut common = vec![vec![0_u32; kafkas.len() + 1]; ours.len() + 1];
    for i in (0..ours.len()).rev() {
        for j in (0..kafkas.len()).rev() {
            common[i][j] =
                if ours[i] == kafkas[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < ours.len() || j < kafkas.len() {
        if i < ours.len() && j < kafkas.len() && ours[i] == kafkas[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == kafkas.len() || i < ours.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(format!("  ours  {}", ours[i].trim()));
            i += 1;
        } else {
            lines.push(format!("  kafka {}", kafkas[j].trim()));
            j += 1;
        }
    }
    lines
}

#[test]
#[ignore = "run by .ci/campaign probe: it needs a Kafka beside it"]
fn millrace_answers_as_kafka_does_field_by_field() {
    let Some(mut pair) = Pair::start() else { return };
    topics::versions(&mut pair);
    topics::create(&mut pair);
    topics::metadata(&mut pair);
    topics::configs(&mut pair);
    data::produce(&mut pair);
    data::list_offsets(&mut pair);
    data::fetch(&mut pair);
    data::epochs_and_producers(&mut pair);
    admin::all(&mut pair);
    edges::all(&mut pair);
    groups::coordinators(&mut pair);
    transactions::all(&mut pair);
    txn_scripts::all(&mut pair);
    groups::strangers(&mut pair);
    groups::commits(&mut pair);
    groups::consumers(&mut pair);
    groups::deletions(&mut pair);
    group_scripts::all(&mut pair);
    topics::delete(&mut pair);
    frames::malformed(&mut pair);
    eprintln!("probe: {} requests compared", pair.asked);
    let differences: Vec<String> = std::mem::take(&mut pair.differences)
        .into_iter()
        .map(|(what, versions)| format!("{versions:?} {what}"))
        .collect();
    let gone: Vec<&str> = pair.known.iter().filter(|known| !known.met).map(|known| known.case).collect();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    assert!(gone.is_empty(), "listed in known.md, but no differences any more: {gone:?}");
}

/// Text for kafka-protocol.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
