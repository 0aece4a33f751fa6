//! The `millrace` binary, built with the tests.

fn main() -> std::process::ExitCode {
    millrace::cli::main()
}
