//! The bug bank: mistakes that are in nobody's way until they are planted, one at a time, to see
//! whether the simulator finds them.
//!
//! Each [`Mutant`] stands for a mistake that somebody made, or easily could, in a system like this
//! one. Its place in the production code is one condition more, `planted(Mutant::…)`, so that the
//! code with the mistake is the production code in everything else. The bank plants one, runs the
//! seeds that every change has to pass, with no check that is not always on, and notes at which
//! seed which check spoke up. A mutant that nobody finds is a hole in the simulator.
//!
//! ```text
//! cargo run --release -p tinykv-tests --features mutants --bin bank
//! ```
//!
//! What it printed stands in `README.md` beside this crate, and so does what the scripts of the
//! replicas notice. Any test can be run with a mutant, which it must fail then:
//!
//! ```text
//! TINYKV_MUTANT=MergedDataDropped cargo test -p tinykv-replica --features tinykv-mutants/planted
//! ```
//!
//! # Nothing of it is in what is released
//!
//! Without the feature `planted` of this crate there is no state and no way to plant anything, and
//! [`planted`] is a constant `false`: the condition, and what it would lead to, are gone before
//! code is made of them. Only the feature `mutants` of `tinykv-tests` turns it on, which is no
//! default and which no command but those of the bank names; `.ci/check_workspace.py` sees to both.
//!
//! # What makes a good mutant
//!
//! It breaks a promise, it is not just slower. It is one mistake; where two guards hold the same
//! promise, it takes both away, and its description says so. It is found by its effect, hence never
//! by an assertion about itself.

mod mutant;

pub use mutant::Mutant;

#[cfg(feature = "planted")]
use std::sync::LazyLock;
#[cfg(feature = "planted")]
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is planted: the position of the mutant, counted from one; nothing at zero.
#[cfg(feature = "planted")]
static PLANTED: LazyLock<AtomicUsize> = LazyLock::new(|| AtomicUsize::new(planted_from_outside()));

/// What `TINYKV_MUTANT` names is planted from the start.
#[cfg(feature = "planted")]
fn planted_from_outside() -> usize {
    let Ok(name) = std::env::var("TINYKV_MUTANT") else {
        return 0;
    };
    match Mutant::named(&name) {
        Some(mutant) => mutant as usize + 1,
        None => panic!("TINYKV_MUTANT={name} is no mutant; `bank --list` names them"),
    }
}

/// Whether this mistake is to be made here.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn planted(_mutant: Mutant) -> bool {
    false
}

/// Whether this mistake is to be made here.
#[cfg(feature = "planted")]
#[inline]
pub fn planted(mutant: Mutant) -> bool {
    PLANTED.load(Ordering::Relaxed) == mutant as usize + 1
}

/// From now on this process makes the mistake, instead of any planted before.
#[cfg(feature = "planted")]
pub fn plant(mutant: Mutant) {
    PLANTED.store(mutant as usize + 1, Ordering::Relaxed);
}
