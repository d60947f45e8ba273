//! Who may speak: the checks of a hello (M12).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tinykv_proto::peer::Hello;
use tinykv_replica::StoreId;

use super::refusal::Refused;
use super::{Destination, WIRE_VERSION};
use crate::identity::Identity;

/// The stores that have spoken to this process, with the newest start seen of each.
#[derive(Debug, Default)]
pub struct Roster {
    seen: Mutex<BTreeMap<StoreId, Seen>>,
}

#[derive(Debug)]
struct Seen {
    incarnation: u64,
    start_number: Arc<AtomicU64>,
}

/// A store that passed the checks. It may speak until a newer start of it shows up.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Who it is.
    pub store: StoreId,
    start_number: u64,
    newest: Arc<AtomicU64>,
}

/// What a hello that passed has shown.
#[derive(Debug)]
pub enum Admitted {
    /// A store that was not heard before, or that speaks again.
    Known(Guest),
    /// The store was started anew since it last spoke.
    Restarted(Guest),
}

impl Guest {
    /// Whether no newer start of the store has been seen.
    pub fn is_current(&self) -> bool {
        self.newest.load(Ordering::Acquire) == self.start_number
    }
}

impl Roster {
    /// Checks a hello against who we are, what is registered about the sender, and what was seen
    /// of it before.
    ///
    /// # Errors
    /// The sentence that the refused sender is told.
    pub fn admit(
        &self,
        here: &Identity,
        hello: &Hello,
        registered: Option<&Destination>,
    ) -> Result<Admitted, Refused> {
        let from = StoreId(hello.from);
        if hello.version != WIRE_VERSION {
            let version = hello.version;
            return Err(Refused::Version { from, version });
        }
        if hello.cluster_id != here.cluster_id {
            return Err(Refused::OtherCluster {
                from,
                cluster: hello.cluster_id,
                here: here.cluster_id,
            });
        }
        if hello.to != here.member_id
            || (hello.to_incarnation != 0 && hello.to_incarnation != here.incarnation)
        {
            return Err(Refused::OtherStore {
                from,
                to: StoreId(hello.to),
                to_incarnation: hello.to_incarnation,
                here: StoreId(here.member_id),
                incarnation: here.incarnation,
            });
        }
        if hello.from == here.member_id {
            return Err(Refused::Impostor { here: from });
        }
        if let Some(registered) = registered {
            let foreign = registered
                .incarnation
                .is_some_and(|incarnation| incarnation != hello.from_incarnation);
            let outdated = registered
                .start_number
                .is_some_and(|start_number| hello.from_start_number < start_number);
            if foreign || outdated {
                return Err(outdated_directory(hello));
            }
        }
        self.remember(hello)
    }

    fn remember(&self, hello: &Hello) -> Result<Admitted, Refused> {
        let store = StoreId(hello.from);
        let start_number = hello.from_start_number;
        let mut seen = self.seen.lock();
        let mut restarted = false;
        let newest = match seen.get(&store) {
            None => {
                let newest = Arc::new(AtomicU64::new(start_number));
                let entry = Seen {
                    incarnation: hello.from_incarnation,
                    start_number: Arc::clone(&newest),
                };
                seen.insert(store, entry);
                newest
            }
            Some(known) => {
                let newest = known.start_number.load(Ordering::Acquire);
                if known.incarnation != hello.from_incarnation || start_number < newest {
                    return Err(outdated_directory(hello));
                }
                restarted = start_number > newest;
                known.start_number.store(start_number, Ordering::Release);
                Arc::clone(&known.start_number)
            }
        };
        let guest = Guest {
            store,
            start_number,
            newest,
        };
        Ok(match restarted {
            true => Admitted::Restarted(guest),
            false => Admitted::Known(guest),
        })
    }
}

/// What the hello of somebody who passed the checks says of where it is reached, if nothing is
/// registered about it.
pub fn introduction(hello: &Hello, registered: Option<&Destination>) -> Option<Destination> {
    let is_new = registered.is_none() && !hello.from_address.is_empty();
    is_new.then(|| Destination {
        address: hello.from_address.clone(),
        incarnation: Some(hello.from_incarnation),
        start_number: Some(hello.from_start_number),
    })
}

fn outdated_directory(hello: &Hello) -> Refused {
    Refused::Outdated {
        from: StoreId(hello.from),
        incarnation: hello.from_incarnation,
        start_number: hello.from_start_number,
    }
}

#[cfg(test)]
mod tests;
