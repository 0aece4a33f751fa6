//! The plugin's config, as the topic file has it.

use serde::Deserialize;

/// All of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// What is masked: paths, each with the way it is masked or without.
    pub fields: Vec<Field>,
    /// How fields are masked that say nothing themselves.
    #[serde(default)]
    pub with: Mask,
    /// What becomes of a value that is not JSON.
    #[serde(default)]
    pub invalid: Invalid,
}

/// A field, by its path: names with dots between them, a dot within a name as `\.`. Arrays are walked through: the path
/// `items.sku` names the field of each element.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Field {
    /// Masked as `Config::with` says.
    Path(String),
    /// Masked in a way of its own.
    With(FieldWith),
}

/// A field with its own mask.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldWith {
    /// The path.
    pub path: String,
    /// The mask.
    pub with: Mask,
}

/// How a field is masked. Null stays null; an object or an array is replaced as a whole.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Mask {
    /// By this text.
    Text(String),
    /// By as many asterisks as it has characters, except the last of them.
    KeepLast(usize),
    /// By 32 hexadecimal digits of HMAC-SHA256 under this key: equal values stay equal.
    Hash(String),
}

impl Default for Mask {
    fn default() -> Self {
        Self::Text("***".to_owned())
    }
}

/// What becomes of a value that is not JSON.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Invalid {
    /// The record is refused: what cannot be read cannot be masked.
    #[default]
    Reject,
    /// It is stored as it is.
    Keep,
}
