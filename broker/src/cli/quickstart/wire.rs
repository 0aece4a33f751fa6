//! The few requests of the quickstart, over a socket like any client's.

use crate::cli::fault::Fault;
use crate::peer::{Peer, PeerError};
use millrace_model::builder::BatchBuilder;
use millrace_model::codec::{Compression, decompress};
use millrace_model::record::Records;
use millrace_model::record::encode::HeaderSource;
use millrace_model::{Batch, Offset, Timestamp};
use millrace_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use millrace_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millrace_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millrace_protocol::messages::{BrokerId, FetchRequest, ListOffsetsRequest, ProduceRequest, TopicName};
use millrace_protocol::{ErrorCode, Request, StrBytes};
use std::fmt;
use std::net::SocketAddr;
use thiserror::Error;

const PRODUCE: i16 = 11;
const FETCH: i16 = 12;
const LIST_OFFSETS: i16 = 7;
/// How long an answer may take.
const TIMEOUT_MS: i32 = 30_000;
/// The most that is fetched at once, and the most that a batch may become.
const MAX_BYTES: i32 = 16 << 20;

/// Why a request has not done what it should.
#[derive(Debug, Error)]
pub enum WireFault {
    /// There is no answer.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refused),
    /// The answer leaves out what was asked.
    #[error("the answer does not tell of the partition that was asked about")]
    Incomplete,
    /// What was read is no batch of records.
    #[error("what was read is not sound: {0}")]
    Unsound(String),
}

impl From<WireFault> for Fault {
    fn from(fault: WireFault) -> Self {
        Self::new(format!("the broker was asked over its socket and failed: {fault}"))
    }
}

/// A batch that the broker did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The error's name.
    pub error: String,
    /// What the broker says of the batch.
    pub message: Option<String>,
    /// The records that are at fault, by their place in the batch, and why (KIP-467).
    pub records: Vec<(i32, String)>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        self.message.as_ref().map_or(Ok(()), |message| write!(f, ": {message}"))
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its offset.
    pub offset: Offset,
    /// Its value.
    pub value: Vec<u8>,
}

/// A connection to one topic's broker.
#[derive(Debug)]
pub struct Wire {
    peer: Peer,
    topic: TopicName,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// [`WireFault::Peer`].
    pub async fn connect(address: SocketAddr, topic: &str) -> Result<Self, WireFault> {
        let peer = Peer::connect(address, "millrace-quickstart").await?;
        Ok(Self { peer, topic: TopicName(StrBytes::from_string(topic.to_owned())) })
    }

    /// Produces a batch with `acks=all`: the offset of its first record.
    ///
    /// # Errors
    /// [`WireFault::Refused`] where the broker does not take it.
    pub async fn produce(&mut self, partition: i32, batch: &Batch) -> Result<Offset, WireFault> {
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.bytes().clone()));
        let topic = TopicProduceData::default().with_name(self.topic.clone()).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(TIMEOUT_MS).with_topic_data(vec![topic]);
        let answer = self.ask(PRODUCE, &request).await?;
        let answer = answer.responses.into_iter().flat_map(|topic| topic.partition_responses).next();
        let answer = answer.ok_or(WireFault::Incomplete)?;
        if answer.error_code == 0 {
            return Ok(Offset::new(answer.base_offset));
        }
        let text = |text: Option<StrBytes>| text.map(|text| text.to_string());
        let records = answer.record_errors.into_iter();
        Err(WireFault::Refused(Refused {
            error: name(answer.error_code),
            message: text(answer.error_message),
            records: records
                .map(|one| (one.batch_index, text(one.batch_index_error_message).unwrap_or_default()))
                .collect(),
        }))
    }

    /// In a version that names topics by their names.
    async fn ask<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, PeerError> {
        let sent = self.peer.send_version(version, request).await?;
        self.peer.receive(sent).await
    }

    /// The records from an offset on, as many as fit one answer.
    ///
    /// # Errors
    /// [`WireFault::Refused`], [`WireFault::Unsound`].
    pub async fn fetch(&mut self, partition: i32, from: Offset) -> Result<Vec<Stored>, WireFault> {
        let part = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(from.get())
            .with_partition_max_bytes(MAX_BYTES);
        let topic = FetchTopic::default().with_topic(self.topic.clone()).with_partitions(vec![part]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(MAX_BYTES)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let answer = self.ask(FETCH, &request).await?;
        check(answer.error_code)?;
        let part = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
        let part = part.ok_or(WireFault::Incomplete)?;
        check(part.error_code)?;
        let mut stored = Vec::new();
        // The last batch may be cut short: what fits is what was asked for.
        for batch in Batch::all(part.records.unwrap_or_default()).map_while(Result::ok) {
            values(&batch, &mut stored).map_err(WireFault::Unsound)?;
        }
        stored.retain(|one| one.offset >= from);
        Ok(stored)
    }

    /// The offset after the partition's last record.
    ///
    /// # Errors
    /// [`WireFault::Refused`].
    pub async fn end_offset(&mut self, partition: i32) -> Result<Offset, WireFault> {
        let part = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(-1);
        let topic = ListOffsetsTopic::default().with_name(self.topic.clone()).with_partitions(vec![part]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let answer = self.ask(LIST_OFFSETS, &request).await?;
        let part = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let part = part.ok_or(WireFault::Incomplete)?;
        check(part.error_code)?;
        Ok(Offset::new(part.offset))
    }
}

fn values(batch: &Batch, out: &mut Vec<Stored>) -> Result<(), String> {
    let header = batch.header();
    batch.check_crc().map_err(|error| error.to_string())?;
    if header.attributes.is_control() {
        return Ok(());
    }
    let codec = Compression::of(header.attributes).map_err(|error| error.to_string())?;
    let mut plain = Vec::new();
    let limit = usize::try_from(MAX_BYTES).unwrap_or_default();
    decompress(codec, &batch.records_section(), limit, &mut plain).map_err(|error| error.to_string())?;
    for record in Records::new(&plain, header.records_count) {
        let record = record.map_err(|error| error.to_string())?;
        let offset = header.base_offset.plus(record.offset_delta().into());
        out.push(Stored { offset, value: record.value().unwrap_or_default().to_vec() });
    }
    Ok(())
}

fn check(code: i16) -> Result<(), WireFault> {
    if code == 0 {
        return Ok(());
    }
    Err(WireFault::Refused(Refused { error: name(code), message: None, records: Vec::new() }))
}

fn name(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| format!("error {code}"), |error| error.name().to_owned())
}

/// A batch of texts with keys, compressed with lz4 as a producer would.
///
/// # Errors
/// The records do not fit a batch.
pub fn batch(records: &[(String, &str)], now: Timestamp) -> Result<Batch, Fault> {
    let mut builder = BatchBuilder::new().compression(Compression::Lz4, None);
    for (key, value) in records {
        builder
            .append(now, Some(key.as_bytes()), Some(value.as_bytes()), HeaderSource::None)
            .map_err(|error| Fault::new(error.to_string()))?;
    }
    builder.build().map_err(|error| Fault::new(error.to_string()))
}
