//! Classic groups as data.

use super::*;

fn member(protocols: &[&str]) -> Member {
    let protocols = protocols
        .iter()
        .map(|name| Protocol { name: (*name).to_owned(), metadata: Bytes::copy_from_slice(name.as_bytes()) });
    Member {
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        protocols: protocols.collect(),
        assignment: Bytes::new(),
        awaiting_join: Some(Token(1)),
        awaiting_sync: None,
        is_new: true,
    }
}

fn group(members: &[(&str, &[&str])]) -> ClassicGroup {
    let mut group = ClassicGroup::new(Timestamp::new(1));
    group.protocol_type = Some("consumer".into());
    for (id, protocols) in members {
        group.add((*id).to_owned(), member(protocols));
    }
    group.transition(State::PreparingRebalance, Timestamp::new(2));
    group
}

#[test]
fn the_protocol_most_members_prefer_among_the_common_ones_is_chosen() {
    let group = group(&[("a", &["sticky", "range"]), ("b", &["range", "sticky"]), ("c", &["odd", "range", "sticky"])]);
    assert_eq!(group.select_protocol().as_deref(), Some("range"));
    assert!(group.supports("consumer", &member(&["sticky"]).protocols));
    assert!(!group.supports("consumer", &member(&["odd"]).protocols));
    assert!(!group.supports("connect", &member(&["range"]).protocols));
}

#[test]
fn when_the_leader_goes_another_member_leads_and_counts_follow() {
    let mut group = group(&[("a", &["odd"]), ("b", &["odd", "range"])]);
    assert!(group.is_leader("a"));
    group.remove("a");
    assert!(group.is_leader("b"));
    assert_eq!(group.awaiting_join(), 1);
    group.remove("b");
    assert_eq!((group.leader.clone(), group.awaiting_join(), group.supported.len()), (None, 0, 0));
}
