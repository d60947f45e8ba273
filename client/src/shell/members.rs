//! What is known about the members of the placement driver.

use std::sync::Arc;
use std::time::Duration;

use tinykv_proto::pdpb;

use super::placement::{refused, unknown};
use crate::retry::LookupFailure;

/// Addresses of members kept at most.
const ADDRESSES_MAX: usize = 64;

/// Who leads is asked again after this long, though nothing failed: members come and go, and whoever
/// knows none of those that are there finds placement no more.
const LEADER_AGE_MAX: Duration = Duration::from_secs(5);

/// The members.
#[derive(Debug)]
pub(super) struct Members {
    /// Where members are: those given, then those learnt.
    addresses: Vec<Arc<str>>,
    /// Whom to ask first the next time nobody is known to lead.
    next: usize,
    /// Where the leader is, if that is known.
    leader: Option<Arc<str>>,
    /// When who leads was last asked, or is being asked.
    asked: Duration,
    /// The cluster; 0 until a member told.
    cluster_id: u64,
}

impl Members {
    /// Nothing but these addresses is known, `host:port` each, perhaps with `http://`.
    pub(super) fn new(addresses: &[String]) -> Members {
        let mut bare: Vec<Arc<str>> = Vec::with_capacity(addresses.len());
        for address in addresses.iter().map(|it| bare_address(it)) {
            if !bare.contains(&address) {
                bare.push(address);
            }
        }
        Members {
            addresses: bare,
            next: 0,
            leader: None,
            asked: Duration::ZERO,
            cluster_id: 0,
        }
    }

    /// The cluster's id; 0 as long as no member was asked.
    pub(super) fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// Who leads, as far as is known. One of those that ask is told nothing when that is long ago, and
    /// has to find out.
    pub(super) fn leader(&mut self, now: Duration) -> Option<Arc<str>> {
        let is_old = now.saturating_sub(self.asked) >= LEADER_AGE_MAX;
        if is_old {
            self.asked = now;
        }
        self.leader.clone().filter(|_| !is_old)
    }

    /// All members in the order to ask them; the next time another one is first.
    pub(super) fn in_turn(&mut self) -> Vec<Arc<str>> {
        let mut members = self.addresses.clone();
        let count = members.len();
        if count > 0 {
            members.rotate_left(self.next % count);
            self.next = (self.next + 1) % count;
        }
        members
    }

    /// A member said so, and is believed.
    pub(super) fn set_leader(&mut self, address: Arc<str>) {
        self.leader = Some(address);
    }

    /// The leader could not be asked, or leads no more.
    pub(super) fn lose_leader(&mut self, address: &Arc<str>) {
        if self.leader.as_ref() == Some(address) {
            self.leader = None;
        }
    }

    /// A member told who the members are; returns where it says that the leader is.
    pub(super) fn learn(
        &mut self,
        response: pdpb::GetMembersResponse,
    ) -> Result<Arc<str>, LookupFailure> {
        refused(response.header.as_ref())?;
        let cluster_id = response.header.map_or(0, |header| header.cluster_id);
        if self.cluster_id != 0 && cluster_id != self.cluster_id {
            let known = self.cluster_id;
            let message = format!("a member belongs to cluster {cluster_id}, not to {known}");
            return Err(unknown(message));
        }
        self.cluster_id = cluster_id;
        for url in response
            .members
            .iter()
            .flat_map(|member| &member.client_urls)
        {
            let address = bare_address(url);
            if !self.addresses.contains(&address) && self.addresses.len() < ADDRESSES_MAX {
                self.addresses.push(address);
            }
        }
        let leader = response
            .leader
            .as_ref()
            .and_then(|leader| leader.client_urls.first());
        leader
            .map(|url| bare_address(url))
            .ok_or_else(|| LookupFailure::NoLeader {
                message: "a member knows of none".to_owned(),
            })
    }
}

/// An address without scheme and slash.
pub(super) fn bare_address(url: &str) -> Arc<str> {
    let address = url.strip_prefix("http://").unwrap_or(url);
    Arc::from(address.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_is_asked_again_after_a_while_by_one_of_those_that_ask() {
        let mut members = Members::new(&["a:1".to_owned()]);
        let now = Duration::from_secs(100);
        assert_eq!(members.leader(now), None);
        members.set_leader("a:1".into());
        assert_eq!(members.leader(now).as_deref(), Some("a:1"));
        let later = now + LEADER_AGE_MAX;
        assert_eq!(members.leader(later), None, "this one has to find out");
        assert_eq!(members.leader(later).as_deref(), Some("a:1"));
    }
}
