//! Groups change over from one protocol to the other.

use super::consumer::Consumer;
use super::*;
use crate::coordinator::group::consumer_protocol::Assignment;

#[test]
fn an_empty_group_of_one_protocol_becomes_one_of_the_other_and_keeps_its_offsets() {
    let mut stage = Stage::new();
    stage.facts.create("t", 2);
    let ids = stage.stable(&[&consumer("c")]);
    stage.commit(&ids[0], 1, 0, 9).unwrap();
    stage.leave(&[(&ids[0], None)]);
    let mut a = Consumer::new("a", &["t"]);
    stage.go(&mut a).unwrap();
    assert_eq!((stage.offset(0), stage.described().state), (9, "Stable"));
    stage.leave_consumer_group(&mut a, -1).unwrap();
    stage.stable(&[&consumer("c")]);
    assert_eq!(stage.offset(0), 9);
    assert_eq!(stage.restarted().state(), Some(State::Stable));
}

/// A consumer that offers `range` with a subscription in version 1, and says what it has.
fn cooperative(client: &str, owned: &[i32]) -> Who {
    let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 1, b't'];
    bytes.extend((owned.len() as u32).to_be_bytes());
    bytes.extend(owned.iter().flat_map(|partition| partition.to_be_bytes()));
    Who { protocols: vec![("range".into(), bytes.into())], ..consumer(client) }
}

/// What a classic member's assignment of topic `t` says.
fn partitions_of(assignment: &Bytes) -> Vec<i32> {
    let read = Assignment::read(assignment).unwrap();
    read.partitions.into_iter().flat_map(|(_, partitions)| partitions).collect()
}

#[test]
fn a_classic_group_is_upgraded_by_its_first_new_member_and_downgraded_when_the_last_leaves() {
    let mut stage = Stage::new();
    let topic = stage.facts.create("t", 4);
    let who = cooperative("c", &[]);
    let token = stage.join(&who, "");
    stage.pass_until_answered(&[token]);
    let classic = stage.joined(token).member_id;
    let all = Assignment::write(1, &[("t", vec![0, 1, 2, 3])]);
    let all = [(classic.as_str(), all)];
    let token = stage.ask(Request::Sync(SyncGroup {
        group: "g".into(),
        generation: 1,
        member_id: classic.clone(),
        instance_id: None,
        protocol_type: None,
        protocol: None,
        assignments: all.iter().map(|(id, bytes)| ((*id).to_owned(), bytes.clone())).collect(),
    }));
    assert_eq!(partitions_of(&stage.synced(token).unwrap().assignment), [0, 1, 2, 3]);

    let mut a = Consumer::new("a", &["t"]);
    stage.go(&mut a).unwrap();
    assert_eq!(a.count(), 0);
    assert_eq!(stage.restarted().described().members.len(), 2);
    // The classic member is asked to join again, twice: to give up half, and to enter the new epoch.
    assert_eq!(stage.beat(&classic, None, 1), Err(GroupError::RebalanceInProgress));
    let token = stage.join(&cooperative("c", &[0, 1, 2, 3]), &classic);
    let generation = stage.joined(token).generation;
    assert_eq!(generation, 1);
    let token = stage.sync(&classic, generation, &[]);
    let kept = partitions_of(&stage.synced(token).unwrap().assignment);
    assert_eq!(kept.len(), 2);
    assert_eq!(stage.beat(&classic, None, 1), Err(GroupError::RebalanceInProgress));
    let token = stage.join(&cooperative("c", &kept), &classic);
    assert_eq!(stage.joined(token).generation, 2);
    let token = stage.sync(&classic, 2, &[]);
    assert_eq!(partitions_of(&stage.synced(token).unwrap().assignment), kept);
    assert_eq!(stage.beat(&classic, None, 2), Ok(()));
    stage.go(&mut a).unwrap();
    assert_eq!(a.count(), 2);
    assert!(a.owned[&topic].iter().all(|partition| !kept.contains(partition)));

    stage.leave_consumer_group(&mut a, -1).unwrap();
    assert_eq!(stage.state(), Some(State::PreparingRebalance), "the classic members share what is free now");
    let mut restarted = stage.restarted();
    assert_eq!(restarted.state(), Some(State::Stable));
    assert_eq!(restarted.beat(&classic, None, 2), Ok(()));
    let token = stage.join(&cooperative("c", &kept), &classic);
    assert_eq!(stage.joined(token).generation, 3);
}

#[test]
fn a_classic_member_that_does_not_join_again_or_sync_in_time_is_removed() {
    let mut stage = Stage::new();
    stage.facts.create("t", 4);
    let mut a = Consumer::new("a", &["t"]);
    stage.go(&mut a).unwrap();
    let token = stage.join(&cooperative("c", &[]), "");
    let joined = stage.joined(token);
    for _ in 0..13 {
        stage.pass(5_000);
        stage.go(&mut a).unwrap();
        let _ = stage.beat(&joined.member_id, None, joined.generation);
    }
    assert_eq!(stage.described().members.len(), 1);
    assert_eq!(stage.beat(&joined.member_id, None, joined.generation), Err(GroupError::UnknownMemberId));
}

#[test]
fn groups_that_cannot_change_over_say_so() {
    let mut stage = Stage::with(GroupOptions { consumer_upgrade: false, ..GroupOptions::default() });
    stage.facts.create("t", 4);
    stage.stable(&[&consumer("c")]);
    let mut a = Consumer::new("a", &["t"]);
    assert_eq!(stage.go(&mut a), Err(GroupError::GroupIdNotFound));
    let mut stage = Stage::new();
    stage.stable(&[&consumer("c")]);
    let refusal = stage.consumer_beat(a.request()).unwrap_err();
    assert_eq!(
        refusal.message.as_deref(),
        Some("Cannot upgrade classic group g to consumer group because the embedded consumer protocol is malformed."),
        "what its leader gave out is none of the consumers' assignments"
    );
}
