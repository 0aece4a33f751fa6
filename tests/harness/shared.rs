//! One broker and one client of each library for all tests of a binary that do not kill anything.

use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;

use crate::broker::Broker;
use crate::client::{Client, Library};
use crate::session;

type Slot = Mutex<Option<Box<dyn Client>>>;

/// The shared broker, started by the first test that asks.
pub fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(Broker::start)
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

fn slot(library: Library) -> &'static Slot {
    static SLOTS: [Slot; 4] = [const { Mutex::new(None) }; 4];
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
