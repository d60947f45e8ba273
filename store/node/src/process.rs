//! A process from its command line to its exit code.

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::logging;
use crate::settings::{self, CommonArgs, Loaded, Sources};

/// From the first signal to the end of the process; what has not finished then is abandoned,
/// which is no more than what a crash does.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(20);

/// Tells everybody that the process is asked to end. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    token: CancellationToken,
}

impl Stop {
    /// Nobody has asked yet.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Asks; further calls change nothing.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Whether somebody has asked.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves once somebody has asked.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }
}

/// Runs a role: reads its settings from `arguments` (program name first), environment and file,
/// starts logging and a runtime, and calls `role`, which works until [`Stop`] is requested by
/// SIGTERM or SIGINT and then ends in its own order. A second signal, or 20 seconds, end the
/// process at once.
///
/// A failure is one sentence on standard error and the exit code of [`Failure::exit_code`].
pub fn run<T, F>(
    arguments: impl IntoIterator<Item = OsString>,
    common: fn(&T) -> &CommonArgs,
    role: impl FnOnce(T, Stop) -> F,
) -> ExitCode
where
    T: CommandFactory + FromArgMatches,
    F: Future<Output = Result<(), Failure>>,
{
    let name = T::command().get_name().to_owned();
    let outcome = settings::load_from::<T>(&Sources {
        arguments: arguments.into_iter().collect(),
        environment: &|name| std::env::var_os(name),
        read_file: &|path| std::fs::read_to_string(path),
    })
    .and_then(|loaded| match loaded {
        Loaded::Print(text) => {
            print!("{text}");
            Ok(())
        }
        Loaded::Settings(settings) => {
            let common = common(&settings);
            logging::start(common.log_level, common.log_format);
            run_role(|stop| role(settings, stop))
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{name}: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run_role<F>(role: impl FnOnce(Stop) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tinykv-io")
        .build()
        .map_err(|error| Failure::other(format!("cannot start the runtime: {error}")))?;
    let stop = Stop::new();
    let outcome = runtime.block_on(async {
        let role = role(stop.clone());
        tokio::select! {
            outcome = role => outcome,
            outcome = end_after_signal(&stop) => outcome,
        }
    });
    // What is left are reads of the blocking pool that nobody waits for any more.
    runtime.shutdown_timeout(Duration::from_millis(200));
    outcome
}

/// Requests the stop at the first signal; resolves when the role must be abandoned.
async fn end_after_signal(stop: &Stop) -> Result<(), Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::other(format!("cannot listen for signals: {error}")))
    };
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut wait = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let signal = wait().await;
    tracing::info!(signal, "stopping");
    stop.request();
    match tokio::time::timeout(SHUTDOWN_TIME_MAX, wait()).await {
        Ok(signal) => Err(Failure::other(format!(
            "stopped at once by a second {signal}"
        ))),
        Err(_) => Err(Failure::other(format!(
            "stopping took more than {} seconds and was cut short",
            SHUTDOWN_TIME_MAX.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(name = "trial")]
    struct Trial {
        #[command(flatten)]
        common: CommonArgs,
    }

    fn code(arguments: &[&str], outcome: Result<(), Failure>) -> String {
        let arguments = std::iter::once("trial").chain(arguments.iter().copied());
        let role = |_, stop: Stop| async move {
            assert!(!stop.is_requested());
            outcome
        };
        let code = run(
            arguments.map(OsString::from),
            |trial: &Trial| &trial.common,
            role,
        );
        format!("{code:?}")
    }

    #[test]
    fn exit_codes_are_those_that_are_documented() {
        let expected = |code: u8| format!("{:?}", ExitCode::from(code));
        assert_eq!(code(&["--log-level", "error"], Ok(())), expected(0));
        assert_eq!(
            code(&["--version"], Err(Failure::other("not reached"))),
            expected(0)
        );
        assert_eq!(code(&["--log-level", "loud"], Ok(())), expected(2));
        assert_eq!(code(&["--config", "/no/such.toml"], Ok(())), expected(2));
        assert_eq!(code(&[], Err(Failure::storage("locked"))), expected(3));
        assert_eq!(
            code(&[], Err(Failure::FailedSync("disk".to_owned()))),
            expected(74)
        );
    }
}
