//! Measures a log, and looks into a data directory that Kafka or Millrace left.
//!
//! ```text
//! logtool append DIR BATCH_BYTES TOTAL_MB [PARTITIONS]   ns per append; run it under `strace -c -f` for the system calls
//! logtool sample DIR                                     a log with every codec, producers, epochs and many segments, for DumpLogSegments
//! logtool create DIR PARTITIONS                          ms for directories, then for the first batch of each
//! logtool open DATA_DIR [clean|boot|power]               ms for opening every log, and what was found
//! logtool read DATA_DIR                                  every batch of every log: counts and checksums
//! ```

use millrace_model::batch::{Attributes, HEADER_LEN, LENGTH_BIAS};
use millrace_model::builder::BatchBuilder;
use millrace_model::codec::Compression;
use millrace_model::record::encode::HeaderSource;
use millrace_model::{
    Batch, BatchHeader, Clock, LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, SystemClock, Timestamp,
    TopicId,
};
use millrace_storage::data_dir::DataDir;
use millrace_storage::io::OsDisk;
use millrace_storage::{Log, LogConfig, OpenContext};
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

const EPOCH: LeaderEpoch = LeaderEpoch::new(0);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["append", dir, batch, total] => append(dir, batch.parse()?, total.parse()?, 1),
        ["append", dir, batch, total, partitions] => append(dir, batch.parse()?, total.parse()?, partitions.parse()?),
        ["sample", dir] => sample(dir),
        ["create", dir, partitions] => create(dir, partitions.parse()?),
        ["open", dir] => open(dir, "boot"),
        ["open", dir, how] => open(dir, how),
        ["read", dir] => read(dir),
        _ => {
            Err("append DIR BATCH_BYTES TOTAL_MB [PARTITIONS] | create DIR PARTITIONS | open DIR [HOW] | read DIR"
                .into())
        }
    }
}

/// A batch of this many bytes with ten records' worth of offsets; its contents are no records.
fn batch(bytes: usize, sequence: i32) -> Result<Batch, Box<dyn Error>> {
    let mut header = BatchHeader {
        base_offset: Offset::ZERO,
        batch_length: i32::try_from(bytes - LENGTH_BIAS)?,
        leader_epoch: LeaderEpoch::NONE,
        crc: 0,
        attributes: Attributes::new(0),
        last_offset_delta: 9,
        base_timestamp: Timestamp::new(1_700_000_000_000),
        max_timestamp: Timestamp::new(1_700_000_000_000 + i64::from(sequence)),
        producer_id: ProducerId::new(1),
        producer_epoch: ProducerEpoch::new(0),
        base_sequence: sequence,
        records_count: 10,
    };
    let mut whole = header.encode().to_vec();
    whole.resize(bytes.max(HEADER_LEN), b'v');
    header.crc = millrace_model::batch::crc(whole.get(21..).unwrap_or_default());
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(whole.get(HEADER_LEN..).unwrap_or_default());
    Ok(Batch::split_from(&mut bytes.into())?)
}

fn append(dir: &str, bytes: usize, total_mb: usize, partitions: usize) -> Result<(), Box<dyn Error>> {
    let mut logs = Vec::new();
    for partition in 0..partitions {
        let path = PathBuf::from(dir).join(format!("bench-{partition}"));
        std::fs::create_dir_all(&path)?;
        let context = OpenContext { fresh: true, ..OpenContext::default() };
        logs.push(Log::open(Arc::new(OsDisk), Arc::<SystemClock>::default(), path, LogConfig::default(), context)?);
    }
    let rounds = (total_mb << 20) / bytes / partitions;
    let batches: Vec<_> = (0..8).map(|i| batch(bytes, i * 10)).collect::<Result<_, _>>()?;
    let started = Instant::now();
    for i in 0..rounds {
        for log in &mut logs {
            let batch = batches.get(i % batches.len()).ok_or("no batch")?;
            log.append(std::slice::from_ref(batch), EPOCH)?;
        }
    }
    let appends = rounds * partitions;
    let ns = started.elapsed().as_nanos() / (appends.max(1) as u128);
    let mut out = std::io::stdout();
    writeln!(out, "{appends} appends of {bytes} bytes: {ns} ns each")?;
    // The process ends here without closing: what `open` finds next is what a kill leaves.
    Ok(())
}

fn sample(dir: &str) -> Result<(), Box<dyn Error>> {
    let dir = DataDir::open(Arc::new(OsDisk), dir.into())?;
    let id = TopicId::new(uuid::Uuid::from_u128(7));
    let (path, context) = dir.create_partition("sample", PartitionId::new(0), id)?;
    let config = LogConfig { segment_bytes: 100_000, index_interval_bytes: 1000, ..LogConfig::default() };
    let mut log = Log::open(Arc::new(OsDisk), Arc::<SystemClock>::default(), path, config, context)?;
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let mut sequence = 0;
    for i in 0..2000_i32 {
        let codec = codecs.get(usize::try_from(i)? % codecs.len()).copied().unwrap_or(Compression::None);
        let mut builder = BatchBuilder::new().compression(codec, None);
        let count = 1 + i % 7;
        if i % 2 == 0 {
            builder = builder.producer(ProducerId::new(4000), ProducerEpoch::new(1), sequence);
            sequence += count;
        }
        for record in 0..count {
            // Not quite in order.
            let timestamp = SystemClock::default().now().plus_ms(i64::from((i * 7 + record * 3) % 50));
            let value = format!("record {record} of batch {i}: ").repeat(usize::try_from(i % 11)?);
            builder.append(timestamp, Some(b"key"), Some(value.as_bytes()), HeaderSource::Pairs(&[]))?;
        }
        log.append(&[builder.build()?], LeaderEpoch::new(i / 700))?;
    }
    log.close()?;
    Ok(())
}

fn create(dir: &str, partitions: usize) -> Result<(), Box<dyn Error>> {
    let dir = DataDir::open(Arc::new(OsDisk), dir.into())?;
    let mut logs = Vec::new();
    let started = Instant::now();
    for partition in 0..partitions {
        let partition = PartitionId::new(i32::try_from(partition)?);
        let id = TopicId::new(uuid::Uuid::from_u128(7));
        let (path, context) = dir.create_partition("many", partition, id)?;
        let clock = Arc::<SystemClock>::default();
        logs.push(Log::open(Arc::new(OsDisk), clock, path, LogConfig::default(), context)?);
    }
    let created = started.elapsed();
    let batch = batch(1200, 0)?;
    let started = Instant::now();
    for log in &mut logs {
        log.append(std::slice::from_ref(&batch), EPOCH)?;
    }
    let mut out = std::io::stdout();
    writeln!(out, "{partitions} partitions created in {created:?}, first written in {:?}", started.elapsed())?;
    Ok(())
}

fn open_all(dir: &str, how: &str) -> Result<Vec<(String, Log)>, Box<dyn Error>> {
    let dir = DataDir::open(Arc::new(OsDisk), dir.into())?;
    let mut logs = Vec::new();
    for partition in dir.partitions()? {
        let context = OpenContext {
            clean_shutdown: how == "clean",
            same_boot: how == "boot",
            ..dir.context(&partition.topic, partition.partition)
        };
        let clock = Arc::<SystemClock>::default();
        let log = Log::open(Arc::new(OsDisk), clock, partition.path, LogConfig::default(), context)?;
        logs.push((format!("{}-{}", partition.topic, partition.partition), log));
    }
    Ok(logs)
}

fn open(dir: &str, how: &str) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let logs = open_all(dir, how)?;
    let took = started.elapsed();
    let mut out = std::io::stdout();
    for (name, log) in logs.iter().take(20) {
        let reader = log.reader();
        let (start, end, size) = (log.start_offset(), log.end_offset(), reader.size());
        let (producers, epoch) = (log.producers().count(), reader.latest_epoch());
        writeln!(
            out,
            "{name}: {start}..{end}, {size} bytes, {producers} producers, epoch {epoch}, {:?}",
            log.recovered()
        )?;
    }
    writeln!(out, "{} logs opened in {took:?}", logs.len())?;
    Ok(())
}

fn read(dir: &str) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    for (name, log) in open_all(dir, "boot")? {
        let reader = log.reader();
        let (mut next, mut batches, mut records) = (reader.start_offset(), 0_u64, 0_i64);
        while next < reader.end_offset() {
            let bytes = reader.read(next, Offset::new(i64::MAX), 1 << 20, true)?.to_bytes()?;
            let before = next;
            for batch in Batch::all(bytes).map_while(Result::ok) {
                batch.check_crc()?;
                next = batch.header().next_offset();
                batches += 1;
                records += i64::from(batch.header().records_count);
            }
            if next == before {
                return Err(format!("{name}: nothing at {next}").into());
            }
        }
        let newest = reader.max_timestamp()?;
        let at_zero = reader.offset_for_timestamp(Timestamp::new(0))?;
        writeln!(out, "{name}: {batches} batches, {records} records, max timestamp {newest:?}, first {at_zero:?}")?;
        log.close()?;
    }
    Ok(())
}
