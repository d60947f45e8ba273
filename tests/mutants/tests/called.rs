//! Every mutant has a place in the production code and a row in the table.

use std::fs;
use std::path::{Path, PathBuf};

use tinykv_mutants::{Mutant, planted};

#[test]
fn every_mutant_is_called_somewhere() {
    let mut sources = String::new();
    for folder in ["store", "placement", "client", "proto"] {
        read_sources(&workspace().join(folder), &mut sources);
    }
    let is_called = |mutant: &&Mutant| sources.contains(&format!("planted(Mutant::{mutant:?})"));
    let idle: Vec<&Mutant> = Mutant::ALL.iter().filter(|m| !is_called(m)).collect();
    assert!(idle.is_empty(), "nobody makes the mistakes {idle:?}");
}

#[test]
fn every_mutant_is_in_the_list_and_in_the_table() {
    let source = read(&folder().join("src/mutant.rs"));
    let (_, body) = source.split_once("pub enum Mutant {").expect("it is there");
    let (body, _) = body.split_once("\n}").expect("it has an end");
    let lines = body.lines().map(str::trim);
    let declared: Vec<&str> = lines
        .filter_map(|line| line.strip_suffix(','))
        .filter(|name| !name.starts_with("///"))
        .collect();
    let listed: Vec<String> = Mutant::ALL.iter().map(|m| format!("{m:?}")).collect();
    assert_eq!(declared, listed, "Mutant::ALL");
    let readme = read(&folder().join("README.md"));
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = rows.filter_map(|row| row.split_once(" |")).skip(2);
    let rows: Vec<&str> = rows.map(|(name, _)| name).collect();
    assert_eq!(rows, listed, "the table of README.md");
}

#[test]
fn nothing_is_planted_in_an_ordinary_build() {
    for mutant in Mutant::ALL {
        assert!(!planted(*mutant), "{mutant:?}");
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn workspace() -> PathBuf {
    folder().join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_sources(folder: &Path, sources: &mut String) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry of a folder").path();
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        if path.is_dir() && !path.ends_with("target") {
            read_sources(&path, sources);
        } else if is_rust {
            sources.push_str(&read(&path));
        }
    }
}
