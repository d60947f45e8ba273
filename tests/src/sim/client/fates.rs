//! What became of every attempt of a write, as the stores know it: K2 and K4 from their side.
//!
//! A client may send a write again only after proof that it was not applied. Whether it had that
//! proof, its own words do not tell: so the stores say of every proposal whether an earlier one of
//! the same call was refused for certain.

use std::collections::BTreeMap;

use super::message::Mark;

/// Writes that were proposed and not refused, by client and call: the attempt.
#[derive(Debug, Default)]
pub(in crate::sim) struct Fates {
    proposed: BTreeMap<(usize, u64), u64>,
}

impl Fates {
    /// A store proposes a write.
    pub(in crate::sim) fn on_proposed(&mut self, mark: Mark) -> Result<(), String> {
        let Mark {
            client,
            call,
            attempt,
        } = mark;
        match self.proposed.insert((client, call), attempt) {
            None => Ok(()),
            Some(earlier) => Err(format!(
                "K2: client {client} sent the write of its call {call} again in attempt \
                 {attempt}, although attempt {earlier} may have been applied"
            )),
        }
    }

    /// A proposed write was certainly not applied and never will be.
    pub(in crate::sim) fn on_refused(&mut self, mark: Mark) {
        self.proposed.remove(&(mark.client, mark.call));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_proposed_again_only_after_a_refusal() {
        let mark = |call, attempt| Mark {
            client: 1,
            call,
            attempt,
        };
        let mut fates = Fates::default();
        assert_eq!(fates.on_proposed(mark(1, 1)), Ok(()));
        fates.on_refused(mark(1, 1));
        assert_eq!(fates.on_proposed(mark(1, 2)), Ok(()));
        assert_eq!(fates.on_proposed(mark(2, 3)), Ok(()), "another call");
        let again = fates.on_proposed(mark(1, 4)).expect_err("in doubt");
        assert!(again.starts_with("K2: "), "{again}");
    }
}
