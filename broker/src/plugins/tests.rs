//! The pipeline end to end: a batch in, an outcome out, through the first-party plugins.

use super::*;
use crate::partition::{StageContext, StageOutcome};
use millrace_metadata::{Limits as StoredLimits, PluginReference};
use millrace_model::codec::Compression;
use millrace_model::record::encode::{HeaderSource, RecordParts};
use millrace_model::{
    Batch, PartitionId, ProducerEpoch, ProducerId, Random, SystemClock, SystemRandom, Timestamp, rewrite,
};
use millrace_plugin_host::{OsThreads, RuntimeOptions};
use millrace_storage::io::OsDisk;
use std::sync::OnceLock;
use tempfile::TempDir;

struct Room {
    plugins: Plugins,
    _dir: TempDir,
}

fn room() -> &'static Room {
    static ROOM: OnceLock<Room> = OnceLock::new();
    ROOM.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let options = RuntimeOptions { instances: 64, ..RuntimeOptions::default() };
        let runtime = Runtime::new(options, Arc::clone(&clock), random).unwrap();
        let options = Options { dir: dir.path().join("plugins"), unfolded_bytes: 64 << 20 };
        let threads = Arc::new(OsThreads::for_this_machine());
        let plugins = Plugins::open(options, Arc::new(OsDisk), clock, runtime, threads, Metrics::new()).unwrap();
        Room { plugins, _dir: dir }
    })
}

fn attachment(name: &str, config: &str, on_fault: FaultPolicy) -> Attachment {
    let builtin = builtins().iter().find(|builtin| builtin.name == name).unwrap();
    let plugin = PluginReference { name: name.to_owned(), version: builtin.version.to_owned(), hash: builtin.hash };
    Attachment {
        plugin,
        stage: Stage::Produce,
        config: config.to_owned(),
        limits: StoredLimits { memory_bytes: 16 << 20, time_ms: 1000 },
        on_fault,
        grants: Grants::default(),
        outputs: Vec::new(),
    }
}

fn topic(attachments: Vec<Attachment>) -> Topic {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Topic {
        id: TopicId::new(uuid::Uuid::from_u64_pair(1, id)),
        name: "orders".to_owned(),
        partitions: Vec::new(),
        config: BTreeMap::new(),
        attachments,
        generation: 1,
        internal: false,
    }
}

fn batch(codec: Compression, values: &[Option<&str>]) -> Batch {
    let mut section = millrace_model::builder::Section::default();
    for (i, value) in values.iter().enumerate() {
        let parts = RecordParts {
            offset_delta: i as i32,
            timestamp_delta: i as i64,
            key: Some(b"key"),
            value: value.map(str::as_bytes),
            headers: HeaderSource::None,
        };
        section.push(&parts).unwrap();
    }
    let header = plain_header();
    let header = millrace_model::BatchHeader {
        attributes: millrace_model::batch::Attributes::new(codec.id()),
        last_offset_delta: values.len() as i32 - 1,
        base_timestamp: Timestamp::new(1_700_000_000_000),
        max_timestamp: Timestamp::new(1_700_000_000_000 + values.len() as i64 - 1),
        producer_id: ProducerId::new(7),
        producer_epoch: ProducerEpoch::new(2),
        base_sequence: 40,
        ..header
    };
    section.seal(header, codec, None).unwrap()
}

fn plain_header() -> millrace_model::BatchHeader {
    let mut bytes = [0; millrace_model::batch::HEADER_LEN];
    bytes[16] = 2;
    bytes[8..12].copy_from_slice(&49_i32.to_be_bytes());
    millrace_model::BatchHeader::parse(&bytes).unwrap()
}

fn run(attachments: Vec<Attachment>, batch: &Batch) -> StageOutcome {
    let stage = room().plugins.produce_stage(&topic(attachments)).unwrap();
    let context = StageContext { topic: "orders".into(), partition: PartitionId::new(0), now: Timestamp::new(0) };
    futures::executor::block_on(stage.run(batch.clone(), context))
}

/// Offset deltas and values.
fn stored(outcome: StageOutcome) -> (Batch, Vec<(i32, Option<String>)>) {
    let StageOutcome::Replaced(batch) = outcome else { panic!("{outcome:?}") };
    batch.check_crc().unwrap();
    let plain = rewrite::plain_records(&batch, 1 << 20).unwrap();
    let views = millrace_model::record::Records::new(&plain, batch.header().records_count);
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let records = views.map(|view| view.unwrap()).map(|view| (view.offset_delta(), view.value().map(text))).collect();
    (batch, records)
}

const MASK: &str = r#"{"fields":["email"]}"#;

#[test]
fn a_batch_is_masked_under_every_codec_and_keeps_its_identity() {
    for codec in Compression::ALL {
        let produced = batch(codec, &[Some(r#"{"id":1,"email":"a@b"}"#), None, Some(r#"{"id":2}"#)]);
        let (batch, records) = stored(run(vec![attachment("mask-fields", MASK, FaultPolicy::Reject)], &produced));
        let masked = Some(r#"{"id":1,"email":"***"}"#.to_owned());
        assert_eq!(records, [(0, masked), (1, None), (2, Some(r#"{"id":2}"#.to_owned()))], "{codec:?}");
        let (new, old) = (batch.header(), produced.header());
        assert_eq!((new.producer_id, new.producer_epoch, new.base_sequence), (old.producer_id, old.producer_epoch, 40));
        assert_eq!((new.last_offset_delta, new.max_timestamp), (2, old.max_timestamp));
        assert_eq!(new.attributes, old.attributes);
    }
}

#[test]
fn a_batch_without_anything_to_change_keeps_its_bytes() {
    let produced = batch(Compression::Lz4, &[Some(r#"{"id":1}"#)]);
    assert_eq!(run(vec![attachment("mask-fields", MASK, FaultPolicy::Reject)], &produced), StageOutcome::Unchanged);
}

#[test]
fn attachments_run_in_their_order() {
    let filter = attachment("filter-fields", r#"{"where":"email == '***' or id == 3"}"#, FaultPolicy::Reject);
    let mask = attachment("mask-fields", MASK, FaultPolicy::Reject);
    let values = [Some(r#"{"id":1,"email":"a"}"#), Some(r#"{"id":2}"#), Some(r#"{"id":3}"#)];
    let produced = batch(Compression::None, &values);
    let (_, records) = stored(run(vec![mask.clone(), filter.clone()], &produced));
    let masked = (0, Some(r#"{"id":1,"email":"***"}"#.to_owned()));
    let third = (2, Some(r#"{"id":3}"#.to_owned()));
    assert_eq!(records, [masked, third.clone()]);
    let (_, records) = stored(run(vec![filter, mask], &produced));
    assert_eq!(records, [third]);
}

#[test]
fn a_batch_of_which_nothing_is_left_is_an_empty_header() {
    let produced = batch(Compression::Zstd, &[Some(r#"{"id":1}"#), Some(r#"{"id":2}"#)]);
    let none = attachment("filter-fields", r#"{"where":"id > 5"}"#, FaultPolicy::Reject);
    let mask = attachment("mask-fields", MASK, FaultPolicy::Reject);
    let (batch, records) = stored(run(vec![none, mask], &produced));
    assert!(records.is_empty());
    assert_eq!((batch.header().records_count, batch.header().last_offset_delta), (0, 1));
    assert_eq!((batch.header().base_sequence, batch.bytes().len()), (40, 61));
}

#[test]
fn refused_records_are_named_by_their_place_as_produced() {
    let schema = r#"{"schema":{"required":["id"]}}"#;
    let values = [Some(r#"{"x":1}"#), Some(r#"{"id":1}"#), Some("no json"), Some("{}")];
    let produced = batch(Compression::Gzip, &values);
    let drop_first = attachment("filter-fields", r#"{"where":"not x exists","invalid":"keep"}"#, FaultPolicy::Reject);
    let validate = |policy| attachment("validate-json", schema, policy);
    let outcome = run(vec![drop_first.clone(), validate(FaultPolicy::Reject)], &produced);
    let StageOutcome::Rejected { records, message } = outcome else { panic!("{outcome:?}") };
    assert_eq!(records.iter().map(|record| record.index).collect::<Vec<_>>(), [2, 3]);
    assert!(records[0].reason.starts_with("invalid JSON"), "{}", records[0].reason);
    assert!(records[1].reason.contains("required"), "{}", records[1].reason);
    assert!(message.starts_with("validate-json@1.0.0 refuses 2 of 3 records; record 2: invalid JSON"), "{message}");
    let (_, records) = stored(run(vec![drop_first.clone(), validate(FaultPolicy::Drop)], &produced));
    assert_eq!(records, [(1, Some(r#"{"id":1}"#.to_owned()))]);
    let (_, records) = stored(run(vec![drop_first, validate(FaultPolicy::Pass)], &produced));
    assert_eq!(records.len(), 3);
}

#[test]
fn a_batch_that_is_no_batch_is_refused() {
    let produced = batch(Compression::None, &[Some("{}"), Some("{}")]);
    let mut bytes = produced.bytes().to_vec();
    bytes[57..61].copy_from_slice(&3_i32.to_be_bytes());
    let broken = Batch::split_from(&mut bytes.into()).unwrap();
    let outcome = run(vec![attachment("mask-fields", MASK, FaultPolicy::Pass)], &broken);
    assert!(matches!(outcome, StageOutcome::Rejected { .. }), "{outcome:?}");
}

#[test]
fn a_topic_whose_plugin_is_missing_refuses_batches() {
    let mut missing = attachment("mask-fields", MASK, FaultPolicy::Pass);
    missing.plugin.hash = ContentHash::new([7; 32]);
    let outcome = run(vec![missing], &batch(Compression::None, &[Some("{}")]));
    let StageOutcome::Rejected { message, .. } = outcome else { panic!("{outcome:?}") };
    assert!(message.contains("is not on this node"), "{message}");
}

#[test]
fn the_same_attachments_share_one_pipeline_and_others_get_a_new_one() {
    let plugins = &room().plugins;
    let mut topic = topic(vec![attachment("mask-fields", MASK, FaultPolicy::Reject)]);
    let first = plugins.produce_stage(&topic).unwrap();
    let again = plugins.produce_stage(&topic).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    topic.attachments[0].config = r#"{"fields":["other"]}"#.to_owned();
    assert!(!Arc::ptr_eq(&first, &plugins.produce_stage(&topic).unwrap()));
    topic.attachments.clear();
    assert!(plugins.produce_stage(&topic).is_none());
}

#[test]
fn attachments_are_tried_before_they_are_accepted() {
    let check = |attachment: Attachment| futures::executor::block_on(room().plugins.check(&attachment));
    let good = attachment("mask-fields", MASK, FaultPolicy::Reject);
    assert_eq!(check(good.clone()), Ok(()));
    let error = check(attachment("mask-fields", r#"{"fields":[]}"#, FaultPolicy::Reject)).unwrap_err();
    assert_eq!(error, Fault::Config("mask-fields@1.0.0: `fields` names no field".to_owned()));
    let limits = StoredLimits { memory_bytes: 1 << 20, time_ms: 20 };
    let error = check(Attachment { limits, ..good.clone() }).unwrap_err();
    assert!(matches!(error, Fault::Limits(_)), "{error:?}");
    for other in [
        Attachment { stage: Stage::Follow, ..good.clone() },
        Attachment { on_fault: FaultPolicy::Halt, ..good.clone() },
        Attachment { grants: Grants { network: vec!["x:1".to_owned()], ..Grants::default() }, ..good },
    ] {
        assert!(matches!(check(other), Err(Fault::Component(_))));
    }
}

#[test]
fn components_are_kept_by_their_hash_and_only_plugins_are() {
    let plugins = &room().plugins;
    let store = |hash, bytes: &[u8]| futures::executor::block_on(plugins.store(hash, Bytes::copy_from_slice(bytes)));
    let module = b"\0asm\x01\0\0\0";
    let hash = ContentHash::of(module);
    assert!(store(hash, module).unwrap_err().to_string().contains("core WebAssembly module"));
    assert!(!plugins.has(hash));
    assert!(matches!(plugins.component(hash), Err(ComponentError::Missing(_))));
    let builtin = &builtins()[0];
    assert!(store(hash, builtin.component).is_err(), "another hash");
    store(builtin.hash, builtin.component).unwrap();
    assert!(plugins.has(builtin.hash));
    assert_eq!(plugins.component(builtin.hash).unwrap(), builtin.component);
    let missing = plugins.missing_builtins(&Image::default()).unwrap();
    assert_eq!(missing.len(), builtins().len());
}
