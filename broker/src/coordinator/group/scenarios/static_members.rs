//! Static members of classic groups (KIP-345).

use super::*;

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_fences_its_old_self() {
    let mut stage = Stage::new();
    let ids = stage.stable(&[&fixed("a", "one"), &fixed("b", "two")]);
    let token = stage.join(&fixed("a", "one"), "");
    let back = stage.joined(token);
    assert_eq!(back.generation, 1);
    assert_ne!(back.member_id, ids[0]);
    // It leads, sees the members, and is told that the assignment stands (KIP-814).
    assert_eq!((back.leader.clone(), back.skip_assignment, back.members.len()), (back.member_id.clone(), true, 2));
    assert_eq!(stage.state(), Some(State::Stable));
    assert_eq!(stage.beat(&ids[0], Some("one"), 1), Err(GroupError::FencedInstanceId));
    let sync = stage.sync(&back.member_id, 1, &[]);
    assert_eq!(stage.synced(sync).unwrap().assignment, ids[0]);
    // A restart knows the new id.
    let mut restarted = stage.restarted();
    assert_eq!(restarted.beat(&back.member_id, Some("one"), 1), Ok(()));

    // An older client is told its old id as the leader's, so that it does not assign.
    let token = stage.join(&Who { skips: false, ..fixed("a", "one") }, "");
    let again = stage.joined(token);
    assert_eq!((again.leader, again.skip_assignment, again.members.len()), (back.member_id, false, 0));
}

#[test]
fn a_static_members_new_id_is_taken_back_where_it_cannot_be_stored() {
    let mut stage = Stage::new();
    let ids = stage.stable(&[&fixed("a", "one")]);
    stage.append_fails = Some(GroupError::NotCoordinator);
    let token = stage.join(&fixed("a", "one"), "");
    assert_eq!(stage.refused(token).0, GroupError::NotCoordinator);
    assert_eq!(stage.beat(&ids[0], Some("one"), 1), Ok(()));
    let group = stage.machine.groups["g"].classic().unwrap();
    assert_eq!((group.awaiting_join(), group.leader.as_deref()), (0, Some(ids[0].as_str())));
}

#[test]
fn a_static_member_that_stays_away_keeps_its_place_until_its_session_ends() {
    let mut stage = Stage::new();
    let ids = stage.stable(&[&consumer("a"), &fixed("b", "two")]);
    let dynamic = ids.iter().find(|id| id.starts_with("a-")).unwrap().clone();
    let token =
        stage.join(&Who { protocols: vec![("range".into(), Bytes::from_static(b"new"))], ..consumer("a") }, &dynamic);
    assert!(stage.is_parked(token));
    stage.pass(10_000);
    let joined = stage.joined(token);
    assert_eq!((joined.generation, joined.members.len()), (2, 1), "removed by its session, not by the rebalance");
}
