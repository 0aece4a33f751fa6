//! Consumer groups (KIP-848): members are assigned, give up, leave and are fenced.

use super::*;
use crate::coordinator::group::TxnOffsetCommit;
use crate::coordinator::group::records::Partitions;
use millrace_metadata::{BrokerRegistration, Command, NewPartitions, NewTopic, Placement};
use millrace_model::{NodeId, ProducerEpoch};
use std::collections::BTreeSet;

impl Facts {
    pub(super) fn change(&self, command: &Command) {
        let mut image = self.0.lock().unwrap();
        let (next, outcome) = image.apply(image.index() + 1, command);
        outcome.unwrap();
        *image = Arc::new(next);
    }

    pub(super) fn create(&self, name: &str, partitions: i32) -> TopicId {
        if self.0.lock().unwrap().brokers().len() == 0 {
            let (id, incarnation) = (NodeId::new(1), Uuid::nil());
            let broker = BrokerRegistration { id, host: "h".into(), port: 1, rack: None, incarnation };
            self.change(&Command::FormCluster { cluster_id: "c".into() });
            self.change(&Command::RegisterBroker(broker));
        }
        let id = TopicId::new(Uuid::from_u128(u128::from(self.0.lock().unwrap().index()) + 1));
        let topic = NewTopic {
            id,
            name: name.into(),
            placement: Placement::Spread { partitions, factor: 1, seed: 0 },
            config: BTreeMap::new(),
            attachments: Vec::new(),
        };
        self.change(&Command::CreateTopics { topics: vec![topic] });
        id
    }

    pub(super) fn grow(&self, topic: TopicId, total: i32) {
        let wanted = NewPartitions { topic, total, assignment: None, seed: 0 };
        self.change(&Command::CreatePartitions { topics: vec![wanted] });
    }
}

/// A client of the consumer protocol that does what it is told at once.
#[derive(Clone, Debug)]
pub(super) struct Consumer {
    pub(super) id: String,
    pub(super) instance: Option<String>,
    pub(super) epoch: i32,
    pub(super) owned: Partitions,
    pub(super) topics: Vec<String>,
    pub(super) regex: Option<String>,
    pub(super) assignor: Option<String>,
    /// Its last request has not been answered: it says all of itself again.
    pub(super) is_lost: bool,
}

impl Consumer {
    pub(super) fn new(id: &str, topics: &[&str]) -> Self {
        Self {
            id: id.into(),
            instance: None,
            epoch: 0,
            owned: Partitions::new(),
            topics: topics.iter().map(|name| (*name).to_owned()).collect(),
            regex: None,
            assignor: None,
            is_lost: false,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.owned.values().map(BTreeSet::len).sum()
    }

    pub(super) fn request(&self) -> ConsumerHeartbeat {
        let joins = self.epoch == 0;
        let is_full = joins || self.is_lost;
        ConsumerHeartbeat {
            group: "g".into(),
            member_id: self.id.clone(),
            epoch: self.epoch,
            instance_id: self.instance.clone(),
            rack: None,
            rebalance_timeout_ms: if is_full { 30_000 } else { -1 },
            topics: is_full.then(|| self.topics.clone()),
            regex: self.regex.clone().filter(|_| is_full),
            assignor: self.assignor.clone().filter(|_| is_full),
            owned: Some(if joins { Partitions::new() } else { self.owned.clone() }),
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            requires_member_id: true,
            fresh: Uuid::nil(),
        }
    }
}

impl Stage {
    pub(super) fn consumer_beat(&mut self, beat: ConsumerHeartbeat) -> Result<Beat, Refusal> {
        let token = self.ask(Request::ConsumerHeartbeat(Box::new(beat)));
        match &self.replies[&token] {
            Reply::ConsumerHeartbeat(outcome) => outcome.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// A heartbeat, and what the client makes of its answer.
    pub(super) fn go(&mut self, consumer: &mut Consumer) -> Result<(), GroupError> {
        match self.consumer_beat(consumer.request()) {
            Ok(beat) => {
                (consumer.epoch, consumer.is_lost) = (beat.epoch, false);
                if let Some(assignment) = beat.assignment {
                    consumer.owned = assignment;
                }
                Ok(())
            }
            Err(refusal) => {
                consumer.is_lost = true;
                if matches!(refusal.error, GroupError::FencedMemberEpoch | GroupError::UnknownMemberId) {
                    (consumer.epoch, consumer.owned) = (0, Partitions::new());
                }
                Err(refusal.error)
            }
        }
    }

    pub(super) fn leave_consumer_group(&mut self, consumer: &mut Consumer, epoch: i32) -> Result<(), GroupError> {
        let beat = ConsumerHeartbeat { epoch, ..consumer.request() };
        (consumer.epoch, consumer.owned) = (0, Partitions::new());
        self.consumer_beat(beat).map(drop).map_err(|refusal| refusal.error)
    }

    /// Time passes and everybody sends heartbeats until nothing changes.
    pub(super) fn settle(&mut self, consumers: &mut [&mut Consumer]) {
        for _ in 0..20 {
            self.pass(1_001);
            for consumer in &mut *consumers {
                self.go(consumer).unwrap();
            }
        }
        assert_eq!(self.described().state, "Stable");
    }

    pub(super) fn described(&mut self) -> ConsumerGroupDescription {
        let token = self.ask(Request::DescribeConsumer(vec!["g".into()]));
        match &self.replies[&token] {
            Reply::DescribeConsumer(described) => described[0].clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn commit_of(
        &mut self,
        consumer: &Consumer,
        epoch: i32,
        topic: TopicId,
        partition: i32,
    ) -> Option<GroupError> {
        let commit = of_topic(commit(&consumer.id, epoch, partition, 5, ""), topic);
        self.outcome_of(Request::Commit(commit))
    }

    /// The same as part of a transaction.
    fn transactional_commit_of(
        &mut self,
        consumer: &Consumer,
        epoch: i32,
        topic: TopicId,
        partition: i32,
    ) -> Option<GroupError> {
        let commit = of_topic(commit(&consumer.id, epoch, partition, 5, ""), topic);
        let (producer_id, producer_epoch) = (ProducerId::new(7), ProducerEpoch::new(0));
        let commit = TxnOffsetCommit { commit, producer_id, producer_epoch, guard: None };
        self.outcome_of(Request::CommitInTransaction(commit))
    }

    fn outcome_of(&mut self, request: Request) -> Option<GroupError> {
        let token = self.ask(request);
        match &self.replies[&token] {
            Reply::Commit(outcome) => outcome.as_ref().err().copied(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_first_member_has_everything_and_the_second_gets_half_when_the_first_has_given_it_up() {
    let mut stage = Stage::new();
    let topic = stage.facts.create("t", 4);
    let (mut a, mut b) = (Consumer::new("a", &["t"]), Consumer::new("b", &["t"]));
    stage.go(&mut a).unwrap();
    assert_eq!((a.epoch, a.count()), (2, 4));
    stage.pass(1_001);
    stage.go(&mut b).unwrap();
    assert_eq!((b.epoch, b.count()), (3, 0), "all of it is still the first member's");
    let has_all = a.request();
    stage.go(&mut a).unwrap();
    assert_eq!((a.epoch, a.count()), (2, 2), "it is told to give up half, and keeps its epoch");
    stage.go(&mut b).unwrap();
    assert_eq!(b.count(), 0, "which it has not confirmed");
    assert_eq!(stage.consumer_beat(has_all).unwrap().epoch, 2, "nor here");
    stage.go(&mut a).unwrap();
    assert_eq!(a.epoch, 3);
    stage.go(&mut b).unwrap();
    assert_eq!((b.epoch, b.count()), (3, 2));
    assert!(a.owned[&topic].is_disjoint(&b.owned[&topic]));
    assert_eq!(stage.described().state, "Stable");
}

#[test]
fn a_member_that_does_not_give_up_its_partitions_in_time_is_fenced() {
    let mut stage = Stage::new();
    stage.facts.create("t", 4);
    let (mut a, mut b) = (Consumer::new("a", &["t"]), Consumer::new("b", &["t"]));
    stage.go(&mut a).unwrap();
    stage.pass(1_001);
    stage.go(&mut b).unwrap();
    let stubborn = a.request();
    for _ in 0..8 {
        stage.pass(4_900);
        stage.go(&mut b).unwrap();
        let _ = stage.consumer_beat(stubborn.clone());
    }
    assert_eq!(stage.go(&mut a), Err(GroupError::UnknownMemberId));
    stage.settle(&mut [&mut b]);
    assert_eq!(b.count(), 4);
}

#[test]
fn a_silent_member_is_removed_when_its_session_ends_and_one_that_leaves_at_once() {
    let mut stage = Stage::new();
    stage.facts.create("t", 3);
    let [mut a, mut b, mut c] = ["a", "b", "c"].map(|id| Consumer::new(id, &["t"]));
    for consumer in [&mut a, &mut b, &mut c] {
        stage.go(consumer).unwrap();
    }
    stage.settle(&mut [&mut a, &mut b, &mut c]);
    assert_eq!((a.count(), b.count(), c.count()), (1, 1, 1));
    stage.leave_consumer_group(&mut c, -1).unwrap();
    for _ in 0..10 {
        stage.pass(5_000);
        stage.go(&mut a).unwrap();
    }
    assert_eq!(a.count(), 3);
    assert_eq!(stage.go(&mut b), Err(GroupError::UnknownMemberId));
    stage.leave_consumer_group(&mut a, -1).unwrap();
    assert_eq!(stage.described().state, "Empty");
}

#[test]
fn a_group_may_have_timeouts_of_its_own() {
    let mut stage = Stage::new();
    stage.facts.create("t", 2);
    let set = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    let set = [set("consumer.session.timeout.ms", "60000"), set("consumer.heartbeat.interval.ms", "7000")].into();
    stage.facts.change(&Command::SetGroupConfig { group: "g".into(), set, replace: false });
    let mut a = Consumer::new("a", &["t"]);
    assert_eq!(stage.consumer_beat(a.request()).unwrap().heartbeat_interval_ms, 7_000);
    stage.go(&mut a).unwrap();
    stage.pass(59_000);
    stage.go(&mut a).unwrap();
    stage.pass(60_001);
    assert_eq!(stage.go(&mut a), Err(GroupError::UnknownMemberId));
}

#[test]
fn epochs_are_held_against_the_members_and_a_lost_answer_is_forgiven() {
    let mut stage = Stage::new();
    let topic = stage.facts.create("t", 2);
    let mut a = Consumer::new("a", &["t"]);
    stage.go(&mut a).unwrap();
    let refused = |stage: &mut Stage, beat| stage.consumer_beat(beat).unwrap_err().error;
    let ahead = ConsumerHeartbeat { epoch: 9, ..a.request() };
    assert_eq!(refused(&mut stage, ahead), GroupError::FencedMemberEpoch);
    stage.facts.grow(topic, 3);
    stage.pass(1_001);
    let before = a.request();
    stage.go(&mut a).unwrap();
    assert_eq!((a.epoch, a.count()), (3, 3));
    let again = stage.consumer_beat(before.clone()).unwrap();
    assert_eq!(again.epoch, 3, "its answer was lost and it has nothing that is not its own");
    let foreign = Partitions::from([(topic, [7].into())]);
    let stale = ConsumerHeartbeat { owned: Some(foreign), ..before };
    assert_eq!(refused(&mut stage, stale), GroupError::FencedMemberEpoch);
    let stranger = ConsumerHeartbeat { epoch: 4, member_id: "z".into(), ..a.request() };
    assert_eq!(refused(&mut stage, stranger), GroupError::UnknownMemberId);
    let nowhere = ConsumerHeartbeat { group: "other".into(), ..a.request() };
    assert_eq!(refused(&mut stage, nowhere), GroupError::GroupIdNotFound);
}

#[test]
fn commits_need_the_members_epoch_or_the_one_each_partition_was_given_in() {
    let mut stage = Stage::new();
    let topic = stage.facts.create("t", 2);
    let mut a = Consumer::new("a", &["t"]);
    stage.go(&mut a).unwrap();
    assert_eq!(stage.commit_of(&a, 2, topic, 0), None);
    assert_eq!(stage.commit_of(&a, 3, topic, 0), Some(GroupError::StaleMemberEpoch));
    stage.facts.grow(topic, 3);
    stage.settle(&mut [&mut a]);
    assert_eq!(a.epoch, 3);
    assert_eq!(stage.commit_of(&a, 2, topic, 0), None, "it has had this partition since epoch 2");
    assert_eq!(stage.commit_of(&a, 2, topic, 2), Some(GroupError::StaleMemberEpoch));
    assert_eq!(stage.commit_of(&Consumer::new("b", &[]), 1, topic, 0), Some(GroupError::UnknownMemberId));
}

#[test]
fn offsets_in_a_transaction_need_the_same_epochs_and_a_stale_one_has_its_older_name() {
    let mut stage = Stage::new();
    let topic = stage.facts.create("t", 2);
    let mut a = Consumer::new("a", &["t"]);
    stage.go(&mut a).unwrap();
    assert_eq!(stage.transactional_commit_of(&a, 3, topic, 0), Some(GroupError::IllegalGeneration));
    stage.facts.grow(topic, 3);
    stage.settle(&mut [&mut a]);
    assert_eq!(stage.transactional_commit_of(&a, 3, topic, 2), None);
    assert_eq!(stage.transactional_commit_of(&a, 2, topic, 0), None, "it has had this partition since epoch 2");
    assert_eq!(stage.transactional_commit_of(&a, 2, topic, 2), Some(GroupError::IllegalGeneration));
    let mut b = Consumer::new("b", &["t"]);
    stage.settle(&mut [&mut a, &mut b]);
    let lost = (0..3).find(|partition| !a.owned[&topic].contains(partition)).unwrap();
    assert_eq!(stage.transactional_commit_of(&a, 2, topic, lost), Some(GroupError::IllegalGeneration), "b has it now");
    let nobody = Consumer { id: String::new(), ..Consumer::new("", &[]) };
    assert_eq!(stage.transactional_commit_of(&nobody, -1, topic, 0), None, "who names no member is believed");
    assert_eq!(stage.transactional_commit_of(&Consumer::new("z", &[]), 1, topic, 0), Some(GroupError::UnknownMemberId));
}

#[test]
fn a_static_member_that_leaves_for_a_while_comes_back_to_its_partitions() {
    let mut stage = Stage::new();
    stage.facts.create("t", 4);
    let mut a = Consumer { instance: Some("one".into()), ..Consumer::new("a", &["t"]) };
    let mut b = Consumer::new("b", &["t"]);
    stage.go(&mut a).unwrap();
    stage.go(&mut b).unwrap();
    stage.settle(&mut [&mut a, &mut b]);
    let (had, epoch) = (a.owned.clone(), stage.described().epoch);
    let mut twin = Consumer { id: "a2".into(), epoch: 0, owned: Partitions::new(), ..a.clone() };
    assert_eq!(stage.go(&mut twin), Err(GroupError::UnreleasedInstanceId));
    stage.leave_consumer_group(&mut a, -2).unwrap();
    stage.go(&mut b).unwrap();
    assert_eq!(b.count(), 2);
    stage.go(&mut twin).unwrap();
    assert_eq!((twin.owned.clone(), stage.described().epoch), (had, epoch), "nobody else noticed");
    assert_eq!(stage.go(&mut Consumer { epoch, ..a }), Err(GroupError::FencedInstanceId));
    stage.settle(&mut [&mut twin, &mut b]);
}

#[test]
fn expressions_follow_the_topics_and_bad_ones_are_refused() {
    let mut stage = Stage::new();
    stage.facts.create("foo1", 2);
    stage.facts.create("bar", 2);
    let mut a = Consumer { regex: Some("foo.*".into()), ..Consumer::new("a", &[]) };
    stage.go(&mut a).unwrap();
    assert_eq!(a.count(), 2);
    stage.facts.create("foo2", 3);
    stage.settle(&mut [&mut a]);
    assert_eq!(a.count(), 5);
    let bad = ConsumerHeartbeat { regex: Some("[".into()), ..a.request() };
    let refusal = stage.consumer_beat(bad).unwrap_err();
    assert_eq!(refusal.error, GroupError::InvalidRegularExpression);
    assert!(refusal.message.unwrap().starts_with("SubscribedTopicRegex `[` is not a valid regular expression: "));
    stage.settle(&mut [&mut a]);
    stage.leave_consumer_group(&mut a, -1).unwrap();
    let regexes = stage.machine.consumer_group("g").unwrap().regexes().len();
    assert_eq!(regexes, 0, "nobody subscribes to it any more");
}

#[test]
fn a_topic_that_goes_is_taken_from_its_member() {
    let mut stage = Stage::new();
    let topic = stage.facts.create("t", 2);
    stage.facts.create("u", 2);
    let mut a = Consumer::new("a", &["t", "u"]);
    stage.go(&mut a).unwrap();
    assert_eq!(a.count(), 4);
    stage.facts.change(&Command::DeleteTopics { topics: vec![topic] });
    stage.settle(&mut [&mut a]);
    assert_eq!(a.count(), 2);
}

#[test]
fn requests_that_make_no_sense_are_refused_with_kafkas_words() {
    let mut stage = Stage::new();
    stage.facts.create("t", 2);
    let join = Consumer::new("a", &["t"]).request();
    let cases = [
        (ConsumerHeartbeat { member_id: String::new(), ..join.clone() }, "MemberId can't be empty."),
        (ConsumerHeartbeat { group: "".into(), ..join.clone() }, "GroupId can't be empty."),
        (ConsumerHeartbeat { instance_id: Some(String::new()), ..join.clone() }, "InstanceId can't be empty."),
        (
            ConsumerHeartbeat { rebalance_timeout_ms: -1, ..join.clone() },
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (ConsumerHeartbeat { owned: None, ..join.clone() }, "TopicPartitions must be empty when (re-)joining."),
        (ConsumerHeartbeat { epoch: -2, ..join.clone() }, "InstanceId can't be null."),
        (ConsumerHeartbeat { epoch: -3, ..join.clone() }, "MemberEpoch is invalid."),
        (
            ConsumerHeartbeat { topics: None, ..join.clone() },
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ),
    ];
    for (beat, message) in cases {
        let refusal = stage.consumer_beat(beat).unwrap_err();
        assert_eq!(refusal, Refusal::new(GroupError::InvalidRequest, message));
    }
    let assignor = ConsumerHeartbeat { assignor: Some("best".into()), ..join };
    let refusal = stage.consumer_beat(assignor).unwrap_err();
    assert_eq!(
        refusal.message.as_deref(),
        Some("ServerAssignor best is not supported. Supported assignors: uniform, range.")
    );
    assert!(stage.machine.groups.is_empty() && stage.log.is_empty(), "and nothing remains of them");
}

#[test]
fn what_could_not_be_stored_of_a_consumer_group_has_not_happened() {
    let mut stage = Stage::new();
    stage.facts.create("t", 2);
    let mut a = Consumer::new("a", &["t"]);
    stage.append_fails = Some(GroupError::NotAvailable);
    assert_eq!(stage.go(&mut a), Err(GroupError::NotAvailable));
    assert!(stage.machine.groups.is_empty());
    stage.append_fails = None;
    stage.go(&mut a).unwrap();
    assert_eq!(a.count(), 2);
    // A session that was set meanwhile is that of the member that is there now.
    stage.pass(44_000);
    stage.go(&mut a).unwrap();
}

#[test]
fn a_consumer_group_is_listed_by_its_type_and_deleted_when_it_is_empty() {
    let mut stage = Stage::new();
    stage.facts.create("t", 2);
    let mut a = Consumer::new("a", &["t"]);
    stage.go(&mut a).unwrap();
    let list = |stage: &mut Stage, types: &[&str]| {
        let types = types.iter().map(|name| (*name).to_owned()).collect();
        let token = stage.ask(Request::List { states: Vec::new(), types });
        match &stage.replies[&token] {
            Reply::List(Ok(groups)) => groups.iter().map(|group| (group.kind, group.state)).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&mut stage, &["Consumer"]), [("consumer", "Stable")]);
    assert!(list(&mut stage, &["classic"]).is_empty());
    let delete = |stage: &mut Stage| {
        let token = stage.ask(Request::DeleteGroups(vec!["g".into()]));
        match &stage.replies[&token] {
            Reply::DeleteGroups(outcome) => outcome[0].1,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(delete(&mut stage), Some(GroupError::NonEmptyGroup));
    stage.leave_consumer_group(&mut a, -1).unwrap();
    assert_eq!(delete(&mut stage), None);
    assert!(stage.machine.groups.is_empty() && stage.restarted().machine.groups.is_empty());
}
