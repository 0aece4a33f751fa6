//! Real clients against a real broker process, over loopback.
//!
//! Seven libraries (librdkafka, Apache Kafka's Java client, franz-go, sarama, kafkajs, kafka-python, aiokafka) obey one set of commands
//! (`DRIVERS.md`), so that a behaviour is written down once and held against all of them; kcat and Kafka's console
//! tools are run as a user runs them. `MILLRACE_REFEREE=kafka` runs everything against Apache Kafka.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why on standard error"
)]

mod admin;
mod adoption;
mod compaction;
mod connect;
mod console;
mod crash;
mod exactly_once;
mod exchange;
mod group_crash;
mod groups;
#[path = "../harness/guests.rs"]
mod guests;
mod hostile;
mod kcat;
mod large;
mod main_job;
mod probe;
mod restart;
mod spring;
mod stock;
mod streams;
mod times;
mod transactions;
