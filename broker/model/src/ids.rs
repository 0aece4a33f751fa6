//! Newtypes for every number that means something: a bare integer is never an
//! offset, an epoch or an id.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($int);

        impl $name {
            /// The number as it stands on the wire and on disk.
            pub const fn new(value: $int) -> Self {
                Self(value)
            }

            /// The number for the wire or the disk.
            pub const fn get(self) -> $int {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A record's place in its partition's log.
    Offset(i64)
}
number! {
    /// How often a partition's leadership has changed; −1 where it is not known.
    LeaderEpoch(i32)
}
number! {
    /// The broker's number in its cluster.
    NodeId(i32)
}
number! {
    /// A partition's index within its topic.
    PartitionId(i32)
}
number! {
    /// An idempotent or transactional producer; −1 for a producer that is neither.
    ProducerId(i64)
}
number! {
    /// The generation of a producer id; a larger one fences the smaller.
    ProducerEpoch(i16)
}
number! {
    /// Milliseconds since the Unix epoch; −1 where there is none.
    Timestamp(i64)
}

impl Offset {
    /// The first offset of a log nothing was deleted from.
    pub const ZERO: Self = Self(0);

    /// The offset `delta` after this one.
    #[must_use]
    pub const fn plus(self, delta: i64) -> Self {
        Self(self.0.saturating_add(delta))
    }

    /// The offset right after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// How far `self` is past `earlier`; negative where it is before it.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl LeaderEpoch {
    /// No epoch is known.
    pub const NONE: Self = Self(-1);
}

impl ProducerId {
    /// A producer without idempotence.
    pub const NONE: Self = Self(-1);

    /// Whether this names a producer at all.
    pub const fn is_some(self) -> bool {
        self.0 >= 0
    }
}

impl ProducerEpoch {
    /// A producer without idempotence.
    pub const NONE: Self = Self(-1);
}

impl Timestamp {
    /// No timestamp.
    pub const NONE: Self = Self(-1);

    /// This time moved by a number of milliseconds.
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this time.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A topic for as long as it lives: a topic that is deleted and created again
/// under the same name has another id (KIP-516).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(Uuid);

impl TopicId {
    /// No topic id: what old requests carry.
    pub const NIL: Self = Self(Uuid::nil());

    /// The id with these 128 bits.
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The id's 128 bits.
    pub const fn get(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({})", self.0)
    }
}

/// One partition of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition within it.
    pub partition: PartitionId,
}
