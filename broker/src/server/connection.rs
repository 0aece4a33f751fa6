//! One connection: a single task that reads frames, starts requests and sends their answers in the order in which the
//! requests came.
//!
//! Invariants:
//! * Requests are started in their order, and first polled then: what is appended by pipelined requests is in the order of
//!   the requests. Those that have come together, and may, are started together.
//! * A request overlaps unanswered ones only if all of them are of a kind that [`Service::may_overlap`] allows, as
//!   Produce does; so nobody can tell the difference to one at a time, but that a slow stage does not stop a pipeline.
//! * Started requests are polled whatever the client does: one that stops reading its answers holds up no partition.
//! * At most [`OVERLAP`] requests are unanswered, and a request is started only while less than [`BACKLOG`] of answers
//!   wait to be sent. Frames beyond [`LARGE`] are covered by the memory permits that all connections share.

use super::input::{FrameSize, Input};
use super::limits::Shared;
use super::net::Stream;
use super::output::Output;
use super::service::{Answer, Call, ConnectionInfo, Outcome, Service};
use bytes::BytesMut;
use futures::future::BoxFuture;
use millrace_protocol::{ApiKey, HeaderError, RequestHeader};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

/// Requests of one connection that may be unanswered at the same time.
const OVERLAP: usize = 32;
/// Bytes of answers that may wait while further requests are started.
const BACKLOG: u64 = 64 << 10;
/// Frames from this size on need a permit before they are read.
pub(super) const LARGE: usize = 1 << 20;
/// How long a frame that holds a permit may stand still.
const STALL: Duration = Duration::from_secs(30);
/// How long a silent connection keeps its buffers.
const REST: Duration = Duration::from_secs(1);
/// What one connection does before others get their turn.
const TURN: usize = 512 << 10;
/// What is read while answers wait to be sent.
const HOLD: usize = 128 << 10;

/// Why a connection ended.
#[derive(Debug, Error)]
pub(super) enum Closed {
    /// The client has gone.
    #[error("the client closed the connection")]
    ByClient,
    /// It was silent for too long.
    #[error("nothing came for {0:?}")]
    Idle(Duration),
    /// A frame stood still while it held memory.
    #[error("a frame did not arrive within {STALL:?}")]
    Stalled,
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A size field out of bounds.
    #[error(transparent)]
    Size(#[from] FrameSize),
    /// A header that cannot be read.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A request that ends the connection.
    #[error("{0}")]
    Refused(String),
}

/// A started request.
struct Started {
    key: ApiKey,
    state: State,
    /// Nothing behind it starts before it is done.
    alone: bool,
    // Held until the answer is there.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Started {
    fn holds_up(&self) -> bool {
        self.alone && matches!(self.state, State::Running(_))
    }
}

enum State {
    Running(BoxFuture<'static, Outcome>),
    Done(Outcome),
}

type Acquire = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>;

/// Memory for the frame that is arriving.
enum Permit {
    None,
    Waiting(Acquire),
    Held(OwnedSemaphorePermit),
}

pub(super) struct Connection<S, V> {
    stream: S,
    service: Arc<V>,
    shared: Arc<Shared>,
    info: Arc<ConnectionInfo>,
    input: Input,
    permit: Permit,
    /// Requests that are started together with what has come behind them.
    gathered: Vec<Call>,
    started: VecDeque<Started>,
    output: Output,
    /// What was read since answers wait to be sent.
    held: usize,
    ending: bool,
    timer: Pin<Box<Sleep>>,
    /// When something last arrived or left.
    active: Instant,
    resting: bool,
}

impl<S: Stream, V: Service> Connection<S, V> {
    pub(super) fn new(stream: S, service: Arc<V>, shared: Arc<Shared>, info: Arc<ConnectionInfo>) -> Self {
        let input = Input::new(shared.options.request_max_bytes);
        Self {
            stream,
            service,
            shared,
            info,
            input,
            permit: Permit::None,
            gathered: Vec::new(),
            started: VecDeque::new(),
            output: Output::default(),
            held: 0,
            ending: false,
            timer: Box::pin(tokio::time::sleep(REST)),
            active: Instant::now(),
            resting: false,
        }
    }

    /// Serves until the connection ends.
    pub(super) async fn run(mut self) -> Closed {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        let mut work = 0;
        loop {
            match self.turn(cx) {
                Ok(0) => break,
                Ok(done) => work += done,
                Err(closed) => return Poll::Ready(closed),
            }
            if work > TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        if work > 0 {
            self.active = Instant::now();
            self.resting = false;
        }
        match self.poll_timer(cx) {
            Err(closed) => Poll::Ready(closed),
            Ok(()) => Poll::Pending,
        }
    }

    /// Does what can be done without waiting; returns roughly how many bytes were moved, 0 where nothing was done.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<usize, Closed> {
        let mut work = self.start_requests(cx)?;
        work += self.poll_started(cx);
        work += self.collect()?;
        // What has arrived is read before answers are sent, so that those of pipelined requests leave together: every
        // send wakes the client. Regions of files wait for nothing.
        let ahead = !self.ending && self.held < HOLD && !self.output.has_files();
        if ahead {
            match self.read(cx) {
                Ok(0) => {}
                Ok(read) => {
                    self.held = if self.output.is_empty() { 0 } else { self.held + read };
                    return Ok(work + read);
                }
                // What came before what ends the connection is answered first.
                Err(_) if !self.output.is_empty() => {}
                Err(closed) => return Err(closed),
            }
        }
        self.held = 0;
        if !self.output.is_empty()
            && let Poll::Ready(sent) = self.output.poll_send(&mut self.stream, cx)?
        {
            self.service.sent(sent);
            work += usize::try_from(sent).unwrap_or(usize::MAX);
        }
        if self.ending {
            return if self.started.is_empty() && self.output.is_empty() { Err(Closed::ByClient) } else { Ok(work) };
        }
        if work == 0 && !ahead {
            work += self.read(cx)?;
        }
        Ok(work)
    }

    /// Reads what has arrived, if more is wanted; returns how much that was.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<usize, Closed> {
        if !self.wants_input(cx)? {
            return Ok(0);
        }
        match self.input.poll_read(&mut self.stream, cx)? {
            Poll::Ready(0) => self.end()?,
            Poll::Ready(read) => return Ok(read),
            Poll::Pending => {}
        }
        Ok(0)
    }

    /// Starts the requests that have arrived, as far as they may.
    fn start_requests(&mut self, cx: &mut Context<'_>) -> Result<usize, Closed> {
        let mut work = 0;
        let read = self.start_arrived(cx, &mut work);
        // What came before an impossible request is appended all the same.
        self.start_gathered(cx)?;
        read.map(|()| work)
    }

    fn start_arrived(&mut self, cx: &mut Context<'_>, work: &mut usize) -> Result<(), Closed> {
        while *work <= TURN && self.started.len() + self.gathered.len() < OVERLAP && self.output.backlog() < BACKLOG {
            let key = match self.input.next_key() {
                // What came before an impossible frame is answered first.
                Err(_) if *work > 0 => break,
                key => key?,
            };
            let Some(key) = key else { break };
            if !self.overlaps(key) {
                self.start_gathered(cx)?;
            }
            if !self.may_start(key) {
                break;
            }
            let Some(mut frame) = self.input.frame()? else { break };
            *work += frame.len();
            let header = RequestHeader::split_from(&mut frame)?;
            let call = Call { header, body: frame, out: BytesMut::new(), connection: Arc::clone(&self.info) };
            if matches!(self.permit, Permit::None) && self.service.may_gather(&call) {
                self.gathered.push(call);
            } else {
                self.start_gathered(cx)?;
                self.start(call, cx)?;
            }
        }
        Ok(())
    }

    fn overlaps(&self, key: i16) -> bool {
        ApiKey::from_code(key).is_some_and(|key| self.service.may_overlap(key))
    }

    fn may_start(&self, key: i16) -> bool {
        self.started.is_empty()
            || (self.overlaps(key) && self.started.iter().all(|it| self.service.may_overlap(it.key) && !it.holds_up()))
    }

    fn start_gathered(&mut self, cx: &mut Context<'_>) -> Result<(), Closed> {
        if self.gathered.len() <= 1 {
            return self.gathered.pop().map_or(Ok(()), |call| self.start(call, cx));
        }
        let mut calls = std::mem::take(&mut self.gathered);
        if let Some(first) = calls.first_mut() {
            first.out = self.buffer();
        }
        let keys: Vec<_> = calls.iter().map(|call| call.header.key).collect();
        for (key, answer) in keys.into_iter().zip(self.service.call_together(calls)) {
            self.follow(key, answer, None, cx)?;
        }
        Ok(())
    }

    fn start(&mut self, mut call: Call, cx: &mut Context<'_>) -> Result<(), Closed> {
        let permit = match std::mem::replace(&mut self.permit, Permit::None) {
            Permit::Held(permit) => Some(permit),
            Permit::None | Permit::Waiting(_) => None,
        };
        call.out = self.buffer();
        let key = call.header.key;
        let answer = self.service.call(call);
        self.follow(key, answer, permit, cx)
    }

    /// A buffer for the next answer. Only where none comes before it may it be written straight into the output.
    fn buffer(&mut self) -> BytesMut {
        if self.started.is_empty() { self.output.spare() } else { BytesMut::new() }
    }

    /// Follows a request whose place is fixed to its answer, as far as that is there.
    fn follow(
        &mut self,
        key: ApiKey,
        answer: Answer,
        permit: Option<OwnedSemaphorePermit>,
        cx: &mut Context<'_>,
    ) -> Result<(), Closed> {
        let alone = matches!(answer, Answer::Alone(_));
        let outcome = match answer {
            Answer::Now(outcome) => outcome,
            Answer::Later(mut running) | Answer::Alone(mut running) => match running.as_mut().poll(cx) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => {
                    let state = State::Running(running);
                    self.started.push_back(Started { key, state, alone, _permit: permit });
                    return Ok(());
                }
            },
        };
        if self.started.is_empty() {
            return self.take(outcome);
        }
        self.started.push_back(Started { key, state: State::Done(outcome), alone, _permit: None });
        Ok(())
    }

    fn poll_started(&mut self, cx: &mut Context<'_>) -> usize {
        let mut done = 0;
        for it in &mut self.started {
            if let State::Running(running) = &mut it.state
                && let Poll::Ready(outcome) = running.as_mut().poll(cx)
            {
                it.state = State::Done(outcome);
                it._permit = None;
                done += 1;
            }
        }
        done
    }

    /// Moves the answers that are next in order to the output.
    fn collect(&mut self) -> Result<usize, Closed> {
        let mut done = 0;
        while let Some(Started { state: State::Done(_), .. }) = self.started.front() {
            if let Some(Started { state: State::Done(outcome), .. }) = self.started.pop_front() {
                self.take(outcome)?;
                done += 1;
            }
        }
        Ok(done)
    }

    fn take(&mut self, outcome: Outcome) -> Result<(), Closed> {
        match outcome {
            Outcome::Reply(reply) => self.output.push(reply),
            Outcome::Silent(buffer) => self.output.give_back(buffer),
            Outcome::Close(reason) => return Err(Closed::Refused(reason)),
        }
        Ok(())
    }

    /// Whether to read on: as long as no whole frame waits and, for a large one, there is memory for it.
    fn wants_input(&mut self, cx: &mut Context<'_>) -> Result<bool, Closed> {
        if self.input.next_key()?.is_some() {
            return Ok(false);
        }
        if self.input.announced()?.is_none_or(|end| end < LARGE) {
            return Ok(true);
        }
        let acquire = match &mut self.permit {
            Permit::Held(_) => return Ok(true),
            Permit::Waiting(acquire) => acquire,
            Permit::None => {
                let size = self.input.announced()?.unwrap_or(0);
                self.permit = Permit::Waiting(Box::pin(Arc::clone(&self.shared).memory_for(size)));
                return self.wants_input(cx);
            }
        };
        match acquire.as_mut().poll(cx) {
            Poll::Ready(Some(permit)) => {
                self.permit = Permit::Held(permit);
                Ok(true)
            }
            Poll::Ready(None) => Err(Closed::Refused("the server is shutting down".to_owned())),
            Poll::Pending => Ok(false),
        }
    }

    /// The client sends no more. What it has asked to be appended is appended; who waits for an answer has gone.
    fn end(&mut self) -> Result<(), Closed> {
        if self.started.iter().any(|it| !self.service.may_overlap(it.key)) {
            return Err(Closed::ByClient);
        }
        self.ending = true;
        Ok(())
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<(), Closed> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let silent = self.active.elapsed();
            if matches!(self.permit, Permit::Held(_)) && self.input.is_within_frame() && silent >= STALL {
                return Err(Closed::Stalled);
            }
            let idle = self.shared.options.max_idle.filter(|_| self.started.is_empty());
            if let Some(idle) = idle.filter(|idle| silent >= *idle) {
                return Err(Closed::Idle(idle));
            }
            if silent >= REST && !self.resting {
                self.resting = true;
                self.input.rest();
                self.output.rest();
                self.started.shrink_to_fit();
                self.gathered = Vec::new();
            }
            let next = if self.resting { STALL.min(idle.unwrap_or(STALL)) } else { REST };
            // Rounded to whole periods, so that busy connections do not move the timer with every request.
            self.timer.as_mut().reset(Instant::now() + next);
        }
        Ok(())
    }
}
