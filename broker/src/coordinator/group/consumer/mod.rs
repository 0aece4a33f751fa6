//! Consumer groups (KIP-848): the coordinator assigns, and brings every member to its target step by step.
//!
//! ```text
//! member or topics change ──▶ group epoch + 1 ──▶ target assignment for that epoch ──▶ each member at its own pace:
//!     gives up what it is not to have ──▶ enters the target's epoch ──▶ gets what others have given up
//! ```
//! Invariants:
//! - A partition has at most one owner: whoever has it, or has yet to confirm that it gave it up, owns it.
//! - A group is changed by its records only, in the replay as in life; what a request leads to is computed on a
//!   [`draft`] and becomes true when its records are committed. So a replay gives the same group by construction.
//!
//! [`group`] is a group as data, [`reconcile`] the step of one member, [`assign`] the assignors, `heartbeat` what members
//! ask, `fence` how they go, `classic_members` members that speak the classic protocol, `migrate` the change from one
//! protocol to the other.
//!
//! Source: KIP-848, KIP-1251 (epochs of partitions), KIP-1263 (the interval between assignments).

pub mod assign;
mod classic_members;
mod draft;
mod fence;
mod group;
mod heartbeat;
mod migrate;
mod reconcile;
mod regex;
mod syntax;

pub use group::{ConsumerGroup, ConsumerMember};
