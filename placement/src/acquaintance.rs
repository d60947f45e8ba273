//! Whom a member knows: the data directories of the others, for good (D9).
//!
//! A member whose directory was wiped has forgotten its votes and its log. If it took part again,
//! it and a member that lags behind could elect a leader that lacks what was acknowledged. So
//! nobody takes part in the group before it has met all the others and knows the incarnation of
//! each, durably; and whoever comes later under a name that is known with another incarnation is
//! refused, on every connection and in both directions. The founding members therefore have to be
//! up together once.
//!
//! A member that joined later (`crate::membership`) was told of all the others, and they know it by the
//! replicated state.
//!
//! In between others may have come whom it was not told of, and one of them may lead: it could never
//! answer. So whoever registers it names all members each time. That is not kept, for it registers at
//! each start, and again when it cannot find its leader. And should all it knows be gone, those who
//! speak to it say where they are (`crate::resolver`).
//!
//! The file `MEMBERS` in the data directory holds what is known, and whether the member has taken
//! part in the group: if it has and its log is gone, it does not start.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tinykv_env::Env;
use tinykv_node::failure::Failure;
use tinykv_proto::placement;
use tinykv_raft::PeerId;

use crate::config::FirstMember;

const FILE: &str = "MEMBERS";
const NEW: &str = "MEMBERS.new";

/// The layout of the file; a higher number is refused.
const FORMAT: u32 = 2;

/// Many more than a group has members: who introduces itself after so many is not remembered.
const NAMED_MAX: usize = 64;

/// Far above anything written here; a longer file is not ours.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Whom this member knows. One writer at a time; what is returned as known is durable.
pub(crate) struct Acquaintance {
    env: Arc<dyn Env>,
    dir: PathBuf,
    known: Mutex<Known>,
    told: Mutex<BTreeMap<PeerId, Named>>,
}

/// A member as the leader names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Where it is reached.
    pub(crate) url: String,
    /// The number of its data directory.
    pub(crate) incarnation: u64,
}

/// What stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    format: u32,
    /// Whether an entry of the group was applied here.
    took_part: bool,
    /// The incarnations of the other members, by id; empty until all of them were met.
    incarnations: BTreeMap<u64, u64>,
    /// What a member that joined was told; absent in a founding member's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    joined: Option<Told>,
}

/// The group as it was told to a member that joined it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    group: u64,
    own: (u64, String, String),
    members: Vec<(u64, String, String)>,
}

/// The group that a member joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    /// What its members share.
    pub(crate) group: u64,
    /// The member that joined.
    pub(crate) own: FirstMember,
    /// Those that were there.
    pub(crate) members: Vec<FirstMember>,
}

impl Told {
    fn of(joined: &Joined) -> Told {
        let told = |it: &FirstMember| (it.id.0, it.name.clone(), it.address.clone());
        Told {
            group: joined.group,
            own: told(&joined.own),
            members: joined.members.iter().map(told).collect(),
        }
    }

    fn read(&self) -> Joined {
        let member = |(id, name, address): &(u64, String, String)| FirstMember {
            id: PeerId(*id),
            name: name.clone(),
            address: address.clone(),
        };
        Joined {
            group: self.group,
            own: member(&self.own),
            members: self.members.iter().map(member).collect(),
        }
    }
}

impl Acquaintance {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// [`Failure::Storage`] when it cannot be read or is damaged.
    pub(crate) fn open(env: Arc<dyn Env>, dir: &Path) -> Result<Acquaintance, Failure> {
        let known = read(env.as_ref(), dir)?.unwrap_or(Known {
            format: FORMAT,
            took_part: false,
            incarnations: BTreeMap::new(),
            joined: None,
        });
        Ok(Acquaintance {
            env,
            dir: dir.to_owned(),
            known: Mutex::new(known),
            told: Mutex::default(),
        })
    }

    /// The incarnation of another member; `None` before all were met.
    pub(crate) fn incarnation(&self, member: PeerId) -> Option<u64> {
        self.known.lock().incarnations.get(&member.0).copied()
    }

    /// Whoever registered this member named the others.
    pub(crate) fn hear(&self, members: Vec<placement::Acquaintance>) {
        let named = members.into_iter().map(|it| {
            let (url, incarnation) = (it.url, it.incarnation);
            (PeerId(it.member_id), Named { url, incarnation })
        });
        self.told.lock().extend(named);
    }

    /// A member that nobody has named introduces itself.
    pub(crate) fn hear_of(&self, member: PeerId, named: Named) {
        let mut told = self.told.lock();
        if told.len() < NAMED_MAX {
            told.entry(member).or_insert(named);
        }
    }

    /// A member as it was named since this process began.
    pub(crate) fn told(&self, member: PeerId) -> Option<Named> {
        self.told.lock().get(&member).cloned()
    }

    /// All that were named.
    pub(crate) fn named(&self) -> Vec<PeerId> {
        self.told.lock().keys().copied().collect()
    }

    /// Whether an entry of the group was applied here, now or before a restart.
    pub(crate) fn took_part(&self) -> bool {
        self.known.lock().took_part
    }

    /// The group this member joined; `None` for a founding one.
    pub(crate) fn joined(&self) -> Option<Joined> {
        self.known.lock().joined.as_ref().map(Told::read)
    }

    /// This member was told whom it joins, and the incarnations of those.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn remember_joining(
        &self,
        joined: &Joined,
        incarnations: BTreeMap<PeerId, u64>,
    ) -> io::Result<()> {
        self.change(|known| {
            known.joined = Some(Told::of(joined));
            let incarnations = incarnations.into_iter();
            known.incarnations = incarnations.map(|(id, number)| (id.0, number)).collect();
        })
    }

    /// All the others were met.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn remember(&self, incarnations: BTreeMap<PeerId, u64>) -> io::Result<()> {
        self.change(|known| {
            let incarnations = incarnations.into_iter();
            known.incarnations = incarnations.map(|(id, number)| (id.0, number)).collect();
        })
    }

    /// An entry of the group was applied here.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn remember_taking_part(&self) -> io::Result<()> {
        self.change(|known| known.took_part = true)
    }

    /// Written under another name, synced, renamed, directory synced (D2).
    fn change(&self, edit: impl FnOnce(&mut Known)) -> io::Result<()> {
        let mut known = self.known.lock();
        let mut changed = known.clone();
        edit(&mut changed);
        changed.format = FORMAT;
        let body = serde_json::to_string(&changed)?;
        let text = format!("{body}\n{}\n", checksum(&body));
        let new = self.dir.join(NEW);
        if self.env.exists(&new)? {
            self.env.remove_file(&new)?;
        }
        let file = self.env.create(&new)?;
        file.write_at(text.as_bytes(), 0)?;
        file.sync_data()?;
        self.env.rename(&new, &self.dir.join(FILE))?;
        self.env.sync_dir(&self.dir)?;
        *known = changed;
        Ok(())
    }
}

fn read(env: &dyn Env, dir: &Path) -> Result<Option<Known>, Failure> {
    let path = dir.join(FILE);
    let fail = |error: io::Error| Failure::storage(format!("data directory {error}"));
    if !env.exists(&path).map_err(fail)? {
        return Ok(None);
    }
    let file = env.open(&path).map_err(fail)?;
    let length = file.len().map_err(fail)?.min(FILE_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0).map_err(fail)?;
    let known = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.trim_end().rsplit_once('\n'))
        .filter(|(body, sum)| *sum == checksum(body))
        .and_then(|(body, _)| serde_json::from_str::<Known>(body).ok());
    match known {
        Some(known) if known.format <= FORMAT => Ok(Some(known)),
        Some(known) => Err(Failure::storage(format!(
            "the file {} was written by a newer version (format {}, this program knows up to \
             {FORMAT})",
            path.display(),
            known.format
        ))),
        None => Err(Failure::storage(format!(
            "the file {} is damaged: its checksum is wrong",
            path.display()
        ))),
    }
}

fn checksum(body: &str) -> String {
    format!("crc32c {:08x}", crc32c::crc32c(body.as_bytes()))
}

#[cfg(test)]
mod tests;
