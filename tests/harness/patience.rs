//! What takes for ever ends here, with its name: a suite that hangs says nothing.

use std::fmt::Display;
use std::io::Write as _;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

/// Longer than anything that a client is asked at once.
const LONGEST: Duration = Duration::from_mins(10);

/// Things under way: their number, since when, in which test, and what they are.
static UNDER_WAY: Mutex<Vec<(u64, Instant, String, String)>> = Mutex::new(Vec::new());

/// Does something that waits for others. Where it has not ended after ten minutes, the whole run does, and says what it was.
pub fn during<T>(what: &impl Display, act: impl FnOnce() -> T) -> T {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    static WATCH: Once = Once::new();
    WATCH.call_once(|| drop(std::thread::spawn(watch)));
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    let test = std::thread::current().name().unwrap_or("a thread").to_owned();
    let mut what = what.to_string();
    what.truncate(what.floor_char_boundary(300));
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).push((number, Instant::now(), test, what));
    let _ended = Ended(number);
    act()
}

struct Ended(u64);

impl Drop for Ended {
    fn drop(&mut self) {
        UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).retain(|(number, ..)| *number != self.0);
    }
}

fn watch() {
    loop {
        std::thread::sleep(Duration::from_secs(5));
        for (_, since, test, what) in UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if since.elapsed() > LONGEST {
                // Past libtest's capture.
                drop(writeln!(std::io::stderr(), "\n*** {test} hangs since {:?} in: {what}\n", since.elapsed()));
                std::process::abort();
            }
        }
    }
}

/// Holds a client that joins threads of its own when it is dropped: that happens in another thread, and for a minute at most it
/// is waited for. Closing a consumer of librdkafka has been seen to take for ever (confluentinc/librdkafka#4519,
/// fede1024/rust-rdkafka#509).
pub struct Closing<T: Send + 'static>(Option<T>);

impl<T: Send> Closing<T> {
    /// Holds it.
    pub const fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send> Deref for Closing<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl<T: Send> Drop for Closing<T> {
    fn drop(&mut self) {
        let (closed, outcome) = mpsc::channel::<()>();
        let client = self.0.take();
        std::thread::spawn(move || {
            drop(client);
            drop(closed);
        });
        if outcome.recv_timeout(Duration::from_mins(1)) == Err(RecvTimeoutError::Timeout) {
            let what = std::any::type_name::<T>();
            drop(writeln!(std::io::stderr(), "\n*** left behind: a {what} that has not closed within a minute\n"));
        }
    }
}
