//! The config as the topic file has it, and made ready for use.

use crate::condition::{Condition, Operand, Test};
use crate::parse::parse;
use serde::Deserialize;

/// The plugin's config, as the topic file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Records are kept for which this holds.
    r#where: String,
    /// What becomes of a value that is not JSON, where the condition asks for fields.
    #[serde(default)]
    invalid: Invalid,
}

/// What becomes of a value that is not JSON.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Invalid {
    /// The record is refused.
    #[default]
    Reject,
    /// It is dropped.
    Drop,
    /// It is kept.
    Keep,
}

/// A config, ready for use.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Config")]
pub struct Filter {
    pub(crate) condition: Condition,
    pub(crate) tests: Vec<Test>,
    /// The fields that tests are made on.
    pub(crate) fields: Node,
    pub(crate) invalid: Invalid,
}

/// Names of fields, as a tree.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) children: Vec<(Vec<u8>, Node)>,
    /// The tests that are made on the value here, by their places in [`Filter::tests`].
    pub(crate) tests: Vec<usize>,
}

impl TryFrom<Config> for Filter {
    type Error = String;

    fn try_from(config: Config) -> Result<Self, String> {
        let (condition, tests) = parse(&config.r#where).map_err(|error| format!("`where`, {error}"))?;
        let mut fields = Node::default();
        for (at, test) in tests.iter().enumerate() {
            let Operand::Field(names) = &test.operand else { continue };
            let mut node = &mut fields;
            for name in names {
                let place = node.children.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                    node.children.push((name.clone(), Node::default()));
                    node.children.len() - 1
                });
                node = &mut node.children[place].1;
            }
            node.tests.push(at);
        }
        Ok(Self { condition, tests, fields, invalid: config.invalid })
    }
}
