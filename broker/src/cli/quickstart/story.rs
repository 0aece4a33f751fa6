//! What the quickstart does and shows: a record that is refused, some thousand that are taken, and a few of them before
//! and after.

use super::wire::{Refused, Stored, Wire, WireFault, batch};
use super::{TOPIC, data};
use crate::cli::fault::Fault;
use crate::cli::output::{Output, Paint};
use indicatif::{ProgressBar, ProgressStyle};
use millrace_model::{Batch, Clock, Offset, SystemClock, Timestamp};
use std::net::SocketAddr;
use std::time::Instant;

/// Partitions of the topic, as its file says.
const PARTITIONS: i32 = 3;
/// Records of one batch.
const BATCH: usize = 250;
/// A record that is no flight: it says neither where from nor where to.
const BAD: &str = r#"{"carrier":"UA","flight":"none"}"#;
/// How many stored flights are shown.
const SAMPLES: usize = 3;

/// What became of the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was told.
    Now {
        /// Records that were sent.
        sent: usize,
        /// Records that are stored.
        stored: usize,
    },
    /// An earlier start told it.
    Before {
        /// Offsets that the topic has.
        records: i64,
    },
}

/// One record on its way: what was sent, and where it would be.
#[derive(Clone, Debug)]
struct Sent<'a> {
    line: &'a str,
    partition: i32,
    offset: Offset,
}

/// Tells it to the broker at this address.
///
/// # Errors
/// The broker does not do what it should.
pub async fn tell(kafka: SocketAddr, output: &mut Output) -> Result<Told, Fault> {
    let mut wire = Wire::connect(kafka, TOPIC).await?;
    let mut records = 0;
    for partition in 0..PARTITIONS {
        records += wire.end_offset(partition).await?.get();
    }
    if records > 0 {
        return Ok(Told::Before { records });
    }
    let lines = data::lines()?;
    let lines: Vec<&str> = lines.lines().collect();
    let now = SystemClock::default().now();
    refuse(&mut wire, &lines, now, output).await?;
    let sent = send(&mut wire, &lines, now, output).await?;
    let stored = read(&mut wire).await?;
    show(&sent, &stored, output);
    Ok(Told::Now { sent: sent.len(), stored: stored.iter().map(Vec::len).sum() })
}

/// A batch with one bad record: all of it is refused, and the broker says which record and why.
async fn refuse(wire: &mut Wire, lines: &[&str], now: Timestamp, output: &mut Output) -> Result<(), Fault> {
    let mut records: Vec<&str> = lines.iter().take(2).copied().collect();
    records.push(BAD);
    match wire.produce(0, &keyed(&records, now)?).await {
        Err(WireFault::Refused(refused)) => {
            heading("A batch with a record that is no flight", output);
            output.line(format!("  sent     {BAD} as the third of 3"));
            show_refusal(&refused, output);
            Ok(())
        }
        Err(fault) => Err(fault.into()),
        Ok(offset) => Err(Fault::new(format!("a record that is no flight was stored at offset {offset}"))
            .next("the topic flights is not as its file says: run `millrace apply examples/quickstart`")),
    }
}

fn show_refusal(refused: &Refused, output: &mut Output) {
    let name = output.paint(Paint::Red, &refused.error);
    if refused.records.is_empty() {
        output.line(format!("  answer   {name}: {}", refused.message.as_deref().unwrap_or("the batch is refused")));
        return;
    }
    output.line(format!("  answer   {name}, nothing of the batch is stored"));
    for (index, reason) in &refused.records {
        output.line(format!("           record {index}: {reason}"));
    }
}

async fn send<'a>(
    wire: &mut Wire,
    lines: &[&'a str],
    now: Timestamp,
    output: &mut Output,
) -> Result<Vec<Sent<'a>>, Fault> {
    let bar = ProgressBar::new(lines.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("producing {bar:40} {pos}/{len}") {
        bar.set_style(style);
    }
    let started = Instant::now();
    let mut sent = Vec::with_capacity(lines.len());
    for (chunk, partition) in lines.chunks(BATCH).zip((0..PARTITIONS).cycle()) {
        let base = wire.produce(partition, &keyed(chunk, now)?).await?;
        let place = |(at, line): (i64, &&'a str)| Sent { line, partition, offset: base.plus(at) };
        sent.extend((0..).zip(chunk).map(place));
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    let took = started.elapsed();
    heading(&format!("{} flights, in batches of {BATCH}, acks=all, lz4", sent.len()), output);
    output.line(format!("  acked in {} ms, every record through three plugins", took.as_millis()));
    Ok(sent)
}

async fn read(wire: &mut Wire) -> Result<Vec<Vec<Stored>>, Fault> {
    let mut all = Vec::new();
    for partition in 0..PARTITIONS {
        let end = wire.end_offset(partition).await?;
        let mut stored: Vec<Stored> = Vec::new();
        let mut from = Offset::ZERO;
        while from < end {
            let more = wire.fetch(partition, from).await?;
            // Offsets of dropped records may be all that is left.
            let Some(last) = more.last() else { break };
            from = last.offset.next();
            stored.extend(more);
        }
        all.push(stored);
    }
    Ok(all)
}

fn show(sent: &[Sent<'_>], stored: &[Vec<Stored>], output: &mut Output) {
    let found = |one: &Sent<'_>| -> Option<Vec<u8>> {
        let partition = stored.get(usize::try_from(one.partition).ok()?)?;
        let at = partition.binary_search_by_key(&one.offset, |stored| stored.offset).ok()?;
        partition.get(at).map(|stored| stored.value.clone())
    };
    let kept: usize = stored.iter().map(Vec::len).sum();
    output.line(format!("  {kept} are stored; {} were cancelled and are not", sent.len() - kept.min(sent.len())));
    heading("Some of them, as sent and as stored", output);
    let ordinary = sent.iter().filter(|one| !data::is_cancelled(one.line)).take(SAMPLES);
    let cancelled = sent.iter().filter(|one| data::is_cancelled(one.line)).take(1);
    for one in ordinary.chain(cancelled) {
        output.line(format!("  sent     {}", data::shown(one.line.as_bytes())));
        let after = found(one).map_or_else(|| "nothing: cancelled".to_owned(), |value| data::shown(&value));
        let after = output.paint(Paint::Green, after);
        output.line(format!("  stored   {after}"));
    }
}

fn keyed(lines: &[&str], now: Timestamp) -> Result<Batch, Fault> {
    let records: Vec<(String, &str)> = lines.iter().map(|line| (data::key(line), *line)).collect();
    batch(&records, now)
}

fn heading(text: &str, output: &mut Output) {
    let text = output.paint(Paint::Bold, text);
    output.line(format!("\n{text}"));
}
