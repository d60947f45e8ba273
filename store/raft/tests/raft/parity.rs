//! The tables of `PARITY.md` are complete: no row is empty, what they name exists, and at most a
//! quarter of each suite is said not to apply.

use std::fs;
use std::path::Path;

#[test]
fn parity() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let text = fs::read_to_string(tests.join("PARITY.md")).expect("it is there");
    let mut sources = String::new();
    for folder in [tests.join("raft"), tests.join("../src")] {
        read_all(&folder, &mut sources);
    }
    let suites: Vec<&str> = text.split("\n## ").skip(1).collect();
    assert_eq!(suites.len(), 2, "two suites");
    for suite in suites {
        let (mut names, mut reasons) = (0, 0);
        for row in suite.lines().filter(|line| line.starts_with("| `")) {
            let mut cells = row.trim_matches('|').split(" | ");
            let there = cells.next().unwrap_or_default();
            let here = cells.next().unwrap_or_default().trim();
            let count = quoted(there).count();
            names += count;
            if here.starts_with("not applicable") {
                reasons += count;
            }
            let counterparts = quoted(here).filter(|it| exists(&tests, &sources, it));
            let is_simulated = here.contains("simulation");
            assert!(
                counterparts.count() > 0 || is_simulated,
                "nothing here covers {there}"
            );
            for script in quoted(here).filter(|it| it.contains('/')) {
                assert!(exists(&tests, &sources, script), "{script} is not there");
            }
        }
        assert!(names >= 28, "only {names} names");
        assert!(4 * reasons <= names, "{reasons} of {names} do not apply");
    }
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A script, or a test function.
fn exists(tests: &Path, sources: &str, name: &str) -> bool {
    tests.join("scripts").join(name).is_file() || sources.contains(&format!("fn {name}("))
}

fn read_all(folder: &Path, into: &mut String) {
    for entry in folder.read_dir().expect("the folder is there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            read_all(&path, into);
        } else if path.extension().is_some_and(|it| it == "rs") {
            into.push_str(&fs::read_to_string(&path).expect("text"));
        }
    }
}
