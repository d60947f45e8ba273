//! What the threads do about errors of the storage that end the process.

use std::path::PathBuf;
use std::sync::Arc;

use tinykv_engine::{EngineError, ErrorKind};
use tinykv_env::Env;

use crate::failure::Failure;
use crate::identity::leave_marker;
use crate::spawn::Fatal;

/// Knows how to end the process over its storage. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Trouble {
    env: Arc<dyn Env>,
    data_dir: PathBuf,
    fatal: Fatal,
}

impl Trouble {
    pub(crate) fn new(env: Arc<dyn Env>, data_dir: PathBuf, fatal: Fatal) -> Trouble {
        Trouble {
            env,
            data_dir,
            fatal,
        }
    }

    /// Written data could not be made durable: leave the marker, say so, end. Never retried (D4).
    pub(crate) fn failed_sync(&self, sentence: &str) {
        if let Err(error) = leave_marker(self.env.as_ref(), &self.data_dir, sentence) {
            tracing::error!("cannot leave a marker: {error}");
        }
        self.fatal.report(Failure::FailedSync(sentence.to_owned()));
    }

    /// The storage cannot be used any more for another reason.
    pub(crate) fn storage(&self, sentence: &str) {
        self.fatal.report(Failure::storage(sentence));
    }

    /// Ends the process over an error of the engine.
    pub(crate) fn stop(&self, error: &EngineError) {
        match error.kind() {
            ErrorKind::Failed => self.failed_sync(&error.to_string()),
            _ => self.storage(&error.to_string()),
        }
    }

    /// Ends the process if the error is one after which the engine does nothing more; says
    /// whether it is. An engine that was closed is on its way down already.
    pub(crate) fn is_final(&self, error: &EngineError) -> bool {
        match error.kind() {
            ErrorKind::Failed => {
                self.failed_sync(&error.to_string());
                true
            }
            ErrorKind::Closed => true,
            ErrorKind::Refused | ErrorKind::Retry | ErrorKind::Unusable => false,
        }
    }
}
