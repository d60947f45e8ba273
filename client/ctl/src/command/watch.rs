//! Waiting for what a store comes to, with `--wait`.
//!
//! What is waited for belongs to the cluster: it goes on when whoever waits has gone. What is left
//! is shown on standard error as it becomes less, and what keeps it from that.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Failure, Global};

/// How often the store is looked at.
const POLL: Duration = Duration::from_millis(500);

/// How far something is that is waited for.
pub(super) enum Stage {
    /// It is done.
    Done,
    /// It goes on: what is left, then what blocks it, a line each.
    UnderWay(Vec<String>),
    /// It will not be done: why.
    CalledOff(String),
}

/// Looks again and again until it is done; `not_yet` begins the sentence that the time is over, and
/// `see` is the command that shows more.
pub(super) async fn watch<P>(
    global: &Global,
    not_yet: &str,
    see: &str,
    mut progress: P,
    stage: impl Fn(&P) -> Stage,
    look: impl AsyncFn() -> Result<P, Failure>,
) -> Result<P, Failure> {
    let began = Instant::now();
    let mut shown = Vec::new();
    loop {
        let lines = match stage(&progress) {
            Stage::Done => return Ok(progress),
            Stage::CalledOff(sentence) => return Err(Failure::Refused(sentence)),
            Stage::UnderWay(lines) => lines,
        };
        for line in lines.iter().filter(|line| !shown.contains(*line)) {
            eprintln!("{line}");
        }
        shown = lines;
        let waited = began.elapsed();
        if global.timeout.is_some_and(|patience| waited >= patience) {
            let left = shown.first().map_or("", String::as_str);
            return Err(Failure::Unreachable(format!(
                "{not_yet} after {waited:.0?}: {left}; it goes on, see `{see}`"
            )));
        }
        sleep(POLL).await;
        progress = look().await?;
    }
}

/// What blocks something, as it is shown.
pub(super) fn blocked(by: &[String]) -> impl Iterator<Item = String> + '_ {
    by.iter().map(|by| format!("blocked: {by}"))
}
