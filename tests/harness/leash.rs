//! A process that cannot outlive the tests.
//!
//! A broker shared by many tests sits in a static, which Rust never drops, and a test run can itself be killed. So each
//! child has a watchdog: a shell that waits on a pipe held open by this process and kills the child when the pipe
//! closes. The watchdog ends before the child is reaped, so it can never hit a recycled process id.

use std::process::{Child, Command, Stdio};

use std::os::unix::process::CommandExt as _;

use rustix::process::Signal;

/// A child process with its watchdog. Dropping it kills both.
#[derive(Debug)]
pub struct Leashed {
    child: Child,
    watchdog: Child,
}

impl Leashed {
    /// Starts `command` in a process group of its own.
    pub fn spawn(command: &mut Command) -> Self {
        let child =
            command.process_group(0).spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let watchdog = Command::new("sh")
            .args(["-c", "read -r _; kill -9 \"$0\" 2>/dev/null", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell starts");
        Self { child, watchdog }
    }

    /// The child itself, to talk to.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether the child still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child can be waited for").is_none()
    }

    /// Sends SIGTERM.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // An error means that the child has ended already, which the caller is about to see.
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// Sends SIGKILL and waits until the process is gone.
    pub fn kill(&mut self) {
        drop(self.watchdog.kill());
        drop(self.watchdog.wait());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        self.kill();
    }
}
