//! What consumers of the classic protocol put into their subscriptions and assignments, which other kinds of members
//! keep to themselves.
//!
//! ```text
//! subscription   version, topics, user data, owned partitions (1+), generation (2+), rack (3+)
//! assignment     version, partitions by topic, user data
//! ```
//! All lengths come from clients: nothing is reserved for a count before its elements are there.
//!
//! Source: `ConsumerProtocolSubscription.json` and `ConsumerProtocolAssignment.json` among Kafka's message definitions.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The protocol type of consumers, whose subscriptions the coordinator may read.
pub const CONSUMER: &str = "consumer";

/// Partitions by the name of their topic.
pub type NamedPartitions = Vec<(String, Vec<i32>)>;

/// What a member wants, and what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The topics it reads.
    pub topics: Vec<String>,
    /// What it holds at the moment.
    pub owned: NamedPartitions,
    /// Where it is.
    pub rack: Option<String>,
}

impl Subscription {
    /// Reads a subscription; none where it is none.
    pub fn read(bytes: &Bytes) -> Option<Self> {
        let mut from = bytes.clone();
        let version = from.try_get_i16().ok()?;
        let topics = array(&mut from, text)?;
        let _user_data = blob(&mut from)?;
        let owned = if version >= 1 { array(&mut from, named)? } else { Vec::new() };
        if version >= 2 {
            let _generation = from.try_get_i32().ok()?;
        }
        let rack = if version >= 3 { nullable(&mut from)? } else { None };
        Some(Self { topics, owned, rack })
    }

    /// The topics alone, whatever follows them.
    pub fn topics_of(bytes: &Bytes) -> Option<Vec<String>> {
        let mut from = bytes.clone();
        let _version = from.try_get_i16().ok()?;
        array(&mut from, text)
    }

    /// The version of a subscription, which is that of the assignment its sender can read.
    pub fn version_of(bytes: &Bytes) -> i16 {
        bytes.clone().try_get_i16().unwrap_or(0).clamp(0, 3)
    }
}

/// What a member was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Its partitions.
    pub partitions: NamedPartitions,
    /// Whether its assignor has put something of its own beside them.
    pub has_user_data: bool,
}

impl Assignment {
    /// Reads an assignment; none where it is none. No bytes at all are an assignment of nothing.
    pub fn read(bytes: &Bytes) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let mut from = bytes.clone();
        let _version = from.try_get_i16().ok()?;
        let partitions = array(&mut from, named)?;
        let has_user_data = blob(&mut from)?.is_some_and(|data| !data.is_empty());
        Some(Self { partitions, has_user_data })
    }

    /// Partitions as an assignment of this version.
    pub fn write(version: i16, partitions: &[(&str, Vec<i32>)]) -> Bytes {
        let mut to = BytesMut::new();
        to.put_i16(version);
        to.put_i32(count(partitions.len()));
        for (topic, indexes) in partitions {
            // Names of topics have at most 249 bytes.
            to.put_i16(i16::try_from(topic.len()).unwrap_or(i16::MAX));
            to.put_slice(topic.as_bytes());
            to.put_i32(count(indexes.len()));
            for index in indexes {
                to.put_i32(*index);
            }
        }
        to.put_i32(-1);
        to.freeze()
    }
}

fn count(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

fn array<T>(from: &mut Bytes, read: impl Fn(&mut Bytes) -> Option<T>) -> Option<Vec<T>> {
    let count = from.try_get_i32().ok().filter(|count| *count >= 0)?;
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(read(from)?);
    }
    Some(all)
}

fn named(from: &mut Bytes) -> Option<(String, Vec<i32>)> {
    Some((text(from)?, array(from, |from| from.try_get_i32().ok())?))
}

fn text(from: &mut Bytes) -> Option<String> {
    nullable(from)?
}

fn nullable(from: &mut Bytes) -> Option<Option<String>> {
    let length = from.try_get_i16().ok()?;
    if length < 0 {
        return Some(None);
    }
    let bytes = take(from, usize::try_from(length).ok()?)?;
    Some(Some(std::str::from_utf8(&bytes).ok()?.to_owned()))
}

fn blob(from: &mut Bytes) -> Option<Option<Bytes>> {
    let length = from.try_get_i32().ok()?;
    if length < 0 {
        return Some(None);
    }
    Some(Some(take(from, usize::try_from(length).ok()?)?))
}

fn take(from: &mut Bytes, length: usize) -> Option<Bytes> {
    (from.len() >= length).then(|| from.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_read_for_its_topics_and_garbage_is_not_believed() {
        let bytes = Bytes::from_static(&[0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(Subscription::topics_of(&bytes).unwrap(), ["a", "bc"]);
        assert_eq!(Subscription::topics_of(&Bytes::from_static(&[0, 1, 0x7f, 0xff, 0xff, 0xff])), None);
        assert_eq!(Subscription::topics_of(&Bytes::from_static(b"range")), None);
        // Version 1 announces what the member owns, and this one does not go on.
        assert_eq!(Subscription::read(&bytes), None);
    }

    #[test]
    fn a_whole_subscription_is_read_in_its_newest_version() {
        let bytes = Bytes::from_static(&[
            0, 3, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 1, 9, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0,
            0, 0, 7, 0, 2, b'r', b'1',
        ]);
        let read = Subscription::read(&bytes).unwrap();
        assert_eq!(read.topics, ["a"]);
        assert_eq!(read.owned, [("a".to_owned(), vec![0, 3])]);
        assert_eq!((read.rack.as_deref(), Subscription::version_of(&bytes)), (Some("r1"), 3));
        for end in 0..bytes.len() {
            assert_eq!(Subscription::read(&bytes.slice(..end)), None, "cut at {end}");
        }
    }

    #[test]
    fn an_assignment_is_read_as_it_was_written() {
        let bytes = Assignment::write(1, &[("a", vec![0, 2]), ("b", vec![])]);
        let read = Assignment::read(&bytes).unwrap();
        assert_eq!(read.partitions, [("a".to_owned(), vec![0, 2]), ("b".to_owned(), vec![])]);
        assert!(!read.has_user_data);
        assert_eq!(Assignment::read(&Bytes::new()), Some(Assignment::default()));
        assert_eq!(Assignment::read(&bytes.slice(..bytes.len() - 1)), None);
    }
}
