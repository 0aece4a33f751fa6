//! Coordinators: they take a request and give back records and an answer, and never touch a log.

pub mod group;
pub mod groups;
pub mod runtime;
