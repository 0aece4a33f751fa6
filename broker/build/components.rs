//! Builds a workspace of guests for wasm32-wasip2 with cargo, from within a build script or a test.
//!
//! The inner cargo has a target directory of its own, so that it never waits for the lock that the outer one holds, and an
//! environment without what the outer one set for its own build.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds all components of `workspace` and says in which directory they are.
pub fn build(workspace: &Path, target_dir: &Path) -> Result<PathBuf, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(workspace)
        .args(["build", "--release", "--locked", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(target_dir);
    for (name, _) in env::vars_os() {
        if is_of_the_outer_build(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    let output = command.output().map_err(|error| format!("cargo does not run: {error}"))?;
    if output.status.success() {
        return Ok(target_dir.join("wasm32-wasip2/release"));
    }
    let hint = "if the target is missing: rustup target add wasm32-wasip2";
    Err(format!("{}: {}\n{}\n{hint}", workspace.display(), output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Variables that cargo or rustc set, or that are meant for the host's code. Where registries, proxies and caches are stays.
fn is_of_the_outer_build(name: &str) -> bool {
    const KEPT: [&str; 4] = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR"];
    const GONE: [&str; 9] =
        ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC", "MAKEFLAGS", "OUT_DIR", "TARGET", "HOST", "OPT_LEVEL"];
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    starts(&GONE) && !starts(&KEPT)
}
