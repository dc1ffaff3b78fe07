//! The `skerry` command. Everything it can do is in the library; this is its edge to the shell.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use skerry::cli::{Cli, Mistake};
use skerry::error::Error;
use skerry::{commands, interrupt};

fn main() -> ExitCode {
    let cli = match Cli::parse_line(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Mistake::Help(help)) => help.exit(),
        Err(Mistake::Usage(line)) => {
            eprintln!("skerry: error: {line}");
            return ExitCode::from(2);
        }
    };
    match interrupt::install().and_then(|()| commands::execute(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ Error::OutputClosed) => ExitCode::from(error.exit_code()),
        Err(error) => {
            eprintln!("skerry: error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
