//! One broker and one client of each library for all tests of a binary that do not kill anything.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::broker::{Broker, Kind, Options};
use crate::client::{Client, Commands as _, Library};
use crate::librdkafka::Librdkafka;
use crate::session;

type Slot = Mutex<Option<Box<dyn Client>>>;

/// The shared broker, started by the first test that asks.
pub fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    // As tests set it everywhere: three seconds for each new group would be most of their time.
    let at_once = ("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned());
    BROKER.get_or_init(|| {
        let broker = Broker::with(Options { config: vec![at_once], ..Options::default() });
        if broker.kind() == Kind::Kafka {
            wake_coordinators(&broker);
        }
        broker
    })
}

/// Kafka creates the coordinators' topics for the first who asks, and some libraries do not wait that long.
fn wake_coordinators(broker: &Broker) {
    let mut client = Librdkafka::new(&broker.bootstrap());
    client.create("first", 1, json!({}));
    client.must(json!({"op": "join", "member": "first", "group": "first", "topic": "first"}));
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = client.call(&json!({"op": "committed", "member": "first", "topic": "first"})) {
        assert!(Instant::now() < deadline, "no group coordinator: {error}");
        std::thread::sleep(Duration::from_millis(100));
    }
    client.must(json!({"op": "leave", "member": "first"}));
    client.must(json!({"op": "init", "producer": "first", "transactional": "first"}));
    client.must(json!({"op": "close", "producer": "first"}));
}

/// A handle on the shared client of a library; `None` if the machine lacks its language.
pub fn client(library: Library) -> Option<Shared> {
    let mut slot = slot(library).lock().unwrap_or_else(PoisonError::into_inner);
    if slot.is_none() {
        *slot = session::open(library, &broker().bootstrap());
    }
    slot.is_some().then_some(Shared(library))
}

/// Every library that is there, with its handle.
pub fn clients() -> Vec<(Library, Shared)> {
    Library::ALL.into_iter().filter_map(|library| Some((library, client(library)?))).collect()
}

/// Does the same for each of `items`, each in a thread of its own: most of a client's time is waiting.
pub fn at_once<T: Sync>(items: &[T], act: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| {
        for item in items {
            scope.spawn(|| act(item));
        }
    });
}

fn slot(library: Library) -> &'static Slot {
    static SLOTS: [Slot; Library::ALL.len()] = [const { Mutex::new(None) }; Library::ALL.len()];
    &SLOTS[library as usize]
}

/// Locked for the length of one command, so that two tests can take turns with several libraries each.
#[derive(Debug, Clone, Copy)]
pub struct Shared(Library);

impl Client for Shared {
    fn call(&mut self, command: &Value) -> Result<Value, String> {
        let mut slot = slot(self.0).lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_mut().expect("opened before the handle was given out").call(command)
    }
}
