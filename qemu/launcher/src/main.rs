//! The `skerry` command. Everything it can do is in the library; this is its edge to the shell.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use skerry::{cli::Cli, commands, interrupt};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match interrupt::install().and_then(|()| commands::execute(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("skerry: error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
