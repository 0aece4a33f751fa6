//! From a key's text to its value, with Kafka's objections.

use super::{Key, KeyError, Kind, Rule};
use std::fmt;

/// The largest value that a double may have, as Kafka writes it.
const DOUBLE_MAX: &str = "1.7976931348623157E308";

/// A value that suits its key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A boolean.
    Bool(bool),
    /// Any of the integer types.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// A text, a class name or a password.
    Text(String),
    /// A list.
    List(Vec<String>),
}

impl fmt::Display for Value {
    /// As DescribeConfigs shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            // Java changes to exponents elsewhere than Rust does; the one such value in the table is the greatest.
            Self::Double(value) if *value == f64::MAX => f.write_str(DOUBLE_MAX),
            Self::Double(value) => write!(f, "{value:?}"),
            Self::Text(value) => value.fmt(f),
            Self::List(items) => f.write_str(&items.join(",")),
        }
    }
}

/// Reads a key's text.
///
/// # Errors
/// [`KeyError::Invalid`] for a text that is not of the key's type or not in its range.
pub fn parse(key: &Key, text: &str) -> Result<Value, KeyError> {
    let invalid = |value: String, reason: String| KeyError::Invalid { name: key.name.to_owned(), value, reason };
    let value = read(key.kind, text).map_err(|reason| invalid(text.to_owned(), reason))?;
    if let (Rule::ListOf(_), Value::List(items)) = (key.rule, &value)
        && items.iter().any(String::is_empty)
    {
        let reason = format!("Configuration '{}' values must not be empty.", key.name);
        return Err(KeyError::Conflict { name: key.name.to_owned(), reason });
    }
    match object(key, &value) {
        None => Ok(value),
        Some((shown, reason)) => Err(invalid(shown, reason)),
    }
}

fn read(kind: Kind, text: &str) -> Result<Value, String> {
    let trimmed = text.trim();
    let integer = |low: i64, high: i64| match trimmed.parse::<i64>() {
        Ok(number) if (low..=high).contains(&number) => Ok(Value::Int(number)),
        _ => Err(format!("Not a number of type {}", kind.name())),
    };
    match kind {
        Kind::Bool if trimmed.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
        Kind::Bool if trimmed.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
        Kind::Bool => Err("Expected value to be either true or false".to_owned()),
        Kind::Short => integer(i16::MIN.into(), i16::MAX.into()),
        Kind::Int => integer(i32::MIN.into(), i32::MAX.into()),
        Kind::Long => integer(i64::MIN, i64::MAX),
        // Java takes a letter for the type.
        Kind::Double => match trimmed.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(trimmed).parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Double(number)),
            _ => Err("Not a number of type DOUBLE".to_owned()),
        },
        Kind::List if trimmed.is_empty() => Ok(Value::List(Vec::new())),
        Kind::List => Ok(Value::List(trimmed.split(',').map(|item| item.trim().to_owned()).collect())),
        Kind::Str | Kind::Class => Ok(Value::Text(trimmed.to_owned())),
        Kind::Password => Ok(Value::Text(text.to_owned())),
    }
}

/// What a rule has against a value: the value as Kafka prints it there, and the reason.
fn object(key: &Key, value: &Value) -> Option<(String, String)> {
    match (key.rule, value) {
        (Rule::AtLeast(low), Value::Int(number)) => range(*number, low, i64::MAX),
        (Rule::Between(low, high), Value::Int(number)) => range(*number, low, high),
        (Rule::Fraction(high), Value::Double(number)) => fraction(*number, high),
        (Rule::GzipLevel, Value::Int(-1 | 1..=9)) => None,
        (Rule::GzipLevel, other) => {
            Some((other.to_string(), "Value must be between 1 and 9 or equal to -1".to_owned()))
        }
        (Rule::OneOf(allowed), Value::Text(text)) if !allowed.contains(&text.as_str()) => {
            Some((text.clone(), one_of(allowed)))
        }
        (Rule::OneOfAnyCase(allowed), Value::Text(text))
            if !allowed.iter().any(|word| word.eq_ignore_ascii_case(text)) =>
        {
            Some((text.clone(), format!("String must be one of (case insensitive): {}", allowed.join(", "))))
        }
        (Rule::ListOf(allowed), Value::List(items)) => {
            items.iter().find(|item| !allowed.contains(&item.as_str())).map(|wrong| (wrong.clone(), one_of(allowed)))
        }
        (Rule::ThrottledReplicas, Value::List(items)) if !are_throttled_replicas(items) => {
            let reason = format!(
                "{} must be the literal '*' or a list of replicas in the following format: \
                 [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                key.name
            );
            Some((format!("[{}]", items.join(", ")), reason))
        }
        (Rule::OffsetReset, Value::Text(text)) if !is_offset_reset(text) => {
            let reason = format!(
                "Invalid value `{text}` for configuration {}. The value must be either 'earliest', 'latest' or of the \
                 format 'by_duration:<PnDTnHnMn.nS>'.",
                key.name
            );
            Some((text.clone(), reason))
        }
        (Rule::NonEmpty, Value::Text(text)) if text.is_empty() => {
            Some((String::new(), "String must be non-empty".to_owned()))
        }
        _ => None,
    }
}

fn range(number: i64, low: i64, high: i64) -> Option<(String, String)> {
    if number < low {
        Some((number.to_string(), format!("Value must be at least {low}")))
    } else if number > high {
        Some((number.to_string(), format!("Value must be no more than {high}")))
    } else {
        None
    }
}

fn fraction(number: f64, high: f64) -> Option<(String, String)> {
    if number < 0.0 {
        Some((format!("{number:?}"), "Value must be at least 0".to_owned()))
    } else if number > high {
        Some((format!("{number:?}"), format!("Value must be no more than {high}")))
    } else {
        None
    }
}

fn one_of(allowed: &[&str]) -> String {
    format!("String must be one of: {}", allowed.join(", "))
}

fn is_offset_reset(text: &str) -> bool {
    let is_duration = |text: &str| {
        let digits = text.strip_prefix('P').unwrap_or_default();
        digits.ends_with(['D', 'H', 'M', 'S'])
            && digits
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b'D' | b'T' | b'H' | b'M' | b'S' | b'.'))
    };
    matches!(text, "earliest" | "latest") || text.strip_prefix("by_duration:").is_some_and(is_duration)
}

fn are_throttled_replicas(items: &[String]) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    matches!(items, [all] if all == "*")
        || items.iter().all(|item| item.split_once(':').is_some_and(|(a, b)| number(a) && number(b)))
}
