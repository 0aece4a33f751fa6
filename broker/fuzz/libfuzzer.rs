//! One target under libFuzzer. `MILLRACE_FUZZ_TARGET` names it. Without one the names of all are printed; where
//! `MILLRACE_FUZZ_SEEDS` names a directory, the first inputs of all are written there, each target's into a folder of its own.
//! All arguments are libFuzzer's.
#![no_main]
#![allow(clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "who starts it reads what it says")]

use millrace_fuzz::{Counting, TARGETS, Target};
use std::path::Path;
use std::process::exit;
use std::sync::OnceLock;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn begin() {
    if let Some(folder) = std::env::var_os("MILLRACE_FUZZ_SEEDS") {
        TARGETS.iter().for_each(|target| write_seeds(target, &Path::new(&folder).join(target.name)));
        exit(0);
    }
    let Ok(name) = std::env::var("MILLRACE_FUZZ_TARGET") else {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        exit(0);
    };
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        eprintln!("there is no target {name}");
        exit(2);
    };
    TARGET.get_or_init(|| target);
}

fn write_seeds(target: &Target, folder: &Path) {
    std::fs::create_dir_all(folder).expect("the folder for seeds is made");
    for (number, seed) in (target.seeds)().into_iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:03}")), seed).expect("a seed is written");
    }
}

libfuzzer_sys::fuzz_target!(init: begin(), |data: &[u8]| {
    if let Some(target) = TARGET.get() {
        target.run(data);
    }
});
