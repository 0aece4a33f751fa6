//! What the tests share: a broker to test, clients in five languages, and what to hold their answers against.
//!
//! `MILLRACE_REFEREE=kafka` starts Apache Kafka in place of Millrace, so that a test is proven on the real thing before
//! it judges ours. Java, Go, Python, Node and kcat are found on the machine; what is missing is skipped with a line on
//! standard error, and is a failure where `CI=true`.
//!
//! Invariants: every process started here ends with the test process, however that ends (see [`leash`]); nothing is
//! written outside the target directory and temporary directories.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why on standard error"
)]

pub mod application;
pub mod broker;
pub mod client;
pub mod flights;
pub mod kafka;
pub mod leash;
pub mod librdkafka;
pub mod load;
pub mod paths;
pub mod patience;
pub mod ports;
pub mod record;
pub mod rest;
pub mod seed;
pub mod segments;
pub mod session;
pub mod shared;
pub mod tools;
pub mod wire;
