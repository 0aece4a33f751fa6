//! Records of Kafka's metadata log, as far as adoption asks for them (`metadata/src/main/resources/common/metadata`).
//!
//! ```text
//! frame version (1)  kind  version    unsigned varints
//! fields of the kind                  as in flexible messages: compact strings and arrays, tagged fields at the end
//! ```
//!
//! A version that is not known may mean something else by the same bytes: it is refused, not guessed at.

use millrace_model::TopicId;
use uuid::Uuid;

/// What has configs: the numbers are Kafka's.
pub(super) const TOPIC: i8 = 2;
/// See [`TOPIC`].
pub(super) const BROKER: i8 = 4;
/// See [`TOPIC`].
pub(super) const GROUP: i8 = 32;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Topic {
        name: String,
        id: TopicId,
    },
    RemovedTopic {
        id: TopicId,
    },
    Partition {
        topic: TopicId,
        partition: i32,
        leader_epoch: i32,
    },
    /// With a leader, or the lack of one, comes the next leader epoch.
    NewLeader {
        topic: TopicId,
        partition: i32,
    },
    /// No value: the key is taken off.
    Config {
        of: i8,
        name: String,
        key: String,
        value: Option<String>,
    },
    NextProducerId(i64),
    Begin,
    End,
    Abort,
    /// Something that is not adopted, in words.
    Left(&'static str),
    /// Something that means nothing without Kafka's own processes.
    Nothing,
}

/// The fact in a record's value.
pub(super) fn read(value: &[u8]) -> Result<Fact, String> {
    let mut fields = Fields(value);
    let cut = || "a record ends before its fields do".to_owned();
    let frame = fields.uvarint().ok_or_else(cut)?;
    let (kind, version) = (fields.uvarint().ok_or_else(cut)?, fields.uvarint().ok_or_else(cut)?);
    let known = match kind {
        3 | 5 => 2,
        _ => 0,
    };
    let matters = matches!(kind, 2..=5 | 9 | 15 | 23..=25);
    if frame != 1 || matters && version > known {
        return Err(format!("a record of kind {kind} has version {version} in frame {frame}"));
    }
    fields.fact(kind).ok_or_else(cut)
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn fact(&mut self, kind: u32) -> Option<Fact> {
        Some(match kind {
            2 => Fact::Topic { name: self.text()??, id: self.id()? },
            3 => self.partition()?,
            4 => Fact::Config {
                of: self.byte()?.cast_signed(),
                name: self.text()??,
                key: self.text()??,
                value: self.text()?,
            },
            5 => self.change()?,
            9 => Fact::RemovedTopic { id: self.id()? },
            10 => Fact::Left("delegation tokens"),
            11 => Fact::Left("SCRAM credentials"),
            14 => Fact::Left("client quotas"),
            15 => {
                // Who asked for the ids.
                let _ = (self.int()?, self.long()?);
                Fact::NextProducerId(self.long()?)
            }
            18 => Fact::Left("access control lists"),
            23 => Fact::Begin,
            24 => Fact::End,
            25 => Fact::Abort,
            _ => Fact::Nothing,
        })
    }

    fn partition(&mut self) -> Option<Fact> {
        let (partition, topic) = (self.int()?, self.id()?);
        // Replicas, those in sync, those that come and those that go.
        for _ in 0..4 {
            self.ints()?;
        }
        let _leader = self.int()?;
        Some(Fact::Partition { topic, partition, leader_epoch: self.int()? })
    }

    fn change(&mut self) -> Option<Fact> {
        const LEADER: u32 = 1;
        const SAME: i32 = -2;
        let (partition, topic) = (self.int()?, self.id()?);
        for _ in 0..self.uvarint()? {
            let (tag, len) = (self.uvarint()?, self.uvarint()?);
            let mut field = Fields(self.take(usize::try_from(len).ok()?)?);
            if tag == LEADER && field.int()? != SAME {
                return Some(Fact::NewLeader { topic, partition });
            }
        }
        Some(Fact::Nothing)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn int(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn long(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn id(&mut self) -> Option<TopicId> {
        Some(TopicId::new(Uuid::from_bytes(self.take(16)?.try_into().ok()?)))
    }

    fn uvarint(&mut self) -> Option<u32> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// Steps over an array of numbers; `None` in it is none.
    fn ints(&mut self) -> Option<()> {
        let count = usize::try_from(self.uvarint()?.saturating_sub(1)).ok()?;
        self.take(count.checked_mul(4)?).map(drop)
    }

    /// The outer `None` is a text that is not whole, the inner one is null.
    #[expect(clippy::option_option, reason = "a text that is null is not a text that is cut off")]
    fn text(&mut self) -> Option<Option<String>> {
        let Some(len) = self.uvarint()?.checked_sub(1) else { return Some(None) };
        let text = std::str::from_utf8(self.take(usize::try_from(len).ok()?)?).ok()?;
        Some(Some(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn id(hex: &str) -> TopicId {
        TopicId::new(Uuid::from_slice(&bytes(hex)).unwrap())
    }

    const COMP: &str = "138c782c5fe24f0bb0f51b39cb7099d8";
    const TX: &str = "df4096311c9e442c81e2f386dd36e77c";

    /// As Apache Kafka 4.3.1 wrote them.
    fn samples() -> Vec<(Vec<u8>, Fact)> {
        let config = |of, name: &str, key: &str, value: &str| Fact::Config {
            of,
            name: name.to_owned(),
            key: key.to_owned(),
            value: Some(value.to_owned()),
        };
        vec![
            (bytes(&format!("01020005636f6d70{COMP}00")), Fact::Topic { name: "comp".to_owned(), id: id(COMP) }),
            (
                bytes(&format!(
                    "01030200000000{COMP}02000000010200000001010100000001000000000000000002799d9e447df83f9e6c8eba918665a4d000"
                )),
                Fact::Partition { topic: id(COMP), partition: 0, leader_epoch: 0 },
            ),
            (
                bytes("0104000208666f72657665720d726574656e74696f6e2e6d73032d3100"),
                config(TOPIC, "forever", "retention.ms", "-1"),
            ),
            (
                bytes("0104000401146d696e2e696e73796e632e7265706c69636173023100"),
                config(BROKER, "", "min.insync.replicas", "1"),
            ),
            (
                bytes(&format!("01050200000001{TX}040001010104ffffffff0605020000000107050200000001")),
                Fact::NewLeader { topic: id(TX), partition: 1 },
            ),
            (bytes("010f0000000001000000000000001100000000000003e800"), Fact::NextProducerId(1000)),
            (bytes("01170001001212426f6f747374726170207265636f726473"), Fact::Begin),
            (bytes("01180000"), Fact::End),
            (bytes("01140000"), Fact::Nothing),
        ]
    }

    #[test]
    fn what_kafka_wrote_is_read() {
        for (value, fact) in samples() {
            assert_eq!(read(&value), Ok(fact), "{value:02x?}");
        }
        let removed = bytes(&format!("010900{COMP}00"));
        assert_eq!(read(&removed), Ok(Fact::RemovedTopic { id: id(COMP) }));
        let off = bytes("0104000205636f6d700f636c65616e75702e706f6c6963790000");
        assert!(matches!(read(&off), Ok(Fact::Config { value: None, .. })));
    }

    #[test]
    fn a_record_that_is_cut_or_of_a_later_version_is_refused_and_never_a_panic() {
        for (value, fact) in samples() {
            for len in 0..value.len() {
                if let Ok(cut) = read(&value[..len]) {
                    assert_eq!(cut, fact, "only what is not looked at may be missing");
                }
            }
            for at in 0..value.len() {
                for byte in 0..=255 {
                    let mut other = value.clone();
                    other[at] = byte;
                    let _ = read(&other);
                }
            }
        }
        assert!(read(&bytes(&format!("01020105636f6d70{COMP}00"))).is_err());
        assert!(read(&bytes(&format!("02020005636f6d70{COMP}00"))).is_err());
    }
}
