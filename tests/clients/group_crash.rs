//! SIGKILL under consumer groups of both protocols: members go on, what was committed stays committed, and no partition has
//! two members.
//!
//! `MILLRACE_GROUP_KILLS` says how many times (each protocol); `MILLRACE_SEED` replays the moments of the kills, not the
//! scheduling of the processes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millrace_tests::broker::{Broker, Kind, Options};
use millrace_tests::client::{Client, Commands as _, Library, seen};
use millrace_tests::record::Record;
use millrace_tests::seed::Seed;
use millrace_tests::{segments, session};
use serde_json::{Value, json};

const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(90);

struct Member {
    client: Box<dyn Client>,
    name: &'static str,
    assigned: Vec<i64>,
    /// How often each value came.
    got: BTreeMap<Vec<u8>, u32>,
}

impl Member {
    fn join(library: Library, name: &'static str, bootstrap: &str, topic: &str, protocol: &str) -> Option<Self> {
        let mut client = session::open(library, bootstrap)?;
        let mut command =
            json!({"op": "join", "member": name, "group": topic, "topic": topic, "session_timeout_ms": 10_000});
        if protocol == "consumer" {
            command["protocol"] = json!(protocol);
        }
        client.must(command);
        Some(Self { client, name, assigned: Vec::new(), got: BTreeMap::new() })
    }

    fn poll(&mut self) {
        // While there is no broker a client may say so.
        let Ok(answer) = self.client.call(&json!({"op": "poll", "member": self.name, "timeout_ms": 200})) else {
            return;
        };
        for seen in seen(&answer) {
            *self.got.entry(seen.record.value.expect("a value")).or_default() += 1;
        }
        self.assigned = answer["assigned"].as_array().expect("partitions").iter().filter_map(Value::as_i64).collect();
    }

    fn commit(&mut self) -> bool {
        self.client.call(&json!({"op": "commit", "member": self.name})).is_ok()
    }

    /// What the broker says is committed of each partition.
    fn committed(&mut self, topic: &str) -> Vec<i64> {
        let deadline = Instant::now() + PATIENCE;
        let mut of = |partition: i32| loop {
            let asked = json!({"op": "committed", "member": self.name, "topic": topic, "partition": partition});
            match self.client.call(&asked) {
                Ok(answer) => return answer["offset"].as_i64().unwrap_or(0),
                Err(error) => assert!(Instant::now() < deadline, "{topic}-{partition}: {error}"),
            }
        };
        (0..PARTITIONS).map(&mut of).collect()
    }
}

/// Polls both until every partition is with one of them and `enough` says so.
fn settle(members: &mut [Member; 2], what: &str, enough: impl Fn(&[Member; 2]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut all: Vec<i64> = members.iter().flat_map(|member| member.assigned.iter().copied()).collect();
        all.sort_unstable();
        if all == [0, 1, 2, 3] && enough(members) {
            return;
        }
        let state: Vec<_> = members.iter().map(|member| (member.name, &member.assigned, member.got.len())).collect();
        assert!(Instant::now() < deadline, "not reached: {what}; members are {state:?}");
        members.iter_mut().for_each(Member::poll);
    }
}

fn write(client: &mut dyn Client, topic: &str, label: &str) {
    let records: Vec<Record> = (0..40)
        .map(|i| Record::new(None, Some(format!("{label}-{i}").as_bytes()), 1_700_000_000_000).on(i % PARTITIONS))
        .collect();
    assert!(client.produce(topic, "none", &records).iter().all(Result::is_ok), "{topic}");
}

/// How often the records of a label came, to both together.
fn came(members: &[Member; 2], label: &str) -> Vec<u32> {
    let count = |i: i32| {
        let value = format!("{label}-{i}").into_bytes();
        members.iter().map(|member| member.got.get(&value).copied().unwrap_or(0)).sum()
    };
    (0..40).map(count).collect()
}

/// Kafka's own tool finds the group and what it has committed in the offsets topic.
fn on_disk(broker: &Broker, group: &str, protocol: &str, committed: [i64; 4]) {
    // The types of keys: an offset, and what makes the group what it is.
    const OFFSET: &str = "1";
    let kind = if protocol == "consumer" { "3" } else { "2" };
    let Some(state) = segments::group_state(&broker.data_dir()) else { return };
    let is_ours = |key: &Value, kind: &str| {
        key["type"] == kind && (key["data"]["group"] == group || key["data"]["groupId"] == group)
    };
    assert!(state.iter().any(|(key, payload)| is_ours(key, kind) && payload.is_object()), "{group}: {state:?}");
    let mut last = [0; 4];
    for (key, payload) in state.iter().filter(|(key, _)| is_ours(key, OFFSET)) {
        let partition = key["data"]["partition"].as_u64().and_then(|partition| usize::try_from(partition).ok());
        last[partition.expect("a partition")] = payload["offset"].as_i64().expect("an offset");
    }
    assert_eq!(last, committed, "{group}");
}

fn a_killed_broker_keeps_a_group(protocol: &str) {
    let kills: u32 = std::env::var("MILLRACE_GROUP_KILLS").map_or(3, |text| text.parse().expect("a number"));
    let mut seed = Seed::from_environment("group");
    let mut broker = Broker::with(Options::default());
    let mut writer = session::open(Library::Librdkafka, &broker.bootstrap()).expect("always there");
    let topic = format!("killed-{protocol}");
    writer.create(&topic, PARTITIONS, json!({}));
    write(&mut *writer, &topic, "first");
    let join = |library, name| Member::join(library, name, &broker.bootstrap(), &topic, protocol);
    let (Some(a), Some(b)) = (join(Library::Java, "a"), join(Library::Librdkafka, "b")) else { return };
    let mut members = [a, b];
    settle(&mut members, "the first records", |members| came(members, "first").iter().all(|count| *count > 0));

    for kill in 0..kills {
        let label = format!("before-{kill}");
        write(&mut *writer, &topic, &label);
        settle(&mut members, "what was written", |members| came(members, &label).iter().all(|count| *count > 0));
        let committed = members.iter_mut().map(Member::commit).filter(|done| *done).count();
        assert!(committed > 0, "nobody could commit");
        let known = members[0].committed(&topic);
        write(&mut *writer, &topic, &format!("while-{kill}"));
        members.iter_mut().for_each(Member::poll);
        // The broker dies while both commit what came since.
        std::thread::scope(|scope| {
            for member in &mut members {
                scope.spawn(move || member.commit());
            }
            std::thread::sleep(Duration::from_millis(seed.between(0, 12)));
            broker.kill();
            std::thread::sleep(Duration::from_millis(seed.between(0, 300)));
            broker.restart();
        });
        let now = members[1].committed(&topic);
        let back = known.iter().zip(&now).any(|(known, now)| now < known);
        assert!(!back, "kill {kill}: {known:?} was committed before, {now:?} after");

        settle(&mut members, "everybody is back", |_| true);
        let label = format!("after-{kill}");
        write(&mut *writer, &topic, &label);
        settle(&mut members, "what came after", |members| came(members, &label).iter().all(|count| *count > 0));
        (0..3).for_each(|_| members.iter_mut().for_each(Member::poll));
        let counts = came(&members, &label);
        // Kafka can be away for longer than a session lasts: what a member has read and not committed comes to another then.
        let is_once = counts.iter().all(|count| *count == 1) || Kind::from_environment() == Kind::Kafka;
        assert!(is_once, "kill {kill}: a partition had two members: {counts:?}");
    }
    let deadline = Instant::now() + PATIENCE;
    let everything = [10 * (1 + 3 * i64::from(kills)); 4];
    while members[0].committed(&topic) != everything {
        assert!(
            Instant::now() < deadline,
            "{everything:?} are to be committed, {:?} are",
            members[0].committed(&topic)
        );
        members.iter_mut().for_each(Member::poll);
        members.iter_mut().for_each(|member| _ = member.commit());
    }
    broker.stop();
    on_disk(&broker, &topic, protocol, everything);
    eprintln!("{topic}: {kills} kills");
}

#[test]
fn a_classic_group_goes_on_after_kills_with_all_that_was_committed() {
    a_killed_broker_keeps_a_group("classic");
}

#[test]
fn a_consumer_group_goes_on_after_kills_with_all_that_was_committed() {
    a_killed_broker_keeps_a_group("consumer");
}
