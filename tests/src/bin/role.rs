//! Plays any role of a cluster, and the command line: what the tests start as child processes.

use std::process::ExitCode;

fn main() -> ExitCode {
    tinykv_ctl::main(std::env::args_os())
}
