//! What operators tune while the cluster runs, by name.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::codec::{DecodeError, Reader, Writer};
use super::levels::{self, Level, Levels};

/// How often a store sends its heartbeat; told to it in every reply. Milliseconds.
pub const STORE_HEARTBEAT_INTERVAL_MS: u32 = 1_000;

/// What an operator may tune while the cluster runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Voters a region should have once enough stores joined. 1 to 7, odd.
    pub replica_count: u32,
    /// A store silent for longer than this gets no new peers or leaders, and is named to nobody
    /// as a leader. Milliseconds.
    pub disconnected_after_ms: u64,
    /// A store silent for longer than this loses its peers to other stores. Milliseconds.
    pub down_after_ms: u64,
    /// How long a store must have been heard without a gap, and a leader have led, before leaders
    /// are balanced over them. Milliseconds.
    pub leader_settle_ms: u64,
    /// The difference of leader counts between two stores that is left alone. At least 1.
    pub leader_difference_max: u32,
    /// Leader transfers running at once in the whole cluster.
    pub transfers_max: u32,
    /// Peers being added to one store at once.
    pub additions_per_store_max: u32,
    /// Whether a peer that moves takes over from the old one in one joint change of membership.
    /// Otherwise the region has one voter more for a moment, and needs a larger majority.
    pub joint_changes: bool,
    /// The labels that say where a store stands, the widest level first. Replicas of a region are
    /// kept as far apart as these tell.
    pub location_labels: Levels,
    /// Two replicas of a region are never placed in one domain of this level, nor on a store that
    /// does not say in which it stands: rather one is missing.
    pub isolation_level: Option<Level>,
    /// Merges of small neighbours running at once in the whole cluster; 0: none are begun but by
    /// hand.
    pub merge_limit: u32,
    /// Of these, those that one store takes part in.
    pub merges_per_store_max: u32,
    /// A region of at most so many MiB is small enough to be merged with a neighbour that is, too.
    pub merge_mib_max: u32,
    /// And of at most so many keys.
    pub merge_keys_max: u32,
    /// What two regions may have together that become one. MiB; and never more than two thirds of
    /// the stores' `--region-split-size`, or they would be split again.
    pub merged_mib_max: u32,
    /// Moves and transfers of hot regions running at once in the whole cluster; 0: hot regions are
    /// like others.
    pub hot_limit: u32,
    /// For so long after a split, and after a member began to lead placement, a region is not
    /// merged unless by hand. Milliseconds.
    pub split_merge_interval_ms: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            replica_count: 3,
            disconnected_after_ms: 5_000,
            down_after_ms: 10 * 60 * 1_000,
            leader_settle_ms: 3_000,
            leader_difference_max: 1,
            transfers_max: 4,
            additions_per_store_max: 8,
            joint_changes: true,
            location_labels: Levels::usual(),
            isolation_level: None,
            merge_limit: 8,
            merges_per_store_max: 4,
            merge_mib_max: 20,
            merge_keys_max: 200_000,
            merged_mib_max: 64,
            hot_limit: 4,
            split_merge_interval_ms: 60 * 60 * 1_000,
        }
    }
}

/// The longest time a setting may name: a day. Milliseconds.
const MILLIS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// The most a setting may allow at once.
const COUNT_MAX: u32 = 10_000;

/// The largest size a setting may name: a TiB. MiB.
const MIB_MAX: u32 = 1 << 20;

/// One setting, to be read or changed, and its range.
enum Place<'a> {
    /// A count.
    Count(&'a mut u32, RangeInclusive<u32>),
    /// A time in milliseconds.
    Millis(&'a mut u64, RangeInclusive<u64>),
    /// Yes or no.
    Switch(&'a mut bool),
    /// Labels that say where a store stands.
    Levels(&'a mut Levels),
    /// One of those, or none.
    Level(&'a mut Option<Level>),
}

impl Place<'_> {
    /// What values it takes.
    fn wanted(&self) -> String {
        match self {
            Place::Count(_, range) => {
                format!("a whole number from {} to {}", range.start(), range.end())
            }
            Place::Millis(_, range) => format!(
                "a whole number of milliseconds from {} to {}",
                range.start(),
                range.end()
            ),
            Place::Switch(_) => "true or false".into(),
            Place::Levels(_) => Levels::WANTED.into(),
            Place::Level(_) => "none or one of the location_labels".into(),
        }
    }

    /// Takes the value as it is shown; false if it is none.
    fn parse(&mut self, value: &str) -> bool {
        match self {
            Place::Count(count, _) => value.parse().map(|value| **count = value).is_ok(),
            Place::Millis(millis, _) => value.parse().map(|value| **millis = value).is_ok(),
            Place::Switch(on) => value.parse().map(|value| **on = value).is_ok(),
            Place::Levels(levels) => Levels::parse(value).map(|value| **levels = value).is_some(),
            Place::Level(level) => {
                **level = Level::parse(value);
                level.is_some() || value == levels::NONE
            }
        }
    }

    fn show(&self) -> String {
        match self {
            Place::Count(count, _) => count.to_string(),
            Place::Millis(millis, _) => millis.to_string(),
            Place::Switch(on) => on.to_string(),
            Place::Levels(levels) => levels.to_string(),
            Place::Level(None) => levels::NONE.into(),
            Place::Level(Some(level)) => level.to_string(),
        }
    }

    fn is_in_range(&self) -> bool {
        match self {
            Place::Count(count, range) => range.contains(&**count),
            Place::Millis(millis, range) => range.contains(&**millis),
            Place::Switch(_) | Place::Levels(_) | Place::Level(_) => true,
        }
    }
}

impl Settings {
    /// All settings by name, in the order in which they are shown.
    pub const NAMES: [&str; 17] = [
        "replica_count",
        "disconnected_after_ms",
        "down_after_ms",
        "leader_settle_ms",
        "leader_difference_max",
        "transfers_max",
        "additions_per_store_max",
        "joint_changes",
        "location_labels",
        "isolation_level",
        "merge_limit",
        "merges_per_store_max",
        "merge_mib_max",
        "merge_keys_max",
        "merged_mib_max",
        "split_merge_interval_ms",
        "hot_limit",
    ];

    /// So many of them have fixed places in an encoding. The others follow by name, so that a
    /// release that does not know one says which.
    const FIXED: usize = 7;

    fn place(&mut self, name: &str) -> Option<Place<'_>> {
        let silence = 2 * u64::from(STORE_HEARTBEAT_INTERVAL_MS)..=MILLIS_MAX;
        Some(match name {
            "replica_count" => Place::Count(&mut self.replica_count, 1..=7),
            "disconnected_after_ms" => Place::Millis(&mut self.disconnected_after_ms, silence),
            "down_after_ms" => Place::Millis(&mut self.down_after_ms, silence),
            "leader_settle_ms" => Place::Millis(&mut self.leader_settle_ms, 0..=MILLIS_MAX),
            "leader_difference_max" => Place::Count(&mut self.leader_difference_max, 1..=COUNT_MAX),
            "transfers_max" => Place::Count(&mut self.transfers_max, 1..=COUNT_MAX),
            "additions_per_store_max" => {
                Place::Count(&mut self.additions_per_store_max, 1..=COUNT_MAX)
            }
            "joint_changes" => Place::Switch(&mut self.joint_changes),
            "location_labels" => Place::Levels(&mut self.location_labels),
            "isolation_level" => Place::Level(&mut self.isolation_level),
            "merge_limit" => Place::Count(&mut self.merge_limit, 0..=COUNT_MAX),
            "merges_per_store_max" => Place::Count(&mut self.merges_per_store_max, 1..=COUNT_MAX),
            "merge_mib_max" => Place::Count(&mut self.merge_mib_max, 1..=MIB_MAX),
            "merge_keys_max" => Place::Count(&mut self.merge_keys_max, 1..=u32::MAX),
            "merged_mib_max" => Place::Count(&mut self.merged_mib_max, 1..=MIB_MAX),
            "hot_limit" => Place::Count(&mut self.hot_limit, 0..=COUNT_MAX),
            "split_merge_interval_ms" => {
                Place::Millis(&mut self.split_merge_interval_ms, 0..=MILLIS_MAX)
            }
            _ => return None,
        })
    }

    /// Each setting in turn, in the order in which they are shown.
    fn each<T>(&self, mut look: impl FnMut(&'static str, Place<'_>) -> T) -> Vec<T> {
        let mut copy = *self;
        let mut look = |name| look(name, copy.place(name).expect("each name has a place"));
        Settings::NAMES.into_iter().map(&mut look).collect()
    }

    /// Names and values, as they are shown.
    pub fn list(&self) -> Vec<(&'static str, String)> {
        self.each(|name, place| (name, place.show()))
    }

    /// These settings with one changed; or one sentence that says what would be right.
    pub fn with(&self, name: &str, value: &str) -> Result<Settings, String> {
        let mut changed = *self;
        changed.set(name, value)?;
        changed.validate()?;
        Ok(changed)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let Some(mut place) = self.place(name) else {
            let names = Settings::NAMES.join(", ");
            return Err(format!(
                "there is no setting `{name}`: it is one of {names}"
            ));
        };
        if !place.parse(value) {
            return Err(format!("{name} must be {}, not `{value}`", place.wanted()));
        }
        Ok(())
    }

    /// Checks that the values make sense together; the error is one sentence naming the value.
    pub fn validate(&self) -> Result<(), String> {
        let wrong = self.each(|name, place| {
            let sentence = || format!("{name} must be {}, not {}", place.wanted(), place.show());
            (!place.is_in_range()).then(sentence)
        });
        if let Some(sentence) = wrong.into_iter().flatten().next() {
            return Err(sentence);
        }
        if self.replica_count.is_multiple_of(2) {
            return Err(format!(
                "replica_count must be 1, 3, 5 or 7, not {}",
                self.replica_count
            ));
        }
        if self.down_after_ms < self.disconnected_after_ms {
            return Err(format!(
                "down_after_ms ({}) must not be below disconnected_after_ms ({})",
                self.down_after_ms, self.disconnected_after_ms
            ));
        }
        if self.merged_mib_max < self.merge_mib_max {
            return Err(format!(
                "merged_mib_max ({}) must not be below merge_mib_max ({})",
                self.merged_mib_max, self.merge_mib_max
            ));
        }
        if let Some(level) = self.isolation_level
            && !self.location_labels.contains(level.name())
        {
            return Err(format!(
                "isolation_level must be none or one of the location_labels ({}), not `{level}`",
                self.location_labels
            ));
        }
        Ok(())
    }

    /// See [`Settings::disconnected_after_ms`].
    pub fn disconnected_after(&self) -> Duration {
        Duration::from_millis(self.disconnected_after_ms)
    }

    /// See [`Settings::down_after_ms`].
    pub fn down_after(&self) -> Duration {
        Duration::from_millis(self.down_after_ms)
    }

    /// See [`Settings::leader_settle_ms`].
    pub fn leader_settle(&self) -> Duration {
        Duration::from_millis(self.leader_settle_ms)
    }

    /// See [`Settings::merge_mib_max`]. Bytes.
    pub fn merge_size_max(&self) -> u64 {
        u64::from(self.merge_mib_max) << 20
    }

    /// See [`Settings::merged_mib_max`]. Bytes.
    pub fn merged_size_max(&self) -> u64 {
        u64::from(self.merged_mib_max) << 20
    }

    /// See [`Settings::split_merge_interval_ms`].
    pub fn split_merge_interval(&self) -> Duration {
        Duration::from_millis(self.split_merge_interval_ms)
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u32(self.replica_count);
        out.u64(self.disconnected_after_ms);
        out.u64(self.down_after_ms);
        out.u64(self.leader_settle_ms);
        out.u32(self.leader_difference_max);
        out.u32(self.transfers_max);
        out.u32(self.additions_per_store_max);
        let later = self.list().split_off(Settings::FIXED);
        out.count(later.len());
        for (name, value) in later {
            out.text(name);
            out.text(&value);
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Settings, DecodeError> {
        let mut settings = Settings {
            replica_count: from.u32("replica count")?,
            disconnected_after_ms: from.u64("disconnected_after_ms")?,
            down_after_ms: from.u64("down_after_ms")?,
            leader_settle_ms: from.u64("leader_settle_ms")?,
            leader_difference_max: from.u32("leader_difference_max")?,
            transfers_max: from.u32("transfers_max")?,
            additions_per_store_max: from.u32("additions_per_store_max")?,
            ..Settings::default()
        };
        for _ in 0..from.count("settings")? {
            let (name, value) = (from.text("setting name")?, from.text("setting")?);
            let set = settings.set(&name, &value);
            set.map_err(|what| DecodeError::Setting { what })?;
        }
        Ok(settings)
    }
}
