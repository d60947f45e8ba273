//! The boundary that divides a load best, if one divides it at all.
//!
//! For each key of the sample: how many requests lie below a boundary before it, how many above,
//! and how many reach over it, which both parts would have to serve. The busier part's share of the
//! sample is the score; the smallest wins, and must not exceed `SHARE_MAX`. The same boundary must
//! also divide the newer half of the sample (`NEWER_SHARE_MAX`): inserts of ever larger keys look
//! evenly spread, when looked at as a whole, but all that are to come lie above.

use tinykv_keys::{Bounds, RoutingKey, engine};
use tinykv_node::traffic::reservoir::Sample;

/// Fewer requests tell nothing.
pub const SAMPLES_MIN: usize = 100;
/// The busier part may get so much of the load at most.
const SHARE_MAX: f64 = 0.75;
/// And so much of the newer half of it, of which there are fewer samples.
const NEWER_SHARE_MAX: f64 = 0.85;

/// Why a load is not to be divided.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum NotDivided {
    /// Too little was sampled.
    #[error("{0} requests were sampled; {SAMPLES_MIN} are needed to find a boundary")]
    TooFewSamples(usize),
    /// One key, or few neighbours that no boundary separates, have most of the load.
    #[error("the best boundary leaves {percent} % of the load in one part: a key is hot")]
    OneKey {
        /// The share of the busier part.
        percent: u32,
    },
    /// Most requests are scans that both parts would have to serve.
    #[error("the best boundary leaves {percent} % of the load in one part: scans reach over it")]
    ScansSpan {
        /// The share of the busier part.
        percent: u32,
    },
    /// The load moves through the keys.
    #[error("the load moves on: what came last lies in one part")]
    Moves,
}

/// The requests of a sample, ready to be counted.
struct Load {
    /// The lowest key of each, in order. Nothing stands for the beginning of everything.
    firsts: Vec<Vec<u8>>,
    /// The highest of each, in order; `None`, the end of everything, is last.
    lasts: Vec<Option<Vec<u8>>>,
}

/// How a boundary would divide a load.
struct Division {
    below: usize,
    above: usize,
    /// Requests that reach over it.
    across: usize,
}

impl Load {
    fn new<'a>(samples: impl Iterator<Item = &'a Sample>) -> Load {
        let mut load = Load {
            firsts: Vec::new(),
            lasts: Vec::new(),
        };
        let boundary = |key: &[u8]| engine::boundary_before(key).map(RoutingKey::into_bytes);
        for Sample { span, .. } in samples {
            load.firsts.push(boundary(&span.first).unwrap_or_default());
            load.lasts.push(boundary(&span.last));
        }
        load.firsts.sort_unstable();
        load.lasts
            .sort_unstable_by(|one, two| (one.is_none(), one).cmp(&(two.is_none(), two)));
        load
    }

    fn divided_at(&self, boundary: &[u8]) -> Division {
        let is_below = |last: &Option<Vec<u8>>| last.as_deref().is_some_and(|last| last < boundary);
        let below = self.lasts.partition_point(is_below);
        let all = self.firsts.len();
        let above = all
            - self
                .firsts
                .partition_point(|first| first.as_slice() < boundary);
        Division {
            below,
            above,
            across: all - below - above,
        }
    }
}

impl Division {
    /// Requests that the busier part would serve.
    fn busier(&self) -> usize {
        self.below.max(self.above) + self.across
    }

    /// The same as a part of all.
    fn share(&self) -> f64 {
        let all = self.below + self.above + self.across;
        self.busier() as f64 / all.max(1) as f64
    }
}

/// The boundary that divides the sampled load of a region best.
///
/// # Errors
/// If none divides it.
pub fn choose(bounds: &Bounds<'_>, samples: &[Sample]) -> Result<RoutingKey, NotDivided> {
    if samples.len() < SAMPLES_MIN {
        return Err(NotDivided::TooFewSamples(samples.len()));
    }
    let load = Load::new(samples.iter());
    let mut candidates = load.firsts.clone();
    candidates.dedup();
    let candidates = candidates.into_iter().map(RoutingKey::from_stored);
    let best = candidates
        .filter(|boundary| bounds.can_split_at(boundary))
        .map(|boundary| (load.divided_at(boundary.as_bytes()), boundary))
        .min_by_key(|(division, _)| division.busier());
    let Some((division, boundary)) = best else {
        return Err(not_divided(samples, 1.0));
    };
    if division.share() > SHARE_MAX {
        return Err(not_divided(samples, division.share()));
    }
    let mut positions: Vec<u64> = samples.iter().map(|sample| sample.position).collect();
    positions.sort_unstable();
    let middle = positions[positions.len() / 2];
    let newer = Load::new(samples.iter().filter(|sample| sample.position >= middle));
    match newer.divided_at(boundary.as_bytes()).share() <= NEWER_SHARE_MAX {
        true => Ok(boundary),
        false => Err(NotDivided::Moves),
    }
}

/// Why no boundary is better than one that leaves such a share in one part.
fn not_divided(samples: &[Sample], share: f64) -> NotDivided {
    let percent = (share * 100.0).round() as u32;
    let is_scan = |sample: &&Sample| sample.span.first != sample.span.last;
    let scans = samples.iter().filter(is_scan).count();
    match 2 * scans > samples.len() {
        true => NotDivided::ScansSpan { percent },
        false => NotDivided::OneKey { percent },
    }
}

#[cfg(test)]
mod tests;
