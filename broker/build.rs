//! Builds the first-party plugins, which the binary carries with it, so that nobody has to build or fetch them.

#[path = "build/components.rs"]
mod components;

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The plugins, by their crates' names.
const PLUGINS: [&str; 3] = ["filter-fields", "mask-fields", "validate-json"];

fn main() {
    if let Err(error) = embed() {
        println!("cargo::error=the first-party plugins do not build: {}", error.replace('\n', " / "));
    }
}

fn embed() -> Result<(), String> {
    let root =
        dir("CARGO_MANIFEST_DIR")?.parent().map(Path::to_owned).ok_or("there is no repository around this package")?;
    let out = dir("OUT_DIR")?;
    // OUT_DIR is <target>/<profile>/build/<package>/out. One build serves all profiles.
    let target = out.ancestors().nth(4).unwrap_or(&out).join("plugins");
    for watched in ["plugins", "plugin-sdk", "wit", "broker/build", "broker/build.rs"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let workspace = root.join("plugins");
    let built = components::build(&workspace, &target)?;
    let version = version(&workspace)?;
    let mut code = format!("pub(super) static BUILTIN: [Builtin; {}] = [\n", PLUGINS.len());
    for name in PLUGINS {
        let component = format!("{name}.wasm");
        let from = built.join(name.replace('-', "_")).with_extension("wasm");
        let bytes = fs::read(&from).map_err(|error| format!("{}: {error}", from.display()))?;
        fs::write(out.join(&component), &bytes).map_err(|error| format!("{component}: {error}"))?;
        // The path is the component's beside builtin.rs: a target directory may be moved.
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        let _ = writeln!(
            code,
            "    Builtin {{ name: {name:?}, version: {version:?}, hash: ContentHash::new({hash:?}), component: include_bytes!({component:?}) }},",
        );
    }
    code.push_str("];\n");
    fs::write(out.join("builtin.rs"), code).map_err(|error| format!("builtin.rs: {error}"))
}

/// The version that all first-party plugins share.
fn version(workspace: &Path) -> Result<String, String> {
    let manifest = workspace.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(|error| format!("{}: {error}", manifest.display()))?;
    let mut lines = text.lines().skip_while(|line| line.trim() != "[workspace.package]");
    let version =
        lines.find_map(|line| line.strip_prefix("version = ")).map(|version| version.trim_matches('"').to_owned());
    version.ok_or_else(|| format!("{} has no version", manifest.display()))
}

fn dir(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable).map(PathBuf::from).ok_or_else(|| format!("{variable} is not set"))
}
