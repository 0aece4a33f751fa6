//! Kafka's rules for topic names.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use thiserror::Error;

/// The topic that keeps consumer groups and their offsets.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// The topic that keeps transactions.
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// The topic that keeps the state of share groups.
pub const SHARE_GROUP_STATE: &str = "__share_group_state";

/// The longest topic name: what leaves room for `-N` in a directory's name.
pub const MAX_TOPIC_NAME: usize = 249;

/// Whether clients are told that a topic belongs to the broker.
pub fn is_internal_topic(name: &str) -> bool {
    matches!(name, CONSUMER_OFFSETS | TRANSACTION_STATE | SHARE_GROUP_STATE)
}

/// What is wrong with a topic name, in the words Kafka's clients know.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameFault {
    /// No name at all.
    #[error("the empty string is not allowed")]
    Empty,
    /// A name that a file system keeps for itself.
    #[error("'{0}' is not allowed")]
    Reserved(String),
    /// More than [`MAX_TOPIC_NAME`] characters.
    #[error("the length of '{0}' is longer than the max allowed length {MAX_TOPIC_NAME}")]
    TooLong(String),
    /// A character that a directory or a metric could not carry.
    #[error("'{0}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")]
    Characters(String),
}

/// Holds a name against Kafka's rules.
pub fn check_topic_name(name: &str) -> Result<(), NameFault> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    if name.is_empty() {
        Err(NameFault::Empty)
    } else if name == "." || name == ".." {
        Err(NameFault::Reserved(name.to_owned()))
    } else if name.len() > MAX_TOPIC_NAME {
        // A hostile name is not carried around in full.
        Err(NameFault::TooLong(name.chars().take(4 * MAX_TOPIC_NAME).collect()))
    } else if !name.bytes().all(plain) {
        Err(NameFault::Characters(name.to_owned()))
    } else {
        Ok(())
    }
}

/// The order of names in which '.' and '_' are the same: names that are equal here
/// collide, because metrics write both as '_'.
pub(crate) fn compare_loosely(a: &str, b: &str) -> Ordering {
    let loose = |c: u8| if c == b'.' { b'_' } else { c };
    a.bytes().map(loose).cmp(b.bytes().map(loose))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_kafka_judges_them() {
        for good in ["a", "A-b_c.d9", "__consumer_offsets", &"x".repeat(249)] {
            assert_eq!(check_topic_name(good), Ok(()), "{good}");
        }
        let message = |name: &str| check_topic_name(name).unwrap_err().to_string();
        assert_eq!(message(""), "the empty string is not allowed");
        assert_eq!(message(".."), "'..' is not allowed");
        assert!(message(&"x".repeat(250)).ends_with("is longer than the max allowed length 249"));
        assert!(message("a/b").starts_with("'a/b' contains one or more characters other than ASCII"));
        assert!(check_topic_name("ä").is_err());
    }

    #[test]
    fn a_dot_and_an_underscore_are_the_same_to_the_loose_order() {
        assert_eq!(compare_loosely("a.b_c", "a_b.c"), Ordering::Equal);
        assert_eq!(compare_loosely("a.b", "a.c"), Ordering::Less);
        assert_eq!(compare_loosely("a", "a."), Ordering::Less);
    }
}
