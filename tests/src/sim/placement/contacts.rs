//! Whom somebody takes for the members of placement, and which of them for its leader.

use tinykv_proto::pdpb;
use tinykv_replica::StoreId;

/// The members that a store or a client knows. Members come and go, so it asks for news of them.
#[derive(Clone, Debug, Default)]
pub(in crate::sim) struct Contacts {
    known: Vec<StoreId>,
    believed: usize,
}

impl Contacts {
    pub(in crate::sim) fn new(known: Vec<StoreId>) -> Contacts {
        Contacts { known, believed: 0 }
    }

    /// Without any there is no placement.
    pub(in crate::sim) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whom it asks.
    pub(in crate::sim) fn believed(&self) -> Option<StoreId> {
        self.known.get(self.believed).copied()
    }

    /// From now on it asks that one, or the next if nobody was named whom it knows.
    pub(in crate::sim) fn turn_to(&mut self, leader: Option<StoreId>) {
        let named = self.known.iter().position(|id| Some(*id) == leader);
        self.believed = named.unwrap_or((self.believed + 1) % self.known.len().max(1));
    }

    /// It is told who the members are.
    pub(in crate::sim) fn learn(&mut self, known: Vec<StoreId>) {
        if !known.is_empty() {
            let before = self.believed();
            let same = known.iter().position(|id| Some(*id) == before);
            *self = Contacts {
                known,
                believed: same.unwrap_or(0),
            };
        }
    }

    /// What a member answered about all of them.
    pub(in crate::sim) fn hear(&mut self, response: &pdpb::GetMembersResponse) {
        let members = response.members.iter();
        self.learn(members.map(|it| StoreId(it.member_id)).collect());
    }
}
