//! Produce (0), versions 3 to 13: appends one batch to each partition that is named.
//!
//! * acks 0 wants no answer: an error closes the connection, which is all that a client can notice. acks 1 and −1 are the same as
//!   long as there is one replica.
//! * From version 7 on batches may be compressed with zstd, 8 names the records at fault (KIP-467), 10 names the leader to
//!   go to (KIP-951), 12 makes partitions part of the producer's transaction (KIP-890), 13 names topics by id.
//!
//! Internal topics are closed to all but Kafka's admin client, which goes by its name.
//!
//! The order of a partition's batches is fixed while this function runs. Where no stage and no flush is awaited the answer
//! is there when it returns, without a task or a future.

use super::txn_wire::{self, Patience};
use super::{Context, errors, refuse};
use crate::coordinator::txn::{ProducerIdentity, TxnError, TxnPartition};
use crate::partition::{
    Admission, Append, AppendError, Appended, Claim, Guard, Origin, PartitionHandle, RecordRejection, TopicPartitions,
};
use crate::server::service::{Answer, Call, Outcome};
use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use millrace_metadata::is_internal_topic;
use millrace_model::{
    Batch, LeaderEpoch, NodeId, Offset, PartitionId, ProducerEpoch, ProducerId, TopicId, TopicPartition,
};
use millrace_protocol::endpoints::Endpoint;
use millrace_protocol::messages::produce_request::TopicProduceData;
use millrace_protocol::messages::{ProduceRequest, TopicName, TransactionalId};
use millrace_protocol::produce_response::{ProduceResponse, Produced};
use millrace_protocol::{ErrorCode, decode};
use millrace_storage::ProducerError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// From this version on a transaction's first batch makes the partition a part of it (KIP-890).
const ADDS_PARTITIONS: i16 = 12;
/// zstd's number among the codecs.
const ZSTD: i16 = 4;
/// Where a batch says its format.
const MAGIC_AT: usize = 16;
/// Where the lower half of its attributes is, and the bit there of a batch in a transaction.
const ATTRIBUTES_AT: usize = 22;
const TRANSACTIONAL: u8 = 0x10;
/// The name of Kafka's admin client.
const ADMIN: &[u8] = b"__admin_client";

/// One partition of the request on its way.
enum Pending {
    Done(Result<Appended, Failure>),
    /// Nothing speaks against it yet.
    Ready(Batch, PartitionHandle),
    Waiting(Append, PartitionHandle),
    /// A transaction's first batch here: its coordinator is asked before.
    Unverified(Box<Unverified>),
}

impl Pending {
    /// Appends the batch, if it is ready.
    fn append(&mut self) {
        if let Self::Ready(batch, handle) = self {
            *self = Self::of(handle.append(batch.clone(), Origin::Client), handle.clone());
        }
    }

    fn of(append: Append, handle: PartitionHandle) -> Self {
        match append.now() {
            Ok(outcome) => Self::Done(outcome.map_err(|error| Failure::of(error, handle.log_start()))),
            Err(append) => Self::Waiting(append, handle),
        }
    }

    fn handle(&self) -> Option<&PartitionHandle> {
        match self {
            Self::Ready(_, handle) => Some(handle),
            _ => None,
        }
    }

    fn partition(&self) -> Option<TopicPartition> {
        self.handle().map(PartitionHandle::id)
    }
}

struct Unverified {
    batch: Batch,
    guard: Guard,
    handle: PartitionHandle,
    /// Its topic is not for this client.
    is_closed: bool,
}

/// What holds for all batches of a request.
#[derive(Clone, Copy)]
struct Terms {
    version: i16,
    acks: i16,
    /// Whether it names a transactional id.
    transactional: bool,
    /// Whether who asks may write to internal topics.
    internal: bool,
}

impl Unverified {
    /// Takes a guard for another question; the marker of the last transaction may have come since.
    fn renew(&mut self) {
        let header = self.batch.header();
        if let Admission::Verify(guard) = self.handle.admission(header.producer_id, header.producer_epoch) {
            self.guard = guard;
        }
    }
}

/// What is said of a batch that was not appended.
struct Failure {
    error: ErrorCode,
    records: Vec<RecordRejection>,
    message: Option<String>,
    current_leader: Option<(NodeId, LeaderEpoch)>,
    /// The first offset of the log, where the batch came so far that it matters.
    log_start: Option<Offset>,
}

impl Failure {
    fn new(error: ErrorCode, message: Option<&str>) -> Self {
        Self { error, records: Vec::new(), message: message.map(str::to_owned), current_leader: None, log_start: None }
    }
}

impl Failure {
    fn of(error: AppendError, log_start: Offset) -> Self {
        let code = errors::append(&error);
        let log_start = match error {
            AppendError::Invalid { .. }
            | AppendError::InvalidTimestamp { .. }
            | AppendError::Malformed { .. }
            | AppendError::Undecodable(_)
            | AppendError::Producer(_) => Some(log_start),
            _ => None,
        };
        match error {
            AppendError::Invalid { records, message } | AppendError::InvalidTimestamp { records, message } => {
                Self { error: code, records, message: Some(message), current_leader: None, log_start }
            }
            // Kafka says more than the code only where single records are at fault.
            error => {
                tracing::debug!(%error, "a batch is refused");
                Self { log_start, ..Self::new(code, None) }
            }
        }
    }
}

/// What the answer needs of the request.
struct Asked {
    context: Arc<Context>,
    out: BytesMut,
    version: i16,
    correlation: i32,
    acks: i16,
    topics: Vec<AskedTopic>,
}

impl Asked {
    fn partitions_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.topics.iter_mut().flat_map(|topic| topic.partitions.iter_mut().map(|(_, pending)| pending))
    }
}

struct AskedTopic {
    id: TopicId,
    name: TopicName,
    partitions: Vec<(PartitionId, Pending)>,
}

pub(super) fn handle(context: &Arc<Context>, call: Call) -> Answer {
    let (mut asked, transaction) = match read(context, call) {
        Ok(read) => read,
        Err(refused) => return refused,
    };
    for pending in asked.partitions_mut() {
        pending.append();
    }
    let asks = |topic: &AskedTopic| topic.partitions.iter().any(|(_, it)| matches!(it, Pending::Unverified(_)));
    if let Some(id) = transaction
        && asked.topics.iter().any(asks)
    {
        // A batch behind this one would come to the log before it.
        return Answer::Alone(Box::pin(async move { finish_later(verify(asked, &id).await).await }));
    }
    answer(asked)
}

/// Whether a request names no transaction, whose coordinator might be asked, and wants an answer, so that nothing ends the
/// connection before those behind it.
pub(super) fn is_plain(call: &Call) -> bool {
    let no_id: &[u8] = if call.header.version >= 9 { &[0] } else { &[0xff; 2] };
    let acks = call.body.strip_prefix(no_id).and_then(|rest| rest.first_chunk());
    acks.is_some_and(|acks| i16::from_be_bytes(*acks) != 0)
}

/// Requests that came together, up to the first that cannot be read: what they bring for one partition goes into its log
/// with one write.
pub(super) fn handle_together(context: &Arc<Context>, calls: Vec<Call>) -> Vec<Answer> {
    let (mut together, mut refused) = (Vec::with_capacity(calls.len()), None);
    for call in calls {
        match read(context, call) {
            Ok((asked, _)) => together.push(asked),
            Err(answer) => {
                refused = Some(answer);
                break;
            }
        }
    }
    let all = together.iter_mut().flat_map(Asked::partitions_mut);
    let mut ready: Vec<_> = all.filter(|pending| matches!(pending, Pending::Ready(..))).collect();
    // Stable: what is for one partition stays in order.
    ready.sort_by_key(|pending| pending.partition());
    for same in ready.chunk_by_mut(|one, other| one.partition() == other.partition()) {
        append_together(same);
    }
    together.into_iter().map(answer).chain(refused).collect()
}

/// Appends what is ready for one partition.
fn append_together(together: &mut [&mut Pending]) {
    if let [alone] = together {
        return alone.append();
    }
    let Some(handle) = together.first().and_then(|first| first.handle().cloned()) else { return };
    let batches = together.iter().filter_map(|pending| match pending {
        Pending::Ready(batch, _) => Some(batch.clone()),
        _ => None,
    });
    let appends = handle.append_together(batches.collect());
    for (pending, append) in together.iter_mut().zip(appends) {
        **pending = Pending::of(append, handle.clone());
    }
}

/// The request, each of its batches refused or ready; and the transaction it names.
fn read(context: &Arc<Context>, call: Call) -> Result<(Asked, Option<TransactionalId>), Answer> {
    let Call { header, body, out, .. } = call;
    let version = header.version;
    let request: ProduceRequest =
        decode(body, version).map_err(|error| refuse(format!("Produce version {version}: {error}")))?;
    let has_id = request.transactional_id.is_some();
    let internal = header.client_id.as_deref() == Some(ADMIN);
    let terms = Terms { version, acks: request.acks, transactional: has_id, internal };
    let whole = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let whole = whole.filter_map(|data| data.records.as_deref()).find_map(|batch| whole_request(batch, has_id));
    let general =
        if !matches!(request.acks, -1..=1) { Some(Failure::new(ErrorCode::InvalidRequiredAcks, None)) } else { None };
    let topics = request.topic_data.into_iter().map(|topic| match &whole {
        None => read_topic(context, terms, topic, general.as_ref()),
        Some(failure) => refuse_topic(topic, failure),
    });
    let asked = Asked {
        topics: topics.collect(),
        context: Arc::clone(context),
        out,
        version,
        correlation: header.correlation_id,
        acks: request.acks,
    };
    Ok((asked, request.transactional_id))
}

fn answer(asked: Asked) -> Answer {
    let waits = |topic: &AskedTopic| topic.partitions.iter().any(|(_, it)| matches!(it, Pending::Waiting(..)));
    if asked.topics.iter().any(waits) {
        Answer::Later(Box::pin(finish_later(asked)))
    } else {
        Answer::Now(finish(asked))
    }
}

/// What makes a batch end the whole request, whatever else it says.
fn whole_request(batch: &[u8], has_transactional_id: bool) -> Option<Failure> {
    match batch.get(MAGIC_AT).map(|byte| i8::from_be_bytes([*byte])) {
        Some(2) if !has_transactional_id && batch.get(ATTRIBUTES_AT).is_some_and(|bits| bits & TRANSACTIONAL != 0) => {
            Some(Failure::new(ErrorCode::TransactionalIdAuthorizationFailed, None))
        }
        None | Some(0..=2) => None,
        Some(magic) => {
            Some(Failure::new(ErrorCode::CorruptMessage, Some(&format!("Invalid magic found in record: {magic}"))))
        }
    }
}

fn refuse_topic(data: TopicProduceData, failure: &Failure) -> AskedTopic {
    let refused =
        |index| (PartitionId::new(index), Pending::Done(Err(Failure::new(failure.error, failure.message.as_deref()))));
    let partitions = data.partition_data.iter().map(|partition| refused(partition.index)).collect();
    AskedTopic { id: TopicId::new(data.topic_id), name: data.name, partitions }
}

fn read_topic(context: &Context, terms: Terms, data: TopicProduceData, general: Option<&Failure>) -> AskedTopic {
    let id = TopicId::new(data.topic_id);
    let topic =
        if terms.version >= 13 { context.partitions.topic(id) } else { context.partitions.topic_named(&data.name) };
    let partitions = data.partition_data.into_iter().map(|partition| {
        let index = PartitionId::new(partition.index);
        let pending = match general {
            Some(failure) if topic.is_some() => {
                Pending::Done(Err(Failure::new(failure.error, failure.message.as_deref())))
            }
            _ => read_partition(context, terms, id, topic.as_deref(), index, partition.records),
        };
        (index, pending)
    });
    AskedTopic { id, name: data.name, partitions: partitions.collect() }
}

fn read_partition(
    context: &Context,
    terms: Terms,
    id: TopicId,
    topic: Option<&TopicPartitions>,
    index: PartitionId,
    records: Option<Bytes>,
) -> Pending {
    let Some(handle) = topic.and_then(|topic| topic.get(index)) else {
        return Pending::Done(Err(elsewhere(context, terms.version, id, topic, index)));
    };
    let batch = match only_batch(terms.version, records.unwrap_or_default()) {
        Ok(batch) => batch,
        Err(failure) => return Pending::Done(Err(failure)),
    };
    let is_closed = !terms.internal && is_internal_topic(handle.topic());
    if !is_closed && terms.acks == -1 && !enough_in_sync(context, handle) {
        let failure = Failure::new(ErrorCode::NotEnoughReplicas, None);
        return Pending::Done(Err(Failure { log_start: Some(handle.log_start()), ..failure }));
    }
    let header = batch.header();
    // Without the transaction's name nobody can be asked; the partition refuses the batch where its transaction is not open.
    if terms.transactional
        && header.attributes.is_transactional()
        && header.producer_id.is_some()
        && (terms.version >= ADDS_PARTITIONS || handle.settings().verifies_transactions)
        && let Admission::Verify(guard) = handle.admission(header.producer_id, header.producer_epoch)
    {
        return Pending::Unverified(Box::new(Unverified { batch, guard, handle: handle.clone(), is_closed }));
    }
    if is_closed {
        return Pending::Done(Err(Failure::new(ErrorCode::InvalidTopicException, None)));
    }
    Pending::Ready(batch, handle.clone())
}

/// Holds `min.insync.replicas` against the replicas in sync; nobody asks for more than there are.
fn enough_in_sync(context: &Context, handle: &PartitionHandle) -> bool {
    let wanted = usize::try_from(handle.settings().min_insync_replicas).unwrap_or(usize::MAX);
    if wanted <= 1 {
        return true;
    }
    let image = context.cluster.image();
    image.partition(handle.id()).is_none_or(|(_, facts)| facts.isr.len() >= wanted.min(facts.replicas.len()))
}

/// Why this node does not have the partition.
fn elsewhere(
    context: &Context,
    version: i16,
    id: TopicId,
    topic: Option<&TopicPartitions>,
    index: PartitionId,
) -> Failure {
    let image = context.cluster.image();
    let known = topic.map(TopicPartitions::id).or((version >= 13).then_some(id));
    let Some(facts) = known.and_then(|id| image.topic_by_id(id)) else {
        let error = if version >= 13 { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
        return Failure::new(error, None);
    };
    match facts.partition(index) {
        Some(partition) if partition.leader != context.node => Failure {
            current_leader: Some((partition.leader, partition.leader_epoch)),
            ..Failure::new(ErrorCode::NotLeaderOrFollower, None)
        },
        // Ours by the facts, but its log could not be opened.
        Some(_) => Failure::new(ErrorCode::KafkaStorageError, None),
        None => Failure::new(ErrorCode::UnknownTopicOrPartition, None),
    }
}

/// The batch of a partition: there must be one and only one, and its codec must be known to clients of this version.
fn only_batch(version: i16, mut records: Bytes) -> Result<Batch, Failure> {
    let batch = Batch::split_from(&mut records).map_err(|error| Failure::new(errors::batch(&error), None))?;
    if !records.is_empty() {
        return Err(Failure::new(ErrorCode::InvalidRecord, None));
    }
    match batch.header().attributes.codec() {
        _ if version >= 7 => {}
        ZSTD => return Err(Failure::new(ErrorCode::UnsupportedCompressionType, None)),
        // Looking for zstd, Kafka stumbles here already.
        5.. => return Err(Failure::new(ErrorCode::UnknownServerError, None)),
        _ => {}
    }
    Ok(batch)
}

/// Asks the coordinator about the partitions that the transaction has not written to yet, and appends where it agrees. From
/// version 12 on asking makes them part of the transaction (KIP-890).
async fn verify(mut asked: Asked, id: &str) -> Asked {
    let (adds, context) = (asked.version >= ADDS_PARTITIONS, Arc::clone(&asked.context));
    let patience = Patience::new(adds);
    let verdicts = loop {
        let verdicts = ask(&context, questions(&asked), id, adds).await;
        let concurrent = verdicts.values().flatten().copied().find(|error| *error == TxnError::Concurrent);
        if !patience.again(concurrent).await {
            break verdicts;
        }
        for pending in asked.partitions_mut() {
            if let Pending::Unverified(it) = pending {
                it.renew();
            }
        }
    };
    let version = asked.version;
    for pending in asked.partitions_mut() {
        let Pending::Unverified(it) = pending else { continue };
        let key = (it.batch.header().producer_id, Arc::clone(it.handle.topic()), it.handle.index().get());
        let verdict = verdicts.get(&key).copied().unwrap_or(Some(TxnError::Unknown));
        *pending = verified(it, verdict, version);
    }
    asked
}

/// The partitions that are not verified, by producer.
fn questions(asked: &Asked) -> BTreeMap<(ProducerId, ProducerEpoch), BTreeSet<TxnPartition>> {
    let unverified = asked.topics.iter().flat_map(|topic| &topic.partitions).filter_map(|(_, it)| match it {
        Pending::Unverified(it) => Some(&**it),
        _ => None,
    });
    let mut producers: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for it in unverified {
        let header = it.batch.header();
        let partitions = producers.entry((header.producer_id, header.producer_epoch)).or_default();
        partitions.insert((Arc::clone(it.handle.topic()), it.handle.index().get()));
    }
    producers
}

/// What the coordinator says of each of them.
async fn ask(
    context: &Context,
    questions: BTreeMap<(ProducerId, ProducerEpoch), BTreeSet<TxnPartition>>,
    id: &str,
    adds: bool,
) -> BTreeMap<(ProducerId, Arc<str>, i32), Option<TxnError>> {
    let mut verdicts = BTreeMap::new();
    for ((producer, epoch), partitions) in questions {
        let identity = ProducerIdentity { id: producer, epoch };
        let said = txn_wire::admit(context, id, identity, partitions, adds).await;
        verdicts.extend(said.into_iter().map(|((topic, index), verdict)| ((producer, topic, index), verdict)));
    }
    verdicts
}

fn verified(it: &Unverified, verdict: Option<TxnError>, version: i16) -> Pending {
    if let Some(error) = verdict {
        let code = unverified(error, version);
        match code {
            ErrorCode::NotEnoughReplicas => it.handle.postpone(it.guard, it.batch.header()),
            _ => it.handle.abandon(it.batch.header().producer_id, it.guard),
        }
        return Pending::Done(Err(Failure::new(code, unverified_because(error, code).as_deref())));
    }
    if it.is_closed {
        it.handle.abandon(it.batch.header().producer_id, it.guard);
        return Pending::Done(Err(Failure::new(ErrorCode::InvalidTopicException, None)));
    }
    let claim = Claim { guard: Some(it.guard), strict: false };
    match it.handle.append_with(it.batch.clone(), Origin::Client, claim).now() {
        Ok(outcome) => Pending::Done(outcome.map_err(|error| {
            it.handle.abandon(it.batch.header().producer_id, it.guard);
            let is_fenced = matches!(error, AppendError::Producer(ProducerError::Fenced { .. }));
            let failure = Failure::of(error, it.handle.log_start());
            // Kafka looks at the epoch before it asks the coordinator, and says no more than that.
            Failure { log_start: failure.log_start.filter(|_| !is_fenced), ..failure }
        })),
        Err(append) => Pending::Waiting(append, it.handle.clone()),
    }
}

/// The code of a batch whose transaction's coordinator did not agree. Producers try again on NOT_ENOUGH_REPLICAS, and do not
/// look for another leader first.
const fn unverified(error: TxnError, version: i16) -> ErrorCode {
    match error {
        TxnError::Fenced => ErrorCode::InvalidProducerEpoch,
        TxnError::Concurrent | TxnError::Loading | TxnError::NotAvailable | TxnError::NotCoordinator => {
            ErrorCode::NotEnoughReplicas
        }
        TxnError::Abortable if version < 11 => ErrorCode::InvalidTxnState,
        error => txn_wire::code(error),
    }
}

/// What is said beside the code. Producers take INVALID_TXN_STATE for a bug of their own, NOT_ENOUGH_REPLICAS for one of ours.
fn unverified_because(error: TxnError, code: ErrorCode) -> Option<String> {
    match code {
        ErrorCode::NotEnoughReplicas => Some(format!(
            "Unable to verify the partition has been added to the transaction. Underlying error: {}",
            txn_wire::code(error)
        )),
        ErrorCode::InvalidTxnState => Some("Partition was not added to the transaction".to_owned()),
        _ => None,
    }
}

async fn finish_later(mut asked: Asked) -> Outcome {
    join_all(asked.partitions_mut().map(|pending| async move {
        if let Pending::Waiting(append, handle) = pending {
            let outcome = append.await;
            *pending = Pending::Done(outcome.map_err(|error| Failure::of(error, handle.log_start())));
        }
    }))
    .await;
    finish(asked)
}

fn finish(asked: Asked) -> Outcome {
    if asked.acks == 0 {
        return silent(asked);
    }
    let mut response = ProduceResponse::begin(asked.out, asked.version, asked.correlation, asked.topics.len());
    let mut leaders = Vec::new();
    for topic in &asked.topics {
        response.topic(topic.id, &topic.name, topic.partitions.len());
        for (index, outcome) in &topic.partitions {
            partition(&mut response, *index, outcome, &mut leaders);
        }
        response.end_topic();
    }
    if leaders.is_empty() {
        return Outcome::Reply(response.finish(&[]).into());
    }
    leaders.sort();
    leaders.dedup();
    let image = asked.context.cluster.image();
    let brokers = leaders.iter().filter_map(|leader| image.broker(*leader));
    let endpoints: Vec<_> =
        brokers.map(|broker| Endpoint { node: broker.id(), host: broker.host(), port: broker.port() }).collect();
    Outcome::Reply(response.finish(&endpoints).into())
}

fn partition(response: &mut ProduceResponse, index: PartitionId, outcome: &Pending, leaders: &mut Vec<NodeId>) {
    match outcome {
        Pending::Done(Ok(appended)) => response.partition(&Produced {
            base_offset: appended.base_offset,
            log_append_time: appended.log_append_time,
            log_start: appended.log_start,
            ..Produced::error(index, ErrorCode::None)
        }),
        Pending::Done(Err(failure)) => {
            let records: Vec<_> = failure.records.iter().map(|it| (it.index, it.reason.as_str())).collect();
            leaders.extend(failure.current_leader.map(|(leader, _)| leader));
            response.partition(&Produced {
                records: &records,
                message: failure.message.as_deref(),
                current_leader: failure.current_leader,
                log_start: failure.log_start.unwrap_or(Offset::new(-1)),
                ..Produced::error(index, failure.error)
            });
        }
        // Everything has been awaited by now.
        Pending::Ready(..) | Pending::Waiting(..) | Pending::Unverified(_) => {
            response.partition(&Produced::error(index, ErrorCode::UnknownServerError));
        }
    }
}

fn silent(asked: Asked) -> Outcome {
    let mut outcomes = asked.topics.iter().flat_map(|topic| &topic.partitions);
    let failed = outcomes.find_map(|(index, outcome)| match outcome {
        Pending::Done(Err(failure)) => Some((index, failure.error)),
        _ => None,
    });
    match failed {
        Some((index, error)) => Outcome::Close(format!("Produce with acks=0 failed for partition {index}: {error}")),
        None => Outcome::Silent(asked.out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::service::ConnectionInfo;
    use millrace_protocol::{ApiKey, Encodable as _, RequestHeader, StrBytes, Versions};

    #[test]
    fn a_request_is_taken_with_others_that_names_no_transaction_and_wants_an_answer() {
        for (id, acks, plain) in [(None, -1, true), (None, 1, true), (None, 0, false), (Some("t"), -1, false)] {
            let Versions { min, max } = ApiKey::Produce.understood();
            for version in min..=max {
                let id = id.map(|id| TransactionalId(StrBytes::from_static_str(id)));
                let request = ProduceRequest::default().with_transactional_id(id).with_acks(acks);
                let mut body = BytesMut::new();
                request.encode(&mut body, version).unwrap();
                let header = RequestHeader { key: ApiKey::Produce, version, correlation_id: 1, client_id: None };
                let connection = Arc::new(ConnectionInfo::new(1, ([127, 0, 0, 1], 1).into()));
                let call = Call { header, body: body.freeze(), out: BytesMut::new(), connection };
                assert_eq!(is_plain(&call), plain, "version {version}, {request:?}");
            }
        }
    }

    #[test]
    fn a_partition_without_a_batch_or_with_half_of_one_is_an_invalid_record() {
        for records in [&[][..], &[0; 30]] {
            let failure = only_batch(9, Bytes::copy_from_slice(records)).err().map(|failure| failure.error);
            assert_eq!(failure, Some(ErrorCode::InvalidRecord));
        }
    }
}
