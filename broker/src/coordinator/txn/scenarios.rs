//! Lives of transactional ids, request by request, with the log under them as a list of records.

use super::machine::{Reply, Request, TxnMachine};
use super::records::{Txn, TxnRecord};
use super::{
    AddPartitions, EndTxn, Identity, InitProducer, ListTxns, ProducerIdentity, TxnError, TxnOptions, TxnPartition,
    TxnState, TxnVersion, WriteMarkers,
};
use crate::coordinator::runtime::machine::{Machine, Now, Refusal, Step, Token};
use millrace_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use std::sync::Arc;

const START: i64 = 1_700_000_000_000;

struct Scene {
    machine: TxnMachine,
    log: Vec<TxnRecord>,
    work: Vec<WriteMarkers>,
    fails: Option<Refusal>,
    ms: i64,
    tokens: u64,
}

fn producer(id: i64, epoch: i16) -> ProducerIdentity {
    ProducerIdentity { id: ProducerId::new(id), epoch: ProducerEpoch::new(epoch) }
}

fn partition(topic: &str, index: i32) -> TxnPartition {
    (topic.into(), index)
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self {
            machine: TxnMachine::new(TxnOptions::default()),
            log: Vec::new(),
            work: Vec::new(),
            fails: None,
            ms: 0,
            tokens: 0,
        };
        scene.start();
        scene
    }

    fn now(&self) -> Now {
        Now { wall: Timestamp::new(START + self.ms), tick: u64::try_from(self.ms).unwrap() }
    }

    fn start(&mut self) {
        for step in self.machine.loaded(LeaderEpoch::new(4), self.now()) {
            self.settle(step);
        }
    }

    /// What is left of a node after it was killed: its log.
    fn crash(&mut self) {
        self.machine = TxnMachine::new(TxnOptions::default());
        self.work.clear();
        for record in &self.log {
            let (key, value) = record.encode();
            self.machine.replay((&key, value.as_deref()), Offset::ZERO, None, self.now()).unwrap();
        }
        self.start();
    }

    fn settle(&mut self, step: Step<Reply, super::machine::Pending>) -> Vec<Reply> {
        let mut replies: Vec<_> = step.replies.into_iter().map(|(_, reply)| reply).collect();
        let mut next = step.pending;
        while let Some(pending) = next {
            let outcome = match self.fails {
                Some(why) => Err(why),
                None => {
                    self.log.extend(pending.records.iter().cloned());
                    Ok(Offset::ZERO)
                }
            };
            let follows = self.machine.conclude(pending, outcome, self.now());
            replies.extend(follows.replies.into_iter().map(|(_, reply)| reply));
            next = follows.pending;
        }
        self.work.extend(self.machine.take_work());
        replies
    }

    fn ask(&mut self, request: Request) -> Reply {
        self.tokens += 1;
        let step = self.machine.handle(Token(self.tokens), request, self.now());
        let mut replies = self.settle(step);
        assert_eq!(replies.len(), 1, "one answer to one request");
        replies.remove(0)
    }

    fn init_as(&mut self, expected: Option<ProducerIdentity>) -> Result<Identity, TxnError> {
        let fresh = Some(ProducerId::new(1_000 + i64::try_from(self.tokens).unwrap()));
        let ask = InitProducer { id: "id".into(), timeout_ms: 60_000, expected, fresh };
        match self.ask(Request::Init(ask)) {
            Reply::Init(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn init(&mut self) -> ProducerIdentity {
        match self.init_as(None) {
            Ok(Identity::Is(producer)) => producer,
            other => panic!("{other:?}"),
        }
    }

    fn add_as(&mut self, producer: ProducerIdentity, index: i32, version: TxnVersion) -> Result<(), TxnError> {
        let partitions = [partition("t", index)].into();
        match self.ask(Request::Add(AddPartitions { id: "id".into(), producer, partitions, version })) {
            Reply::Add(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn end_as(
        &mut self,
        producer: ProducerIdentity,
        commit: bool,
        version: TxnVersion,
    ) -> Result<ProducerIdentity, TxnError> {
        let fresh = Some(ProducerId::new(5_000));
        match self.ask(Request::End(EndTxn { id: "id".into(), producer, commit, version, fresh })) {
            Reply::End(Ok(Identity::Is(producer))) => Ok(producer),
            Reply::End(Err(error)) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// All markers are written.
    fn write_markers(&mut self) -> Vec<WriteMarkers> {
        let work = std::mem::take(&mut self.work);
        for one in &work {
            let (id, producer) = (Arc::clone(&one.id), one.producer);
            assert_eq!(self.ask(Request::MarkersWritten { id, producer }), Reply::MarkersWritten(Ok(())));
        }
        work
    }

    fn txn(&self) -> &Txn {
        self.machine.txn("id").unwrap()
    }

    fn pass(&mut self, ms: i64) {
        self.ms += ms;
        while let Some(step) = self.machine.expire(self.now()) {
            self.settle(step);
        }
    }
}

const V0: TxnVersion = TxnVersion::V0;
const V2: TxnVersion = TxnVersion::V2;

#[test]
fn a_transaction_of_version_2_has_an_epoch_of_its_own() {
    let mut scene = Scene::new();
    let first = scene.init();
    assert_eq!(first.epoch, ProducerEpoch::new(0));
    assert_eq!(scene.add_as(first, 0, V2), Ok(()));
    let second = scene.end_as(first, true, V2).unwrap();
    assert_eq!(second, ProducerIdentity { epoch: ProducerEpoch::new(1), ..first });
    assert_eq!(scene.txn().state, TxnState::PrepareCommit);
    assert_eq!(scene.add_as(second, 0, V2), Err(TxnError::Concurrent), "the markers are on their way");
    assert_eq!(scene.end_as(first, true, V2), Err(TxnError::Concurrent), "a repeated request");
    let written = scene.write_markers();
    assert_eq!(written[0].producer, second, "the markers carry the new epoch");
    assert_eq!((written[0].commit, written[0].coordinator_epoch), (true, 4));
    assert_eq!(scene.txn().state, TxnState::CompleteCommit);
    assert_eq!(scene.end_as(first, true, V2), Ok(second), "a repeated request after the end");
    assert_eq!(scene.end_as(first, false, V2), Err(TxnError::InvalidState));
    assert_eq!(scene.add_as(first, 0, V2), Err(TxnError::Fenced));
    assert_eq!(scene.add_as(second, 0, V2), Ok(()));
}

#[test]
fn a_transaction_of_an_older_client_keeps_its_epoch() {
    let mut scene = Scene::new();
    let producer = scene.init();
    assert_eq!(scene.end_as(producer, true, V0), Err(TxnError::InvalidState), "nothing was begun");
    assert_eq!(scene.add_as(producer, 0, V0), Ok(()));
    assert_eq!(scene.end_as(producer, false, V0), Ok(producer));
    assert_eq!(scene.end_as(producer, false, V0), Err(TxnError::Concurrent));
    assert_eq!(scene.write_markers()[0].producer, producer);
    assert_eq!(scene.end_as(producer, false, V0), Ok(producer));
    assert_eq!(scene.end_as(producer, true, V0), Err(TxnError::InvalidState));
}

#[test]
fn a_new_instance_aborts_the_transaction_of_the_old_one_and_fences_it() {
    let mut scene = Scene::new();
    let old = scene.init();
    scene.add_as(old, 0, V2).unwrap();
    assert_eq!(scene.init_as(None), Err(TxnError::Concurrent), "it comes again");
    assert_eq!(scene.txn().state, TxnState::PrepareAbort);
    assert_eq!(scene.init_as(None), Err(TxnError::Concurrent));
    let written = scene.write_markers();
    assert_eq!((written[0].commit, written[0].producer.epoch), (false, ProducerEpoch::new(1)));
    let new = scene.init();
    assert_eq!((new.id, new.epoch), (old.id, ProducerEpoch::new(2)));
    assert_eq!(scene.add_as(old, 0, V2), Err(TxnError::Fenced));
    assert_eq!(scene.end_as(old, true, V2), Err(TxnError::Fenced));
    assert_eq!(scene.init_as(Some(old)), Err(TxnError::Fenced));
}

#[test]
fn who_asks_again_after_a_lost_answer_gets_the_same_epoch() {
    let mut scene = Scene::new();
    let first = scene.init();
    let bumped = scene.init_as(Some(first));
    assert_eq!(bumped, Ok(Identity::Is(producer(first.id.get(), 1))));
    assert_eq!(scene.init_as(Some(first)), bumped, "the answer was lost");
    assert_eq!(scene.init_as(Some(producer(77, 0))), Err(TxnError::Fenced));
}

#[test]
fn an_exhausted_epoch_leads_to_a_new_producer_id() {
    let mut scene = Scene::new();
    let first = scene.init();
    let record = Txn { producer_epoch: ProducerEpoch::new(i16::MAX - 1), ..scene.txn().clone() };
    scene.log.push(TxnRecord { id: "id".into(), value: Some(record) });
    scene.crash();
    let last = ProducerIdentity { epoch: ProducerEpoch::new(i16::MAX - 1), ..first };
    scene.add_as(last, 0, V2).unwrap();
    let next = scene.end_as(last, true, V2).unwrap();
    assert_eq!(next, producer(5_000, 0));
    scene.crash();
    let written = scene.write_markers();
    assert_eq!(written[0].producer, ProducerIdentity { epoch: ProducerEpoch::new(i16::MAX), ..first });
    assert_eq!(scene.txn().producer_id, next.id);
    assert_eq!(scene.end_as(last, true, V2), Ok(next), "a repeated request");
    assert_eq!(scene.add_as(next, 0, V2), Ok(()));
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut scene = Scene::new();
    let slow = scene.init();
    scene.add_as(slow, 0, V2).unwrap();
    scene.pass(60_000);
    assert_eq!(scene.txn().state, TxnState::Ongoing, "its time is not over");
    scene.pass(10_001);
    assert_eq!(scene.txn().state, TxnState::PrepareAbort);
    assert_eq!(scene.end_as(slow, true, V2), Err(TxnError::InvalidState));
    scene.write_markers();
    assert_eq!(scene.add_as(slow, 0, V2), Err(TxnError::Fenced));
}

#[test]
fn an_id_that_nobody_uses_is_forgotten_and_one_with_an_open_transaction_is_not() {
    let mut scene = Scene::new();
    scene.init();
    scene.pass(604_800_000);
    scene.pass(3_600_000);
    assert_eq!(scene.machine.txn("id"), None);
    assert_eq!(scene.log.last().unwrap().value, None, "a tombstone");
    scene.crash();
    assert_eq!(scene.machine.txn("id"), None);
}

#[test]
fn what_was_decided_is_done_by_who_replays_the_log() {
    for commit in [true, false] {
        let mut scene = Scene::new();
        let producer = scene.init();
        scene.add_as(producer, 0, V2).unwrap();
        scene.add_as(producer, 1, V2).unwrap();
        scene.end_as(producer, commit, V2).unwrap();
        scene.crash();
        let work = scene.write_markers();
        assert_eq!((work.len(), work[0].commit, work[0].partitions.len()), (1, commit, 2));
        assert!(!scene.txn().state.is_prepared());
        scene.crash();
        assert_eq!(scene.work, []);
    }
}

#[test]
fn what_could_not_be_stored_has_not_happened() {
    let mut scene = Scene::new();
    let producer = scene.init();
    scene.fails = Some(Refusal::NotAvailable);
    assert_eq!(scene.add_as(producer, 0, V2), Err(TxnError::NotAvailable));
    scene.fails = None;
    assert_eq!(scene.txn().state, TxnState::Empty);
    scene.add_as(producer, 0, V2).unwrap();
    scene.fails = Some(Refusal::NotAvailable);
    assert_eq!(scene.end_as(producer, true, V2), Err(TxnError::NotAvailable));
    assert_eq!(scene.work, [], "no marker for what is not decided");
    scene.fails = None;
    assert!(scene.end_as(producer, false, V2).is_ok(), "it can still be aborted");
}

#[test]
fn a_client_of_version_2_may_abort_what_it_has_not_begun() {
    let mut scene = Scene::new();
    let producer = scene.init();
    assert_eq!(scene.end_as(producer, true, V2), Err(TxnError::InvalidState));
    let next = scene.end_as(producer, false, V2).unwrap();
    assert_eq!((next.epoch, scene.txn().state), (ProducerEpoch::new(1), TxnState::CompleteAbort));
    assert_eq!(scene.work, [], "there is nobody to be told");
}

#[test]
fn partitions_are_verified_against_the_transaction() {
    let mut scene = Scene::new();
    let producer = scene.init();
    scene.add_as(producer, 0, V0).unwrap();
    let verify = |producer| {
        let partitions = [partition("t", 0), partition("t", 1)].into();
        Request::Verify(AddPartitions { id: "id".into(), producer, partitions, version: V0 })
    };
    let verdicts = vec![(partition("t", 0), None), (partition("t", 1), Some(TxnError::Abortable))];
    assert_eq!(scene.ask(verify(producer)), Reply::Verify(Ok(verdicts)));
    let other = ProducerIdentity { epoch: ProducerEpoch::new(9), ..producer };
    assert_eq!(scene.ask(verify(other)), Reply::Verify(Err(TxnError::Fenced)));
    let stranger = ProducerIdentity { id: ProducerId::new(9), ..producer };
    assert_eq!(scene.ask(verify(stranger)), Reply::Verify(Err(TxnError::IdMapping)));
}

#[test]
fn transactions_are_listed_by_state_producer_and_age() {
    let mut scene = Scene::new();
    let producer = scene.init();
    scene.add_as(producer, 0, V2).unwrap();
    scene.ms += 500;
    let mut count = |ask| match scene.ask(Request::List(ask)) {
        Reply::List(Ok(listed)) => listed.len(),
        other => panic!("{other:?}"),
    };
    let all = ListTxns { longer_than_ms: -1, ..ListTxns::default() };
    assert_eq!(count(all.clone()), 1);
    assert_eq!(count(ListTxns { states: vec![TxnState::Empty], ..all.clone() }), 0);
    assert_eq!(count(ListTxns { producers: vec![producer.id], ..all.clone() }), 1);
    assert_eq!(count(ListTxns { longer_than_ms: 499, ..all.clone() }), 1);
    assert_eq!(count(ListTxns { longer_than_ms: 500, ..all }), 0);
}

/// A stream of numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

#[test]
fn whatever_comes_in_any_order_every_request_is_answered_once_and_a_replay_knows_the_same() {
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let mut scene = Scene::new();
        let mut known = vec![scene.init()];
        for _ in 0..200 {
            let who = known[usize::try_from(dice.below(known.len() as u64)).unwrap()];
            let version = if dice.below(3) == 0 { V0 } else { V2 };
            scene.fails = (dice.below(12) == 0).then_some(Refusal::NotAvailable);
            match dice.below(10) {
                0 => known.extend(scene.init_as(None).ok().and_then(is)),
                1 => known.extend(scene.init_as(Some(who)).ok().and_then(is)),
                2..=4 => {
                    let added = scene.add_as(who, i32::try_from(dice.below(4)).unwrap(), version);
                    assert!(added.is_err() || scene.txn().producer() == who, "seed {seed}");
                }
                5 | 6 => known.extend(scene.end_as(who, dice.below(2) == 0, version)),
                7 => {
                    scene.fails = None;
                    scene.write_markers();
                }
                8 => scene.pass(i64::try_from(dice.below(40_000)).unwrap()),
                _ => {
                    let before = Txn { last_epoch: ProducerEpoch::NONE, ..scene.txn().clone() };
                    let unwritten = before.state.is_prepared();
                    scene.fails = None;
                    scene.crash();
                    assert_eq!(*scene.txn(), before, "seed {seed}");
                    assert_eq!(scene.work.len(), usize::from(unwritten), "seed {seed}");
                }
            }
            // Once it is decided, the outcome never changes until all have heard.
            let states: Vec<_> = scene.log.iter().filter_map(|record| record.value.as_ref()).collect();
            for pair in states.windows(2) {
                let allowed = match pair[0].state {
                    TxnState::PrepareCommit => pair[1].state == TxnState::CompleteCommit,
                    TxnState::PrepareAbort => pair[1].state == TxnState::CompleteAbort,
                    _ => true,
                };
                assert!(allowed, "seed {seed}: {:?} after {:?}", pair[1].state, pair[0].state);
                let newer =
                    pair[1].producer_id != pair[0].producer_id || pair[1].producer_epoch >= pair[0].producer_epoch;
                assert!(newer, "seed {seed}: an epoch never goes back");
            }
        }
    }
}

fn is(identity: Identity) -> Option<ProducerIdentity> {
    match identity {
        Identity::Is(producer) => Some(producer),
        Identity::NeedsFreshId => None,
    }
}
