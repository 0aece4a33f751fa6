//! The task that runs the groups of one partition.
//!
//! Invariants:
//! - One request at a time reaches the machine, in the order of the queue; commits that follow each other share one
//!   append. While an append is under way nothing else happens here, so that no answer can overtake a record.
//! - An append that takes longer than `offsets.commit.timeout.ms` may still happen. Its requests are refused, and the
//!   shard begins anew from the log once the outcome is there: the log is right, whatever it says.
//! - Requests that came while a deadline passed are handled before it: a member is not removed for our slowness.
//! - A shard ends when it is told to stop or the partition is no longer this node's. Whoever waits is refused.

use super::load;
use super::log::{AppendFailure, ShardLog};
use crate::coordinator::group::classic::Token;
use crate::coordinator::group::machine::{GroupMachine, Images, Now, Pending, Reply, Request, Step};
use crate::coordinator::group::{GroupError, GroupOptions};
use bytes::Bytes;
use futures::future::BoxFuture;
use millrace_model::builder::BatchBuilder;
use millrace_model::record::encode::HeaderSource;
use millrace_model::{Clock, Offset};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Requests that may wait for a shard before those who ask have to.
const QUEUE: usize = 1_024;
/// Requests handled before deadlines are looked at again.
const ROUND: usize = 1_024;
/// Commits share an append up to this many bytes of records.
const SHARED_APPEND: usize = 256 * 1024;
/// How long a shard waits before it reads its log again after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// A request and who waits for its answer.
#[derive(Debug)]
pub struct Asked {
    /// The request.
    pub request: Request,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Reply>,
}

/// What a shard needs to run.
#[derive(Clone, Debug)]
pub struct ShardContext {
    /// Its name, for the log.
    pub name: Arc<str>,
    /// Its partition.
    pub log: Arc<dyn ShardLog>,
    /// The groups' settings.
    pub options: GroupOptions,
    /// Where the cluster's topics are looked up.
    pub images: Arc<dyn Images>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Turns true when the coordinator stops.
    pub stop: watch::Receiver<bool>,
}

/// The way to a shard. Clones are the same shard.
#[derive(Clone, Debug)]
pub struct Shard {
    queue: mpsc::Sender<Asked>,
}

impl Shard {
    /// A shard, and the task that must be run for it.
    pub fn new(context: ShardContext) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, requests) = mpsc::channel(QUEUE);
        (Self { queue }, run(context, requests))
    }

    /// Asks, and waits for the answer. The shard's order is the order in which these futures are first polled.
    pub async fn ask(&self, request: Request) -> Reply {
        let gone = request.refused(GroupError::NotCoordinator);
        let (answer, answered) = oneshot::channel();
        if self.queue.send(Asked { request, answer }).await.is_err() {
            return gone;
        }
        answered.await.unwrap_or(gone)
    }

    /// Whether the shard has ended.
    pub fn is_over(&self) -> bool {
        self.queue.is_closed()
    }
}

enum End {
    /// Read the log again.
    Reload,
    /// It is over.
    Stop,
}

async fn run(context: ShardContext, mut requests: mpsc::Receiver<Asked>) {
    let epoch = Instant::now();
    loop {
        let Some(machine) = load(&context, &mut requests, epoch).await else { break };
        let mut serving =
            Serving { context: &context, requests: &mut requests, machine, waiting: BTreeMap::new(), tokens: 0, epoch };
        match serving.serve().await {
            Ok(()) | Err(End::Stop) => break,
            Err(End::Reload) => serving.abandon(),
        }
    }
    // Requests in the queue are answered by the loss of their sender.
    tracing::debug!(shard = %context.name, "shard is over");
}

/// Replays the log; whoever asks meanwhile is told so. None where the shard is to stop.
async fn load(context: &ShardContext, requests: &mut mpsc::Receiver<Asked>, epoch: Instant) -> Option<GroupMachine> {
    loop {
        let mut machine = GroupMachine::new(context.options.clone(), Arc::clone(&context.images));
        let started = Instant::now();
        let outcome = {
            let replay = load::replay(&*context.log, &mut machine, now(context, epoch));
            refuse_until(replay, context, requests, GroupError::Loading).await?
        };
        match outcome {
            Ok(0) => return Some(machine),
            Ok(records) => {
                let ms = started.elapsed().as_millis() as u64;
                tracing::info!(shard = %context.name, records, ms, "groups are loaded");
                return Some(machine);
            }
            Err(error) => {
                tracing::error!(shard = %context.name, %error, "groups could not be loaded");
                refuse_until(tokio::time::sleep(RETRY), context, requests, GroupError::NotAvailable).await?;
            }
        }
    }
}

/// Waits for something and refuses every request that comes meanwhile. None where the shard is to stop.
async fn refuse_until<T>(
    what: impl Future<Output = T>,
    context: &ShardContext,
    requests: &mut mpsc::Receiver<Asked>,
    error: GroupError,
) -> Option<T> {
    let mut what = std::pin::pin!(what);
    let mut stop = context.stop.clone();
    loop {
        tokio::select! {
            biased;
            done = &mut what => return Some(done),
            _ = stop.wait_for(|stop| *stop) => return None,
            asked = requests.recv() => {
                let Asked { request, answer } = asked?;
                let _ = answer.send(request.refused(error));
            }
        }
    }
}

fn now(context: &ShardContext, epoch: Instant) -> Now {
    Now { wall: context.clock.now(), tick: u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX) }
}

/// Records of one step, ready for the log.
struct Encoded {
    pending: Pending,
    records: Vec<(Bytes, Option<Bytes>)>,
    bytes: usize,
}

impl Encoded {
    fn new(pending: Pending) -> Self {
        let records: Vec<_> = pending.records.iter().filter_map(|record| record.encode()).collect();
        let bytes = records.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len) + 16).sum();
        Self { pending, records, bytes }
    }
}

struct Serving<'a> {
    context: &'a ShardContext,
    requests: &'a mut mpsc::Receiver<Asked>,
    machine: GroupMachine,
    waiting: BTreeMap<Token, oneshot::Sender<Reply>>,
    tokens: u64,
    epoch: Instant,
}

impl Serving<'_> {
    fn now(&self) -> Now {
        now(self.context, self.epoch)
    }

    async fn serve(&mut self) -> Result<(), End> {
        let steps = self.machine.loaded(self.now());
        for step in steps {
            self.settle(step).await?;
        }
        let mut stop = self.context.stop.clone();
        loop {
            let deadline = self.machine.next_deadline().map(|tick| self.epoch + Duration::from_millis(tick));
            let first = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Err(End::Stop),
                asked = self.requests.recv() => Some(asked.ok_or(End::Stop)?),
                () = sleep_until(deadline) => None,
            };
            self.round(first).await?;
            while let Some(step) = self.machine.expire(self.now()) {
                self.settle(step).await?;
            }
        }
    }

    /// Handles what is in the queue.
    async fn round(&mut self, first: Option<Asked>) -> Result<(), End> {
        let mut next = first;
        for _ in 0..ROUND {
            let Some(asked) = next.take().or_else(|| self.requests.try_recv().ok()) else { break };
            if asked.request.is_commit() {
                next = self.commits(asked).await?;
            } else {
                let step = self.hand_in(asked);
                self.settle(step).await?;
            }
        }
        // The round ended with a request in hand.
        if let Some(asked) = next {
            let step = self.hand_in(asked);
            self.settle(step).await?;
        }
        Ok(())
    }

    /// Handles a commit and those that stand right behind it. Returns the request that ended the row.
    async fn commits(&mut self, first: Asked) -> Result<Option<Asked>, End> {
        let mut shared: Vec<Encoded> = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(asked) = next.take() {
            if !asked.request.is_commit() {
                next = Some(asked);
                break;
            }
            let mut step = self.hand_in(asked);
            let encoded = step.pending.take().map(Encoded::new);
            self.answer(step.replies);
            if let Some(encoded) = encoded {
                if bytes + encoded.bytes > SHARED_APPEND && !shared.is_empty() {
                    self.append(std::mem::take(&mut shared)).await?;
                    bytes = 0;
                }
                bytes += encoded.bytes;
                shared.push(encoded);
            }
            next = self.requests.try_recv().ok();
        }
        if !shared.is_empty() {
            self.append(shared).await?;
        }
        Ok(next)
    }

    fn hand_in(&mut self, asked: Asked) -> Step {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.waiting.insert(token, asked.answer);
        self.machine.handle(token, asked.request, self.now())
    }

    async fn settle(&mut self, step: Step) -> Result<(), End> {
        self.answer(step.replies);
        match step.pending {
            Some(pending) => self.append(vec![Encoded::new(pending)]).await,
            None => Ok(()),
        }
    }

    /// Appends the records of several steps as one batch, and whatever follows from that.
    async fn append(&mut self, steps: Vec<Encoded>) -> Result<(), End> {
        let mut queue = VecDeque::from([steps]);
        while let Some(steps) = queue.pop_front() {
            let (outcome, end) = self.store(&steps).await;
            if outcome == Err(GroupError::TooLarge) && steps.len() > 1 {
                // One of them is too large for the topic; the others need not suffer for it.
                queue.extend(steps.into_iter().map(|step| vec![step]));
                continue;
            }
            let mut delta = 0;
            for Encoded { pending, records, .. } in steps {
                let outcome = outcome.map(|base: Offset| base.plus(delta));
                delta += i64::try_from(records.len()).unwrap_or(i64::MAX);
                let follows = self.machine.conclude(pending, outcome, self.now());
                self.answer(follows.replies);
                if let Some(pending) = follows.pending {
                    queue.push_back(vec![Encoded::new(pending)]);
                }
            }
            if let Some(end) = end {
                return Err(end);
            }
        }
        Ok(())
    }

    async fn store(&mut self, steps: &[Encoded]) -> (Result<Offset, GroupError>, Option<End>) {
        let mut builder = BatchBuilder::new();
        let now = self.context.clock.now();
        for (key, value) in steps.iter().flat_map(|step| &step.records) {
            if builder.append(now, Some(key), value.as_deref(), HeaderSource::None).is_err() {
                return (Err(GroupError::TooLarge), None);
            }
        }
        let Ok(batch) = builder.build() else { return (Err(GroupError::TooLarge), None) };
        let mut append = self.context.log.append(batch);
        let limit = Duration::from_millis(self.context.options.offsets_commit_timeout_ms);
        match tokio::time::timeout(limit, &mut append).await {
            Ok(Ok(base)) => (Ok(base), None),
            Ok(Err(AppendFailure::Refused(error))) => {
                tracing::warn!(shard = %self.context.name, %error, "records of groups could not be stored");
                (Err(error), None)
            }
            Ok(Err(AppendFailure::Lost)) => (Err(GroupError::NotCoordinator), Some(End::Stop)),
            Err(_) => (Err(GroupError::NotAvailable), Some(self.outlast(append).await)),
        }
    }

    /// Waits for an append that took too long, so that the log is settled when it is read again.
    async fn outlast(&mut self, append: BoxFuture<'static, Result<Offset, AppendFailure>>) -> End {
        tracing::warn!(shard = %self.context.name, "storing records of groups takes too long; they will be read again");
        self.abandon();
        match refuse_until(append, self.context, self.requests, GroupError::NotAvailable).await {
            None | Some(Err(AppendFailure::Lost)) => End::Stop,
            Some(_) => End::Reload,
        }
    }

    fn answer(&mut self, replies: Vec<(Token, Reply)>) {
        for (token, reply) in replies {
            if let Some(answer) = self.waiting.remove(&token) {
                // Nobody may be there any more to hear it.
                let _ = answer.send(reply);
            }
        }
    }

    /// Whoever still waits has to find the coordinator again, which is what the loss of the sender says.
    fn abandon(&mut self) {
        tracing::debug!(shard = %self.context.name, waiting = self.waiting.len(), "waiting requests are refused");
        self.waiting.clear();
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::group::{CommitPartition, CommitTopic, OffsetCommit, OffsetFetch};
    use futures::FutureExt;
    use millrace_model::{Batch, LeaderEpoch, Timestamp, TopicId};
    use std::sync::Mutex;
    use tokio::sync::Semaphore;

    /// A log in memory that can be slow, full or lost.
    #[derive(Debug)]
    struct Paper {
        batches: Mutex<Vec<Batch>>,
        fails: Mutex<Option<AppendFailure>>,
        /// An append takes one of these.
        permits: Arc<Semaphore>,
    }

    impl Paper {
        fn new() -> Arc<Self> {
            let permits = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
            Arc::new(Self { batches: Mutex::default(), fails: Mutex::default(), permits })
        }

        fn len(&self) -> usize {
            self.batches.lock().unwrap().len()
        }

        fn stall(&self) {
            self.permits.forget_permits(Semaphore::MAX_PERMITS);
        }
    }

    #[derive(Debug)]
    struct PaperLog(Arc<Paper>);

    impl ShardLog for PaperLog {
        fn append(&self, batch: Batch) -> BoxFuture<'static, Result<Offset, AppendFailure>> {
            let paper = Arc::clone(&self.0);
            async move {
                paper.permits.acquire().await.unwrap().forget();
                if let Some(failure) = *paper.fails.lock().unwrap() {
                    return Err(failure);
                }
                let mut batches = paper.batches.lock().unwrap();
                let base = batches.last().map_or(Offset::ZERO, |batch| batch.header().next_offset());
                let mut bytes = batch.bytes().to_vec();
                bytes[..8].copy_from_slice(&base.get().to_be_bytes());
                batches.push(Batch::split_from(&mut bytes.into()).unwrap());
                Ok(base)
            }
            .boxed()
        }

        fn start(&self) -> Offset {
            Offset::ZERO
        }

        fn end(&self) -> Offset {
            self.0.batches.lock().unwrap().last().map_or(Offset::ZERO, |batch| batch.header().next_offset())
        }

        fn read(&self, from: Offset, _upto: Offset) -> BoxFuture<'static, Result<Bytes, String>> {
            let batches = self.0.batches.lock().unwrap();
            let found = batches.iter().find(|batch| batch.header().next_offset() > from);
            let mut bytes = found.map(|batch| batch.bytes().to_vec()).unwrap_or_default();
            bytes.extend_from_slice(&[0; 30]); // The next batch, cut short.
            async move { Ok(bytes.into()) }.boxed()
        }
    }

    #[derive(Debug)]
    struct NoTopics;

    impl Images for NoTopics {
        fn image(&self) -> Arc<millrace_metadata::Image> {
            Arc::default()
        }
    }

    #[derive(Debug)]
    struct StillClock;

    impl Clock for StillClock {
        fn now(&self) -> Timestamp {
            Timestamp::new(1_700_000_000_000)
        }

        fn monotonic_ns(&self) -> u64 {
            0
        }
    }

    fn start(paper: &Arc<Paper>) -> (Shard, watch::Sender<bool>) {
        let (stop, stopped) = watch::channel(false);
        let (shard, task) = Shard::new(ShardContext {
            name: "__consumer_offsets-0".into(),
            log: Arc::new(PaperLog(Arc::clone(paper))),
            options: GroupOptions { offsets_commit_timeout_ms: 200, ..GroupOptions::default() },
            images: Arc::new(NoTopics),
            clock: Arc::new(StillClock),
            stop: stopped,
        });
        tokio::spawn(task);
        (shard, stop)
    }

    fn commit(offset: i64, metadata: &str) -> Request {
        let partition = CommitPartition {
            partition: 0,
            offset: Offset::new(offset),
            leader_epoch: LeaderEpoch::NONE,
            metadata: Some(metadata.into()),
        };
        Request::Commit(OffsetCommit {
            group: "g".into(),
            generation: -1,
            member_id: String::new(),
            instance_id: None,
            retention_time_ms: -1,
            knows_group_id_not_found: true,
            topics: vec![CommitTopic { name: "t".into(), id: TopicId::NIL, partitions: vec![partition] }],
        })
    }

    async fn stored(shard: &Shard) -> Result<i64, GroupError> {
        let fetch =
            OffsetFetch { group: "g".into(), member_id: None, member_epoch: -1, topics: None, require_stable: false };
        match shard.ask(Request::Fetch(fetch)).await {
            Reply::Fetch(topics) => topics.map(|topics| topics.first().map_or(-1, |t| t.partitions[0].offset.get())),
            other => panic!("{other:?}"),
        }
    }

    fn is_ok(reply: &Reply) -> bool {
        matches!(reply, Reply::Commit(Ok(_)))
    }

    #[tokio::test]
    async fn a_commit_is_answered_once_it_is_stored_and_a_new_shard_finds_it() {
        let paper = Paper::new();
        let (shard, _stop) = start(&paper);
        assert!(is_ok(&shard.ask(commit(7, "note")).await));
        assert_eq!((stored(&shard).await, paper.len()), (Ok(7), 1));
        let (again, _stop) = start(&paper);
        // The first request may find it loading.
        while stored(&again).await == Err(GroupError::Loading) {}
        assert_eq!(stored(&again).await, Ok(7));
    }

    #[tokio::test]
    async fn commits_that_wait_behind_an_append_share_the_next_one() {
        let paper = Paper::new();
        let (shard, _stop) = start(&paper);
        assert_eq!(stored(&shard).await, Ok(-1));
        paper.stall();
        let mut asked: Vec<_> = (0..100).map(|n| Box::pin(shard.ask(commit(n, "")))).collect();
        for one in &mut asked {
            assert!(one.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        paper.permits.add_permits(2);
        let replies = futures::future::join_all(asked).await;
        assert!(replies.iter().all(is_ok));
        assert_eq!((paper.len(), stored(&shard).await), (2, Ok(99)));
    }

    #[tokio::test]
    async fn what_could_not_be_stored_has_not_happened() {
        let paper = Paper::new();
        let (shard, _stop) = start(&paper);
        assert!(is_ok(&shard.ask(commit(1, "")).await));
        *paper.fails.lock().unwrap() = Some(AppendFailure::Refused(GroupError::NotCoordinator));
        assert_eq!(shard.ask(commit(2, "")).await, Reply::Commit(Err(GroupError::NotCoordinator)));
        assert_eq!(stored(&shard).await, Ok(1));
        *paper.fails.lock().unwrap() = None;
        assert!(is_ok(&shard.ask(commit(3, "")).await));
        assert_eq!(stored(&shard).await, Ok(3));
    }

    #[tokio::test]
    async fn an_append_that_takes_too_long_is_refused_and_what_became_of_it_is_read_from_the_log() {
        let paper = Paper::new();
        let (shard, _stop) = start(&paper);
        assert!(is_ok(&shard.ask(commit(1, "")).await));
        paper.stall();
        let asked = Instant::now();
        assert_eq!(shard.ask(commit(2, "")).await, Reply::Commit(Err(GroupError::NotCoordinator)));
        assert!(asked.elapsed() >= Duration::from_millis(200));
        assert_eq!(stored(&shard).await, Err(GroupError::NotAvailable));
        paper.permits.add_permits(1);
        let offset = loop {
            match stored(&shard).await {
                Ok(offset) => break offset,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        assert_eq!(offset, 2, "it was stored after all");
    }

    #[tokio::test]
    async fn a_shard_whose_partition_is_lost_or_that_is_stopped_ends_and_refuses() {
        let paper = Paper::new();
        let (shard, _stop) = start(&paper);
        *paper.fails.lock().unwrap() = Some(AppendFailure::Lost);
        assert_eq!(shard.ask(commit(2, "")).await, Reply::Commit(Err(GroupError::NotCoordinator)));
        assert_eq!(stored(&shard).await, Err(GroupError::NotCoordinator));
        assert!(shard.is_over());

        let (shard, stop) = start(&Paper::new());
        assert_eq!(stored(&shard).await, Ok(-1));
        stop.send_replace(true);
        assert_eq!(stored(&shard).await, Err(GroupError::NotCoordinator));
    }
}
