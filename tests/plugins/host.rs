//! The host against guests that do what they please: whatever a guest does ends in an answer that was checked or in a named
//! fault, and the next call is served.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]

#[path = "../harness/guests.rs"]
mod guests;

use bytes::Bytes;
use guests::guest;
use millrace_model::record::Records as Views;
use millrace_model::record::encode::{self, HeaderSource, RecordParts};
use millrace_model::{SystemClock, SystemRandom};
use millrace_plugin_host::{
    Applied, AttachError, Attachment, AttachmentOptions, Fault, Interruption, Kind, Limits, LoadError, OnRejection,
    Plugin, Records, Runtime, RuntimeOptions,
};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

fn options() -> RuntimeOptions {
    RuntimeOptions { instances: 64, ..RuntimeOptions::default() }
}

fn start(options: RuntimeOptions) -> Runtime {
    Runtime::new(options, Arc::new(SystemClock::default()), Arc::new(SystemRandom)).unwrap()
}

/// One runtime and one compiled guest for all tests: compiling is what takes time.
fn dynamic() -> &'static (Runtime, Plugin) {
    static LOADED: OnceLock<(Runtime, Plugin)> = OnceLock::new();
    LOADED.get_or_init(|| {
        let runtime = start(options());
        let plugin = runtime.load(&guest("dynamic")).unwrap();
        (runtime, plugin)
    })
}

fn setting(config: &str, limits: Limits) -> AttachmentOptions {
    AttachmentOptions {
        name: "dynamic@1".into(),
        topic: "orders".into(),
        stage: "produce",
        config: config.to_owned(),
        limits,
    }
}

fn attach_with(limits: Limits) -> Attachment {
    let (runtime, plugin) = dynamic();
    runtime.attach(plugin, setting("{}", limits)).unwrap()
}

fn attach() -> Attachment {
    attach_with(Limits::default())
}

const BASE: i64 = 1_700_000_000_000;

/// Records with these values, a key, and two headers of one name.
fn records(values: &[&str]) -> Records {
    let mut section = Vec::new();
    for (i, value) in values.iter().enumerate() {
        let parts = RecordParts {
            offset_delta: i as i32,
            timestamp_delta: i as i64 * 10,
            key: (i % 2 == 0).then_some(b"key".as_slice()),
            value: Some(value.as_bytes()),
            headers: HeaderSource::Pairs(&[(b"a", Some(b"1")), (b"a", None)]),
        };
        encode::record(&mut section, &parts).unwrap();
    }
    let mut records = Records::default();
    records.parse(section.into(), values.len() as i32, BASE).unwrap();
    records
}

fn run(attachment: &Attachment, values: &[&str], on_rejection: OnRejection) -> Result<Applied, Fault> {
    let records = records(values);
    let answer = attachment.call(&records, 0..records.len())?;
    let mut out = Applied::with_capacity(0);
    records.apply(0..records.len(), &answer, on_rejection, &mut out)?;
    Ok(out)
}

/// Offset delta and value of each record.
fn values(applied: &Applied) -> Vec<(i32, Option<String>)> {
    let views = Views::new(applied.section(), applied.count);
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let all: Vec<_> =
        views.map(|view| view.unwrap()).map(|view| (view.offset_delta(), view.value().map(text))).collect();
    assert_eq!(all.len(), applied.count as usize);
    all
}

fn some(delta: i32, value: &str) -> (i32, Option<String>) {
    (delta, Some(value.to_owned()))
}

#[test]
fn a_transform_changes_drops_and_keeps_records_of_one_batch() {
    let out = run(&attach(), &["keep", "upper a", "drop", "append b", "null", "x"], OnRejection::Drop).unwrap();
    let expected = [some(0, "keep"), some(1, "UPPER A"), some(3, "append b!"), (4, None), some(5, "x")];
    assert_eq!(values(&out), expected);
    assert!(out.changed);
    assert_eq!(out.max_timestamp, BASE + 50);
}

#[test]
fn what_is_not_changed_stays_byte_for_byte() {
    let records = records(&["keep", "drop", "upper é", "keep"]);
    let attachment = attach();
    let answer = attachment.call(&records, 0..1).unwrap();
    assert!(answer.is_unchanged());
    let out = run(&attachment, &["keep", "drop", "upper é", "keep"], OnRejection::Drop).unwrap();
    for (view, old) in Views::new(out.section(), out.count).zip([0, 2, 3]) {
        let view = view.unwrap();
        let before = Views::new(records.data(), 4).nth(old).unwrap().unwrap();
        assert_eq!((view.key(), view.headers().raw()), (before.key(), before.headers().raw()));
        assert_eq!((view.timestamp_delta(), view.offset_delta()), (before.timestamp_delta(), before.offset_delta()));
        if old != 2 {
            assert_eq!(view.bytes(), before.bytes());
        }
    }
}

#[test]
fn keys_headers_and_timestamps_can_be_replaced() {
    let time = BASE + 123_456;
    let out = run(&attach(), &["rekey new", "rehead h=v", &format!("retime {time}")], OnRejection::Drop).unwrap();
    let views: Vec<_> = Views::new(out.section(), out.count).map(|view| view.unwrap()).collect();
    assert_eq!((views[0].key(), views[0].value()), (Some(b"new".as_slice()), Some(b"rekey new".as_slice())));
    assert_eq!(views[0].headers().len(), 2);
    let headers: Vec<_> =
        views[1].headers().iter().map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec))).collect();
    assert_eq!(headers, [(b"h".to_vec(), Some(b"v".to_vec())), (b"h".to_vec(), None)]);
    assert_eq!((views[2].timestamp_delta(), out.max_timestamp), (123_456, time));
}

#[test]
fn refused_records_are_named_and_then_dropped_or_passed() {
    let attachment = attach();
    let records = records(&["keep", "reject too old", "upper b"]);
    let answer = attachment.call(&records, 0..3).unwrap();
    assert_eq!(answer.rejected().len(), 1);
    assert_eq!((answer.rejected()[0].index, answer.rejected()[0].reason.as_str()), (1, "too old"));
    let all = ["keep", "reject too old", "upper b"];
    assert_eq!(values(&run(&attachment, &all, OnRejection::Drop).unwrap()), [some(0, "keep"), some(2, "UPPER B")]);
    let passed = [some(0, "keep"), some(1, "reject too old"), some(2, "UPPER B")];
    assert_eq!(values(&run(&attachment, &all, OnRejection::Pass).unwrap()), passed);
}

#[test]
fn a_range_of_records_is_asked_about_alone() {
    let attachment = attach();
    let records = records(&["trap", "upper a", "drop", "upper b", "trap"]);
    let answer = attachment.call(&records, 1..4).unwrap();
    let mut out = Applied::with_capacity(0);
    records.keep(0..1, &mut out);
    records.apply(1..4, &answer, OnRejection::Drop, &mut out).unwrap();
    assert_eq!(values(&out), [some(0, "trap"), some(1, "UPPER A"), some(3, "UPPER B")]);
    let chunks: Vec<_> = records.chunks(100).collect();
    assert_eq!(chunks.iter().cloned().flatten().collect::<Vec<_>>(), (0..5).collect::<Vec<_>>());
    assert!(chunks.len() > 1);
    assert_eq!(records.chunks(1).count(), 5);
}

#[test]
fn guests_are_told_about_their_attachment() {
    let out = run(&attach(), &["context topic", "context plugin", "context stage"], OnRejection::Drop).unwrap();
    assert_eq!(values(&out), [some(0, "orders"), some(1, "dynamic@1"), some(2, "produce")]);
}

/// The call fails as expected, and the next one is served by another instance.
fn faults(limits: Limits, word: &str) -> Fault {
    let attachment = attach_with(limits);
    assert_eq!(values(&run(&attachment, &["count"], OnRejection::Drop).unwrap()), [some(0, "1")]);
    let fault = run(&attachment, &["keep", word], OnRejection::Drop).unwrap_err();
    let served = values(&run(&attachment, &["count", "upper a"], OnRejection::Drop).unwrap());
    let replaced = if matches!(fault, Fault::Answer(_)) { "3" } else { "1" };
    assert_eq!(served, [some(0, replaced), some(1, "UPPER A")], "{word}");
    fault
}

#[test]
fn a_trap_is_a_fault_and_the_instance_is_replaced() {
    assert!(matches!(faults(Limits::default(), "trap"), Fault::Trap(_)));
}

#[test]
fn a_panic_is_told_with_its_message() {
    let Fault::Trap(message) = faults(Limits::default(), "panic out of cheese") else { panic!("no trap") };
    assert!(message.contains("out of cheese"), "{message}");
}

#[test]
fn a_loop_ends_soon_after_its_limit() {
    let started = Instant::now();
    let limit = Duration::from_millis(30);
    assert_eq!(faults(Limits { time: limit, ..Limits::default() }, "loop"), Fault::Time(limit));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn a_stack_overflow_is_a_fault() {
    assert_eq!(faults(Limits::default(), "overflow"), Fault::Stack);
}

#[test]
fn memory_beyond_the_limit_is_a_fault() {
    let limits = Limits { memory: 4 << 20, ..Limits::default() };
    assert_eq!(faults(limits, "allocate 64"), Fault::Memory(4 << 20));
}

#[test]
fn all_plugins_together_stay_within_the_hosts_memory() {
    let runtime = start(RuntimeOptions { memory: 8 << 20, ..options() });
    let plugin = runtime.load(&guest("dynamic")).unwrap();
    let limits = Limits { memory: 64 << 20, time: Duration::from_millis(500) };
    let attachment = runtime.attach(&plugin, setting("{}", limits)).unwrap();
    assert_eq!(run(&attachment, &["allocate 32"], OnRejection::Drop).unwrap_err(), Fault::HostMemory(8 << 20));
    assert_eq!(runtime.memory(), 0, "what a dead instance held is free again");
    assert!(run(&attachment, &["allocate 2"], OnRejection::Drop).is_ok());
}

#[test]
fn an_instance_whose_memory_has_grown_much_is_recycled() {
    let attachment = attach_with(Limits { memory: 64 << 20, time: Duration::from_millis(500) });
    run(&attachment, &["hold 24"], OnRejection::Drop).unwrap();
    assert_eq!(attachment.idle_memory(), 0);
    assert_eq!(values(&run(&attachment, &["count"], OnRejection::Drop).unwrap()), [some(0, "1")]);
}

#[test]
fn unusable_answers_are_faults() {
    for word in [
        "wrong-count",
        "wrong-verdict",
        "wild-span",
        "few-spans",
        "many-spans",
        "double",
        "bad-headers",
        "wild-rejection",
    ] {
        let fault = faults(Limits::default(), word);
        assert!(matches!(fault, Fault::Answer(_)), "{word}: {fault}");
    }
}

#[test]
fn answers_that_would_grow_on_the_host_are_cut_off() {
    for word in ["many-rejections", "huge 40"] {
        let limits = Limits { time: Duration::from_secs(2), ..Limits::default() };
        let attachment = attach_with(limits);
        assert!(run(&attachment, &[word], OnRejection::Drop).is_err(), "{word}");
        assert_eq!(values(&run(&attachment, &["upper a"], OnRejection::Drop).unwrap()), [some(0, "UPPER A")]);
    }
}

#[test]
fn what_was_not_granted_traps() {
    let Fault::Trap(message) = faults(Limits::default(), "wasi") else { panic!("no trap") };
    assert!(message.contains("wasi:cli/stdout"), "{message}");
}

#[test]
fn a_storm_of_log_lines_is_bounded_and_harmless() {
    let limits = Limits { time: Duration::from_secs(1), ..Limits::default() };
    assert!(run(&attach_with(limits), &["log 10000"], OnRejection::Drop).is_ok());
}

#[test]
fn a_config_that_the_plugin_refuses_is_told_in_its_words() {
    let (runtime, plugin) = dynamic();
    let refused = |config| runtime.attach(plugin, setting(config, Limits::default())).unwrap_err();
    assert_eq!(refused(r#"{"refuse":1}"#), AttachError::Configure("the config says so".to_owned()));
    let AttachError::Fault(Fault::Trap(message)) = refused(r#"{"panic":1}"#) else { panic!("no trap") };
    assert!(message.contains("configure panics"));
}

#[test]
fn a_config_that_never_returns_is_stopped() {
    let runtime = start(RuntimeOptions { start_time: Duration::from_millis(50), ..options() });
    let plugin = runtime.load(&guest("dynamic")).unwrap();
    let error = runtime.attach(&plugin, setting(r#"{"loop":1}"#, Limits::default())).unwrap_err();
    assert!(matches!(error, AttachError::Fault(Fault::Time(_))), "{error}");
}

#[test]
fn impossible_limits_are_refused() {
    let (runtime, plugin) = dynamic();
    for limits in [
        Limits { memory: 1, ..Limits::default() },
        Limits { memory: u64::MAX, ..Limits::default() },
        Limits { time: Duration::ZERO, ..Limits::default() },
    ] {
        let error = runtime.attach(plugin, setting("{}", limits)).unwrap_err();
        assert!(matches!(error, AttachError::Limits(_)), "{error}");
    }
}

#[test]
fn a_filter_keeps_drops_and_refuses() {
    let (runtime, _) = dynamic();
    let plugin = runtime.load(&guest("dynamic-filter")).unwrap();
    assert_eq!(plugin.kind(), Kind::Filter);
    let attachment = runtime.attach(&plugin, setting("{}", Limits::default())).unwrap();
    let all: Vec<String> = (0..20).map(|i| if i % 3 == 0 { "drop".to_owned() } else { format!("r{i}") }).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let kept: Vec<_> = (0..20).filter(|i| i % 3 != 0).map(|i| some(i, &format!("r{i}"))).collect();
    assert_eq!(values(&run(&attachment, &all, OnRejection::Drop).unwrap()), kept);
    let out = run(&attachment, &["a", "reject b", "drop", "c"], OnRejection::Pass).unwrap();
    assert_eq!(values(&out), [some(0, "a"), some(1, "reject b"), some(3, "c")]);
    for word in ["short", "long", "wild-rejection x"] {
        let nine = [&["a"; 8][..], &[word]].concat();
        let fault = run(&attachment, &nine, OnRejection::Drop).unwrap_err();
        assert!(matches!(fault, Fault::Answer(_)), "{word}: {fault}");
    }
    assert!(matches!(run(&attachment, &["loop"], OnRejection::Drop), Err(Fault::Time(_))));
    assert!(matches!(run(&attachment, &["trap"], OnRejection::Drop), Err(Fault::Trap(_))));
    let none = run(&attachment, &["drop", "drop"], OnRejection::Drop).unwrap();
    assert_eq!((none.count, none.section().len(), none.changed), (0, 0, true));
}

#[test]
fn with_fuel_a_loop_ends_at_the_same_place_each_time() {
    let interruption = Interruption::Fuel { per_millisecond: 100_000 };
    let runtime = start(RuntimeOptions { interruption, ..options() });
    let plugin = runtime.load(&guest("dynamic")).unwrap();
    let attachment = runtime.attach(&plugin, setting("{}", Limits::default())).unwrap();
    assert!(matches!(run(&attachment, &["loop"], OnRejection::Drop), Err(Fault::Time(_))));
    assert_eq!(values(&run(&attachment, &["upper a"], OnRejection::Drop).unwrap()), [some(0, "UPPER A")]);
}

#[test]
fn a_compiled_plugin_is_kept_on_disk_and_a_broken_file_is_compiled_anew() {
    let dir = tempfile::tempdir().unwrap();
    let component = guest("dynamic-filter");
    let load = || start(RuntimeOptions { cache: Some(dir.path().to_owned()), ..options() }).load(&component).unwrap();
    let plugin = load();
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    assert!(files[0].file_name().unwrap().to_str().unwrap().starts_with(&plugin.hash().to_string()));
    let started = Instant::now();
    assert_eq!(load().hash(), plugin.hash());
    println!("mapped in {:?}", started.elapsed());
    std::fs::write(&files[0], b"not code").unwrap();
    assert_eq!(load().hash(), plugin.hash());
}

#[test]
fn what_is_not_a_plugin_is_refused_with_what_it_is() {
    let (runtime, _) = dynamic();
    assert_eq!(runtime.load(b"hello").unwrap_err(), LoadError::NotWasm);
    assert_eq!(runtime.load(b"\x7fELF\x02\x01\x01\0\0\0\0\0").unwrap_err(), LoadError::NotWasm);
    assert_eq!(runtime.load(b"\0asm\x01\0\0\0").unwrap_err(), LoadError::CoreModule);
    assert_eq!(runtime.load(b"\0asm\x0d\0\x01\0").unwrap_err(), LoadError::NoKind);
    assert!(matches!(runtime.load(b"\0asm\x0d\0\x01\0\xff\xff").unwrap_err(), LoadError::Compile(_)));
    let mut cut = guest("dynamic-filter");
    cut.truncate(cut.len() / 2);
    assert!(matches!(runtime.load(&cut).unwrap_err(), LoadError::Compile(_)));
    let small = start(RuntimeOptions { component_bytes: 100, ..options() });
    assert!(matches!(small.load(&guest("dynamic-filter")).unwrap_err(), LoadError::Size { limit: 100, .. }));
}

#[test]
fn malformed_sections_are_refused() {
    let good = records(&["a", "b"]).data().clone();
    let mut records = Records::default();
    assert!(records.parse(good.clone(), 2, 0).is_ok());
    for count in [-1, 0, 1, 3, i32::MAX] {
        assert!(records.parse(good.clone(), count, 0).is_err(), "{count}");
    }
    for end in 0..good.len() {
        assert!(records.parse(good.slice(..end), 2, 0).is_err(), "{end}");
    }
    // Every one-byte change is either refused or still reads within its bounds; it never panics.
    for at in 0..good.len() {
        for byte in 0..=255 {
            let mut bytes = good.to_vec();
            bytes[at] = byte;
            let _ = records.parse(Bytes::from(bytes), 2, i64::MAX);
        }
    }
}
