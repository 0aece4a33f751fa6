//! The flights: lines of JSON, compressed in the binary.

use crate::cli::fault::Fault;
use millrace_model::codec::{Compression, decompress};
use serde_json::{Map, Value};

const COMPRESSED: &[u8] = include_bytes!("../../../../examples/quickstart/flights.jsonl.gz");
/// More than the lines take.
const LIMIT: usize = 16 << 20;
/// What of a flight is shown.
const SHOWN: [&str; 6] = ["carrier", "flight", "tailnum", "origin", "dest", "dep_time"];

/// The lines.
///
/// # Errors
/// The binary is damaged.
pub fn lines() -> Result<String, Fault> {
    let mut bytes = Vec::new();
    decompress(Compression::Gzip, COMPRESSED, LIMIT, &mut bytes).map_err(|error| Fault::new(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| Fault::new(error.to_string()))
}

/// The key of a flight's record: the flight's number with its carrier.
pub fn key(line: &str) -> String {
    let flight: Value = serde_json::from_str(line).unwrap_or_default();
    let text = |name: &str| flight.get(name).map(|value| value.to_string().replace('"', "")).unwrap_or_default();
    format!("{}{}", text("carrier"), text("flight"))
}

/// The few fields of a flight that fit a line.
pub fn shown(value: &[u8]) -> String {
    let Ok(Value::Object(flight)) = serde_json::from_slice::<Value>(value) else {
        return String::from_utf8_lossy(value).into_owned();
    };
    // In the order of `SHOWN`, which a map of its own would lose.
    let field = |name: &&str| flight.get(*name).map(|value| format!("\"{name}\":{value}"));
    let fields: Vec<String> = SHOWN.iter().filter_map(field).collect();
    format!("{{{}, …}}", fields.join(", "))
}

/// Whether the flight was cancelled.
pub fn is_cancelled(line: &str) -> bool {
    serde_json::from_str::<Map<String, Value>>(line).is_ok_and(|flight| flight.get("dep_time") == Some(&Value::Null))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_carries_five_thousand_flights() {
        let lines = lines().unwrap();
        assert_eq!(lines.lines().count(), 5000);
        assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).unwrap().is_object()));
        assert_eq!(lines.lines().filter(|line| is_cancelled(line)).count(), 31);
        assert_eq!(key(lines.lines().next().unwrap()), "UA1545");
    }

    #[test]
    fn a_flight_is_shown_in_short() {
        let flight =
            r#"{"year":2013,"carrier":"UA","flight":1,"tailnum":"N1","origin":"JFK","dest":"LAX","dep_time":5}"#;
        let expected = r#"{"carrier":"UA", "flight":1, "tailnum":"N1", "origin":"JFK", "dest":"LAX", "dep_time":5, …}"#;
        assert_eq!(shown(flight.as_bytes()), expected);
        assert_eq!(shown(b"no json"), "no json");
    }
}
