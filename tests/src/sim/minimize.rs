//! A failing seed is made smaller: what it does not need to fail is taken from it, piece by piece.
//!
//! A smaller run is another run, so it counts only if it fails in the same way: by the id that a
//! violation begins with.

use super::setup::Setup;
use super::{Outcome, run_with};

/// The smallest setup found with which the seed still fails as it does with the given one, and how;
/// `None` if it does not fail.
pub fn minimize(seed: u64, setup: &Setup, progress: &mut dyn FnMut(&str)) -> Option<Smallest> {
    let first = run_with(seed, setup, false);
    let violation = first.violation.clone()?;
    let mut search = Search {
        seed,
        class: class_of(&violation).to_owned(),
        best: Smallest {
            setup: setup.clone(),
            violation,
            runs: 1,
        },
        struck: first.struck,
        progress,
    };
    search.kinds();
    search.clients();
    search.faults();
    search.phase();
    search.kinds();
    Some(search.best)
}

/// What is left of a failing seed.
#[derive(Clone, Debug)]
pub struct Smallest {
    /// What it is run with.
    pub setup: Setup,
    /// How it fails then.
    pub violation: String,
    /// How many runs it took to find out.
    pub runs: u64,
}

struct Search<'a> {
    seed: u64,
    class: String,
    best: Smallest,
    /// Faults that came in the smallest failing run so far.
    struck: u64,
    progress: &'a mut dyn FnMut(&str),
}

impl Search<'_> {
    /// Takes over a smaller setup if the seed still fails with it.
    fn attempt(&mut self, change: impl FnOnce(&mut Setup)) -> bool {
        let mut setup = self.best.setup.clone();
        change(&mut setup);
        if setup == self.best.setup {
            return false;
        }
        self.best.runs += 1;
        let Outcome {
            violation, struck, ..
        } = run_with(self.seed, &setup, false);
        match violation {
            Some(violation) if class_of(&violation) == self.class => {
                (self.progress)(&setup.arguments());
                self.best.setup = setup;
                self.best.violation = violation;
                self.struck = struck;
                true
            }
            _ => false,
        }
    }

    fn kinds(&mut self) {
        for kind in Setup::kinds() {
            self.attempt(|setup| {
                setup.without.insert(kind);
            });
        }
    }

    fn clients(&mut self) {
        let (_, most) = self.best.setup.profile.clients();
        for count in 1..most {
            if self.attempt(|setup| setup.clients = Some(count)) {
                return;
            }
        }
    }

    /// The end of the list of faults is cut off, by bisection.
    fn faults(&mut self) {
        let (mut passes, mut fails) = (None, self.struck);
        while fails > passes.map_or(0, |passes: u64| passes + 1) {
            let middle = passes.map_or(0, |passes| passes + 1).midpoint(fails - 1);
            match self.attempt(|setup| setup.faults = Some(middle)) {
                true => fails = middle,
                false => passes = Some(middle),
            }
        }
    }

    fn phase(&mut self) {
        let whole = self.best.setup.safety_phase().as_millis() as u64;
        let (mut passes, mut fails) = (0, whole);
        while fails - passes > 50 {
            let middle = passes.midpoint(fails);
            match self.attempt(|setup| setup.phase_ms = Some(middle)) {
                true => fails = middle,
                false => passes = middle,
            }
        }
    }
}

/// What kind of failure it is: the id that its sentence begins with.
fn class_of(violation: &str) -> &str {
    let head = violation.split(':').next().unwrap_or_default();
    match head {
        // An assertion is known by its text, up to the figures in it.
        "assertion" => violation
            .split(|c: char| c.is_ascii_digit())
            .next()
            .unwrap_or(head),
        _ => head,
    }
}
