//! A copy of the tree by hard links.

use std::path::Path;
use std::sync::Arc;

use crate::LsmError;
use crate::tree::Inner;
use crate::version::{table_path, write_fresh};

/// Makes everything written so far durable, then copies the tree into `dir`, a new or empty
/// directory on the same file system. CURRENT is written last: a crash in between leaves a
/// directory that does not open.
pub(crate) fn run(inner: &Arc<Inner>, dir: &Path) -> Result<(), LsmError> {
    inner.check()?;
    let env = &inner.context.env;
    env.create_dir_all(dir)?;
    if !env.list_dir(dir)?.is_empty() {
        let reason = format!(
            "{}: the directory of a checkpoint must be empty",
            dir.display()
        );
        return Err(LsmError::invalid(reason));
    }
    inner.flush()?;
    // The version keeps the files while they are linked.
    let (state, _version) = inner.durable_state();
    for number in state.files.keys() {
        let original = table_path(&inner.context.dir, *number);
        env.hard_link(&original, &table_path(dir, *number))?;
    }
    write_fresh(env, dir, state)?;
    match dir.parent() {
        Some(parent) => env.sync_dir(parent).map_err(LsmError::from_sync),
        None => Ok(()),
    }
}
