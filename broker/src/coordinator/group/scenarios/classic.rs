//! Members of classic groups: joining, syncing, staying silent, leaving.

use super::*;

#[test]
fn the_first_rebalance_waits_for_its_delay_and_longer_while_members_come() {
    let mut stage = Stage::new();
    let first = stage.join(&consumer("a"), "");
    stage.pass(2_000);
    let second = stage.join(&consumer("b"), "");
    stage.pass(1_500);
    assert!(stage.is_parked(first) && stage.is_parked(second));
    stage.pass(3_000);
    let (first, second) = (stage.joined(first), stage.joined(second));
    assert_eq!((first.generation, second.generation), (1, 1));
    assert_eq!(first.leader, first.member_id);
    assert_eq!((first.members.len(), second.members.len()), (2, 0));
    assert_eq!(first.protocol.as_deref(), Some("range"));
    assert!(first.member_id.starts_with("a-"));
}

#[test]
fn members_join_and_sync_in_any_order_and_all_get_what_the_leader_gave_them() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for join_order in orders {
        for sync_order in orders {
            let mut stage = Stage::new();
            let mut tokens = [0; 3];
            for who in join_order {
                tokens[who] = stage.join(&consumer(["a", "b", "c"][who]), "");
                stage.pass(100);
            }
            stage.pass_until_answered(&tokens);
            let joined = tokens.map(|token| stage.joined(token));
            let leader = joined[0].leader.clone();
            let given: Vec<(&str, &str)> =
                joined.iter().map(|j| (j.member_id.as_str(), j.member_id.as_str())).collect();
            let mut syncs = [0; 3];
            for who in sync_order {
                let id = &joined[who].member_id;
                syncs[who] = stage.sync(id, 1, if *id == leader { &given } else { &[] });
            }
            for who in 0..3 {
                assert_eq!(
                    stage.synced(syncs[who]).unwrap().assignment,
                    joined[who].member_id,
                    "{join_order:?} {sync_order:?}"
                );
            }
            assert_eq!(stage.state(), Some(State::Stable));
            assert_eq!(stage.log.len(), 2, "the empty group and its first generation");
        }
    }
}

#[test]
fn a_new_member_is_sent_back_to_join_with_the_id_it_is_given() {
    let mut stage = Stage::new();
    let who = Who { twice: true, ..consumer("a") };
    let token = stage.join(&who, "");
    let (error, id) = stage.refused(token);
    assert_eq!(error, GroupError::MemberIdRequired);
    let token = stage.join(&who, &id);
    stage.pass(3_000);
    assert_eq!(stage.joined(token).member_id, id);

    // An id that is not used in time is forgotten.
    let token = stage.join(&who, "");
    let (_, unused) = stage.refused(token);
    stage.beat(&id, None, 1).unwrap();
    stage.pass(9_000);
    stage.beat(&id, None, 1).unwrap();
    stage.pass(9_000);
    let token = stage.join(&who, &unused);
    assert_eq!(stage.refused(token).0, GroupError::UnknownMemberId);
}

#[test]
fn a_silent_member_is_removed_and_the_others_rebalance() {
    let mut stage = Stage::new();
    let ids = stage.stable(&[&consumer("a"), &consumer("b")]);
    stage.pass(6_000);
    assert_eq!(stage.beat(&ids[0], None, 1), Ok(()));
    stage.pass(6_000);
    assert_eq!(stage.beat(&ids[0], None, 1), Err(GroupError::RebalanceInProgress));
    assert_eq!(stage.beat(&ids[1], None, 1), Err(GroupError::UnknownMemberId));
    let token = stage.join(&consumer("a"), &ids[0]);
    let joined = stage.joined(token);
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
}

#[test]
fn whoever_does_not_rejoin_within_the_rebalance_timeout_is_out() {
    let mut stage = Stage::new();
    let ids = stage.stable(&[&consumer("a"), &consumer("b")]);
    let token = stage.join(&consumer("a"), &ids[0]);
    for _ in 0..11 {
        stage.pass(5_000);
        assert_eq!(stage.beat(&ids[1], None, 1), Err(GroupError::RebalanceInProgress));
        assert!(stage.is_parked(token));
    }
    stage.pass(6_000);
    assert_eq!(stage.joined(token).members.len(), 1);
    assert_eq!(stage.beat(&ids[1], None, 1), Err(GroupError::UnknownMemberId));
}

#[test]
fn whoever_does_not_sync_in_time_is_out() {
    let mut stage = Stage::new();
    let (a, b) = (stage.join(&consumer("a"), ""), stage.join(&consumer("b"), ""));
    stage.pass(6_000);
    let (a, b) = (stage.joined(a), stage.joined(b));
    let parked = stage.sync(&b.member_id, 1, &[]);
    for _ in 0..12 {
        // The leader is alive but gives no assignment.
        assert_eq!(stage.beat(&a.member_id, None, 1), Ok(()));
        stage.pass(5_000);
    }
    assert_eq!(stage.synced(parked), Err(GroupError::RebalanceInProgress));
    assert_eq!(stage.state(), Some(State::PreparingRebalance));
    assert_eq!(stage.beat(&a.member_id, None, 1), Err(GroupError::UnknownMemberId));
    let token = stage.join(&consumer("b"), &b.member_id);
    assert_eq!(stage.joined(token).leader, b.member_id);
}

#[test]
fn a_follower_that_changed_its_subscription_forces_a_rebalance_and_one_that_did_not_does_not() {
    let mut stage = Stage::new();
    let ids = stage.stable(&[&consumer("a"), &consumer("b")]);
    let follower = ids[1].clone();
    let client = &follower[..1];
    let token = stage.join(&consumer(client), &follower);
    assert_eq!(stage.joined(token).generation, 1);
    assert_eq!(stage.state(), Some(State::Stable));
    // As a cooperative member does that has given up partitions.
    let changed = Who { protocols: vec![("range".into(), Bytes::from_static(b"owns less"))], ..consumer(client) };
    let token = stage.join(&changed, &follower);
    assert!(stage.is_parked(token));
    let leader = stage.join(&consumer(&ids[0][..1]), &ids[0]);
    assert_eq!(stage.joined(token).generation, 2);
    let told: Vec<Bytes> = stage.joined(leader).members.into_iter().map(|member| member.metadata).collect();
    assert!(told.contains(&Bytes::from_static(b"owns less")));
}

#[test]
fn the_leader_may_rejoin_with_the_same_subscription_to_have_partitions_assigned_anew() {
    let mut stage = Stage::new();
    let ids = stage.stable(&[&consumer("a"), &consumer("b")]);
    let token = stage.join(&consumer(&ids[0][..1]), &ids[0]);
    assert!(stage.is_parked(token));
    assert_eq!(stage.beat(&ids[1], None, 1), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_sync_that_cannot_be_stored_starts_the_rebalance_again() {
    let mut stage = Stage::new();
    let token = stage.join(&consumer("a"), "");
    stage.pass(3_000);
    let id = stage.joined(token).member_id;
    stage.append_fails = Some(GroupError::NotAvailable);
    let sync = stage.sync(&id, 1, &[(&id, "all")]);
    assert_eq!(stage.synced(sync), Err(GroupError::NotAvailable));
    assert_eq!(stage.state(), Some(State::PreparingRebalance));
}

#[test]
fn wrong_generations_ids_and_protocols_are_told_apart() {
    let mut stage = Stage::new();
    let ids = stage.stable(&[&consumer("a")]);
    assert_eq!(stage.beat(&ids[0], None, 0), Err(GroupError::IllegalGeneration));
    assert_eq!(stage.beat("nobody", None, 1), Err(GroupError::UnknownMemberId));
    assert_eq!(stage.beat(&ids[0], Some("nobody"), 1), Err(GroupError::UnknownMemberId));
    let sync = stage.sync(&ids[0], 9, &[]);
    assert_eq!(stage.synced(sync), Err(GroupError::IllegalGeneration));
    let odd = Who { protocols: vec![("odd".into(), Bytes::new())], ..consumer("b") };
    let token = stage.join(&odd, "");
    assert_eq!(stage.refused(token).0, GroupError::InconsistentProtocol);
    let none = Who { protocols: Vec::new(), ..consumer("b") };
    let token = stage.join(&none, "");
    assert_eq!(stage.refused(token).0, GroupError::InconsistentProtocol);
    let token = stage.join(&consumer("b"), "nobody");
    assert_eq!(stage.refused(token), (GroupError::UnknownMemberId, "nobody".into()));
    assert_eq!(stage.leave(&[("nobody", None)]), [Some(GroupError::UnknownMemberId)]);
}

#[test]
fn the_last_member_leaves_an_empty_group_behind_and_an_administrator_names_instances() {
    let mut stage = Stage::new();
    let ids = stage.stable(&[&consumer("a"), &fixed("b", "two")]);
    let dynamic = ids.iter().find(|id| id.starts_with("a-")).unwrap().clone();
    assert_eq!(stage.leave(&[("", Some("two")), ("", Some("three"))]), [None, Some(GroupError::UnknownMemberId)]);
    assert_eq!(stage.state(), Some(State::PreparingRebalance));
    assert_eq!(stage.leave(&[(&dynamic, None)]), [None]);
    assert_eq!(stage.state(), Some(State::Empty));
    let Some(GroupRecord::Group { value: Some(last), .. }) = stage.log.last() else { panic!() };
    assert_eq!((last.generation, last.members.len(), last.protocol_type.as_str()), (2, 0, "consumer"));
    assert_eq!((last.protocol.clone(), last.leader.clone()), (None, None));
}

#[test]
fn a_full_group_turns_new_members_away() {
    let mut stage = Stage::with(GroupOptions { max_size: 1, ..GroupOptions::default() });
    let ids = stage.stable(&[&consumer("a")]);
    let token = stage.join(&consumer("b"), "");
    assert_eq!(stage.refused(token), (GroupError::GroupMaxSizeReached, String::new()));
    assert_eq!(stage.beat(&ids[0], None, 1), Ok(()));
}
#[test]
fn requests_without_a_group_id_or_with_an_impossible_session_are_refused() {
    let mut stage = Stage::new();
    let template = JoinGroup {
        group: "".into(),
        member_id: String::new(),
        instance_id: None,
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: Vec::new(),
        reason: None,
        client_id: "a".into(),
        client_host: "/1".into(),
        requires_known_member_id: false,
        supports_skipping_assignment: false,
        fresh: Uuid::nil(),
    };
    let token = stage.ask(Request::Join(Box::new(template.clone())));
    assert_eq!(stage.refused(token).0, GroupError::InvalidGroupId);
    for session_timeout_ms in [5_999, 1_800_001, -1] {
        let join = JoinGroup { group: "g".into(), session_timeout_ms, ..template.clone() };
        let token = stage.ask(Request::Join(Box::new(join)));
        assert_eq!(stage.refused(token).0, GroupError::InvalidSessionTimeout);
    }
    assert_eq!(stage.state(), None);
}

#[test]
fn a_restart_keeps_members_and_offsets_and_gives_every_session_a_new_start() {
    let mut stage = Stage::new();
    let ids = stage.stable(&[&consumer("a"), &fixed("b", "two")]);
    stage.commit(&ids[0], 1, 0, 9).unwrap();
    let mut restarted = stage.restarted();
    assert_eq!(restarted.state(), Some(State::Stable));
    assert_eq!(restarted.offset(0), 9);
    restarted.pass(9_000);
    for id in &ids {
        assert_eq!(restarted.beat(id, None, 1), Ok(()));
    }
    restarted.pass(11_000);
    // Nobody came back: both are gone once their sessions and the rebalance are over.
    restarted.pass(120_000);
    assert_eq!(restarted.state(), Some(State::Empty));
}
