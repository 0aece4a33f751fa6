//! Fetch (1), versions 4 to 18: batches from where a reader asks for them, waiting for them if need be.
//!
//! * Sessions from version 7 on (KIP-227), leader epochs from 9 on (KIP-320), diverging epochs from 12 on (KIP-595), topic
//!   ids from 13 on (KIP-516), the leader to go to from 16 on (KIP-951).
//! * Record bytes stay in their files and are sent from there; only a few kilobytes are copied, because that costs less
//!   than a system call of their own.
//! * A reader that finds less than `min_bytes` leaves one waiter with all of its partitions, and looks again when any of
//!   them has changed, until `max_wait_ms` is over.
//! * `max_bytes` holds over all partitions, but the first batch of the answer always comes whole (KIP-74).

use super::list_offsets::check_epoch;
use super::{Context, errors, refuse};
use crate::partition::{PartitionHandle, TopicPartitions, Waiter, beside};
use crate::server::fetch_session::{Entry, Session};
use crate::server::service::{Answer, Call, ConnectionInfo, Outcome, Reply};
use bytes::BytesMut;
use millrace_model::{LeaderEpoch, NodeId, Offset, PartitionId, TopicId};
use millrace_protocol::endpoints::Endpoint;
use millrace_protocol::fetch_response::{AbortedTransaction, FetchResponse, FetchedRecords, PartitionHead};
use millrace_protocol::messages::TopicName;
use millrace_protocol::messages::fetch_request::{FetchPartition, FetchRequest};
use millrace_protocol::{ErrorCode, StrBytes, decode};
use millrace_storage::{FileSlice, LogReader, ReadError};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Records up to this size are copied into the answer.
const COPIED: u32 = 8 << 10;
/// The session epoch that begins a session.
const INITIAL: i32 = 0;
/// The session epoch of a reader that wants none.
const FINAL: i32 = -1;
/// Epochs are on the safe side of what may be announced to be fetched from one partition.
const MOST: u32 = i32::MAX as u32;

/// A request on its way to its answer.
struct Fetching {
    context: Arc<Context>,
    connection: Arc<ConnectionInfo>,
    out: BytesMut,
    version: i16,
    correlation: i32,
    committed: bool,
    max_bytes: u32,
    min_bytes: u64,
    session: Session,
    /// Whether partitions without news are left out of the answer.
    incremental: bool,
}

/// What was found for a partition.
struct Look {
    head: PartitionHead,
    slice: FileSlice,
    /// For readers of committed records: what of it does not count.
    aborted: Vec<AbortedTransaction>,
}

impl Look {
    fn empty(head: PartitionHead) -> Self {
        Self { head, slice: FileSlice::empty(), aborted: Vec::new() }
    }
}

/// What was found for all partitions, in the session's order.
struct Looks {
    looks: Vec<Look>,
    bytes: u64,
    /// Something that the reader should hear of at once.
    urgent: bool,
    /// What could not be found without a wait for the disk. Where there is any, the rest is not to be answered with.
    cold: Vec<Wanted>,
}

/// How a partition is looked at.
#[derive(Clone, Copy)]
struct Limits {
    committed: bool,
    /// Bytes that the answer has room for.
    left: u32,
    /// Whether nothing stands in the answer yet.
    is_first: bool,
    /// Whether the disk may be waited for.
    waits: bool,
}

/// What is to be read of a partition.
struct Wanted {
    reader: LogReader,
    from: Offset,
    upto: Offset,
    most: u32,
    committed: bool,
}

impl Wanted {
    fn read(&self, reader: &LogReader) -> Result<(FileSlice, Vec<millrace_storage::AbortedTransaction>), ReadError> {
        if self.committed {
            reader.read_committed(self.from, self.upto, self.most, true)
        } else {
            reader.read(self.from, self.upto, self.most, true).map(|slice| (slice, Vec::new()))
        }
    }

    /// Reads in what the answer needs. What fails here fails again where it is answered.
    fn warm(&self) {
        if let Ok((slice, _)) = self.read(&self.reader) {
            let _ = slice.warm();
        }
    }
}

pub(super) fn handle(context: &Arc<Context>, call: Call) -> Answer {
    let Call { header, body, out, connection } = call;
    let version = header.version;
    let request: FetchRequest = match decode(body, version) {
        Ok(request) => request,
        Err(error) => return refuse(format!("Fetch version {version}: {error}")),
    };
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let (session, incremental) = match session(context, &connection, version, &request) {
        Ok(found) => found,
        Err(error) => {
            let answer = FetchResponse::<FileSlice>::begin(out, version, header.correlation_id, error, 0, 0);
            return Answer::Now(Outcome::Reply(Reply { bytes: answer.finish(&[]).bytes, regions: Vec::new() }));
        }
    };
    let limit = context.settings.fetch_max_bytes;
    let mut fetching = Fetching {
        context: Arc::clone(context),
        connection,
        out,
        version,
        correlation: header.correlation_id,
        committed: request.isolation_level == 1,
        max_bytes: u32::try_from(request.max_bytes).unwrap_or(0).min(limit),
        min_bytes: u64::try_from(request.min_bytes).unwrap_or(0),
        session,
        incremental,
    };
    let looks = fetching.look(false);
    if looks.cold.is_empty() && (wait.is_zero() || fetching.is_enough(&looks)) {
        return if looks.are_hot() {
            Answer::Now(fetching.answer(looks))
        } else {
            Answer::Later(Box::pin(fetching.answer_warmed(looks)))
        };
    }
    let until = Instant::now() + wait;
    Answer::Later(Box::pin(fetching.wait(until)))
}

/// The partitions to read: the session's, after the request has changed them, or the request's own. Also whether the
/// answer leaves out what is not new.
fn session(
    context: &Context,
    connection: &ConnectionInfo,
    version: i16,
    request: &FetchRequest,
) -> Result<(Session, bool), ErrorCode> {
    let by_id = version >= 13;
    let entries = wanted(context, by_id, request);
    let mut kept = connection.session.lock().unwrap_or_else(PoisonError::into_inner);
    match request.session_epoch {
        _ if version < 7 => Ok((Session::once(by_id, entries), false)),
        INITIAL | FINAL => {
            // Whatever there was, it is over.
            kept.take();
            let mut session = Session::once(by_id, entries);
            if request.session_epoch == INITIAL {
                let id = i32::try_from(context.random.u64() >> 33).unwrap_or(1).max(1);
                session.keep(id, &context.sessions, context.settings.fetch_session_slots as usize);
            }
            Ok((session, false))
        }
        epoch => {
            let Some(session) = kept.as_ref().filter(|session| session.id == request.session_id) else {
                return Err(ErrorCode::FetchSessionIdNotFound);
            };
            if session.epoch != epoch {
                return Err(ErrorCode::InvalidFetchSessionEpoch);
            }
            if session.by_id != by_id {
                return Err(ErrorCode::FetchSessionTopicIdError);
            }
            let mut session = kept.take().ok_or(ErrorCode::FetchSessionIdNotFound)?;
            session.advance();
            session.update(entries);
            session.forget(&forgotten(context, by_id, request));
            Ok((session, true))
        }
    }
}

/// A name that does not keep the request's frame in memory.
fn owned(name: &TopicName) -> TopicName {
    TopicName(StrBytes::from_string(name.to_string()))
}

fn resolve(context: &Context, by_id: bool, id: uuid::Uuid, name: &TopicName) -> (TopicId, TopicName) {
    if by_id {
        return (TopicId::new(id), TopicName::default());
    }
    let id = context.partitions.topic_named(name).map_or(TopicId::NIL, |topic| topic.id());
    (id, owned(name))
}

fn wanted(context: &Context, by_id: bool, request: &FetchRequest) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(request.topics.iter().map(|topic| topic.partitions.len()).sum());
    for topic in &request.topics {
        let (id, name) = resolve(context, by_id, topic.topic_id, &topic.topic);
        entries.extend(topic.partitions.iter().map(|partition| entry(id, &name, partition)));
    }
    entries
}

fn entry(topic: TopicId, name: &TopicName, wanted: &FetchPartition) -> Entry {
    Entry {
        topic,
        name: name.clone(),
        partition: PartitionId::new(wanted.partition),
        offset: Offset::new(wanted.fetch_offset),
        max_bytes: u32::try_from(wanted.partition_max_bytes).unwrap_or(0),
        leader_epoch: wanted.current_leader_epoch,
        last_epoch: LeaderEpoch::new(wanted.last_fetched_epoch),
        told: None,
    }
}

fn forgotten(context: &Context, by_id: bool, request: &FetchRequest) -> Vec<(TopicId, TopicName, PartitionId)> {
    let topics = request.forgotten_topics_data.iter().map(|topic| {
        let (id, name) = resolve(context, by_id, topic.topic_id, &topic.topic);
        topic.partitions.iter().map(move |index| (id, name.clone(), PartitionId::new(*index)))
    });
    topics.flatten().collect()
}

impl Looks {
    fn are_hot(&self) -> bool {
        self.looks.iter().all(|look| look.slice.is_empty() || look.slice.is_hot())
    }
}

impl Fetching {
    fn is_enough(&self, looks: &Looks) -> bool {
        looks.urgent || looks.bytes >= self.min_bytes || self.session.entries.is_empty()
    }

    /// Looks at all partitions once. Where that takes a wait for the disk it waits, or says so in `cold`.
    fn look(&mut self, waits: bool) -> Looks {
        let looks = Vec::with_capacity(self.session.entries.len());
        let mut looks = Looks { looks, bytes: 0, urgent: false, cold: Vec::new() };
        let mut topic: Option<Arc<TopicPartitions>> = None;
        let mut left = self.max_bytes;
        let (by_id, partitions) = (self.session.by_id, &self.context.partitions);
        for entry in &mut self.session.entries {
            if !by_id && entry.topic == TopicId::NIL {
                // It may have been created since.
                entry.topic = partitions.topic_named(&entry.name).map_or(TopicId::NIL, |topic| topic.id());
            }
            if topic.as_ref().is_none_or(|topic| topic.id() != entry.topic) {
                topic = partitions.topic(entry.topic);
            }
            let handle = topic.as_ref().and_then(|topic| topic.get(entry.partition));
            let look = match handle {
                Some(handle) => {
                    let limits = Limits { committed: self.committed, left, is_first: looks.bytes == 0, waits };
                    look_at(handle, entry, limits).unwrap_or_else(|cold| {
                        looks.cold.push(cold);
                        Look::empty(PartitionHead::error(entry.partition, ErrorCode::None))
                    })
                }
                None => elsewhere(&self.context, by_id, entry),
            };
            left = left.saturating_sub(look.slice.len());
            looks.bytes += u64::from(look.slice.len());
            looks.urgent |= !look.head.error.is_none() || look.head.diverging.is_some();
            looks.looks.push(look);
        }
        looks
    }

    /// Looks at all partitions; what is on the disk only is read in first, by a thread that may wait.
    async fn find(&mut self) -> Looks {
        let looks = self.look(false);
        if looks.cold.is_empty() {
            return looks;
        }
        let cold = looks.cold;
        beside(&*self.context.offload, move || cold.iter().for_each(Wanted::warm)).await;
        self.look(true)
    }

    async fn wait(mut self, until: Instant) -> Outcome {
        let looks = {
            let waiter = Waiter::new();
            let handles = self.session.entries.iter().filter_map(|entry| {
                self.context.partitions.topic(entry.topic).and_then(|topic| topic.get(entry.partition).cloned())
            });
            let _waiting: Vec<_> = handles.map(|handle| handle.wait(&waiter)).collect();
            loop {
                let looks = self.find().await;
                if self.is_enough(&looks) {
                    break looks;
                }
                tokio::select! {
                    biased;
                    () = waiter.woken() => {}
                    () = tokio::time::sleep_until(until) => break self.find().await,
                }
            }
        };
        if looks.are_hot() { self.answer(looks) } else { self.answer_warmed(looks).await }
    }

    /// Has cold records read in by a thread that may wait for the disk, then answers.
    async fn answer_warmed(self, looks: Looks) -> Outcome {
        let cold: Vec<FileSlice> =
            looks.looks.iter().map(|look| &look.slice).filter(|it| !it.is_empty() && !it.is_hot()).cloned().collect();
        let warm = move || cold.iter().try_for_each(FileSlice::warm);
        if let Some(Err(error)) = beside(&*self.context.offload, warm).await {
            tracing::warn!(%error, "records could not be read");
        }
        self.answer(looks)
    }

    fn answer(mut self, looks: Looks) -> Outcome {
        let shown = self.shown(&looks);
        let topics = self.groups(&shown);
        let mut answer = FetchResponse::begin(
            std::mem::take(&mut self.out),
            self.version,
            self.correlation,
            ErrorCode::None,
            self.session.id,
            topics.len(),
        );
        let mut scratch = Vec::new();
        let mut leaders: Vec<NodeId> = Vec::new();
        let mut shown = shown.into_iter();
        for (id, name, count) in topics {
            answer.topic(id, &name, count);
            for at in shown.by_ref().take(count) {
                let Some(look) = looks.looks.get(at) else { continue };
                leaders.extend(look.head.current_leader.map(|(leader, _)| leader));
                // Kafka's answer about a partition that it does not know has a list there, if an empty one.
                let unknown = matches!(look.head.error, ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition);
                let aborted = (self.committed || unknown).then_some(&look.aborted[..]);
                answer.partition(&look.head, aborted, records(&look.slice, &mut scratch));
            }
            answer.end_topic();
        }
        let image = self.context.cluster.image();
        let brokers = leaders.iter().filter_map(|leader| image.broker(*leader));
        let endpoints: Vec<_> =
            brokers.map(|it| Endpoint { node: it.id(), host: it.host(), port: it.port() }).collect();
        let pieces = answer.finish(&endpoints);
        self.keep(&looks);
        Outcome::Reply(Reply { bytes: pieces.bytes, regions: pieces.regions })
    }

    /// The places of the partitions that the answer shows: all, or in a session those with news.
    fn shown(&self, looks: &Looks) -> Vec<usize> {
        let entries = self.session.entries.iter().zip(&looks.looks).enumerate();
        let news = entries.filter(|(_, (entry, look))| {
            !self.incremental
                || !look.slice.is_empty()
                || !look.head.error.is_none()
                || look.head.diverging.is_some()
                || entry.told != Some((look.head.high_watermark, look.head.log_start))
        });
        news.map(|(at, _)| at).collect()
    }

    /// The topics of the answer: neighbours of one topic are one.
    fn groups(&self, shown: &[usize]) -> Vec<(TopicId, TopicName, usize)> {
        let mut groups: Vec<(TopicId, TopicName, usize)> = Vec::new();
        for entry in shown.iter().filter_map(|at| self.session.entries.get(*at)) {
            match groups.last_mut() {
                Some((id, name, count)) if *id == entry.topic && *name == entry.name => *count += 1,
                _ => groups.push((entry.topic, entry.name.clone(), 1)),
            }
        }
        groups
    }

    /// Gives the session back to the connection.
    fn keep(self, looks: &Looks) {
        let Self { mut session, connection, .. } = self;
        if !session.is_kept() {
            return;
        }
        for (entry, look) in session.entries.iter_mut().zip(&looks.looks) {
            entry.told = look.head.error.is_none().then_some((look.head.high_watermark, look.head.log_start));
        }
        let had_records: Vec<bool> = looks.looks.iter().map(|look| !look.slice.is_empty()).collect();
        if had_records.contains(&true) {
            session.rotate(&had_records);
        }
        *connection.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }
}

fn records<'a>(slice: &FileSlice, scratch: &'a mut Vec<u8>) -> FetchedRecords<'a, FileSlice> {
    let Some(file) = slice.file().filter(|_| !slice.is_empty()) else { return FetchedRecords::None };
    if slice.len() > COPIED {
        return FetchedRecords::Region(slice.clone(), slice.len().into());
    }
    scratch.clear();
    scratch.resize(slice.len() as usize, 0);
    match file.read_at(slice.position(), scratch) {
        Ok(read) => FetchedRecords::Inline(scratch.get(..read).unwrap_or_default()),
        Err(error) => {
            tracing::warn!(%error, "records could not be read");
            FetchedRecords::None
        }
    }
}

/// What there is for an entry of a partition that is led here; or what must be read in to say so.
fn look_at(handle: &PartitionHandle, entry: &Entry, limits: Limits) -> Result<Look, Wanted> {
    let failed = |error: ErrorCode| Ok(Look::empty(PartitionHead::error(entry.partition, error)));
    if let Err(error) = check_epoch(handle, entry.leader_epoch) {
        return failed(error);
    }
    let reader = handle.reader();
    let high_watermark = handle.high_watermark();
    let last_stable = handle.last_stable_offset();
    let mut head = PartitionHead {
        high_watermark,
        last_stable,
        log_start: handle.log_start(),
        ..PartitionHead::error(entry.partition, ErrorCode::None)
    };
    if entry.last_epoch.get() >= 0 {
        let (epoch, end) = reader.epoch_end(entry.last_epoch);
        if end.get() < 0 {
            return failed(ErrorCode::OffsetOutOfRange);
        }
        if epoch < entry.last_epoch || end < entry.offset {
            head.diverging = Some((epoch, end));
            return Ok(Look::empty(head));
        }
    }
    let Limits { committed, left, is_first, waits } = limits;
    let upto = if committed { last_stable } else { high_watermark };
    if entry.offset == upto {
        return Ok(Look::empty(head));
    }
    let most = entry.max_bytes.min(left).min(MOST);
    let wanted = Wanted { reader: reader.clone(), from: entry.offset, upto, most, committed };
    let read = if waits { wanted.read(reader) } else { wanted.read(&reader.without_waiting()) };
    match read {
        // Longer than allowed is a first batch that is sent whole or, in the shadow of others, not at all.
        Ok((slice, _)) if slice.len() > most && !is_first => Ok(Look::empty(head)),
        Ok((slice, aborted)) => Ok(Look { head, slice, aborted: aborted.iter().map(on_the_wire).collect() }),
        Err(ReadError::Cold) => Err(wanted),
        Err(error) => {
            if !matches!(error, ReadError::OutOfRange { .. }) {
                tracing::warn!(topic = %handle.topic(), partition = %handle.index(), %error, "a read failed");
            }
            failed(errors::read(&error))
        }
    }
}

fn on_the_wire(aborted: &millrace_storage::AbortedTransaction) -> AbortedTransaction {
    AbortedTransaction { producer_id: aborted.producer_id.get(), first_offset: aborted.first_offset.get() }
}

/// Why this node does not have the partition.
fn elsewhere(context: &Context, by_id: bool, entry: &Entry) -> Look {
    let image = context.cluster.image();
    let unknown = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
    let mut head = PartitionHead::error(entry.partition, unknown);
    if let Some(topic) = image.topic_by_id(entry.topic) {
        head.error = match topic.partition(entry.partition) {
            Some(partition) if partition.leader != context.node => {
                head.current_leader = Some((partition.leader, partition.leader_epoch));
                ErrorCode::NotLeaderOrFollower
            }
            Some(_) => ErrorCode::KafkaStorageError,
            None => ErrorCode::UnknownTopicOrPartition,
        };
    }
    Look::empty(head)
}
