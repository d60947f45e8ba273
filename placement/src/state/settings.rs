//! What operators tune while the cluster runs, by name.

use std::time::Duration;

use super::codec::{DecodeError, Reader, Writer};

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
        }
    }
}

/// One setting, to be read or changed.
enum Place<'a> {
    /// A count.
    Count(&'a mut u32),
    /// A time in milliseconds.
    Millis(&'a mut u64),
    /// Yes or no.
    Switch(&'a mut bool),
}

impl Settings {
    /// All settings by name, in the order in which they are shown.
    pub const NAMES: [&str; 8] = [
        "replica_count",
        "disconnected_after_ms",
        "down_after_ms",
        "leader_settle_ms",
        "leader_difference_max",
        "transfers_max",
        "additions_per_store_max",
        "joint_changes",
    ];

    /// So many of them have fixed places in an encoding. The others follow by name, so that a
    /// release that does not know one says which.
    const FIXED: usize = 7;

    fn place(&mut self, name: &str) -> Option<Place<'_>> {
        Some(match name {
            "replica_count" => Place::Count(&mut self.replica_count),
            "disconnected_after_ms" => Place::Millis(&mut self.disconnected_after_ms),
            "down_after_ms" => Place::Millis(&mut self.down_after_ms),
            "leader_settle_ms" => Place::Millis(&mut self.leader_settle_ms),
            "leader_difference_max" => Place::Count(&mut self.leader_difference_max),
            "transfers_max" => Place::Count(&mut self.transfers_max),
            "additions_per_store_max" => Place::Count(&mut self.additions_per_store_max),
            "joint_changes" => Place::Switch(&mut self.joint_changes),
            _ => return None,
        })
    }

    /// Names and values, as they are shown.
    pub fn list(&self) -> Vec<(&'static str, String)> {
        let mut copy = *self;
        let show = |name: &'static str| {
            let value = match copy.place(name).expect("each name has a place") {
                Place::Count(count) => count.to_string(),
                Place::Millis(millis) => millis.to_string(),
                Place::Switch(on) => on.to_string(),
            };
            (name, value)
        };
        Settings::NAMES.map(show).to_vec()
    }

    /// These settings with one changed; or one sentence that says what would be right.
    pub fn with(&self, name: &str, value: &str) -> Result<Settings, String> {
        let mut changed = *self;
        changed.set(name, value)?;
        changed.validate()?;
        Ok(changed)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let Some(place) = self.place(name) else {
            let names = Settings::NAMES.join(", ");
            return Err(format!(
                "there is no setting `{name}`: it is one of {names}"
            ));
        };
        let wrong = |wanted: &str| format!("{name} must be {wanted}, not `{value}`");
        match place {
            Place::Count(count) => *count = value.parse().map_err(|_| wrong("a whole number"))?,
            Place::Millis(millis) => {
                *millis = value
                    .parse()
                    .map_err(|_| wrong("a whole number of milliseconds"))?;
            }
            Place::Switch(on) => *on = value.parse().map_err(|_| wrong("true or false"))?,
        }
        Ok(())
    }

    /// Checks that the values make sense together; the error is one sentence naming the value.
    pub fn validate(&self) -> Result<(), String> {
        if !(1..=7).contains(&self.replica_count) || self.replica_count.is_multiple_of(2) {
            return Err(format!(
                "replica_count must be 1, 3, 5 or 7, not {}",
                self.replica_count
            ));
        }
        if self.disconnected_after_ms < 2 * u64::from(STORE_HEARTBEAT_INTERVAL_MS) {
            return Err(format!(
                "disconnected_after_ms must be at least two heartbeats ({} ms), not {}",
                2 * STORE_HEARTBEAT_INTERVAL_MS,
                self.disconnected_after_ms
            ));
        }
        if self.down_after_ms < self.disconnected_after_ms {
            return Err(format!(
                "down_after_ms ({}) must not be below disconnected_after_ms ({})",
                self.down_after_ms, self.disconnected_after_ms
            ));
        }
        for (name, value) in [
            ("leader_difference_max", self.leader_difference_max),
            ("transfers_max", self.transfers_max),
            ("additions_per_store_max", self.additions_per_store_max),
        ] {
            if value == 0 {
                return Err(format!("{name} must be at least 1"));
            }
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
