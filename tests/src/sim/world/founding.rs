//! The first regions, and ids where no placement hands them out.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tinykv_placement::state::{Command, Reply as Applied, Settings, StoreLife, StoreRecord};
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{Birth, Event, Peer, Region, RegionEpoch, RegionState, StoreId};

use super::super::happening::{Asker, Happening};
use super::super::network::Weather;
use super::super::placement::{Question, birth};
use super::super::store::FIRST_STORE;
use super::World;

/// How often whoever founds the cluster looks, and how long it waits for an answer.
const FOUND_INTERVAL: Duration = Duration::from_millis(10);
const TELL_AGAIN: Duration = Duration::from_millis(500);
/// Ids reserved for stores and the first regions.
const FOUNDING_IDS: u32 = 256;

/// Peers of a region at the beginning.
const PEERS: usize = 3;

/// Ids that nobody had before.
#[derive(Debug)]
pub(super) struct Ids {
    last: u64,
}

impl Ids {
    pub(super) fn after(last: u64) -> Ids {
        Ids { last }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

/// How far the founding of the cluster has come.
#[derive(Debug)]
pub(super) struct Founding {
    /// What is to be told to placement, the next at the end.
    commands: Vec<Command>,
    /// When the last of them was told.
    told_at: Option<Duration>,
    regions: Vec<Region>,
    is_done: bool,
    /// What the weather will be.
    weather: Weather,
}

impl Founding {
    pub(super) fn new(weather: Weather) -> Founding {
        Founding {
            commands: Vec::new(),
            told_at: None,
            regions: Vec::new(),
            is_done: false,
            weather,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }
}

impl World {
    /// Starts everybody, and founds the cluster.
    pub(super) fn found(&mut self) -> Result<(), String> {
        for at in self.addresses() {
            self.start(at)?;
        }
        if self.members.is_empty() {
            let stores: Vec<StoreId> = self.store_ids().take(PEERS).collect();
            self.founding.regions = self.first_regions(&stores);
            self.begin_life();
            return Ok(());
        }
        let members: Vec<StoreId> = self.members.iter().map(|member| member.host.id).collect();
        for own in &members {
            self.post(*own, Event::Create(birth(&members, *own)));
        }
        self.plan_founding()?;
        self.context
            .schedule
            .after(FOUND_INTERVAL, Happening::Found);
        Ok(())
    }

    /// What placement has to hear, last things first.
    fn plan_founding(&mut self) -> Result<(), String> {
        let stores: Vec<StoreId> = self.store_ids().collect();
        let first = stores[0];
        // Either as a store founds a cluster, and placement adds the other peers; or as it is
        // after that.
        let alone = self.context.random.chance(2);
        let holders: Vec<StoreId> = match alone {
            true => vec![first],
            false => stores.iter().copied().take(PEERS).collect(),
        };
        let mut regions = self.first_regions(&holders);
        let at_bootstrap: Vec<Region> = regions
            .iter()
            .map(|region| Region {
                peers: vec![region.peers[0]],
                ..region.clone()
            })
            .collect();
        for region in &mut regions {
            // Each further peer was added and promoted.
            region.epoch.conf_ver += 2 * (region.peers.len() as u64 - 1);
        }
        self.founding.regions = regions;
        let settings = Settings {
            disconnected_after_ms: 2_000,
            down_after_ms: match self.context.random.chance(2) {
                true => 2_500,
                false => 600_000,
            },
            leader_settle_ms: self.context.random.between(100, 3_000),
            joint_changes: self.context.random.chance(2) && self.setup.allows("joint"),
            ..Settings::default()
        };
        let others = stores[1..].iter().rev();
        let mut commands = vec![Command::ChangeSettings(settings)];
        commands.extend(others.map(|store| Command::PutStore(record(*store))));
        commands.push(Command::Bootstrap {
            store: record(first),
            regions: at_bootstrap,
        });
        commands.push(Command::ReserveIds {
            count: FOUNDING_IDS,
        });
        self.founding.commands = commands;
        let reserved = FIRST_STORE..FIRST_STORE + u64::from(FOUNDING_IDS);
        self.context.invariants.on_ids(reserved)
    }

    /// Tells placement the next thing, and again if it does not answer.
    pub(super) fn go_on_founding(&mut self) {
        let now = self.context.now();
        let Some(command) = self.founding.commands.last().cloned() else {
            return;
        };
        let is_due = self
            .founding
            .told_at
            .is_none_or(|at| now >= at + TELL_AGAIN);
        if is_due && let Some(member) = self.serving_member() {
            self.founding.told_at = Some(now);
            let question = Question::Command(command);
            self.context.ask(Asker::Operator, member, 0, question);
        }
        self.context
            .schedule
            .after(FOUND_INTERVAL, Happening::Found);
    }

    /// Placement answers whoever founds the cluster.
    pub(super) fn on_founding_reply(&mut self, reply: &Applied) -> Result<(), String> {
        if let Applied::Refused(refusal) = reply {
            return Err(format!("the cluster cannot be founded: {refusal}"));
        }
        self.founding.commands.pop();
        self.founding.told_at = None;
        if self.founding.commands.is_empty() {
            self.begin_life();
        }
        Ok(())
    }

    /// The first regions are born, clients begin, and so does bad luck.
    fn begin_life(&mut self) {
        self.founding.is_done = true;
        self.safety_until = self.context.now() + self.setup.safety_phase();
        self.context.network.heal(Some(self.founding.weather));
        for region in self.founding.regions.clone() {
            self.give_birth(&region);
        }
        for client in 0..self.clients.len() {
            let delay = Duration::from_millis(self.context.random.below(300));
            let begin = Happening::Begin { client };
            self.context.schedule.after(delay, begin);
            if !self.members.is_empty() {
                let draw = Happening::Draw { client };
                self.context.schedule.after(delay, draw);
            }
        }
        self.next_fault();
    }

    /// All peers of a region come to life, each on its store.
    fn give_birth(&mut self, region: &Region) {
        let state = RegionState {
            region: region.clone(),
            // One peer alone acknowledges nothing until placement has given it others.
            open: region.peers.len() == PEERS,
            machine: Bytes::new(),
            ..RegionState::default()
        };
        for peer in region.peers.clone() {
            let birth = Birth {
                peer,
                state: state.clone(),
            };
            self.post(peer.store, Event::Create(birth));
        }
    }

    /// All regions there are at first, with a voter on each of the stores.
    fn first_regions(&mut self, stores: &[StoreId]) -> Vec<Region> {
        let count = self.size.first_regions;
        let mut bounds = vec![Bytes::new()];
        for number in 1..count {
            let key = &self.keys[number * self.keys.len() / count];
            bounds.push(Bytes::from(key.clone()));
        }
        bounds.push(Bytes::new());
        let pairs: Vec<(Bytes, Bytes)> = bounds
            .windows(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect();
        pairs
            .into_iter()
            .map(|(start, end)| Region {
                id: GroupId(self.ids.next()),
                start,
                end,
                epoch: RegionEpoch::FIRST,
                peers: stores
                    .iter()
                    .map(|store| Peer::voter(PeerId(self.ids.next()), *store))
                    .collect(),
            })
            .collect()
    }
}

fn record(store: StoreId) -> StoreRecord {
    StoreRecord {
        id: store,
        address: format!("127.0.0.1:{store}"),
        peer_address: String::new(),
        status_address: String::new(),
        version: String::new(),
        labels: BTreeMap::new(),
        incarnation: store.0,
        start_number: 1,
        life: StoreLife::Serving,
    }
}
