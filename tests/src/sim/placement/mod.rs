//! The placement group of a simulated cluster: production state machine, coordinator and oracle
//! of each member on a [`Host`](super::host::Host), with a small shell of events in the place of
//! the asynchronous one of the process. What travels is in [`message`].

mod contacts;
mod desk;
mod handing_out;
mod introduction;
mod member;
mod message;
mod serving;
mod steering;

use tinykv_raft::GroupId;

pub(super) use contacts::Contacts;
pub(super) use member::{Member, birth, url_of};
pub(super) use message::{Question, Reply, located, wish};

/// The one group of the members.
pub(super) const GROUP: GroupId = GroupId(1);
