//! Node and topic configuration: what an operator writes, checked and typed.
//!
//! Nothing here acts. Each room owns its options; this one composes them from files and arguments, and refuses what is
//! unknown or impossible with the file, the line, the key and the reason.

pub mod kafka_keys;
