//! `validate-json`: refuses records whose value does not fit a JSON Schema (drafts 4, 6, 7, 2019-09 and 2020-12).
//!
//! ```toml
//! [[plugin]]
//! use = "validate-json@1"
//! stage = "produce"
//! config = { schema = '{"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}' }
//! ```
//!
//! The schema is JSON text or a table. References lead to places within it and to the drafts' own schemas, to nowhere else.
//! `formats = true` checks `format` too. A null value is a deletion and has nothing to fit; what is not JSON does not fit.

use jsonschema::Validator;
use millrace::Record;
use serde::Deserialize;
use serde_json::Value;

/// The plugin's config, as the topic file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    schema: Value,
    #[serde(default)]
    formats: bool,
}

/// A schema, ready for use.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Config")]
struct Schema(Validator);

impl TryFrom<Config> for Schema {
    type Error = String;

    fn try_from(config: Config) -> Result<Self, String> {
        let schema = match config.schema {
            Value::String(text) => {
                serde_json::from_str(&text).map_err(|error| format!("`schema` is not JSON: {error}"))?
            }
            table => table,
        };
        if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
            return Err("`schema` is neither an object nor true or false".to_owned());
        }
        let validator = jsonschema::options().should_validate_formats(config.formats).build(&schema);
        validator.map(Self).map_err(|error| format!("`schema` at {:?}: {error}", error.instance_path().as_str()))
    }
}

#[millrace::filter]
fn fits(record: &Record, schema: &Schema) -> Result<bool, String> {
    record.value().map_or(Ok(true), |value| check(value, schema))
}

fn check(value: &[u8], schema: &Schema) -> Result<bool, String> {
    let value: Value = serde_json::from_slice(value).map_err(|error| format!("invalid JSON: {error}"))?;
    match schema.0.validate(&value) {
        Ok(()) => Ok(true),
        Err(error) => match error.instance_path().as_str() {
            "" => Err(error.to_string()),
            path => Err(format!("at {path}: {error}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(config: &str) -> Result<Schema, String> {
        serde_json::from_str(config).map_err(|error| error.to_string())
    }

    const ORDER: &str = r##"{"schema":{"type":"object","required":["id"],"properties":{
        "id":{"type":"integer","minimum":1},"tags":{"type":"array","items":{"$ref":"#/$defs/tag"}}},
        "$defs":{"tag":{"type":"string","maxLength":3}}}}"##;

    #[test]
    fn what_fits_passes_and_what_does_not_is_told_with_its_place() {
        let schema = schema(ORDER).unwrap();
        assert_eq!(check(br#"{"id":1,"tags":["a","b"]}"#, &schema), Ok(true));
        for (value, reason) in [
            (r"{}", "\"id\" is a required property"),
            (r#"{"id":0}"#, "at /id: 0 is less than the minimum of 1"),
            (r#"{"id":1,"tags":["a","long"]}"#, "at /tags/1: \"long\" is longer than 3 characters"),
            ("[]", "[] is not of type \"object\""),
            ("{", "invalid JSON"),
        ] {
            let error = check(value.as_bytes(), &schema).unwrap_err();
            assert!(error.starts_with(reason), "{value}: {error}");
        }
    }

    #[test]
    fn a_schema_may_be_text_and_name_its_draft() {
        let text = r#"{"$schema":"http://json-schema.org/draft-04/schema#","minimum":1,"exclusiveMinimum":true}"#;
        let schema = schema(&serde_json::json!({ "schema": text }).to_string()).unwrap();
        assert_eq!(check(b"2", &schema), Ok(true));
        assert!(check(b"1", &schema).is_err());
    }

    #[test]
    fn formats_are_checked_where_asked_for() {
        let check = |formats: bool| {
            let config = serde_json::json!({ "schema": { "format": "ipv4" }, "formats": formats });
            check(b"\"1.2.3\"", &schema(&config.to_string()).unwrap())
        };
        assert_eq!(check(false), Ok(true));
        assert!(check(true).is_err());
    }

    #[test]
    fn a_config_that_makes_no_sense_is_refused_with_the_reason() {
        for (config, reason) in [
            ("{}", "missing field `schema`"),
            (r#"{"schema":1}"#, "neither an object"),
            (r#"{"schema":"{"}"#, "is not JSON"),
            (r#"{"schema":{"type":"strnig"}}"#, "`schema` at \"/type\""),
            (r#"{"schema":{"$ref":"https://example.com/schema.json"}}"#, "example.com"),
            (r#"{"schema":{"$ref":"file:///etc/passwd"}}"#, "passwd"),
            (r#"{"schema":{"pattern":"("}}"#, "("),
            (r#"{"schema":{},"format":true}"#, "unknown field"),
        ] {
            let error = schema(config).unwrap_err();
            assert!(error.contains(reason), "{config}: {error}");
        }
    }
}
