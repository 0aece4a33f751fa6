//! What cannot be read, and what cannot be written.

use crate::wire::WireError;
use thiserror::Error;

/// Why bytes are not the message they should be.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// A request that is not served, or not in this version.
    #[error("{key} version {version} is not served")]
    Version {
        /// The request.
        key: i16,
        /// Its version.
        version: i16,
    },
    /// The walk over the bytes failed.
    #[error("malformed request: {0}")]
    Malformed(#[from] WireError),
    /// kafka-protocol's decoder refused them.
    #[error("malformed message: {0}")]
    Decoder(String),
    /// The answer is to another request.
    #[error("the answer is to request {found} where {expected} was asked")]
    Correlation {
        /// The id that was sent.
        expected: i32,
        /// The id that came back.
        found: i32,
    },
}

/// Why a message cannot be written: it has a value that the version cannot carry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message} cannot be written in version {version}: {reason}")]
pub struct EncodeError {
    /// The message.
    pub message: &'static str,
    /// The version.
    pub version: i16,
    /// What is wrong.
    pub reason: String,
}
