//! The components that tests load, built from `tests/guests` on first use.

#[path = "../../broker/build/components.rs"]
mod components;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The bytes of one of the guests of `tests/guests`, by its crate's name.
///
/// # Panics
/// Where the guests do not build: the test cannot go on.
pub fn guest(name: &str) -> Vec<u8> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    read(BUILT.get_or_init(|| build("tests/guests", "guests")), name)
}

/// The bytes of one of the first-party plugins.
///
/// # Panics
/// Where the plugins do not build.
#[allow(dead_code, reason = "not every test needs it")]
pub fn plugin(name: &str) -> Vec<u8> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    read(BUILT.get_or_init(|| build("plugins", "plugins")), name)
}

fn build(workspace: &str, target: &str) -> Result<PathBuf, String> {
    let root = repository();
    components::build(&root.join(workspace), &target_dir(&root).join(target))
}

#[allow(clippy::panic, reason = "called by tests only")]
fn read(built: &Result<PathBuf, String>, name: &str) -> Vec<u8> {
    let dir = built.as_ref().unwrap_or_else(|error| panic!("{error}"));
    let path = dir.join(name.replace('-', "_")).with_extension("wasm");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The repository's root: the nearest directory above with `wit/` in it.
fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().find(|dir| dir.join("wit").is_dir()).unwrap_or(here).to_owned()
}

/// Where the outer build puts its results: the tests' executable lies in `<target>/<profile>/deps`.
fn target_dir(root: &Path) -> PathBuf {
    let exe = std::env::current_exe().ok();
    let target = exe.as_deref().and_then(|exe| exe.ancestors().nth(3)).map(Path::to_owned);
    target.unwrap_or_else(|| root.join("target"))
}
