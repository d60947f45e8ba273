//! How a member comes to take part in the group: it meets the others, is born, and registers. One that
//! joins was told of the others, registers, and is called into life by the leader.
//!
//! [`Acquaintance`] says why. Whatever is refused here is refused for good: the process ends with
//! the exit code of storage, because it is the data directory that may not take part.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tinykv_node::failure::Failure;
use tinykv_node::handle::NodeHandle;
use tinykv_node::process::Stop;
use tinykv_raft::PeerId;
use tinykv_replica::Birth;

use crate::acquaintance::Acquaintance;
use crate::group::{GROUP, Group};
use crate::machine::Machine;
use crate::neighbours::Neighbours;
use crate::state::{Command, MemberRecord, Reply};

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two looks whether this member was removed.
const REMOVAL_PAUSE: Duration = Duration::from_secs(1);
/// Rounds after which the log says whom this member waits for.
const ROUNDS_UNTIL_TOLD: u32 = 30;

/// Makes this member take part.
pub(crate) struct Introduction {
    pub(crate) neighbours: Arc<Neighbours>,
    pub(crate) acquaintance: Arc<Acquaintance>,
    pub(crate) group: Group,
    pub(crate) node: NodeHandle<Machine>,
    /// This member.
    pub(crate) record: MemberRecord,
    /// The group's first state, if this member is not born yet.
    pub(crate) birth: Option<Birth>,
    /// Whether it joins, or joined, a group that others founded.
    pub(crate) is_joining: bool,
}

impl Introduction {
    /// Works until this member is registered, or until asked to stop.
    ///
    /// # Errors
    /// [`Failure::Storage`] when the data directory may not take part.
    pub(crate) async fn run(mut self, stop: &Stop) -> Result<(), Failure> {
        if !self.has_met_all() && !self.meet_all(stop).await? {
            return Ok(());
        }
        if let Some(birth) = self.birth.take() {
            self.node.create(birth);
        }
        if self.is_joining && !self.acquaintance.took_part() {
            // Nobody speaks to it before.
            self.register(stop).await?;
        }
        if !self.acquaintance.took_part() {
            if !self.take_part(stop).await? {
                return Ok(());
            }
            self.acquaintance
                .remember_taking_part()
                .map_err(|error| cannot_write(&error))?;
        }
        self.register(stop).await?;
        self.watch_for_removal(stop).await
    }

    /// Waits until an entry of the group is applied here. One that joins may be removed before, and
    /// then nobody calls it into life: it asks now and then. False if asked to stop.
    async fn take_part(&self, stop: &Stop) -> Result<bool, Failure> {
        let mut asked_at = self.group.now();
        while self.group.state().read().cluster_id().is_none() {
            if !pause(stop).await {
                return Ok(false);
            }
            if self.is_joining && self.group.now() >= asked_at + REMOVAL_PAUSE {
                asked_at = self.group.now();
                self.register(stop).await?;
            }
        }
        Ok(true)
    }

    /// Looks now and then whether the peer here was removed, which destroys it.
    async fn watch_for_removal(&self, stop: &Stop) -> Result<(), Failure> {
        loop {
            tokio::select! {
                () = tokio::time::sleep(REMOVAL_PAUSE) => {}
                () = stop.requested() => return Ok(()),
            }
            if self.was_removed().await && !stop.is_requested() {
                return Err(self.removed());
            }
            if self.is_lost()
                && let Some(Some(refusal)) = self.try_to_register().await
            {
                return Err(Failure::storage(refusal));
            }
        }
    }

    /// Whether it hears of no leader, or does not know where that is: others may have come and gone while
    /// it was away, and this one with them.
    fn is_lost(&self) -> bool {
        let leader = self.group.office().leader;
        leader.is_none_or(|leader| leader != self.record.id && !self.neighbours.knows(leader))
    }

    /// Whether the peer that took part lives here no more.
    async fn was_removed(&self) -> bool {
        let is_gone = self.node.directory().group(GROUP).is_none();
        is_gone && self.acquaintance.took_part() && self.node.status(GROUP).await.is_none()
    }

    fn removed(&self) -> Failure {
        Failure::storage(format!(
            "member {} was removed from the placement group: its data directory may be deleted; to \
             come back it must be added anew, with an empty one",
            self.record.name
        ))
    }

    fn has_met_all(&self) -> bool {
        let mut ids = self.neighbours.ids();
        ids.all(|id| self.acquaintance.incarnation(id).is_some())
    }

    /// Asks the others who they are until all have answered. False if asked to stop before.
    async fn meet_all(&self, stop: &Stop) -> Result<bool, Failure> {
        let mut met: BTreeMap<PeerId, u64> = BTreeMap::new();
        for round in 1_u32.. {
            let missing: Vec<PeerId> = self
                .neighbours
                .ids()
                .filter(|id| !met.contains_key(id))
                .collect();
            if missing.is_empty() {
                break;
            }
            if round % ROUNDS_UNTIL_TOLD == 0 {
                tracing::warn!(
                    missing = ?missing.iter().map(|id| id.0).collect::<Vec<_>>(),
                    "waiting to meet all members of --initial-cluster: a new member takes part \
                     only once it has met each of the others"
                );
            }
            for id in missing {
                // Not there yet, or gone again: asked again.
                let Ok(answer) = self.neighbours.greet(id).await else {
                    continue;
                };
                self.check_answer(id, answer.asker_incarnation)?;
                met.insert(id, answer.incarnation);
            }
            if met.len() < self.neighbours.ids().count() && !pause(stop).await {
                return Ok(false);
            }
        }
        self.acquaintance
            .remember(met)
            .map_err(|error| cannot_write(&error))?;
        Ok(true)
    }

    /// Whoever knows this member under another incarnation knew it before its directory was lost.
    fn check_answer(&self, other: PeerId, known: u64) -> Result<(), Failure> {
        if known == 0 || known == self.record.incarnation {
            return Ok(());
        }
        Err(Failure::storage(format!(
            "the data directory of member {} is not the one it had when the placement group was \
             founded (member {other} knows incarnation {known:016x}, this is {:016x}): a member \
             that has lost its data may not take part again; bring back its directory",
            self.record.name, self.record.incarnation
        )))
    }

    /// Registers with the leader, whoever that is, once per start.
    async fn register(&self, stop: &Stop) -> Result<(), Failure> {
        loop {
            match self.try_to_register().await {
                Some(None) => return Ok(()),
                Some(Some(refusal)) => return Err(Failure::storage(refusal)),
                None => {}
            }
            if !pause(stop).await {
                return Ok(());
            }
            if self.was_removed().await {
                return Err(self.removed());
            }
        }
    }

    /// Why this member may not take part, if it may not; `None` if nobody could say.
    async fn try_to_register(&self) -> Option<Option<String>> {
        let office = self.group.office();
        if office.leads {
            let is_leaving = || self.group.state().read().has_removed_member(self.record.id);
            if is_leaving() {
                return Some(None);
            }
            let command = Command::RegisterMember(self.record.clone());
            return match self.group.propose(&command, None).await {
                Ok(Reply::Refused(_)) if is_leaving() => Some(None),
                Ok(Reply::Refused(refusal)) => Some(Some(refusal.to_string())),
                Ok(_) => Some(None),
                Err(_) => None,
            };
        }
        // Who has yet to join knows of no leader, or not where it is: one of the others does.
        let candidates = match office.leader {
            Some(leader) if self.neighbours.knows(leader) => BTreeSet::from([leader]),
            _ => self.neighbours.all_ids(),
        };
        for candidate in candidates {
            match self.neighbours.register(candidate, &self.record).await {
                Ok(answer) => {
                    self.acquaintance.hear(answer.members);
                    return Some(Some(answer.refusal).filter(|why| !why.is_empty()));
                }
                Err(status) => tracing::debug!("not registered yet: {}", status.message()),
            }
        }
        None
    }
}

/// Waits a little. False if asked to stop.
async fn pause(stop: &Stop) -> bool {
    tokio::select! {
        () = tokio::time::sleep(PAUSE) => true,
        () = stop.requested() => false,
    }
}

fn cannot_write(error: &std::io::Error) -> Failure {
    Failure::storage(format!("cannot write whom this member knows: {error}"))
}
