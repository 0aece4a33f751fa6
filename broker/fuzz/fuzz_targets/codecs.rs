//! See `broker/model/tests/hostile/targets.rs`.
#![no_main]

#[path = "../../model/tests/hostile/targets.rs"]
#[allow(dead_code, reason = "each binary runs one of the targets")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::codecs(data));
