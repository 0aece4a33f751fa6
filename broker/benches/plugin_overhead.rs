//! What a produce-stage plugin costs: nanoseconds per record from a records section to the section that is stored, beside
//! the same function compiled into the host.
//!
//! `cargo bench -p millrace-plugin-host --bench plugin_overhead [-- PART OF A ROW'S NAME]`, such as `filter, 1000 B`

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark")]

#[path = "../../plugins/mask-fields/src/config.rs"]
#[allow(dead_code, reason = "only the mask is used")]
mod config;
#[path = "../../tests/harness/guests.rs"]
mod guests;
#[path = "../../plugins/mask-fields/src/mask.rs"]
#[allow(dead_code, clippy::expect_used, reason = "the plugin's code, its tests among it")]
mod mask;
#[path = "../../plugins/json-scan/src/lib.rs"]
#[allow(dead_code, reason = "only what the mask needs is used")]
mod scan;

use bytes::Bytes;
use millrace_model::builder::Section;
use millrace_model::record::encode::{HeaderSource, RecordParts};
use millrace_model::record::{RecordView, Records as Views};
use millrace_model::{SystemClock, SystemRandom};
use millrace_plugin_host::{
    Applied, Attachment, AttachmentOptions, GuestThreads, Lane, Limits, OnRejection, OsThreads, Records, Runtime,
    RuntimeOptions,
};
use std::hint::black_box;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const BATCHES: [usize; 4] = [1, 10, 100, 1000];
const SIZES: [usize; 2] = [100, 1000];
const MASK: &str = r#"{"fields":["email"]}"#;

/// The same function natively: appends what it leaves of a record.
type Native<'a> = &'a dyn Fn(&RecordView<'_>, &mut Section);

fn main() {
    let runtime =
        Runtime::new(RuntimeOptions::default(), Arc::new(SystemClock::default()), Arc::new(SystemRandom)).unwrap();
    println!("resident after the runtime's start: {}", resident());
    let filter = attach(&runtime, "bench-filter", &guests::guest("bench-filter"), "{}");
    let upper = attach(&runtime, "bench-upper", &guests::guest("bench-upper"), "{}");
    let mask = attach(&runtime, "mask-fields", &guests::plugin("mask-fields"), MASK);
    println!("resident with three plugins attached: {}\n", resident());
    let masker: mask::Masker = serde_json::from_str(MASK).unwrap();
    let native_filter = |view: &RecordView<'_>, out: &mut Section| {
        if view.value().is_some_and(|value| value.last().is_some_and(|byte| byte & 1 == 1)) {
            out.copy(view).unwrap();
        }
    };
    let native_upper = |view: &RecordView<'_>, out: &mut Section| {
        let value = view.value().map(<[u8]>::to_ascii_uppercase);
        push(view, value.as_deref(), out);
    };
    let native_mask = |view: &RecordView<'_>, out: &mut Section| {
        let mut value = Vec::new();
        match masker.mask(view.value().unwrap_or_default(), &mut value) {
            Ok(true) => push(view, Some(&value), out),
            _ => out.copy(view).unwrap(),
        }
    };
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    println!("| function | value | batch | plugin ns/record | native ns/record | difference |");
    println!("|---|--:|--:|--:|--:|--:|");
    for (name, attachment, native) in [
        ("filter", &filter, &native_filter as Native<'_>),
        ("change (upper case)", &upper, &native_upper),
        ("JSON mask", &mask, &native_mask),
    ] {
        for size in SIZES {
            for batch in BATCHES.into_iter().filter(|batch| format!("{name}, {size} B, {batch}").contains(&wanted)) {
                row(name, attachment, native, size, batch);
            }
        }
    }
    println!("\nto a guest thread and back, per batch: {:.1} µs", hop());
}

fn row(name: &str, attachment: &Attachment, native: Native<'_>, size: usize, batch: usize) {
    let section = section(size, batch);
    let mut records = Records::default();
    let plugin = best(batch, || {
        records.parse(section.clone(), batch as i32, 0).unwrap();
        let mut out = Applied::with_capacity(section.len());
        for range in records.chunks(attachment.call_bytes()) {
            let answer = attachment.call(&records, range.clone()).unwrap();
            records.apply(range, &answer, OnRejection::Drop, &mut out).unwrap();
        }
        black_box(out.count);
    });
    let native = best(batch, || {
        let mut out = Section::with_capacity(section.len());
        for view in Views::new(&section, batch as i32) {
            native(&view.unwrap(), &mut out);
        }
        black_box(out.count());
    });
    println!("| {name} | {size} B | {batch} | {plugin:.1} | {native:.1} | {:.1} |", plugin - native);
}

/// Nanoseconds per record: the best of several runs, each long enough to measure.
fn best(batch: usize, mut run: impl FnMut()) -> f64 {
    let rounds = (50_000 / batch).max(50);
    (0..25)
        .map(|_| {
            let started = Instant::now();
            (0..rounds).for_each(|_| run());
            started.elapsed().as_nanos() as f64 / (rounds * batch) as f64
        })
        .fold(f64::INFINITY, f64::min)
}

fn push(view: &RecordView<'_>, value: Option<&[u8]>, out: &mut Section) {
    let parts = RecordParts {
        offset_delta: view.offset_delta(),
        timestamp_delta: view.timestamp_delta(),
        key: view.key(),
        value,
        headers: HeaderSource::Encoded(view.headers()),
    };
    out.push(&parts).unwrap();
}

/// JSON of about this size with one field to mask; half of the values end in an odd byte.
fn section(size: usize, count: usize) -> Bytes {
    let mut section = Section::default();
    for i in 0..count {
        let front = format!(r#"{{"id":{i},"email":"someone.{i}@example.com","text":""#);
        let back = if i % 2 == 0 { "\"}" } else { "\"} " };
        let filling: String =
            "the quick brown fox ".chars().cycle().take(size.saturating_sub(front.len() + back.len())).collect();
        let value = format!("{front}{filling}{back}");
        let parts = RecordParts {
            offset_delta: i as i32,
            timestamp_delta: i as i64,
            key: Some(b"key"),
            value: Some(value.as_bytes()),
            headers: HeaderSource::None,
        };
        section.push(&parts).unwrap();
    }
    Bytes::copy_from_slice(section.records())
}

fn attach(runtime: &Runtime, name: &str, component: &[u8], config: &str) -> Attachment {
    let started = Instant::now();
    let plugin = runtime.load(component).unwrap();
    let compiled = started.elapsed();
    let options = AttachmentOptions {
        name: name.into(),
        topic: "bench".into(),
        stage: "produce",
        config: config.to_owned(),
        limits: Limits { time: Duration::from_secs(1), ..Limits::default() },
    };
    let attachment = runtime.attach(&plugin, options).unwrap();
    println!(
        "{name}: {} KB, compiled in {compiled:.0?}, attached in {:.1?}",
        component.len() >> 10,
        started.elapsed() - compiled
    );
    attachment
}

fn hop() -> f64 {
    let (threads, lane) = (OsThreads::for_this_machine(), Lane::new());
    let (send, receive) = mpsc::channel();
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let started = Instant::now();
        for _ in 0..2000 {
            let send = send.clone();
            threads.run(&lane, Box::new(move || send.send(()).unwrap()));
            receive.recv().unwrap();
        }
        best = best.min(started.elapsed().as_secs_f64() * 1e6 / 2000.0);
    }
    best
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("unknown");
    line.trim_start_matches("VmRSS:").trim().to_owned()
}
