//! The command line: `serve` and `quickstart` run a broker, everything else talks to a running one.
//!
//! Output for people and for scripts goes to stdout, progress and faults to stderr. Exit codes: 0 done, 1 refused or
//! failed, 2 a command line that is not one, 3 differences where `plan --exit-code` was asked for them.

mod arguments;
mod client;
mod fault;
mod output;
pub mod quickstart;
mod remote;
mod run;
#[cfg(test)]
mod tests;

use arguments::{Arguments, Command};
use clap::Parser;
use fault::Fault;
use output::Output;
use std::process::ExitCode;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut output = Output::of_the_process();
    match run(arguments.command, &mut output) {
        Ok(code) => code,
        Err(fault) => {
            output.fault(&fault);
            ExitCode::from(fault.code)
        }
    }
}

fn run(command: Command, output: &mut Output) -> Result<ExitCode, Fault> {
    match command {
        Command::Quickstart(options) => run::quickstart(&options, output),
        Command::Serve(options) => run::serve(&options),
        Command::Plan(options) => return remote::plan(&options, output),
        Command::Apply(options) => remote::apply(&options, output),
        Command::Push(options) => remote::push(&options, output),
        Command::Topics(options) => remote::topics(&options, output),
        Command::Plugins(options) => remote::plugins(&options, output),
        Command::Status(options) => remote::status(&options, output),
    }
    .map(|()| ExitCode::SUCCESS)
}
