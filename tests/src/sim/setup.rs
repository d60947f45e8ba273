//! What a seed is run with: how much work it is, and what of its bad luck is taken away. A seed
//! draws its environment by itself; the limits here only take from it, to find out what a failure
//! really needs.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use super::faults;

/// How much work a seed is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Six simulated seconds of faults: thousands of seeds fit into a test run.
    #[default]
    Quick,
    /// Thirty simulated seconds of faults, more clients.
    Long,
    /// Three stores with one region and no placement, a minute of faults: the measure of speed.
    Three,
}

impl Profile {
    /// As typed on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Quick => "quick",
            Profile::Long => "long",
            Profile::Three => "three",
        }
    }

    fn safety_phase(self) -> Duration {
        match self {
            Profile::Quick => Duration::from_secs(6),
            Profile::Long => Duration::from_secs(30),
            Profile::Three => Duration::from_secs(60),
        }
    }

    /// The fewest and the most clients there are.
    pub(super) fn clients(self) -> (u64, u64) {
        match self {
            Profile::Quick => (3, 6),
            Profile::Long => (3, 8),
            Profile::Three => (5, 7),
        }
    }

    /// Whether a batch of such seeds meets everything there is.
    pub(super) fn has_everything(self) -> bool {
        self != Profile::Three
    }
}

/// A profile and what is taken from a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// How much work a seed is.
    pub profile: Profile,
    /// Kinds of faults that do not happen; names are those of [`Setup::kinds`].
    pub without: BTreeSet<&'static str>,
    /// Only the first so many faults happen.
    pub faults: Option<u64>,
    /// At most so many clients.
    pub clients: Option<u64>,
    /// How long the faults last, in milliseconds.
    pub phase_ms: Option<u64>,
}

impl Setup {
    /// All of a profile.
    pub fn new(profile: Profile) -> Setup {
        Setup {
            profile,
            ..Setup::default()
        }
    }

    /// What can be switched off.
    pub fn kinds() -> impl Iterator<Item = &'static str> {
        faults::kinds()
    }

    /// As typed on the command line, behind the seed.
    pub fn arguments(&self) -> String {
        let mut arguments = format!("--profile {}", self.profile.name());
        let mut add = |text: std::fmt::Arguments<'_>| {
            // Writing to a string cannot fail.
            let _ = arguments.write_fmt(text);
        };
        for kind in &self.without {
            add(format_args!(" --without {kind}"));
        }
        for (name, value) in [
            ("faults", self.faults),
            ("clients", self.clients),
            ("phase-ms", self.phase_ms),
        ] {
            if let Some(value) = value {
                add(format_args!(" --{name} {value}"));
            }
        }
        arguments
    }

    pub(super) fn allows(&self, kind: &str) -> bool {
        !self.without.contains(kind)
    }

    pub(super) fn safety_phase(&self) -> Duration {
        self.phase_ms
            .map_or(self.profile.safety_phase(), Duration::from_millis)
    }
}
