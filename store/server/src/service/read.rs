//! Reads: in the lease without asking anybody, otherwise after a confirmed index.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use tinykv_lsm::Snapshot;
use tinykv_node::directory::RegionEntry;
use tinykv_node::traffic::Traffic;
use tinykv_replica::{Answer, Outcome, Region};

use super::figures::Kind;
use super::{Calls, Failed};
use crate::checks::{Here, RegionError, Target, check_leader};
use crate::command::Operation;
use crate::raw::read::{Depth, Unanswered, View};
use crate::value::PlacementTime;

/// How often a read moves the region's time before it gives up. Once is enough unless values
/// expire while it works.
const TIME_MOVES_MAX: usize = 3;

/// Most regions an asker with an outdated epoch is told of.
const SHOWN_REGIONS_MAX: usize = 64;

/// Where a read looks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// In memory, on the asker's own thread; on disk only if that is not enough.
    Memory,
    /// On a thread that may wait for the disk.
    Disk,
}

/// A snapshot and the region it may be read for.
struct Granted {
    snapshot: Snapshot,
    region: Arc<Region>,
    /// Where the region's traffic is counted.
    entry: Arc<RegionEntry>,
}

impl Calls {
    /// Reads a region as its leader. `inside` says whether what will be read lies in the region,
    /// `work` reads, `count` tells the region's traffic what was served.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        target: &Target,
        deadline: Duration,
        first: First,
        inside: impl Fn(&Arc<Region>) -> Result<(), RegionError>,
        work: impl Fn(&View<'_>) -> Result<T, Unanswered> + Clone + Send + 'static,
        count: impl FnOnce(&T, &Traffic),
    ) -> Result<T, Failed> {
        let outcome = self
            .try_read(target, deadline, first, inside, work, count)
            .await;
        self.count(Kind::Read, &outcome);
        outcome
    }

    async fn try_read<T: Send + 'static>(
        &self,
        target: &Target,
        deadline: Duration,
        first: First,
        inside: impl Fn(&Arc<Region>) -> Result<(), RegionError>,
        work: impl Fn(&View<'_>) -> Result<T, Unanswered> + Clone + Send + 'static,
        count: impl FnOnce(&T, &Traffic),
    ) -> Result<T, Failed> {
        for _ in 0..TIME_MOVES_MAX {
            let granted = self.grant(target, deadline, &inside).await?;
            let entry = Arc::clone(&granted.entry);
            match self.answer(granted, self.time(), first, work.clone()).await {
                Err(Unanswered::TimeBehind(now)) => self.move_time(target, now, deadline).await?,
                Err(Unanswered::GoingDown) => {
                    return Err(Failed::Region(RegionError::NotLeader {
                        region: target.region,
                        leader: None,
                    }));
                }
                answer => {
                    let answer = answer?;
                    count(&answer, entry.traffic());
                    return Ok(answer);
                }
            }
        }
        Err(Failed::Region(RegionError::Busy {
            reason: "values expire faster than they can be read",
            wait: Duration::from_millis(50),
        }))
    }

    /// Leave to read, with the snapshot.
    async fn grant(
        &self,
        target: &Target,
        deadline: Duration,
        inside: &impl Fn(&Arc<Region>) -> Result<(), RegionError>,
    ) -> Result<Granted, Failed> {
        let entry = self.check_here(target)?;
        if let Some((snapshot, region)) = self.grant_in_lease(target, inside) {
            return Ok(Granted {
                snapshot,
                region,
                entry,
            });
        }
        let outcome = self
            .shared
            .node
            .read(addressed(target, deadline), Some(target.epoch))
            .await;
        match outcome {
            Outcome::Ok(Answer::Read(_)) => {}
            Outcome::Ok(_) => unreachable!("a read is answered by a grant"),
            Outcome::DefinitelyNot(refusal) => {
                return Err(Failed::Region(self.refused(refusal, target)));
            }
            // Nothing is unknown about a read that was not served: it may be asked again.
            Outcome::Undetermined(_) => {
                return Err(Failed::Region(RegionError::NotLeader {
                    region: target.region,
                    leader: None,
                }));
            }
        }
        let snapshot = self.shared.node.lsm().snapshot();
        // The region as published after the snapshot was taken: had a split, a merge or the end
        // of the peer changed the data in it, it would show here.
        let published = self.shared.node.directory().group(target.region);
        let region = match published.as_deref().and_then(here) {
            Some(here) if here.peer == target.peer => Arc::new(here.state.region.clone()),
            _ => {
                return Err(Failed::Region(RegionError::RegionNotFound {
                    region: target.region,
                }));
            }
        };
        if region.epoch.version != target.epoch.version {
            return Err(Failed::Region(self.epoch_not_match(target, &region)));
        }
        inside(&region)?;
        Ok(Granted {
            snapshot,
            region,
            entry,
        })
    }

    /// The fast path. What is wrong with the request, if it is not in the lease, the slow path
    /// finds out.
    fn grant_in_lease(
        &self,
        target: &Target,
        inside: &impl Fn(&Arc<Region>) -> Result<(), RegionError>,
    ) -> Option<(Snapshot, Arc<Region>)> {
        let region = RefCell::new(None);
        let snapshot = self.shared.node.read_in_lease(target.region, |lease| {
            let fits = lease.peer == target.peer
                && lease.region.epoch.version == target.epoch.version
                && inside(&lease.region).is_ok();
            region.replace(fits.then(|| Arc::clone(&lease.region)));
            fits
        });
        let region = region.into_inner()?;
        let snapshot = snapshot.ok()?;
        Some((snapshot, region))
    }

    async fn answer<T: Send + 'static>(
        &self,
        granted: Granted,
        now: PlacementTime,
        first: First,
        work: impl Fn(&View<'_>) -> Result<T, Unanswered> + Send + 'static,
    ) -> Result<T, Unanswered> {
        let Granted {
            snapshot, region, ..
        } = granted;
        if first == First::Memory {
            let view = View {
                snapshot: &snapshot,
                region: &region,
                now,
                depth: Depth::Memory,
            };
            match work(&view) {
                Err(Unanswered::NotCached) => {}
                answer => return answer,
            }
        }
        let patient = move || {
            work(&View {
                snapshot: &snapshot,
                region: &region,
                now,
                depth: Depth::Disk,
            })
        };
        match self.shared.node.pool().run(patient).await {
            Ok(answer) => answer,
            Err(_closed) => Err(Unanswered::GoingDown),
        }
    }

    /// Moves the region's time up, so that what has expired is gone for every later reader.
    async fn move_time(
        &self,
        target: &Target,
        now: PlacementTime,
        deadline: Duration,
    ) -> Result<(), Failed> {
        self.write(target, Operation::AdvanceTime, now, deadline)
            .await
            .map(|_| ())
    }

    /// Whether this store may be the one to ask; the region, if so.
    pub(super) fn check_here(&self, target: &Target) -> Result<Arc<RegionEntry>, RegionError> {
        let entry = self.shared.node.directory().group(target.region);
        let here = entry.as_deref().and_then(here);
        match check_leader(target, self.shared.store, here.as_ref()) {
            Err(RegionError::EpochNotMatch { regions }) => Err(match regions.first() {
                Some(region) => self.epoch_not_match(target, region),
                None => RegionError::EpochNotMatch { regions },
            }),
            Err(error) => Err(self.sure(error)),
            Ok(()) => Ok(entry.expect("nobody leads a region that is not here")),
        }
    }

    /// The regions that now stand where the asker's was: the region it named and, if that was
    /// split since, those cut off from it. Each split raises the version by the number of parts
    /// it cuts off, and they follow to the right.
    pub(super) fn epoch_not_match(&self, target: &Target, region: &Arc<Region>) -> RegionError {
        let behind = region.epoch.version.saturating_sub(target.epoch.version);
        let cut_off = usize::try_from(behind).unwrap_or(usize::MAX);
        let mut regions = vec![Arc::clone(region)];
        while regions.len() <= cut_off && regions.len() < SHOWN_REGIONS_MAX {
            let last = regions.last().expect("one at least");
            let next = match last.end.is_empty() {
                true => None,
                false => self.shared.node.directory().find(&last.end),
            };
            let state = next.and_then(|entry| entry.view().state.clone());
            match state {
                Some(state) if state.region.start == last.end => {
                    regions.push(Arc::new(state.region.clone()));
                }
                _ => break,
            }
        }
        RegionError::EpochNotMatch { regions }
    }
}

/// The request as the node wants to know it.
pub(super) fn addressed(target: &Target, deadline: Duration) -> tinykv_node::handle::Target {
    tinykv_node::handle::Target {
        group: target.region,
        peer: Some(target.peer),
        term: None,
        deadline,
    }
}

/// What the store knows of a region; `None` while its peer waits for its first data.
fn here(entry: &RegionEntry) -> Option<Here> {
    let view = entry.view();
    Some(Here {
        state: Arc::clone(view.state.as_ref()?),
        peer: view.peer,
        leader: view.leader,
        term: view.term,
    })
}
