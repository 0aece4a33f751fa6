//! Consumer groups of both protocols: members join, share the partitions, commit, leave, and others go on where they stopped.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millrace_tests::client::{Commands as _, Library, seen};
use millrace_tests::record::{Record, Seen};
use millrace_tests::shared::{self, Shared};
use serde_json::{Value, json};

const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// A member of a group, through the shared client of its library.
struct Member {
    client: Shared,
    name: String,
    assigned: Vec<i64>,
    got: Vec<Seen>,
}

impl Member {
    /// `how` is what the command says beside the names.
    fn join(mut client: Shared, name: &str, group: &str, topic: &str, how: &Value) -> Self {
        let mut command =
            json!({"op": "join", "member": name, "group": group, "topic": topic, "session_timeout_ms": 10_000});
        for (key, value) in how.as_object().into_iter().flatten() {
            command[key] = value.clone();
        }
        client.must(command);
        Self { client, name: name.to_owned(), assigned: Vec::new(), got: Vec::new() }
    }

    fn poll(&mut self) {
        let answer = self.client.must(json!({"op": "poll", "member": self.name, "timeout_ms": 200}));
        self.got.extend(seen(&answer));
        self.assigned = answer["assigned"].as_array().expect("partitions").iter().filter_map(Value::as_i64).collect();
    }

    fn commit(&mut self) {
        self.client.must(json!({"op": "commit", "member": self.name}));
    }

    fn committed(&mut self, topic: &str) -> i64 {
        let mut of = |partition: i32| {
            let asked = json!({"op": "committed", "member": self.name, "topic": topic, "partition": partition});
            self.client.must(asked)["offset"].as_i64().unwrap_or(0)
        };
        (0..PARTITIONS).map(&mut of).sum()
    }

    fn leave(mut self) -> Vec<Seen> {
        self.client.must(json!({"op": "leave", "member": self.name}));
        self.got
    }
}

/// Polls all members in turn until `enough` of them says so.
fn poll_until(members: &mut [&mut Member], what: &str, enough: impl Fn(&[&mut Member]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !enough(members) {
        let state: Vec<_> = members.iter().map(|member| (&member.name, &member.assigned, member.got.len())).collect();
        assert!(Instant::now() < deadline, "not reached: {what}; members are {state:?}");
        for member in &mut *members {
            member.poll();
        }
    }
}

fn write(client: &mut Shared, topic: &str, label: &str, count: usize) {
    let records: Vec<Record> = (0..count)
        .map(|i| {
            let partition = i32::try_from(i).expect("few records") % PARTITIONS;
            Record::new(None, Some(format!("{label}{i}").as_bytes()), 1_700_000_000_000).on(partition)
        })
        .collect();
    assert!(client.produce(topic, "none", &records).iter().all(Result::is_ok), "{topic}");
}

fn values<'a>(seen: impl IntoIterator<Item = &'a Seen>) -> BTreeSet<Vec<u8>> {
    seen.into_iter().filter_map(|seen| seen.record.value.clone()).collect()
}

/// The whole life of a classic group whose first member speaks through one library and its second through another.
fn a_group_of(first: Library, second: Library) {
    a_group_as("classic", (first, &Value::Null), (second, &Value::Null));
}

/// The same with members that join as they are told to.
fn a_group_as(label: &str, (first, how_first): (Library, &Value), (second, how_second): (Library, &Value)) {
    let (Some(mut one), Some(two)) = (shared::client(first), shared::client(second)) else { return };
    let topic = format!("group-{label}-{}-{}", first.name(), second.name());
    one.create(&topic, PARTITIONS, json!({}));
    write(&mut one, &topic, "a", 40);

    let mut a = Member::join(one, &format!("{topic}-a"), &topic, &topic, how_first);
    poll_until(&mut [&mut a], "the first member has everything", |members| {
        members[0].assigned.len() == 4 && members[0].got.len() >= 40
    });
    a.commit();
    assert_eq!(a.committed(&topic), 40, "{topic}: what the first member committed");

    let mut b = Member::join(two, &format!("{topic}-b"), &topic, &topic, how_second);
    poll_until(&mut [&mut a, &mut b], "two partitions each", |members| {
        members.iter().all(|member| member.assigned.len() == 2)
    });
    let shared: BTreeSet<i64> = a.assigned.iter().chain(&b.assigned).copied().collect();
    assert_eq!(shared.len(), 4, "{topic}: every partition has one member");

    write(&mut one, &topic, "b", 40);
    poll_until(&mut [&mut a, &mut b], "the second round is read", |members| {
        values(members.iter().flat_map(|member| &member.got)).len() >= 80
    });
    assert!(
        !values(&b.got).is_empty() && b.got.iter().all(|seen| !seen.record.value.as_ref().unwrap().starts_with(b"a")),
        "{topic}: the second member begins where the first had committed"
    );
    a.commit();
    b.commit();
    let of_b = b.leave();
    assert_eq!(of_b.len(), 20, "{topic}: the second member's half");
    poll_until(&mut [&mut a], "the first member has all partitions again", |members| members[0].assigned.len() == 4);
    assert_eq!(a.committed(&topic), 80, "{topic}: what both committed");
    a.leave();

    // Whoever comes later goes on from the commits, and reads nothing twice.
    write(&mut one, &topic, "c", 8);
    let mut c = Member::join(two, &format!("{topic}-c"), &topic, &topic, how_second);
    poll_until(&mut [&mut c], "the later member has the third round", |members| members[0].got.len() >= 8);
    let expected: BTreeSet<Vec<u8>> = (0..8).map(|i| format!("c{i}").into_bytes()).collect();
    assert_eq!((c.got.len(), values(&c.got)), (8, expected), "{topic}: only what was not committed");
    c.leave();
}

#[test]
fn two_librdkafka_members_share_commit_and_resume() {
    a_group_of(Library::Librdkafka, Library::Librdkafka);
}

#[test]
fn two_java_members_share_commit_and_resume() {
    a_group_of(Library::Java, Library::Java);
}

#[test]
fn two_go_members_share_commit_and_resume() {
    a_group_of(Library::Go, Library::Go);
}

#[test]
fn two_python_members_share_commit_and_resume() {
    a_group_of(Library::Python, Library::Python);
}

#[test]
fn two_sarama_members_share_commit_and_resume() {
    a_group_of(Library::Sarama, Library::Sarama);
}

#[test]
fn two_kafkajs_members_share_commit_and_resume() {
    a_group_of(Library::Kafkajs, Library::Kafkajs);
}

#[test]
fn two_aiokafka_members_share_commit_and_resume() {
    a_group_of(Library::Aiokafka, Library::Aiokafka);
}

#[test]
fn sarama_and_java_share_a_group() {
    a_group_of(Library::Sarama, Library::Java);
}

#[test]
fn java_and_go_share_a_group() {
    a_group_of(Library::Java, Library::Go);
}

#[test]
fn librdkafka_and_python_share_a_group() {
    a_group_of(Library::Librdkafka, Library::Python);
}

#[test]
fn java_members_share_a_group_of_the_consumer_protocol() {
    let how = json!({"protocol": "consumer"});
    a_group_as("consumer", (Library::Java, &how), (Library::Java, &how));
}

#[test]
fn librdkafka_members_share_a_group_of_the_consumer_protocol() {
    let how = json!({"protocol": "consumer"});
    a_group_as("consumer", (Library::Librdkafka, &how), (Library::Librdkafka, &how));
}

#[test]
fn java_and_librdkafka_share_a_group_of_the_consumer_protocol() {
    let how = json!({"protocol": "consumer"});
    a_group_as("consumer", (Library::Java, &how), (Library::Librdkafka, &how));
}

#[test]
fn go_members_share_a_group_of_the_consumer_protocol() {
    let how = json!({"protocol": "consumer"});
    a_group_as("consumer", (Library::Go, &how), (Library::Go, &how));
}

#[test]
fn go_and_java_share_a_group_of_the_consumer_protocol() {
    let how = json!({"protocol": "consumer"});
    a_group_as("consumer", (Library::Go, &how), (Library::Java, &how));
}

#[test]
fn cooperative_members_share_a_classic_group() {
    let how = json!({"cooperative": true});
    let able = [Library::Java, Library::Librdkafka, Library::Go, Library::Sarama, Library::Python];
    shared::at_once(&able, |library| a_group_as("cooperative", (*library, &how), (*library, &how)));
}

#[test]
fn a_classic_group_is_taken_over_by_a_member_of_the_consumer_protocol_and_taken_back() {
    let how = json!({"protocol": "consumer"});
    a_group_as("upgrade", (Library::Java, &Value::Null), (Library::Java, &how));
    a_group_as("upgrade", (Library::Librdkafka, &json!({"cooperative": true})), (Library::Java, &how));
}

fn a_static_member_of(library: Library, protocol: &str) {
    let Some(mut client) = shared::client(library) else { return };
    let topic = format!("static-{protocol}-{}", library.name());
    client.create(&topic, PARTITIONS, json!({}));
    let fixed = |instance: &str| json!({"protocol": protocol, "instance": instance});
    let mut a = Member::join(client, &format!("{topic}-a"), &topic, &topic, &fixed("one"));
    let mut b = Member::join(client, &format!("{topic}-b"), &topic, &topic, &fixed("two"));
    poll_until(&mut [&mut a, &mut b], "two partitions each", |members| {
        members.iter().all(|member| member.assigned.len() == 2)
    });
    let (of_a, of_b) = (a.assigned.clone(), b.assigned.clone());
    a.leave();
    let mut a = Member::join(client, &format!("{topic}-a2"), &topic, &topic, &fixed("one"));
    poll_until(&mut [&mut a, &mut b], "the static member is back", |members| {
        assert!(members[1].assigned == of_b, "{topic}: the other member lost its partitions");
        members[0].assigned == of_a
    });
    a.leave();
    b.leave();
}

#[test]
fn a_static_member_is_restarted_and_the_other_does_not_notice() {
    // Not franz-go with the consumer protocol: its other member loses partitions for a moment, with Kafka too.
    let able = [
        (Library::Java, "classic"),
        (Library::Java, "consumer"),
        (Library::Librdkafka, "classic"),
        (Library::Librdkafka, "consumer"),
        (Library::Go, "classic"),
        (Library::Sarama, "classic"),
        (Library::Python, "classic"),
        (Library::Aiokafka, "classic"),
    ];
    shared::at_once(&able, |(library, protocol)| a_static_member_of(*library, protocol));
}

#[test]
fn an_expression_is_resolved_by_the_broker_and_follows_new_topics() {
    let Some(mut client) = shared::client(Library::Java) else { return };
    client.create("pattern-1", 1, json!({}));
    let how = json!({"protocol": "consumer", "pattern": "pattern-[0-9]"});
    let mut a = Member::join(client, "pattern-member", "pattern", "pattern-1", &how);
    poll_until(&mut [&mut a], "the first topic", |members| members[0].assigned.len() == 1);
    client.create("pattern-2", 1, json!({}));
    poll_until(&mut [&mut a], "the second topic", |members| members[0].assigned.len() == 2);
    a.leave();
}
