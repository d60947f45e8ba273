//! A copy of a running store.

use std::io;
use std::path::Path;

use tinykv_wal::{Batch, Wal};

use super::commit::Log;
use super::{Inner, LOCAL, born_at};
use crate::EngineError;

impl Inner {
    /// See [`super::Standalone::checkpoint`]. The copy is made beside its place and renamed into
    /// it, so a crash leaves a directory named `….partial` at worst.
    pub(super) fn checkpoint(&self, dir: &Path) -> Result<(), EngineError> {
        if self.env.exists(dir)? {
            return Err(EngineError::from(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{}: exists already", dir.display()),
            )));
        }
        self.committer.lead(|log| self.copy_to(log, dir))
    }

    /// Nobody writes meanwhile: the log is ours.
    fn copy_to(&self, log: &mut Log, dir: &Path) -> Result<(), EngineError> {
        let mut name = dir.as_os_str().to_owned();
        name.push(".partial");
        let partial = Path::new(&name);
        self.env.create_dir_all(partial)?;
        // The copy's tables may hold nothing that the own log has not made durable (invariant 6).
        log.wal.sync()?;
        self.engine.lsm().checkpoint(&partial.join("lsm"))?;
        let options = self.options.engine.wal.clone();
        let (mut wal, _) = Wal::open(self.env.clone(), &partial.join("wal"), options)?;
        wal.append(&Batch::from(vec![born_at(self.engine.applied(LOCAL))]))?;
        wal.sync()?;
        drop(wal);
        self.env.sync_dir(partial)?;
        self.env.rename(partial, dir)?;
        if let Some(parent) = dir.parent() {
            self.env.sync_dir(parent)?;
        }
        Ok(())
    }
}
