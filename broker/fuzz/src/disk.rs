//! What stands in a data directory, and in a partition's directory within it.

use crate::cut::{Cut, put_part};
use bytes::Bytes;
use millrace_model::batch::{CRC_AT, CRC_FROM, crc};
use millrace_model::control::Marker;
use millrace_model::record::encode::HeaderSource;
use millrace_model::{
    Batch, BatchBuilder, Clock, LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, Timestamp, TopicId,
};
use millrace_storage::data_dir::{Checkpoint, DataDir, Meta, decode_uuid, encode_uuid};
use millrace_storage::io::sim::{Crash, SimDisk};
use millrace_storage::io::{Disk, Open};
use millrace_storage::{Generations, Log, LogConfig, OpenContext, ProducerFacts};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

const DIR: &str = "/data/t-0";
const NOW: Timestamp = Timestamp::new(1_700_000_000_000);

/// The kinds of files of a partition, by the number that an input gives them.
const KINDS: [&str; 12] = [
    "log",
    "index",
    "timeindex",
    "txnindex",
    "snapshot",
    "leader-epoch-checkpoint",
    "plugin-generations",
    "log.swap",
    "index.swap",
    "txnindex.swap",
    "log.cleaned",
    "log.deleted",
];
const LOG: usize = 0;
const SNAPSHOT: usize = 4;
const NAMED: [usize; 2] = [5, 6];
const SWAP: usize = 7;

/// A kind with this bit has the checksums that it came with.
const AS_IT_IS: u8 = 0x80;

#[derive(Debug)]
struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn monotonic_ns(&self) -> u64 {
        0
    }
}

fn put_file(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    let file = disk.open(path, Open::Truncate).expect("the simulated disk has room");
    file.write_all_at(0, &mut [IoSlice::new(bytes)]).expect("the simulated disk has room");
}

fn name_of(kind: usize, base: u16) -> String {
    let kind_name = KINDS[kind];
    if NAMED.contains(&kind) { kind_name.to_owned() } else { format!("{base:020}.{kind_name}") }
}

/// Mutated bytes nearly never have the right checksums; what lies behind them matters all the same.
fn with_right_crcs(kind: usize, bytes: &mut [u8]) {
    match kind {
        LOG | SWAP => {
            let mut at = 0;
            for batch in Batch::all(Bytes::copy_from_slice(bytes)).map_while(Result::ok) {
                let sum = crc(&batch.bytes()[CRC_FROM..]);
                bytes[at + CRC_AT..at + CRC_FROM].copy_from_slice(&sum.to_be_bytes());
                at += batch.bytes().len();
            }
        }
        SNAPSHOT if bytes.len() > 6 => {
            let sum = crc(&bytes[6..]);
            bytes[2..6].copy_from_slice(&sum.to_be_bytes());
        }
        _ => {}
    }
}

fn open(disk: &SimDisk, context: OpenContext) -> Result<Log, millrace_storage::StorageError> {
    let config = LogConfig {
        segment_bytes: 1200,
        index_interval_bytes: 150,
        retention_ms: None,
        producer_id_expiration_ms: i64::MAX,
        ..LogConfig::default()
    };
    Log::open(Arc::new(disk.clone()), Arc::new(StillClock), PathBuf::from(DIR), config, context)
}

/// What can be read, batch by batch; `checked` where no batch may be damaged.
fn read(log: &Log, checked: bool) -> Vec<Bytes> {
    let reader = log.reader();
    let mut next = reader.start_offset();
    let mut all = Vec::new();
    while next < reader.end_offset() {
        let _ = reader.read_committed(next, reader.end_offset(), 5000, true);
        let Ok(slice) = reader.read(next, reader.end_offset(), 5000, true) else { break };
        let before = next;
        for batch in Batch::all(slice.to_bytes().expect("the file is there")).map_while(Result::ok) {
            if checked {
                batch.check_crc().expect("whoever was not told to believe a log has checked it");
            }
            next = next.max(batch.header().next_offset());
            all.push(batch.into_bytes());
        }
        if next == before {
            assert!(!checked, "no batch at {next} of a log that ends at {}", reader.end_offset());
            break;
        }
    }
    for target in [i64::MIN, NOW.get(), i64::MAX] {
        let _ = reader.offset_for_timestamp(Timestamp::new(target));
    }
    let _ = reader.max_timestamp();
    let _ = reader.epoch_end(LeaderEpoch::new(3));
    all
}

/// A partition's directory: a byte that says how it was left, then files: kind, two bytes of base offset, content.
pub(crate) fn partition(data: &[u8]) {
    let mut cut = Cut(data);
    let (flags, somewhere) = (cut.byte(), Offset::new(cut.byte().into()));
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).expect("the simulated disk has room");
    for _ in 0..24 {
        if cut.is_empty() {
            break;
        }
        let (kind, base) = (cut.byte(), cut.u16());
        let mut bytes = cut.part().to_vec();
        let number = usize::from(kind & !AS_IT_IS) % KINDS.len();
        if kind & AS_IT_IS == 0 {
            with_right_crcs(number, &mut bytes);
        }
        put_file(&disk, &Path::new(DIR).join(name_of(number, base)), &bytes);
    }
    let bit = |n: u8| flags >> n & 1 == 1;
    let context = OpenContext {
        same_boot: bit(0),
        clean_shutdown: bit(1),
        foreign: bit(2),
        log_start: bit(3).then_some(somewhere),
        recovery_point: bit(4).then_some(somewhere),
        ..OpenContext::default()
    };
    let believed = context.same_boot || context.clean_shutdown || context.recovery_point.is_some();
    let Ok(mut log) = open(&disk, context) else { return };
    read(&log, !believed);
    let (start, end) = (log.start_offset(), log.end_offset());
    assert!(start <= end, "a log from {start} to {end}");
    let _ = log.first_unstable(end);
    let generations = Generations::open(Arc::new(disk.clone()), Path::new(DIR), end);
    if let Ok(generations) = generations {
        let entries = generations.entries();
        assert!(entries.iter().all(|entry| entry.start < end));
        assert!(entries.windows(2).all(|two| two[0].start < two[1].start && two[0].generation < two[1].generation));
    }
    go_on(log, &disk, start, !believed);
}

/// What was opened takes batches, and is the same once more after it was closed.
fn go_on(mut log: Log, disk: &SimDisk, start: Offset, checked: bool) {
    let mut builder = BatchBuilder::new().producer(ProducerId::new(9), ProducerEpoch::new(1), 0);
    builder.append(NOW, Some(b"k"), Some(b"one more"), HeaderSource::None).expect("it is small");
    let batch = builder.build().expect("it is small");
    let newest = log.reader().latest_epoch().get().max(3);
    let appended = log.append(std::slice::from_ref(&batch), LeaderEpoch::new(newest));
    if let Ok(appended) = appended {
        let slice =
            log.reader().read(appended.base_offset, log.end_offset(), 5000, true).expect("it was just appended");
        let last = Batch::all(slice.to_bytes().expect("the file is there")).next().expect("it was just appended");
        let last = last.expect("it is whole");
        assert_eq!(last.bytes()[CRC_AT..], batch.bytes()[CRC_AT..], "what was appended is read");
    }
    let before = read(&log, checked);
    // Of a transaction that a made-up snapshot calls open, the next start may find that it is none.
    let producers = |log: &Log| {
        let all = log.producers().map(|producer| ProducerFacts { transaction_start: None, ..producer });
        all.collect::<Vec<_>>()
    };
    let (known, end) = (producers(&log), log.end_offset());
    if log.close().is_err() {
        return;
    }
    let disk = disk.restart(Crash::Process);
    let context =
        OpenContext { clean_shutdown: true, same_boot: true, log_start: Some(start), ..OpenContext::default() };
    let log = open(&disk, context).expect("what was closed in order can be opened");
    assert_eq!((log.start_offset(), log.end_offset()), (start, end));
    assert_eq!(read(&log, false), before);
    assert_eq!(producers(&log), known);
}

/// Directories as a log leaves them: with transactions, aborted and not, snapshots and several segments.
pub(crate) fn partition_seeds() -> Vec<Vec<u8>> {
    let whole = |closed: bool, batches: usize| {
        let disk = SimDisk::new(7);
        disk.create_dir_all(Path::new(DIR)).unwrap();
        let mut log = open(&disk, OpenContext { fresh: true, ..OpenContext::default() }).unwrap();
        let id = ProducerId::new(4);
        let mut sequence = 0;
        for n in 0..batches {
            let marker = Marker {
                producer_id: id,
                producer_epoch: ProducerEpoch::new(0),
                committed: n % 10 == 9,
                coordinator_epoch: 0,
            };
            let mut builder = match n % 3 {
                0 => BatchBuilder::new(),
                _ => BatchBuilder::new().producer(id, ProducerEpoch::new(0), sequence).transactional(),
            };
            sequence += if n % 3 == 0 || n % 5 == 4 { 0 } else { 1 };
            builder.append(NOW, Some(b"key"), Some(&[b'v'; 40]), HeaderSource::None).unwrap();
            let batch = if n % 5 == 4 { marker.batch(NOW).unwrap() } else { builder.build().unwrap() };
            log.append(&[batch], LeaderEpoch::new(i32::try_from(n / 8).unwrap())).unwrap();
        }
        if closed {
            log.close().unwrap();
        }
        let text = format!("0\n2\n3 0 a@1:{0}\n9 5 a@1:{0} b@2:{0}\n", "0".repeat(64));
        put_file(&disk, &Path::new(DIR).join("plugin-generations"), text.as_bytes());
        disk
    };
    let mut all = Vec::new();
    for (closed, batches) in [(true, 3), (false, 12), (true, 40)] {
        let disk = whole(closed, batches);
        for flags in [0, 1, 3, 4, 8, 16] {
            let mut input = vec![flags, 2];
            for name in disk.list(Path::new(DIR)).unwrap() {
                let bytes = disk.read(&Path::new(DIR).join(&name), 1 << 20).unwrap();
                let (base, kind) = name.split_once('.').unwrap_or(("0", &name));
                let Some(kind) = KINDS.iter().position(|known| *known == kind) else { continue };
                let kind = if flags == 8 && kind == LOG { SWAP } else { kind };
                input.push(u8::try_from(kind).unwrap());
                input.extend(base.parse::<u16>().unwrap().to_be_bytes());
                put_part(&mut input, &bytes);
            }
            all.push(input);
        }
    }
    all
}

/// The files of a data directory, by the number that an input gives them.
const SHARED: [&str; 9] = [
    "meta.properties",
    "boot-id",
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "replication-offset-checkpoint",
    "cleaner-offset-checkpoint",
    "t-0/partition.metadata",
    "t-1/partition.metadata",
    ".kafka_cleanshutdown",
];

/// A data directory: files, each with its number and its content.
pub(crate) fn data_dir(data: &[u8]) {
    let disk = SimDisk::new(1);
    for dir in ["/data/t-0", "/data/t-1"] {
        disk.create_dir_all(Path::new(dir)).expect("the simulated disk has room");
    }
    let mut cut = Cut(data);
    for _ in 0..16 {
        if cut.is_empty() {
            break;
        }
        let name = SHARED[usize::from(cut.byte()) % SHARED.len()];
        put_file(&disk, &Path::new("/data").join(name), cut.part());
    }
    let open = |disk: &SimDisk| DataDir::open(Arc::new(disk.clone()), PathBuf::from("/data"));
    let mut dir = open(&disk).expect("nothing in these files keeps a node from starting");
    let partitions = dir.partitions().expect("the directory is there");
    assert_eq!(partitions.len(), 2);
    for partition in &partitions {
        if let Some(id) = partition.topic_id {
            assert_eq!(decode_uuid(&encode_uuid(id)), Some(id));
        }
    }
    dir.forget_missing().expect("the disk has room");
    let facts = |dir: &DataDir| {
        let of = |partition| {
            let partition = PartitionId::new(partition);
            let context = dir.context("t", partition);
            let points = [context.recovery_point, context.log_start];
            (points, dir.high_watermark("t", partition), dir.cleaned("t", partition))
        };
        [of(0), of(1)]
    };
    let found = facts(&dir);
    // Written again as it was read, it reads the same.
    for partition in [0, 1] {
        assert!(found.iter().flat_map(|it| it.0).flatten().all(|offset| offset >= Offset::ZERO));
        if let Some(offset) = dir.high_watermark("t", PartitionId::new(partition)) {
            let other = dir.high_watermark("t", PartitionId::new(1 - partition));
            let all = [(partition, Some(offset)), (1 - partition, other)];
            let all = all.into_iter().filter_map(|(n, offset)| Some(("t", PartitionId::new(n), offset?)));
            dir.checkpoint_writer().write(Checkpoint::HighWatermark, || all).expect("the disk has room");
        }
    }
    let named = |id: &Option<String>| id.clone().filter(|id| id.trim() == id && !id.contains('\n'));
    let meta = dir.meta().map(|meta| Meta {
        cluster_id: named(&meta.cluster_id),
        directory_id: named(&meta.directory_id),
        ..meta.clone()
    });
    if let Some(meta) = meta.clone() {
        dir.set_meta(meta).expect("the disk has room");
    }
    drop(dir);
    let dir = open(&disk.restart(Crash::Process)).expect("it was open just now");
    assert_eq!(facts(&dir), found);
    assert_eq!(dir.meta(), meta.as_ref());
}

pub(crate) fn data_dir_seeds() -> Vec<Vec<u8>> {
    let id = TopicId::new(Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0));
    let meta = format!("version: 0\ntopic_id: {}\n", encode_uuid(id));
    let checkpoint = "0\n3\nt 0 7\nt 1 9\ngone 4 11\n";
    let files: [(usize, &str); 9] = [
        (
            0,
            "#\n#Sat Nov 21 12:00:00 UTC 2026\ncluster.id=MkU3OEVBNTcwNTJENDM2Qk\ndirectory.id=a\\=b\nnode.id=3\nversion=1\n",
        ),
        (1, "0\n"),
        (2, checkpoint),
        (3, checkpoint),
        (4, checkpoint),
        (5, checkpoint),
        (6, &meta),
        (7, &meta),
        (8, ""),
    ];
    let mut all = Vec::new();
    let mut together = Vec::new();
    for (number, text) in files {
        let mut one = vec![number as u8];
        put_part(&mut one, text.as_bytes());
        together.extend(&one);
        all.push(one);
    }
    all.push(together);
    all
}
