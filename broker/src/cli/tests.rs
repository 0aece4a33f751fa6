use super::arguments::Arguments;
use clap::{CommandFactory, Parser};

#[test]
fn the_command_line_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn a_command_that_does_not_exist_is_a_usage_error() {
    let error = Arguments::try_parse_from(["millrace", "aply"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("apply"), "{error}");
}
