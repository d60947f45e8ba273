//! Where a playground keeps its data, and whether it is kept.

use std::fs;
use std::path::{Path, PathBuf};

use super::PlaygroundArgs;

/// The directory of a playground. A temporary one goes when this value is dropped.
#[derive(Debug)]
pub(crate) enum Directory {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Directory {
    /// The one the arguments name, created if need be; a temporary one if they name none.
    ///
    /// # Errors
    /// One sentence for the user, naming the directory.
    pub(crate) fn of(args: &PlaygroundArgs) -> Result<Directory, String> {
        let path = match (&args.data_dir, &args.tag) {
            (Some(dir), _) => dir.clone(),
            (None, Some(tag)) => tagged(tag, std::env::var_os("HOME").map(PathBuf::from))?,
            (None, None) => {
                return tempfile::Builder::new()
                    .prefix("tinykv-playground-")
                    .tempdir()
                    .map(Directory::Temporary)
                    .map_err(|error| format!("no temporary directory: {error}"));
            }
        };
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let path = fs::canonicalize(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Directory::Kept(path))
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Directory::Kept(path) => path,
            Directory::Temporary(dir) => dir.path(),
        }
    }

    pub(crate) fn is_kept(&self) -> bool {
        matches!(self, Directory::Kept(_))
    }
}

/// `~/.tinykv/TAG`.
fn tagged(tag: &str, home: Option<PathBuf>) -> Result<PathBuf, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if tag.is_empty() || tag.starts_with('.') || !tag.chars().all(is_plain) {
        return Err(format!(
            "--tag {tag}: use letters, digits, '-', '_' and '.' only"
        ));
    }
    let home = home.ok_or("--tag needs HOME; give --data-dir instead")?;
    Ok(home.join(".tinykv").join(tag))
}

#[cfg(test)]
mod tests {
    use super::tagged;
    use std::path::PathBuf;

    #[test]
    fn a_tag_names_a_directory_below_home() {
        let home = Some(PathBuf::from("/home/u"));
        assert_eq!(
            tagged("t-1", home.clone()),
            Ok(PathBuf::from("/home/u/.tinykv/t-1"))
        );
        for bad in ["", "..", "a/b", ".hidden", "a b"] {
            let refused = tagged(bad, home.clone()).expect_err("refused");
            assert!(refused.starts_with(&format!("--tag {bad}:")), "{refused}");
        }
        assert!(
            tagged("t", None)
                .expect_err("no home")
                .contains("--data-dir")
        );
    }
}
