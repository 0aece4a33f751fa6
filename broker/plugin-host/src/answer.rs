//! What a guest answers for a batch, and how a call may fail.

use std::time::Duration;
use thiserror::Error;
use wasmtime::component::{ComponentType, Lift};

/// A record that a plugin refuses.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(record)]
pub struct Rejection {
    /// Its place in the call's batch, from 0.
    pub index: u32,
    /// Why.
    pub reason: String,
}

/// A filter's answer, as `wit/filter.wit` says.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Selection {
    pub keep: Vec<u8>,
    pub rejected: Vec<Rejection>,
}

/// A transform's answer, as `wit/transform.wit` says.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Changes {
    pub verdicts: Vec<u8>,
    pub data: Vec<u8>,
    pub spans: Vec<u32>,
    pub rejected: Vec<Rejection>,
}

/// What a guest has answered for a range of records. Not checked yet: [`crate::Records::apply`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer(pub(crate) Inner);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Inner {
    Unchanged,
    Selection(Selection),
    Changes(Changes),
}

impl Answer {
    /// The answer that keeps every record as it is.
    pub const UNCHANGED: Self = Self(Inner::Unchanged);

    /// A filter's answer from its lists: a bit for each record that is kept, and the records that are refused.
    pub fn selection(keep: Vec<u8>, rejected: Vec<Rejection>) -> Self {
        Selection { keep, rejected }.into()
    }

    /// A transform's answer from its lists: a verdict for each record, new bytes, where in them the changed parts stand,
    /// and the records that are refused.
    pub fn changes(verdicts: Vec<u8>, data: Vec<u8>, spans: Vec<u32>, rejected: Vec<Rejection>) -> Self {
        Changes { verdicts, data, spans, rejected }.into()
    }

    /// Whether every record is kept as it is.
    pub const fn is_unchanged(&self) -> bool {
        matches!(self.0, Inner::Unchanged)
    }

    /// The records that the plugin refuses.
    pub fn rejected(&self) -> &[Rejection] {
        match &self.0 {
            Inner::Unchanged => &[],
            Inner::Selection(selection) => &selection.rejected,
            Inner::Changes(changes) => &changes.rejected,
        }
    }
}

/// Bytes of a reason that are kept.
const REASON: usize = 512;

/// Cuts a text at a character's border.
pub(crate) fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
    }
}

impl From<Selection> for Answer {
    fn from(mut selection: Selection) -> Self {
        if selection.keep.is_empty() && selection.rejected.is_empty() {
            return Self::UNCHANGED;
        }
        selection.rejected.iter_mut().for_each(|rejection| cut(&mut rejection.reason, REASON));
        Self(Inner::Selection(selection))
    }
}

impl From<Changes> for Answer {
    fn from(mut changes: Changes) -> Self {
        if changes.verdicts.is_empty() && changes.rejected.is_empty() {
            return Self::UNCHANGED;
        }
        changes.rejected.iter_mut().for_each(|rejection| cut(&mut rejection.reason, REASON));
        Self(Inner::Changes(changes))
    }
}

/// Why a call gave no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The guest trapped: a panic, an unreachable instruction, an access out of bounds.
    #[error("the plugin trapped: {0}")]
    Trap(String),
    /// It used more CPU time than the attachment's `limits.time`.
    #[error("the plugin ran longer than its limit of {0:?}")]
    Time(Duration),
    /// It asked for more memory than the attachment's `limits.memory`.
    #[error("the plugin needs more memory than its limit of {0} bytes")]
    Memory(u64),
    /// The memory of all plugins together has reached the host's bound.
    #[error("the plugins of this broker use all of their {0} bytes of memory")]
    HostMemory(u64),
    /// Its call stack ran out.
    #[error("the plugin's stack overflowed")]
    Stack,
    /// The answer does not fit the question.
    #[error("the plugin's answer is unusable: {0}")]
    Answer(String),
    /// The records do not fit into the guest's memory.
    #[error("{bytes} bytes of records do not fit into a plugin with a limit of {limit} bytes")]
    Large {
        /// What a call would have to carry.
        bytes: usize,
        /// The attachment's `limits.memory`.
        limit: u64,
    },
    /// No fresh instance could be made.
    #[error("no instance of the plugin could be started: {0}")]
    Instance(String),
}

impl Fault {
    /// The fault in one word, for a counter's label.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Trap(_) => "trap",
            Self::Time(_) => "time",
            Self::Memory(_) => "memory",
            Self::HostMemory(_) => "host-memory",
            Self::Stack => "stack",
            Self::Answer(_) => "answer",
            Self::Large { .. } => "large",
            Self::Instance(_) => "instance",
        }
    }

    /// Whether the same records, one at a time, may fare better. Not where time ran out: that would cost it once more
    /// for each record.
    pub const fn is_of_records(&self) -> bool {
        matches!(self, Self::Trap(_) | Self::Memory(_) | Self::Stack | Self::Answer(_))
    }

    /// Whether the host is at fault and not the plugin or its records.
    pub const fn is_of_host(&self) -> bool {
        matches!(self, Self::HostMemory(_) | Self::Instance(_))
    }
}
