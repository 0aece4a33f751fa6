//! Free ports on loopback, outside the range from which the kernel picks ports for outgoing connections.
//!
//! A client that keeps reconnecting to a killed broker's port inside that range can be given that very port as its own
//! and connect to itself, and then the broker cannot come back.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;

/// A port that nothing listens on now and that no other caller in this process was given.
pub fn free() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(u64::from(std::process::id()) * 37 % u64::from(LAST - FIRST)).expect("a remainder fits");
    for _ in FIRST..LAST {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start + step) % (LAST - FIRST);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {LAST}");
}
