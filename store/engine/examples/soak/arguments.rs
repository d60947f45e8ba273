//! The command line: what to run, then names and values.

use std::collections::BTreeMap;

use crate::Outcome;

/// See the module.
pub(crate) struct Arguments {
    /// Which run.
    pub(crate) what: String,
    values: BTreeMap<String, String>,
}

impl Arguments {
    pub(crate) fn read() -> Outcome<Arguments> {
        let mut words = std::env::args().skip(1);
        let what = words
            .next()
            .ok_or("say what to run: steady, reopen, volume")?;
        let mut values = BTreeMap::new();
        while let Some(name) = words.next() {
            let value = words.next().ok_or(format!("{name} needs a value"))?;
            values.insert(name, value);
        }
        Ok(Arguments { what, values })
    }

    pub(crate) fn text<'a>(&'a self, name: &str, otherwise: &'a str) -> &'a str {
        self.values.get(name).map_or(otherwise, String::as_str)
    }

    pub(crate) fn number(&self, name: &str, otherwise: u64) -> Outcome<u64> {
        match self.values.get(name) {
            None => Ok(otherwise),
            Some(text) => text
                .parse()
                .map_err(|_| format!("{name} is {text}, but must be a number").into()),
        }
    }
}
