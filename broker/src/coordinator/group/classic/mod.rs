//! The classic protocol: members agree on an assignment that one of them computes.
//!
//! [`group`] is a group as data, `membership` what members ask, `rebalance` the phases between two generations.

mod group;
mod member;
mod membership;
mod rebalance;

pub use group::ClassicGroup;
pub use member::{Member, State, Token};
