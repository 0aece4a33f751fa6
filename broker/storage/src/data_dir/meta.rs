//! Whose a directory is: `meta.properties` of all of it, `partition.metadata` of one partition.

use millrace_model::TopicId;
use std::fmt::Write;

/// Whose directory it is (`meta.properties`, version 1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// `cluster.id`.
    pub cluster_id: Option<String>,
    /// `node.id`.
    pub node_id: Option<i32>,
    /// `directory.id`.
    pub directory_id: Option<String>,
}

impl Meta {
    /// Java's properties: `key=value` or `key:value` lines, `#` and `!` for comments, a backslash before special characters.
    pub(super) fn from_text(text: &str) -> Self {
        let mut meta = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', '!'])) {
            let Some((key, value)) = line.split_once(['=', ':']) else { continue };
            let value = value.trim().replace('\\', "");
            match key.trim() {
                "cluster.id" => meta.cluster_id = Some(value),
                "node.id" | "broker.id" => meta.node_id = value.parse().ok(),
                "directory.id" => meta.directory_id = Some(value),
                _ => {}
            }
        }
        meta
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::from("#\n");
        let node_id = self.node_id.map(|id| id.to_string());
        let fields = [
            ("cluster.id", self.cluster_id.as_deref()),
            ("directory.id", self.directory_id.as_deref()),
            ("node.id", node_id.as_deref()),
            ("version", Some("1")),
        ];
        for (key, value) in fields {
            if let Some(value) = value {
                let _ = writeln!(text, "{key}={value}");
            }
        }
        text
    }
}

pub(super) fn partition_meta(id: TopicId) -> String {
    format!("version: 0\ntopic_id: {}\n", encode_uuid(id))
}

pub(super) fn parse_partition_meta(text: &str) -> Option<TopicId> {
    let field = |name| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    if field("version")? != "0" {
        return None;
    }
    decode_uuid(field("topic_id")?).filter(|id| *id != TopicId::NIL)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 with the URL's alphabet and without padding: how Kafka writes ids as text.
pub fn encode_uuid(id: TopicId) -> String {
    // 128 bits and four zero bits make 22 letters of six.
    let mut bits = id.get().as_u128();
    let mut letters = [0; 22];
    let last = (bits & 3) << 4;
    bits >>= 2;
    for (i, letter) in letters.iter_mut().rev().enumerate() {
        let six = if i == 0 { last } else { bits & 63 };
        if i > 0 {
            bits >>= 6;
        }
        *letter = usize::try_from(six).ok().and_then(|six| ALPHABET.get(six)).copied().unwrap_or(b'A');
    }
    letters.iter().copied().map(char::from).collect()
}

/// Reads what [`encode_uuid`] writes.
pub fn decode_uuid(text: &str) -> Option<TopicId> {
    if text.len() != 22 {
        return None;
    }
    let mut bits = 0_u128;
    for (i, letter) in text.bytes().enumerate() {
        let six = ALPHABET.iter().position(|other| *other == letter)? as u128;
        bits = if i < 21 { bits << 6 | six } else { bits << 2 | six >> 4 };
    }
    Some(TopicId::new(uuid::Uuid::from_u128(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_reads_back_from_the_text_that_kafka_writes() {
        let id = decode_uuid("dGVzdC1pZC0xMjM0NTY3OA").unwrap();
        assert_eq!(id.get().as_bytes(), b"test-id-12345678");
        assert_eq!(encode_uuid(id), "dGVzdC1pZC0xMjM0NTY3OA");
        let odd = TopicId::new(uuid::Uuid::from_u128(u128::MAX));
        assert_eq!(encode_uuid(odd), "_____________________w");
        assert_eq!(decode_uuid(&encode_uuid(odd)), Some(odd));
        for broken in ["", "dGVzdC1pZC0xMjM0NTY3O", "dGVzdC1pZC0xMjM0NTY3O+", "dGVzdC1pZC0xMjM0NTY3OAA"] {
            assert_eq!(decode_uuid(broken), None);
        }
    }

    #[test]
    fn javas_properties_are_understood() {
        let meta = Meta::from_text("#\n#Sat Nov 21 09:00:00 UTC 2026\ncluster.id=a\\:b\nversion=1\nnode.id = 1\n");
        assert_eq!(meta, Meta { cluster_id: Some("a:b".into()), node_id: Some(1), directory_id: None });
    }
}
