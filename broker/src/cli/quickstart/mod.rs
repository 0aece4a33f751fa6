//! `millrace quickstart`: a broker with a topic, three plugins and some thousand real records, to look around.
//!
//! Everything it needs is in the binary, so that it runs from any directory. What it does it does as any client would:
//! over the socket, and through the same topic files that `apply` takes.

mod data;
mod story;
mod wire;

pub use story::{Told, tell};

use super::fault::Fault;
use super::output::{Output, Paint};
use crate::config::topic::SourceFile;
use crate::config::{ApplyRequest, Bundle};
use std::net::SocketAddr;

/// The topic that the records go to.
pub const TOPIC: &str = "flights";

/// The topic file, and the name under which faults of it are reported.
const TOPIC_FILE: (&str, &str) =
    ("examples/quickstart/flights.toml", include_str!("../../../../examples/quickstart/flights.toml"));

/// The topic files that the quickstart applies.
pub fn bundle() -> Bundle {
    let (file, text) = TOPIC_FILE;
    let files = vec![SourceFile { file: file.to_owned(), text: text.to_owned() }];
    Bundle { request: ApplyRequest { files, components: Vec::new() }, components: Vec::new() }
}

/// What to type next.
pub fn invite(kafka: SocketAddr, http: Option<&str>, output: &mut Output) {
    let head = |output: &mut Output, text: &str| {
        let text = output.paint(Paint::Bold, text);
        output.line(format!("\n{text}"));
    };
    head(output, "Look at it with any Kafka client");
    output.line(format!("  kcat -b {kafka} -t {TOPIC} -C -o beginning -c 5"));
    output.line(format!(
        "  kafka-console-consumer.sh --bootstrap-server {kafka} --topic {TOPIC} --from-beginning --max-messages 5"
    ));
    head(output, "Send a flight, and one that is refused");
    let flight = r#"{"carrier":"ZZ","flight":1,"tailnum":"N12345","origin":"JFK","dest":"LAX","dep_time":900}"#;
    output.line(format!("  echo '{flight}' | kcat -b {kafka} -t {TOPIC} -P"));
    output.line(format!("  echo '{flight}' | kafka-console-producer.sh --bootstrap-server {kafka} --topic {TOPIC}"));
    output.line(format!("  echo '{{\"carrier\":\"ZZ\"}}' | kcat -b {kafka} -t {TOPIC} -P"));
    if let Some(http) = http {
        head(output, "Look at the broker");
        // As it was called: whoever came by `cargo run` has no `millrace` to type.
        let millrace = std::env::args().next().unwrap_or_else(|| "millrace".to_owned());
        output.line(format!("  {millrace} topics --broker {http}"));
        output.line(format!("  curl http://{http}/metrics"));
    }
    output.line("\nCtrl-C stops it; what was stored stays.");
}

/// Tells the story to a broker that serves, and invites to more.
///
/// # Errors
/// The broker does not do what it should.
pub async fn present(kafka: SocketAddr, http: Option<&str>, output: &mut Output) -> Result<(), Fault> {
    let told = tell(kafka, output).await?;
    if let Told::Before { records } = told {
        output.line(format!("the topic {TOPIC} holds {records} offsets already: nothing was produced again"));
    }
    invite(kafka, http, output);
    Ok(())
}
