//! What groups do, told in requests, answers and time that a test sets.

mod classic;
mod consumer;
mod consumer_random;
mod hostile;
mod migration;
mod offsets;
mod random;
mod static_members;

use super::classic::{State, Token};
use super::machine::{GroupMachine, Images, Now, Reply, Request, Step};
use super::records::GroupRecord;
use super::types::*;
use bytes::Bytes;
use millrace_metadata::Image;
use millrace_model::{LeaderEpoch, Offset, ProducerId, Timestamp, TopicId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

const WALL: i64 = 1_700_000_000_000;

/// The cluster as a test sets it.
#[derive(Debug, Default)]
struct Facts(Mutex<Arc<Image>>);

impl Images for Facts {
    fn image(&self) -> Arc<Image> {
        Arc::clone(&self.0.lock().unwrap())
    }
}

/// A machine with its log, a clock, and the answers that have come.
struct Stage {
    machine: GroupMachine,
    facts: Arc<Facts>,
    tick: u64,
    tokens: u64,
    log: Vec<GroupRecord>,
    replies: BTreeMap<u64, Reply>,
    append_fails: Option<GroupError>,
}

impl Stage {
    fn new() -> Self {
        Self::with(GroupOptions::default())
    }

    fn with(options: GroupOptions) -> Self {
        Self::on(options, Arc::default())
    }

    fn on(options: GroupOptions, facts: Arc<Facts>) -> Self {
        let images: Arc<dyn Images> = Arc::<Facts>::clone(&facts);
        let mut stage = Self {
            machine: GroupMachine::new(options, images),
            facts,
            tick: 1_000,
            tokens: 0,
            log: Vec::new(),
            replies: BTreeMap::new(),
            append_fails: None,
        };
        for step in stage.machine.loaded(stage.now()) {
            stage.take(step);
        }
        stage
    }

    fn now(&self) -> Now {
        Now { wall: Timestamp::new(WALL + self.tick as i64), tick: self.tick }
    }

    fn take(&mut self, mut step: Step) {
        loop {
            for (Token(token), reply) in step.replies.drain(..) {
                assert!(self.replies.insert(token, reply).is_none(), "request {token} was answered twice");
            }
            let Some(pending) = step.pending else { return };
            let outcome = match self.append_fails {
                Some(error) => Err(error),
                None => {
                    let base = Offset::new(self.log.len() as i64);
                    for record in &pending.records {
                        // What is stored is what the bytes say.
                        let (key, value) = record.encode().unwrap();
                        self.log.push(GroupRecord::decode(&key, value.as_deref()).unwrap());
                    }
                    Ok(base)
                }
            };
            step = self.machine.conclude(pending, outcome, self.now());
        }
    }

    fn ask(&mut self, request: Request) -> u64 {
        self.tokens += 1;
        let step = self.machine.handle(Token(self.tokens), request, self.now());
        self.take(step);
        self.tokens
    }

    /// Lets time pass; deadlines fire in their order.
    fn pass(&mut self, ms: u64) {
        let end = self.tick + ms;
        while let Some(next) = self.machine.next_deadline().filter(|next| *next <= end) {
            self.tick = self.tick.max(next);
            while let Some(step) = self.machine.expire(self.now()) {
                self.take(step);
            }
        }
        self.tick = end;
    }

    fn pass_until_answered(&mut self, tokens: &[u64]) {
        for _ in 0..100 {
            if tokens.iter().all(|token| !self.is_parked(*token)) {
                return;
            }
            self.pass(250);
        }
        panic!("not all of {tokens:?} were answered");
    }

    fn is_parked(&self, token: u64) -> bool {
        !self.replies.contains_key(&token)
    }

    fn joined(&self, token: u64) -> Joined {
        match self.replies.get(&token) {
            Some(Reply::Join(Ok(joined))) => joined.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn refused(&self, token: u64) -> (GroupError, String) {
        match self.replies.get(&token) {
            Some(Reply::Join(Err(refused))) => (refused.error, refused.member_id.clone()),
            other => panic!("{other:?}"),
        }
    }

    fn synced(&self, token: u64) -> Result<Synced, GroupError> {
        match self.replies.get(&token) {
            Some(Reply::Sync(synced)) => synced.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn join(&mut self, who: &Who, member_id: &str) -> u64 {
        self.tokens += 1000;
        let fresh = Uuid::from_u128(self.tokens.into());
        let protocols =
            who.protocols.iter().map(|(name, metadata)| Protocol { name: name.clone(), metadata: metadata.clone() });
        self.ask(Request::Join(Box::new(JoinGroup {
            group: "g".into(),
            member_id: member_id.into(),
            instance_id: who.instance.clone(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: protocols.collect(),
            reason: None,
            client_id: who.client.clone(),
            client_host: "/127.0.0.1".into(),
            requires_known_member_id: who.twice,
            supports_skipping_assignment: who.skips,
            fresh,
        })))
    }

    fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &str)]) -> u64 {
        let assignments = assignments.iter().map(|(id, what)| ((*id).to_owned(), Bytes::from((*what).to_owned())));
        self.ask(Request::Sync(SyncGroup {
            group: "g".into(),
            generation,
            member_id: member.into(),
            instance_id: None,
            protocol_type: Some("consumer".into()),
            protocol: None,
            assignments: assignments.collect(),
        }))
    }

    fn beat(&mut self, member: &str, instance: Option<&str>, generation: i32) -> Result<(), GroupError> {
        let token = self.ask(Request::Heartbeat(Heartbeat {
            group: "g".into(),
            generation,
            member_id: member.into(),
            instance_id: instance.map(str::to_owned),
        }));
        match &self.replies[&token] {
            Reply::Heartbeat(result) => *result,
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<Option<GroupError>> {
        let members = members.iter().map(|(id, instance)| Leaving {
            member_id: (*id).to_owned(),
            instance_id: instance.map(str::to_owned),
            reason: None,
        });
        let token = self.ask(Request::Leave(LeaveGroup { group: "g".into(), members: members.collect() }));
        match &self.replies[&token] {
            Reply::Leave(Ok(left)) => left.iter().map(|left| left.error).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn commit(
        &mut self,
        member: &str,
        generation: i32,
        partition: i32,
        offset: i64,
    ) -> Result<Option<GroupError>, GroupError> {
        let token = self.ask(Request::Commit(commit(member, generation, partition, offset, "note")));
        match &self.replies[&token] {
            Reply::Commit(Ok(topics)) => Ok(topics[0].partitions[0].1),
            Reply::Commit(Err(error)) => Err(*error),
            other => panic!("{other:?}"),
        }
    }

    fn offset(&mut self, partition: i32) -> i64 {
        self.fetch(partition, false).0
    }

    fn fetch(&mut self, partition: i32, require_stable: bool) -> (i64, Option<GroupError>) {
        let topics = vec![TopicPartitions { name: "t".into(), id: TopicId::NIL, partitions: vec![partition] }];
        let token = self.ask(Request::Fetch(OffsetFetch {
            group: "g".into(),
            member_id: None,
            member_epoch: -1,
            topics: Some(topics),
            require_stable,
        }));
        match &self.replies[&token] {
            Reply::Fetch(Ok(topics)) => (topics[0].partitions[0].offset.get(), topics[0].partitions[0].error),
            other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> Option<State> {
        self.machine.groups.get("g").and_then(|group| group.classic()).map(|classic| classic.state())
    }

    /// A group of these members, stable. Returns their ids, the leader's first.
    fn stable(&mut self, members: &[&Who]) -> Vec<String> {
        let tokens: Vec<u64> = members.iter().map(|who| self.join(who, "")).collect();
        self.pass_until_answered(&tokens);
        let joined: Vec<Joined> = tokens.iter().map(|token| self.joined(*token)).collect();
        let leader = joined[0].leader.clone();
        let mut ids: Vec<String> = joined.iter().map(|joined| joined.member_id.clone()).collect();
        ids.sort_by_key(|id| *id != leader);
        let given: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), id.as_str())).collect();
        for id in ids.iter().rev() {
            self.sync(id, joined[0].generation, if *id == leader { &given } else { &[] });
        }
        assert_eq!(self.state(), Some(State::Stable));
        ids
    }

    /// The same log, replayed by a broker that has just started.
    fn restarted(&self) -> Self {
        let mut stage = Self::on(self.machine.options.clone(), Arc::clone(&self.facts));
        stage.tick = self.tick;
        for (record, at) in self.log.iter().zip(0..) {
            stage.machine.apply(record.clone(), Offset::new(at), ProducerId::NONE, stage.now());
        }
        stage.log = self.log.clone();
        for step in stage.machine.loaded(stage.now()) {
            stage.take(step);
        }
        stage
    }
}

fn commit(member: &str, generation: i32, partition: i32, offset: i64, note: &str) -> OffsetCommit {
    let partition = CommitPartition {
        partition,
        offset: Offset::new(offset),
        leader_epoch: LeaderEpoch::new(3),
        metadata: Some(note.into()),
    };
    OffsetCommit {
        group: "g".into(),
        generation,
        member_id: member.into(),
        instance_id: None,
        retention_time_ms: -1,
        knows_group_id_not_found: true,
        topics: vec![CommitTopic { name: "t".into(), id: TopicId::NIL, partitions: vec![partition] }],
    }
}

fn of_topic(mut commit: OffsetCommit, topic: TopicId) -> OffsetCommit {
    commit.topics[0].id = topic;
    commit
}

#[derive(Clone)]
struct Who {
    client: String,
    instance: Option<String>,
    twice: bool,
    skips: bool,
    protocols: Vec<(String, Bytes)>,
}

/// A consumer of topic `t` that offers `range`.
fn consumer(client: &str) -> Who {
    let subscription = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff]);
    Who {
        client: client.into(),
        instance: None,
        twice: false,
        skips: false,
        protocols: vec![("range".into(), subscription)],
    }
}

fn fixed(client: &str, instance: &str) -> Who {
    Who { instance: Some(instance.into()), skips: true, ..consumer(client) }
}
