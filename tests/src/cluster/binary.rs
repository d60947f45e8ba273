//! The program whose processes make up a cluster.

use std::path::PathBuf;

/// The program `role` beside the one that runs: one cargo call builds them both.
///
/// # Errors
/// It is not there; one sentence.
pub fn role_binary() -> Result<PathBuf, String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let binary = here.with_file_name("role");
    match binary.exists() {
        true => Ok(binary),
        false => Err(format!(
            "{} is not built: cargo build -p tinykv-tests",
            binary.display()
        )),
    }
}
