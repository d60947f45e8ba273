//! Tells the crate which commit it is built from, for `--version`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=TINYKV_COMMIT");
    // A release is rebuilt for every commit; a development build is not, because each commit
    // would then recompile every crate above this one.
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if let Some(git_dir) = git(&["rev-parse", "--absolute-git-dir"]) {
        let watched = if release { "logs/HEAD" } else { "HEAD" };
        println!("cargo::rerun-if-changed={git_dir}/{watched}");
    }
    let commit = std::env::var("TINYKV_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty())
        .or_else(|| git(&["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    // A development build may be of a later state than its commit says.
    let suffix = if release { "" } else { "-dev" };
    println!("cargo::rustc-env=TINYKV_COMMIT={commit}{suffix}");
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
