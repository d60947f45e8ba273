//! Regions that are to be scattered: who asked for that, and until when.

use std::time::Duration;

use tinykv_raft::GroupId;

use super::Coordinator;
use crate::schedule::{Decision, ManualRefusal, Operator, Rule, SCATTERS_MAX, is_settled};
use crate::state::Settings;

/// Sentences about what is waited for, at most.
const BLOCKED_MAX: usize = 5;

/// How far the regions of a wish are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scattering {
    /// Regions that may still be moved.
    pub left: u32,
    /// Of them, those that something is being done to.
    pub moving: u32,
    /// What is waited for, a sentence each; the first few.
    pub blocked_by: Vec<String>,
}

impl Coordinator {
    /// These regions, or all, are to be spread evenly. What was done to them by hand before does
    /// not hold that up. Nothing is begun if one of them is not known.
    pub fn scatter(&mut self, ids: Option<&[GroupId]>) -> Result<(), ManualRefusal> {
        let unknown = |region: &&GroupId| !self.view.regions.contains_key(region);
        if let Some(region) = ids.and_then(|ids| ids.iter().find(unknown)) {
            return Err(ManualRefusal::UnknownRegion { region: *region });
        }
        for id in self.meant(ids) {
            self.view.left_alone.remove(&id);
            self.view.scattering.insert(id, SCATTERS_MAX);
        }
        self.replan = true;
        Ok(())
    }

    /// How far these regions are, or all.
    pub fn scattering(
        &self,
        ids: Option<&[GroupId]>,
        settings: &Settings,
        now: Duration,
    ) -> Scattering {
        let mut found = Scattering::default();
        for id in self.meant(ids) {
            if !self.view.scattering.contains_key(&id) {
                continue;
            }
            found.left += 1;
            let operator = self.view.operators.get(&id);
            found.moving += u32::from(operator.is_some_and(is_scatter));
            let known = self.view.regions.get(&id);
            let waits = operator.is_none()
                && known.is_some_and(|known| !is_settled(&self.view, known, settings, now));
            if waits && found.blocked_by.len() < BLOCKED_MAX {
                let sentence =
                    format!("region {id} has not all its voters, healthy and with a known leader");
                found.blocked_by.push(sentence);
            }
        }
        found
    }

    fn meant(&self, ids: Option<&[GroupId]>) -> Vec<GroupId> {
        match ids {
            Some(ids) => ids.to_vec(),
            None => self.view.regions.keys().copied().collect(),
        }
    }

    /// An operator of a region ended.
    pub(super) fn note_scattered(&mut self, operator: &Operator) {
        if is_scatter(operator)
            && let Some(left) = self.view.scattering.get_mut(&operator.region)
        {
            *left = left.saturating_sub(1);
        }
    }

    /// Lets go of the regions that nothing more is to be done to, once the set has come to rest
    /// as a whole; of those that had their share of operators, or are gone, at once.
    pub(super) fn end_scattering(
        &mut self,
        planned: &[Decision],
        settings: &Settings,
        now: Duration,
    ) {
        let view = &self.view;
        let rests = !planned.iter().any(|next| next.reason.rule == Rule::Scatter)
            && !view.operators.values().any(is_scatter);
        let mut scattering = view.scattering.clone();
        scattering.retain(|id, left| {
            let known = view.regions.get(id);
            let waits = |known| !rests || !is_settled(view, known, settings, now);
            *left > 0 && known.is_some_and(waits)
        });
        self.view.scattering = scattering;
    }
}

fn is_scatter(operator: &Operator) -> bool {
    operator.reason.rule == Rule::Scatter
}
