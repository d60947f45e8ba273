//! Log lines on standard error, as text for people or JSON for collectors.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// The least important messages that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// The process cannot go on, or lost something.
    Error,
    /// Something an operator should look at.
    Warn,
    /// What happens once in a while: start, stop, elections, schedules.
    Info,
    /// What happens often, for finding a fault.
    Debug,
    /// Everything, requests included.
    Trace,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object on a line.
    Json,
}

/// Sends the events of the whole process to standard error. Libraries below (HTTP, h2) speak only
/// from `warn` up unless the level is `trace`.
pub fn start(level: LogLevel, format: LogFormat) {
    let directives = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info,h2=warn,hyper=warn,tower=warn,tonic=warn",
        LogLevel::Debug => "debug,h2=warn,hyper=warn,tower=warn,tonic=warn",
        LogLevel::Trace => "trace",
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An embedding program (the playground, a test) may have set a subscriber first; then it
    // decides where lines go, which is no failure of this process.
    let _already_set = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
