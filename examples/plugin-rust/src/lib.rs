//! A plugin in one function: puts a suffix behind every value, and refuses values that have it already.
//!
//! ```text
//! cargo build --release --target wasm32-wasip2
//! ```
//!
//! and in a topic file beside the component:
//!
//! ```toml
//! [[plugin]]
//! path = "add_suffix.wasm"
//! stage = "produce"
//! config = { suffix = "!" }
//! ```

use millrace::{Change, Record};

#[derive(serde::Deserialize)]
struct Config {
    suffix: String,
}

#[millrace::transform]
fn add_suffix(record: &Record, config: &Config) -> Result<Change, String> {
    let Some(value) = record.value() else { return Ok(Change::Keep) };
    if value.ends_with(config.suffix.as_bytes()) {
        return Err(format!("the value ends in {:?} already", config.suffix));
    }
    Ok(Change::Value([value, config.suffix.as_bytes()].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace::Batch;

    #[test]
    fn a_suffix_is_put_behind_a_value_once() {
        let config = Config { suffix: "!".to_owned() };
        let change = |value: &[u8]| {
            let index = [0, u32::MAX, 0, value.len() as u32, 0, 0, 0, 0];
            add_suffix(&Batch::new(value, &index).records().next().unwrap(), &config)
        };
        assert_eq!(change(b"hey"), Ok(Change::Value(b"hey!".to_vec())));
        assert!(change(b"hey!").is_err());
    }
}
