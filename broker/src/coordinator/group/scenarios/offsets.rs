//! Offsets: stored, read, expired, deleted, decided with a transaction.

use super::*;

#[test]
fn offsets_are_stored_for_members_and_for_consumers_without_a_group() {
    let mut stage = Stage::new();
    assert_eq!(stage.commit("", -1, 0, 41), Ok(None));
    assert_eq!(stage.offset(0), 41);
    assert_eq!(stage.offset(1), -1);
    let ids = stage.stable(&[&consumer("a")]);
    assert_eq!(stage.commit("", -1, 0, 1), Err(GroupError::UnknownMemberId));
    assert_eq!(stage.commit(&ids[0], 0, 0, 1), Err(GroupError::IllegalGeneration));
    assert_eq!(stage.commit(&ids[0], 1, 0, 42), Ok(None));
    assert_eq!(stage.offset(0), 42);
    assert_eq!(stage.restarted().offset(0), 42);
    stage.append_fails = Some(GroupError::NotCoordinator);
    assert_eq!(stage.commit(&ids[0], 1, 0, 43), Err(GroupError::NotCoordinator));
    assert_eq!(stage.offset(0), 42);
}

#[test]
fn an_offset_for_a_group_that_is_not_there_is_refused_as_the_client_understands_it() {
    let mut stage = Stage::new();
    assert_eq!(stage.commit("m", 1, 0, 1), Err(GroupError::GroupIdNotFound));
    let old = commit("m", 1, 0, 1, "");
    let token = stage.ask(Request::Commit(OffsetCommit { knows_group_id_not_found: false, ..old }));
    assert_eq!(stage.replies[&token], Reply::Commit(Err(GroupError::IllegalGeneration)));
}

#[test]
fn a_commit_while_the_generation_is_being_completed_waits_for_the_client_to_sync() {
    let mut stage = Stage::new();
    let token = stage.join(&consumer("a"), "");
    stage.pass(3_000);
    let id = stage.joined(token).member_id;
    assert_eq!(stage.commit(&id, 1, 0, 1), Err(GroupError::RebalanceInProgress));
}

#[test]
fn metadata_beyond_the_limit_is_refused_for_its_partition_only() {
    let mut stage = Stage::new();
    let token = stage.ask(Request::Commit(commit("", -1, 0, 7, &"x".repeat(4_097))));
    let Reply::Commit(Ok(topics)) = &stage.replies[&token] else { panic!() };
    assert_eq!(topics[0].partitions, [(0, Some(GroupError::OffsetMetadataTooLarge))]);
    assert!(stage.log.is_empty());
    // 4,096 UTF-16 units, though more bytes.
    let token = stage.ask(Request::Commit(commit("", -1, 0, 7, &"ä".repeat(4_096))));
    let Reply::Commit(Ok(topics)) = &stage.replies[&token] else { panic!() };
    assert_eq!(topics[0].partitions, [(0, None)]);
}

#[test]
fn offsets_expire_after_the_group_has_been_empty_for_the_retention_and_the_group_with_them() {
    let mut stage = Stage::new();
    let ids = stage.stable(&[&consumer("a")]);
    stage.commit(&ids[0], 1, 0, 5).unwrap();
    stage.leave(&[(&ids[0], None)]);
    stage.pass(7 * 24 * 3_600_000 - 1_000);
    assert_eq!(stage.offset(0), 5);
    stage.pass(700_000);
    assert_eq!(stage.offset(0), -1);
    assert_eq!(stage.state(), None);
    assert!(stage.restarted().machine.groups.is_empty());
}

#[test]
fn offsets_of_a_consumer_without_a_group_expire_by_their_own_age() {
    let mut stage = Stage::new();
    stage.commit("", -1, 0, 5).unwrap();
    stage.pass(6 * 24 * 3_600_000);
    stage.commit("", -1, 1, 6).unwrap();
    stage.pass(24 * 3_600_000 + 600_000);
    assert_eq!((stage.offset(0), stage.offset(1)), (-1, 6));
}

#[test]
fn a_group_with_members_is_not_deleted_and_one_without_takes_its_offsets_with_it() {
    let mut stage = Stage::new();
    let ids = stage.stable(&[&consumer("a")]);
    stage.commit(&ids[0], 1, 0, 5).unwrap();
    let token = stage.ask(Request::DeleteGroups(vec!["g".into(), "other".into()]));
    let expected =
        [(Arc::from("g"), Some(GroupError::NonEmptyGroup)), (Arc::from("other"), Some(GroupError::GroupIdNotFound))];
    assert_eq!(stage.replies[&token], Reply::DeleteGroups(expected.to_vec()));
    stage.leave(&[(&ids[0], None)]);
    let token = stage.ask(Request::DeleteGroups(vec!["g".into()]));
    assert_eq!(stage.replies[&token], Reply::DeleteGroups(vec![("g".into(), None)]));
    assert_eq!((stage.state(), stage.offset(0)), (None, -1));
    assert!(stage.restarted().machine.groups.is_empty());
}

#[test]
fn single_offsets_are_deleted_unless_the_group_consumes_the_topic() {
    let mut stage = Stage::new();
    let ids = stage.stable(&[&consumer("a")]);
    stage.commit(&ids[0], 1, 0, 5).unwrap();
    let delete = || {
        let topics = vec![TopicPartitions { name: "t".into(), id: TopicId::NIL, partitions: vec![0, 9] }];
        Request::DeleteOffsets(OffsetDelete { group: "g".into(), topics })
    };
    let token = stage.ask(delete());
    let Reply::DeleteOffsets(Ok(topics)) = &stage.replies[&token] else { panic!() };
    assert_eq!(topics[0].partitions[0], (0, Some(GroupError::SubscribedToTopic)));
    stage.leave(&[(&ids[0], None)]);
    let token = stage.ask(delete());
    let Reply::DeleteOffsets(Ok(topics)) = &stage.replies[&token] else { panic!() };
    assert_eq!(topics[0].partitions, [(0, None), (9, None)]);
    assert_eq!(stage.offset(0), -1);
}

#[test]
fn offsets_of_a_deleted_topic_are_forgotten() {
    let mut stage = Stage::new();
    stage.commit("", -1, 0, 5).unwrap();
    stage.ask(Request::TopicsDeleted(vec!["u".into()]));
    assert_eq!(stage.offset(0), 5);
    stage.ask(Request::TopicsDeleted(vec!["t".into()]));
    assert_eq!(stage.offset(0), -1);
}

#[test]
fn offsets_of_an_open_transaction_count_once_it_commits_and_never_if_it_aborts() {
    let mut stage = Stage::new();
    stage.commit("", -1, 0, 5).unwrap();
    let Some(GroupRecord::Offset { group, topic, value: Some(value), .. }) = stage.log.last().cloned() else {
        panic!()
    };
    let write = |stage: &mut Stage, producer, partition, offset, at| {
        let value =
            Some(crate::coordinator::group::records::OffsetValue { offset: Offset::new(offset), ..value.clone() });
        let record = GroupRecord::Offset { group: group.clone(), topic: topic.clone(), partition, value };
        let now = stage.now();
        stage.machine.apply(record, Offset::new(at), ProducerId::new(producer), now);
    };
    write(&mut stage, 7, 0, 50, 10);
    write(&mut stage, 8, 1, 60, 11);
    assert_eq!((stage.offset(0), stage.offset(1)), (5, -1));
    assert_eq!(stage.fetch(0, true), (-1, Some(GroupError::UnstableOffsetCommit)));
    stage.machine.end_transaction(ProducerId::new(7), true);
    stage.machine.end_transaction(ProducerId::new(8), false);
    assert_eq!((stage.offset(0), stage.offset(1)), (50, -1));
    // An offset committed after the transaction's was written stays.
    write(&mut stage, 9, 0, 70, 12);
    write(&mut stage, -1, 0, 71, 13);
    stage.machine.end_transaction(ProducerId::new(9), true);
    assert_eq!(stage.fetch(0, true), (71, None));
}
