//! Threads and tasks with an owner: each has a name, somebody waits for its end, and a panic in
//! one ends the process instead of leaving it half alive.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::failure::Failure;

/// What happens when a thread finds that the process must not go on: the error is reported and
/// the process ends with the failure's exit code, at once and without any further write.
#[derive(Clone)]
pub struct Fatal {
    report: Arc<dyn Fn(Failure) + Send + Sync>,
}

impl Fatal {
    /// Logs the failure and exits the process.
    pub fn exit_process() -> Fatal {
        Fatal::new(|failure| {
            tracing::error!(exit_code = failure.exit_code(), "{failure}");
            std::process::exit(i32::from(failure.exit_code()));
        })
    }

    /// Calls `report` instead, for processes in which several nodes live: tests.
    pub fn new(report: impl Fn(Failure) + Send + Sync + 'static) -> Fatal {
        Fatal {
            report: Arc::new(report),
        }
    }

    /// Reports; the caller stops its work whatever the report does.
    pub fn report(&self, failure: Failure) {
        (self.report)(failure);
    }
}

/// Tasks of the tokio runtime that belong to one owner.
#[derive(Clone)]
pub struct Tasks {
    runtime: Handle,
    tracker: TaskTracker,
    abort: CancellationToken,
    fatal: Fatal,
}

impl Tasks {
    /// An owner that spawns on the given runtime.
    pub fn new(runtime: Handle, fatal: Fatal) -> Tasks {
        Tasks {
            runtime,
            tracker: TaskTracker::new(),
            abort: CancellationToken::new(),
            fatal,
        }
    }

    /// Starts a task; a panic in it is fatal to the process.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let fatal = self.fatal.clone();
        let abort = self.abort.clone();
        let guarded = async move {
            let run = AssertUnwindSafe(abort.run_until_cancelled(task)).catch_unwind();
            if run.await.is_err() {
                fatal.report(Failure::other(format!("the task `{name}` panicked")));
            }
        };
        self.tracker.spawn_on(guarded, &self.runtime);
    }

    /// The runtime the tasks run on.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Waits until every task ended; those that have not after `limit` are dropped where they
    /// wait.
    pub async fn join(&self, limit: Duration) {
        self.tracker.close();
        if tokio::time::timeout(limit, self.tracker.wait())
            .await
            .is_err()
        {
            self.abort.cancel();
            self.tracker.wait().await;
        }
    }
}

/// Threads that belong to one owner and are joined in the order they were started.
pub struct Threads {
    running: Mutex<Vec<(String, JoinHandle<()>)>>,
    fatal: Fatal,
}

impl Threads {
    /// An owner without threads.
    pub fn new(fatal: Fatal) -> Threads {
        Threads {
            running: Mutex::new(Vec::new()),
            fatal,
        }
    }

    /// Starts a thread; a panic in it is fatal to the process.
    ///
    /// # Errors
    /// [`Failure::Other`] when the system has no room for another thread.
    pub fn spawn(
        &self,
        name: impl Into<String>,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), Failure> {
        let name = name.into();
        let fatal = self.fatal.clone();
        let shown = name.clone();
        let guarded = move || {
            if catch_unwind(AssertUnwindSafe(body)).is_err() {
                fatal.report(Failure::other(format!("the thread `{shown}` panicked")));
            }
        };
        let handle = std::thread::Builder::new()
            .name(name.clone())
            .spawn(guarded)
            .map_err(|error| {
                Failure::other(format!("cannot start the thread `{name}`: {error}"))
            })?;
        self.running.lock().push((name, handle));
        Ok(())
    }

    /// Waits for every thread; each must have been told to end by other means.
    pub fn join(&self) {
        let running = std::mem::take(&mut *self.running.lock());
        for (name, handle) in running {
            if handle.join().is_err() {
                tracing::error!("the thread `{name}` ended in a panic");
            }
        }
    }
}
