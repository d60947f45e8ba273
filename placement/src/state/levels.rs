//! Levels of failure domains: which labels of a store say where it stands, from the widest to the
//! narrowest.

use std::fmt;

/// Levels there may be.
pub const LEVELS_MAX: usize = 4;

/// The longest name of a level, in bytes.
const NAME_BYTES_MAX: usize = 16;

/// The longest value of a label, in bytes.
const VALUE_BYTES_MAX: usize = 64;

/// What stands for no level.
pub(super) const NONE: &str = "none";

/// The name of one level: the key of a label. Short, so that settings are plain values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level([u8; NAME_BYTES_MAX]);

/// The levels of a cluster, the widest first. All names differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels([Option<Level>; LEVELS_MAX]);

impl Level {
    /// Reads a name of small letters, digits, `-` and `_`; `none` is no name.
    pub fn parse(name: &str) -> Option<Level> {
        let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if name.is_empty() || name == NONE || !name.bytes().all(fits) {
            return None;
        }
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes
            .get_mut(..name.len())?
            .copy_from_slice(name.as_bytes());
        Some(Level(bytes))
    }

    /// The name.
    pub fn name(&self) -> &str {
        let used = self.0.iter().position(|byte| *byte == 0);
        let used = used.unwrap_or(NAME_BYTES_MAX);
        std::str::from_utf8(&self.0[..used]).expect("only ASCII is taken")
    }
}

impl Levels {
    /// What values there are, for a sentence.
    pub(super) const WANTED: &str = "none, or 1 to 4 different names separated by commas, the \
                                     widest first, such as zone,rack,host; each of at most 16 \
                                     small letters, digits, `-` or `_`";

    /// Zone, rack, host.
    pub(super) fn usual() -> Levels {
        Levels::parse("zone,rack,host").expect("three names")
    }

    /// Reads names separated by commas, or `none`.
    pub fn parse(text: &str) -> Option<Levels> {
        let mut levels = Levels([None; LEVELS_MAX]);
        if text == NONE {
            return Some(levels);
        }
        for (position, name) in text.split(',').enumerate() {
            let level = Level::parse(name)?;
            if levels.iter().any(|known| known == level) {
                return None;
            }
            *levels.0.get_mut(position)? = Some(level);
        }
        Some(levels)
    }

    /// The levels, the widest first.
    pub fn iter(&self) -> impl Iterator<Item = Level> + use<> {
        self.0.into_iter().flatten()
    }

    /// Whether a label of this name says where a store stands.
    pub fn contains(&self, name: &str) -> bool {
        self.iter().any(|level| level.name() == name)
    }
}

/// What is wrong with the value of a label, if anything.
pub(super) fn check_value(value: &str) -> Result<(), String> {
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != ',' && c != '=';
    match value.len() <= VALUE_BYTES_MAX && value.chars().all(fits) {
        true => Ok(()),
        false => Err(format!(
            "the value of a label has at most {VALUE_BYTES_MAX} bytes and no spaces, commas or \
             `=`, unlike `{value}`"
        )),
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.iter().map(|level| level.to_string()).collect();
        match names.is_empty() {
            true => f.write_str(NONE),
            false => f.write_str(&names.join(",")),
        }
    }
}
