//! The task that runs one partition's state machine.
//!
//! Invariants:
//! - One request at a time reaches the machine, in the order of the queue; those that may share an
//!   append and follow each other do. While an append is under way nothing else happens here, so that no answer can overtake a record.
//! - An append that takes longer than it may, may still happen. Its requests are refused, and the
//!   shard begins anew from the log once the outcome is there: the log is right, whatever it says.
//! - Requests that came while a deadline passed are handled before it: a member is not removed for our slowness.
//! - A shard ends when it is told to stop or the partition is no longer this node's. Whoever waits is refused.

use super::load;
use super::log::{AppendFailure, ShardLog};
use super::machine::{Envelope, KeyValue, Machine, Now, Refusal, Step, Token};
use bytes::Bytes;
use futures::future::BoxFuture;
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
pub struct Asked<M: Machine> {
    /// The request.
    pub request: M::Request,
    /// Where the answer goes.
    pub answer: oneshot::Sender<M::Reply>,
}

/// What a shard needs to run.
#[derive(Debug)]
pub struct ShardContext<M: Machine> {
    /// Its name, for the log.
    pub name: Arc<str>,
    /// Its partition.
    pub log: Arc<dyn ShardLog>,
    /// What the machine is set up with.
    pub options: M::Options,
    /// How long an append may take.
    pub append_timeout: Duration,
    /// Where work goes that is to be done outside.
    pub work: Option<mpsc::UnboundedSender<M::Work>>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Turns true when the coordinator stops.
    pub stop: watch::Receiver<bool>,
}

/// The way to a shard. Clones are the same shard.
#[derive(Debug)]
pub struct Shard<M: Machine> {
    queue: mpsc::Sender<Asked<M>>,
}

impl<M: Machine> Clone for Shard<M> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<M: Machine> Shard<M> {
    /// A shard, and the task that must be run for it.
    pub fn new(context: ShardContext<M>) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, requests) = mpsc::channel(QUEUE);
        (Self { queue }, run(context, requests))
    }

    /// Asks, and waits for the answer. The shard's order is the order in which these futures are first polled.
    pub async fn ask(&self, request: M::Request) -> M::Reply {
        let gone = M::refused(&request, Refusal::NotCoordinator);
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

async fn run<M: Machine>(context: ShardContext<M>, mut requests: mpsc::Receiver<Asked<M>>) {
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
async fn load<M: Machine>(
    context: &ShardContext<M>,
    requests: &mut mpsc::Receiver<Asked<M>>,
    epoch: Instant,
) -> Option<M> {
    loop {
        let mut machine = M::new(context.options.clone());
        let started = Instant::now();
        let outcome = {
            let replay = load::replay(&*context.log, &mut machine, now(context, epoch));
            refuse_until(replay, context, requests, Refusal::Loading).await?
        };
        match outcome {
            Ok(0) => return Some(machine),
            Ok(records) => {
                let ms = started.elapsed().as_millis() as u64;
                tracing::info!(shard = %context.name, records, ms, what = M::WHAT, "loaded");
                return Some(machine);
            }
            Err(error) => {
                tracing::error!(shard = %context.name, %error, what = M::WHAT, "could not be loaded");
                refuse_until(tokio::time::sleep(RETRY), context, requests, Refusal::NotAvailable).await?;
            }
        }
    }
}

/// Waits for something and refuses every request that comes meanwhile. None where the shard is to stop.
async fn refuse_until<T, M: Machine>(
    what: impl Future<Output = T>,
    context: &ShardContext<M>,
    requests: &mut mpsc::Receiver<Asked<M>>,
    why: Refusal,
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
                let _ = answer.send(M::refused(&request, why));
            }
        }
    }
}

fn now<M: Machine>(context: &ShardContext<M>, epoch: Instant) -> Now {
    Now { wall: context.clock.now(), tick: u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX) }
}

/// Records of one step, ready for the log.
struct Encoded<M: Machine> {
    pending: M::Pending,
    envelope: Envelope,
    records: Vec<KeyValue>,
    bytes: usize,
}

impl<M: Machine> Encoded<M> {
    fn new(pending: M::Pending) -> Self {
        let (records, envelope) = (M::records(&pending), M::envelope(&pending));
        let bytes = records.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len) + 16).sum();
        Self { pending, envelope, records, bytes }
    }
}

type StepOf<M> = Step<<M as Machine>::Reply, <M as Machine>::Pending>;

struct Serving<'a, M: Machine> {
    context: &'a ShardContext<M>,
    requests: &'a mut mpsc::Receiver<Asked<M>>,
    machine: M,
    waiting: BTreeMap<Token, oneshot::Sender<M::Reply>>,
    tokens: u64,
    epoch: Instant,
}

impl<M: Machine> Serving<'_, M> {
    fn now(&self) -> Now {
        now(self.context, self.epoch)
    }

    async fn serve(&mut self) -> Result<(), End> {
        let steps = self.machine.loaded(self.context.log.epoch(), self.now());
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
    async fn round(&mut self, first: Option<Asked<M>>) -> Result<(), End> {
        let mut next = first;
        for _ in 0..ROUND {
            let Some(asked) = next.take().or_else(|| self.requests.try_recv().ok()) else { break };
            if M::shares_append(&asked.request) {
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
    async fn commits(&mut self, first: Asked<M>) -> Result<Option<Asked<M>>, End> {
        let mut shared: Vec<Encoded<M>> = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(asked) = next.take() {
            if !M::shares_append(&asked.request) {
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

    fn hand_in(&mut self, asked: Asked<M>) -> StepOf<M> {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.waiting.insert(token, asked.answer);
        self.machine.handle(token, asked.request, self.now())
    }

    async fn settle(&mut self, step: StepOf<M>) -> Result<(), End> {
        self.answer(step.replies);
        let settled = match step.pending {
            Some(pending) => self.append(vec![Encoded::new(pending)]).await,
            None => Ok(()),
        };
        for work in self.machine.take_work() {
            if let Some(outside) = &self.context.work {
                // Where nobody is left to do it, this shard is about to end too.
                let _ = outside.send(work);
            }
        }
        settled
    }

    /// Appends the records of several steps as one batch, and whatever follows from that.
    async fn append(&mut self, steps: Vec<Encoded<M>>) -> Result<(), End> {
        let mut queue = VecDeque::from([steps]);
        while let Some(steps) = queue.pop_front() {
            let (outcome, end) = self.store(&steps).await;
            if outcome == Err(Refusal::TooLarge) && steps.len() > 1 {
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

    async fn store(&mut self, steps: &[Encoded<M>]) -> (Result<Offset, Refusal>, Option<End>) {
        // Steps that share a batch are plain, all of them.
        let envelope = steps.first().map(|step| step.envelope).unwrap_or_default();
        let records = steps.iter().flat_map(|step| &step.records);
        let Ok(batch) = envelope.seal(self.context.clock.now(), records) else {
            return (Err(Refusal::TooLarge), None);
        };
        let mut append = self.context.log.append(batch, envelope.claim());
        let limit = self.context.append_timeout;
        match tokio::time::timeout(limit, &mut append).await {
            Ok(Ok(base)) => (Ok(base), None),
            Ok(Err(AppendFailure::Refused(error))) => {
                tracing::warn!(shard = %self.context.name, %error, what = M::WHAT, "records could not be stored");
                (Err(error), None)
            }
            Ok(Err(AppendFailure::Lost)) => (Err(Refusal::NotCoordinator), Some(End::Stop)),
            Err(_) => (Err(Refusal::NotAvailable), Some(self.outlast(append).await)),
        }
    }

    /// Waits for an append that took too long, so that the log is settled when it is read again.
    async fn outlast(&mut self, append: BoxFuture<'static, Result<Offset, AppendFailure>>) -> End {
        tracing::warn!(shard = %self.context.name, what = M::WHAT, "storing takes too long; the log will be read again");
        self.abandon();
        match refuse_until(append, self.context, self.requests, Refusal::NotAvailable).await {
            None | Some(Err(AppendFailure::Lost)) => End::Stop,
            Some(_) => End::Reload,
        }
    }

    fn answer(&mut self, replies: Vec<(Token, M::Reply)>) {
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
    use crate::coordinator::group::hosted::GroupSetup;
    use crate::coordinator::group::machine::{GroupMachine, Images, Reply, Request};
    use crate::coordinator::group::{
        CommitPartition, CommitTopic, GroupError, GroupOptions, OffsetCommit, OffsetFetch,
    };
    use crate::partition::Claim;
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
        fn append(&self, batch: Batch, _claim: Claim) -> BoxFuture<'static, Result<Offset, AppendFailure>> {
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

        fn epoch(&self) -> LeaderEpoch {
            LeaderEpoch::new(0)
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

    fn start(paper: &Arc<Paper>) -> (Shard<GroupMachine>, watch::Sender<bool>) {
        let (stop, stopped) = watch::channel(false);
        let (shard, task) = Shard::new(ShardContext {
            name: "__consumer_offsets-0".into(),
            log: Arc::new(PaperLog(Arc::clone(paper))),
            options: GroupSetup { options: GroupOptions::default(), images: Arc::new(NoTopics) },
            append_timeout: Duration::from_millis(200),
            work: None,
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

    async fn stored(shard: &Shard<GroupMachine>) -> Result<i64, GroupError> {
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
        *paper.fails.lock().unwrap() = Some(AppendFailure::Refused(Refusal::NotCoordinator));
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
