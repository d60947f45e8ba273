//! What the bank prints.

use std::collections::BTreeMap;

use serde::Serialize;
use tinykv_mutants::Mutant;

use super::hunt::Found;

/// For the ledger.
#[derive(Debug, Default, Serialize)]
pub struct Figures {
    /// Seeds each mutant was given.
    pub seeds_max: u64,
    /// Mutants.
    pub mutants: u64,
    /// Of those, the ones that were found.
    pub found: u64,
    /// Seeds until found and the check that spoke up, by mutant.
    pub seeds_until_found: BTreeMap<String, (u64, String)>,
    /// Those that survived.
    pub survived: Vec<String>,
}

impl Figures {
    /// Adds up.
    pub fn new(results: &[(Mutant, Option<Found>)], seeds_max: u64) -> Figures {
        let mut figures = Figures {
            seeds_max,
            mutants: results.len() as u64,
            ..Figures::default()
        };
        for (mutant, found) in results {
            let name = format!("{mutant:?}");
            match found {
                Some(found) => {
                    figures.found += 1;
                    let found = (found.seeds, found.check.clone());
                    figures.seeds_until_found.insert(name, found);
                }
                None => figures.survived.push(name),
            }
        }
        figures
    }
}

/// One row a mutant.
pub fn markdown(results: &[(Mutant, Option<Found>)], seeds_max: u64) -> String {
    let mut text = String::from(
        "| mutant | breaks | seeds until found | found by | what it said |\n\
         | --- | --- | ---: | --- | --- |\n",
    );
    for (mutant, found) in results {
        let breaks = mutant.breaks();
        let row = match found {
            Some(found) => {
                let said = excerpt(&found.violation);
                format!(
                    "| {mutant:?} | {breaks} | {} | {} | {said} |\n",
                    found.seeds, found.check
                )
            }
            None => format!("| {mutant:?} | {breaks} | none of {seeds_max} | | |\n"),
        };
        text.push_str(&row);
    }
    text
}

/// Enough of a violation to know it again, safe within a table.
fn excerpt(violation: &str) -> String {
    const CHARS_MAX: usize = 110;
    let text = violation.replace('|', "/");
    match text.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}…", text[..at].trim_end()),
        None => text,
    }
}
