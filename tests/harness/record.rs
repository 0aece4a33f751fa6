//! Records as tests mean them, and as clients' drivers write them in JSON.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// A record to produce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key; null differs from empty.
    pub key: Option<Vec<u8>>,
    /// The value; null differs from empty.
    pub value: Option<Vec<u8>>,
    /// Headers in order; a name may come twice.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The partition to write to.
    pub partition: i32,
}

/// A record as a consumer saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its place in the partition.
    pub offset: i64,
    /// Whether the broker set the timestamp; `None` where the library does not say.
    pub append_time: Option<bool>,
    /// What it holds.
    pub record: Record,
}

impl Record {
    /// A record of partition 0 without headers.
    pub fn new(key: Option<&[u8]>, value: Option<&[u8]>, timestamp: i64) -> Self {
        let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
        Self { key, value, headers: Vec::new(), timestamp, partition: 0 }
    }

    /// The record with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: Option<&[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
        self
    }

    /// The record on another partition.
    #[must_use]
    pub const fn on(mut self, partition: i32) -> Self {
        self.partition = partition;
        self
    }

    /// For a driver's `produce`.
    pub fn to_json(&self) -> Value {
        let headers: Vec<Value> =
            self.headers.iter().map(|(name, value)| json!([name, text(value.as_deref())])).collect();
        json!({
            "key": text(self.key.as_deref()), "value": text(self.value.as_deref()), "headers": headers,
            "timestamp": self.timestamp, "partition": self.partition,
        })
    }

    /// From a driver's `produce`.
    pub fn from_json(json: &Value) -> Self {
        let headers = json["headers"].as_array().map_or_else(Vec::new, |all| {
            all.iter().map(|one| (one[0].as_str().expect("a name").to_owned(), bytes(&one[1]))).collect()
        });
        Self {
            key: bytes(&json["key"]),
            value: bytes(&json["value"]),
            headers,
            timestamp: json["timestamp"].as_i64().expect("a timestamp"),
            partition: i32::try_from(json["partition"].as_i64().unwrap_or(0)).expect("a partition"),
        }
    }
}

impl Seen {
    /// From a driver's `consume` or `poll`.
    pub fn from_json(json: &Value) -> Self {
        Self {
            offset: json["offset"].as_i64().expect("an offset"),
            append_time: json["timestamp_type"].as_str().map(|kind| kind == "append"),
            record: Record::from_json(json),
        }
    }

    /// As a driver's answer.
    pub fn to_json(&self) -> Value {
        let mut json = self.record.to_json();
        json["offset"] = json!(self.offset);
        json["timestamp_type"] = json!(self.append_time.map(|append| if append { "append" } else { "create" }));
        json
    }
}

fn text(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| Value::String(BASE64_STANDARD.encode(bytes)))
}

fn bytes(text: &Value) -> Option<Vec<u8>> {
    text.as_str().map(|text| BASE64_STANDARD.decode(text).expect("base64"))
}
