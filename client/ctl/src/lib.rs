//! `tinykv-ctl`: the operator's hand. Noun, then verb; keys readable; tables on a terminal, JSON
//! in a pipe; exit code 0 done, 1 refused, not found or wrong usage, 2 unreachable.
//!
//! The commands are thin: data goes through `tinykv-client` with its one retry loop, everything
//! about the cluster comes from placement's status service in one answer (`status`), and orders
//! (`region split`, `region move` and the like) are given to placement's leader, once, and seen
//! through with `--wait`. The
//! `playground` starts the roles as child processes of this very binary, under hidden
//! subcommands that are handled before the command line is parsed, so that each role has its own
//! flags and help.

mod command;
mod output;
mod placement;
mod playground;
mod status;
mod text;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

/// Runs the command line and returns the exit code of the process.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let role = arguments
        .get(1)
        .and_then(|argument| argument.to_str())
        .map(str::to_owned);
    match role.as_deref() {
        Some("role-placement") => {
            arguments.drain(..2);
            arguments.insert(0, "tinykv-placement".into());
            tinykv_placement::main(arguments)
        }
        Some("role-store") => {
            arguments.drain(..2);
            arguments.insert(0, "tinykv-store".into());
            tinykv_store::main(arguments)
        }
        _ => run(arguments),
    }
}

fn run(arguments: Vec<OsString>) -> ExitCode {
    let cli = match command::Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failure; there is nobody to tell if printing fails.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(error) => Err(command::Failure::Refused(format!("cannot start: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, command::Failure::Quiet) {
                eprintln!("tinykv-ctl: {failure}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
