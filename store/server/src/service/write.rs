//! Writes: admitted, encoded once, proposed in a task of their own.
//!
//! The task goes on when the asker's connection breaks or its time is over, because a server
//! time-out drops the handler: what was admitted is accounted for until its fate is known. Nothing
//! is proposed after the asker's deadline (K4).

use std::time::Duration;

use tinykv_replica::{Answer, Command as Envelope, Outcome};
use tokio::sync::oneshot;

use super::figures::Kind;
use super::read::addressed;
use super::{Calls, Failed, load};
use crate::admission::frees_space;
use crate::checks::{RegionError, Target};
use crate::command::{Command, Operation, Reply};
use crate::outcome;
use crate::value::PlacementTime;

impl Calls {
    /// Placement's time, for a command whose decisions need it. A request with a time to live is
    /// refused while it is not known.
    pub(super) fn time(&self) -> PlacementTime {
        self.shared.clock.at(self.shared.node.now())
    }

    /// Carries out a write, as the leader of its region.
    pub(super) async fn write(
        &self,
        target: &Target,
        operation: Operation,
        now: PlacementTime,
        deadline: Duration,
    ) -> Result<Reply, Failed> {
        let outcome = self.try_write(target, operation, now, deadline).await;
        self.count(Kind::Write, &outcome);
        outcome
    }

    async fn try_write(
        &self,
        target: &Target,
        operation: Operation,
        now: PlacementTime,
        deadline: Duration,
    ) -> Result<Reply, Failed> {
        let entry = self.check_here(target)?;
        if self.shared.node.disk_is_low() && !frees_space(&operation) {
            return Err(Failed::Region(RegionError::DiskFull {
                store: self.shared.store,
            }));
        }
        let keys = load::keys_written(&operation);
        let spans = match entry.traffic().is_watched() {
            true => load::spans_written(&operation),
            false => Vec::new(),
        };
        let command = Command { now, operation };
        let len = command.encoded_len();
        let patience = deadline.saturating_sub(self.shared.node.now());
        let permit = self.shared.admission.admit(len, patience).await?;
        let envelope = Envelope::build(target.epoch, len, |out| command.encode_into(out));
        drop(command);
        let (answer, outcome) = oneshot::channel();
        let node = self.shared.node.clone();
        let address = addressed(target, deadline);
        self.shared.tasks.spawn("write", async move {
            let outcome = node.propose(address, envelope).await;
            drop(permit);
            // The asker may be gone; then nobody is left to tell.
            let _unheard = answer.send(outcome);
        });
        match outcome.await {
            Ok(Outcome::Ok(Answer::Applied { reply, .. })) => {
                entry.traffic().on_write(keys, len as u64);
                entry.traffic().sample(spans);
                Ok(reply)
            }
            Ok(Outcome::Ok(_)) => unreachable!("a command is answered by its reply"),
            Ok(Outcome::DefinitelyNot(refusal)) => {
                Err(Failed::Region(self.refused(refusal, target)))
            }
            Ok(Outcome::Undetermined(doubt)) => Err(Failed::Region(outcome::undetermined(doubt))),
            Err(_) => Err(Failed::Region(RegionError::Undetermined {
                reason: "the store went down before the write was confirmed",
            })),
        }
    }
}
