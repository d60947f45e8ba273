//! Real input: the package index of a Debian machine, as `apt-get update` has fetched it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Reads the lists of apt, compressed or not.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// The lists, in the order in which apt names them.
#[derive(Clone, Debug, Default)]
pub struct Packages {
    /// Name and record of every stanza.
    stanzas: Vec<(String, String)>,
}

impl Packages {
    /// Reads the lists of this machine, at most so many stanzas.
    ///
    /// # Errors
    /// Why there are none; one sentence.
    pub fn of_this_machine(most: usize) -> Result<Packages, String> {
        let names = output(
            "apt-get",
            &[
                "indextargets",
                "--format",
                "$(FILENAME)",
                "Created-By: Packages",
            ],
        )?;
        let mut packages = Packages::default();
        for name in names.lines() {
            let list = read(Path::new(name))?;
            let room = most.saturating_sub(packages.stanzas.len());
            packages.stanzas.extend(stanzas(&list).take(room));
        }
        match packages.stanzas.is_empty() {
            true => {
                Err("apt has no lists of packages here; apt-get update fetches them".to_owned())
            }
            false => Ok(packages),
        }
    }

    /// How many stanzas there are.
    pub fn len(&self) -> usize {
        self.stanzas.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.stanzas.is_empty()
    }

    /// Lines of key, tab, value, in the order of the lists: names may repeat.
    pub fn tsv(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        for (name, record) in &self.stanzas {
            line(&mut lines, name, record);
        }
        lines
    }

    /// What must come out again: one line for each name, by name, the last record of each.
    pub fn tsv_of_last(&self) -> Vec<u8> {
        let last: BTreeMap<&str, &str> = self
            .stanzas
            .iter()
            .map(|(name, record)| (name.as_str(), record.as_str()))
            .collect();
        let mut lines = Vec::new();
        for (name, record) in last {
            line(&mut lines, name, record);
        }
        lines
    }

    /// Names that cut the input into so many parts of about the same size.
    pub fn borders(&self, parts: usize) -> Vec<String> {
        let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, record) in &self.stanzas {
            sizes.insert(name, record.len());
        }
        let part = sizes.values().sum::<usize>() / parts.max(1);
        let (mut borders, mut size) = (Vec::new(), 0);
        for (name, bytes) in sizes {
            if size > part && borders.len() + 1 < parts {
                borders.push(name.to_owned());
                size = 0;
            }
            size += bytes;
        }
        borders
    }
}

fn line(lines: &mut Vec<u8>, name: &str, record: &str) {
    lines.extend_from_slice(name.as_bytes());
    lines.push(b'\t');
    for byte in record.bytes() {
        match byte {
            b'\t' => lines.extend_from_slice(b"\\t"),
            b'\n' => lines.extend_from_slice(b"\\n"),
            b'\r' => lines.extend_from_slice(b"\\r"),
            b'\\' => lines.extend_from_slice(b"\\\\"),
            byte => lines.push(byte),
        }
    }
    lines.push(b'\n');
}

/// Name and text of each stanza.
fn stanzas(list: &str) -> impl Iterator<Item = (String, String)> + '_ {
    list.split("\n\n").filter_map(|stanza| {
        let stanza = stanza.trim_matches('\n');
        let mut lines = stanza.lines();
        let name = lines.find_map(|line| line.strip_prefix("Package: "))?;
        Some((name.trim().to_owned(), stanza.to_owned()))
    })
}

fn read(list: &Path) -> Result<String, String> {
    // Compressed lists end with what they are compressed by; apt's own reader knows them all.
    let name = list.to_string_lossy();
    output(HELPER, &["cat-file", &name])
}

fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_record_of_a_name_counts() {
        let list = "Package: b\nVersion: 1\n\nPackage: a\nX: \\\t\n\n\nPackage: b\nVersion: 2\n";
        let packages = Packages {
            stanzas: stanzas(list).collect(),
        };
        assert_eq!(packages.len(), 3);
        let lines = packages.tsv_of_last();
        let expected = "a\tPackage: a\\nX: \\\\\\t\nb\tPackage: b\\nVersion: 2\n";
        assert_eq!(String::from_utf8_lossy(&lines), expected);
        assert_eq!(
            packages.tsv().iter().filter(|byte| **byte == b'\n').count(),
            3
        );
        assert_eq!(packages.borders(2), Vec::<String>::new());
    }
}
