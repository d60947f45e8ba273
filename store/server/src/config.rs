//! Settings of a store: flag over environment (`TINYKV_<FLAG>`) over TOML file.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use tinykv_node::failure::Failure;
use tinykv_node::settings::CommonArgs;

use crate::load_split::watch::Thresholds;

/// A store of TinyKV: keeps replicas of regions, answers TiKV's raw calls and its own.
///
/// A new store asks the placement driver for its identity and writes it into its data directory;
/// from then on the directory belongs to that store and that cluster. While no placement driver
/// can be reached, a store says so once in its log and keeps trying, twice a second, for as long
/// as it runs: a new one does not serve before it has its identity; an old one serves the regions
/// it already has, as far as it knows where the other stores are.
///
/// Exit codes: 0 stopped in order, 2 wrong settings or an address in use, 3 a data directory that
/// is locked, damaged, or another cluster's, 74 the disk failed to make data durable.
#[derive(Parser, Clone, Debug, PartialEq, Eq)]
#[command(name = "tinykv-store")]
pub struct Settings {
    /// Settings every process has.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Address to listen on: gRPC for clients and stores, /health and /metrics over HTTP
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:20160")]
    pub addr: SocketAddr,

    /// Address by which clients and other stores reach this one [default: --addr]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise_addr: Option<Address>,

    /// Address to listen on for Redis's protocol, by custom port 6380 [default: none]
    ///
    /// redis-cli and telnet can then read and write all keys of the cluster through this store.
    /// There are no passwords: whoever reaches the port can write.
    #[arg(long, value_name = "IP:PORT")]
    pub resp_addr: Option<SocketAddr>,

    /// Members of the placement driver, separated by commas
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379"
    )]
    pub placement: Vec<Address>,

    /// Directory for all data of this store; created if it is not there
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Size on disk from which on a region is split in two: bytes, or a number with KiB, MiB or
    /// GiB; 0: never by size
    #[arg(long, value_name = "SIZE", default_value = "96MiB")]
    pub region_split_size: ByteSize,

    /// Requests a second from which on a region is split where that divides them, once it has been so
    /// busy for five seconds; each key of a batch is one; 0: never by requests
    #[arg(long, value_name = "REQUESTS", default_value_t = 2500)]
    pub region_split_qps: u64,

    /// Bytes a second, read and written, from which on a region is split likewise: bytes, or a
    /// number with KiB, MiB or GiB; 0: never by bytes
    #[arg(long, value_name = "SIZE", default_value = "30MiB")]
    pub region_split_flow: ByteSize,

    /// Seconds without a request after which a region goes to sleep: no heartbeats, no timers; the
    /// next request wakes it; 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    pub hibernate_after_s: u32,

    /// Where this store stands, for placement rules: KEY=VALUE, separated by commas
    #[arg(long, value_name = "KEY=VALUE,…", value_delimiter = ',')]
    pub labels: Vec<Label>,
}

impl Settings {
    /// Checks what no single flag can check.
    ///
    /// # Errors
    /// [`Failure::Configuration`] with one sentence.
    pub fn validate(&self) -> Result<(), Failure> {
        if self.advertise_addr.is_none() && self.addr.ip().is_unspecified() {
            return Err(Failure::configuration(format!(
                "--addr {} is no address others can reach; name one with --advertise-addr",
                self.addr
            )));
        }
        if (1..SPLIT_SIZE_MIN).contains(&self.region_split_size.0) {
            return Err(Failure::configuration(format!(
                "--region-split-size of {} bytes is too small; at least {} KiB, or 0 for never",
                self.region_split_size.0,
                SPLIT_SIZE_MIN >> 10
            )));
        }
        if (1..SPLIT_QPS_MIN).contains(&self.region_split_qps) {
            return Err(Failure::configuration(format!(
                "--region-split-qps of {} requests a second is too small; at least \
                 {SPLIT_QPS_MIN}, or 0 for never",
                self.region_split_qps
            )));
        }
        if (1..SPLIT_FLOW_MIN).contains(&self.region_split_flow.0) {
            return Err(Failure::configuration(format!(
                "--region-split-flow of {} bytes a second is too small; at least {} KiB, or 0 for \
                 never",
                self.region_split_flow.0,
                SPLIT_FLOW_MIN >> 10
            )));
        }
        for (position, label) in self.labels.iter().enumerate() {
            if self.labels[..position]
                .iter()
                .any(|other| other.key == label.key)
            {
                return Err(Failure::configuration(format!(
                    "--labels names `{}` twice",
                    label.key
                )));
            }
        }
        Ok(())
    }

    /// From which load on a region is split.
    pub fn load_thresholds(&self) -> Thresholds {
        Thresholds {
            requests_per_s: self.region_split_qps,
            bytes_per_s: self.region_split_flow.0,
        }
    }

    /// After how many ticks of this length a region sleeps; `None` for never.
    pub fn hibernate_after_ticks(&self, tick: Duration) -> Option<u32> {
        let after = Duration::from_secs(u64::from(self.hibernate_after_s));
        let ticks = after.as_millis() / tick.as_millis().max(1);
        (ticks > 0).then(|| u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// How others reach a store that listens on `bound` (the address with its real port).
    pub fn advertised(&self, bound: SocketAddr) -> String {
        match &self.advertise_addr {
            Some(address) => address.to_string(),
            None => bound.to_string(),
        }
    }
}

/// `host:port`, with or without `http://` before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let bare = text
            .trim()
            .trim_start_matches("http://")
            .trim_end_matches('/');
        let valid = bare.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && !host.contains(['/', ' '])
                && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        match valid {
            true => Ok(Address(bare.to_owned())),
            false => Err("expected HOST:PORT".to_owned()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The smallest size at which regions are split: below, splits would cost more than they are worth.
const SPLIT_SIZE_MIN: u64 = 64 << 10;
/// The smallest loads at which regions are split: any store serves as much of one region.
const SPLIT_QPS_MIN: u64 = 50;
const SPLIT_FLOW_MIN: u64 = 64 << 10;

/// A number of bytes, written with or without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<ByteSize, String> {
        const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("B", 0)];
        let text = text.trim();
        let unit = UNITS.iter().find_map(|(unit, shift)| {
            let number = text.strip_suffix(unit)?;
            Some((number.trim_end(), *shift))
        });
        let (number, shift) = unit.unwrap_or((text, 0));
        let number = number
            .parse::<u64>()
            .ok()
            .filter(|_| !number.starts_with('+'));
        let bytes = number.and_then(|number| number.checked_mul(1 << shift));
        bytes.map(ByteSize).ok_or_else(|| {
            "expected bytes, or a number with KiB, MiB or GiB, such as 96MiB".to_owned()
        })
    }
}

/// One `key=value` of `--labels`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// What the label tells, for example `zone`.
    pub key: String,
    /// What it says of this store.
    pub value: String,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Label, String> {
        let expected = || Err("expected KEY=VALUE".to_owned());
        let Some((key, value)) = text.trim().split_once('=') else {
            return expected();
        };
        if key.is_empty() || value.is_empty() || value.contains('=') {
            return expected();
        }
        Ok(Label {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use tinykv_replica::ShardConfig;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Settings, String> {
        let mut all = vec!["tinykv-store", "--data-dir", "d"];
        all.extend(arguments);
        let settings = Settings::try_parse_from(all).map_err(|error| error.to_string())?;
        settings.validate().map_err(|failure| failure.to_string())?;
        Ok(settings)
    }

    #[test]
    fn defaults_are_loopback() {
        let settings = parse(&[]).expect("defaults");
        assert_eq!(settings.addr.to_string(), "127.0.0.1:20160");
        assert_eq!(settings.advertised(settings.addr), "127.0.0.1:20160");
        assert_eq!(settings.placement, [Address("127.0.0.1:2379".into())]);
        assert_eq!(settings.labels, []);
        assert_eq!(
            settings.resp_addr, None,
            "several stores on a machine need no thought"
        );
    }

    #[test]
    fn regions_sleep_after_three_seconds_or_as_told() {
        let ticks = |arguments: &[&str]| {
            let settings = parse(arguments).expect("settings");
            settings.hibernate_after_ticks(Duration::from_millis(50))
        };
        assert_eq!(ticks(&[]), Some(ShardConfig::HIBERNATE_AFTER_TICKS));
        assert_eq!(ticks(&["--hibernate-after-s=1"]), Some(20));
        assert_eq!(ticks(&["--hibernate-after-s=0"]), None);
        assert_eq!(ticks(&["--hibernate-after-s=4294967295"]), Some(u32::MAX));
    }

    #[test]
    fn sizes_have_units() {
        let size =
            |text: &str| parse(&["--region-split-size", text]).map(|s| s.region_split_size.0);
        assert_eq!(parse(&[]).map(|s| s.region_split_size.0), Ok(96 << 20));
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("100000"), Ok(100_000));
        assert_eq!(size("64KiB"), Ok(64 << 10));
        assert_eq!(size("4 MiB"), Ok(4 << 20));
        assert_eq!(size("2GiB"), Ok(2 << 30));
        assert_eq!(size("65536B"), Ok(65_536));
    }

    #[test]
    fn busy_regions_are_split_from_a_load_on() {
        let loads = |arguments: &[&str]| {
            let loads = parse(arguments).expect("settings").load_thresholds();
            (loads.requests_per_s, loads.bytes_per_s)
        };
        assert_eq!(loads(&[]), (2_500, 30 << 20));
        let changed = ["--region-split-qps=50", "--region-split-flow=64KiB"];
        assert_eq!(loads(&changed), (50, 64 << 10));
        let never = ["--region-split-qps=0", "--region-split-flow=0"];
        assert_eq!(loads(&never), (0, 0));
    }

    #[test]
    fn lists_are_split_and_schemes_are_dropped() {
        let settings = parse(&[
            "--placement=a:1,http://b:2/",
            "--labels=zone=z1,host=h",
            "--advertise-addr=store.example:20160",
        ])
        .expect("lists");
        assert_eq!(
            settings.placement,
            [Address("a:1".into()), Address("b:2".into())]
        );
        assert_eq!(settings.labels[1].value, "h");
        assert_eq!(settings.advertised(settings.addr), "store.example:20160");
    }

    #[test]
    fn wrong_settings_are_named() {
        for (argument, words) in [
            ("--addr=nowhere", "--addr"),
            ("--resp-addr=6380", "--resp-addr"),
            ("--region-split-size=96MB", "such as 96MiB"),
            ("--region-split-size=+1", "such as 96MiB"),
            ("--region-split-size=99999999999GiB", "such as 96MiB"),
            ("--region-split-size=1KiB", "at least 64 KiB"),
            ("--region-split-qps=many", "--region-split-qps"),
            ("--region-split-qps=49", "at least 50, or 0 for never"),
            ("--region-split-flow=1KiB", "at least 64 KiB"),
            ("--region-split-flow=30MB", "such as 96MiB"),
            ("--placement=host", "expected HOST:PORT"),
            ("--placement=host:0", "expected HOST:PORT"),
            ("--placement=:1", "expected HOST:PORT"),
            ("--hibernate-after-s=soon", "--hibernate-after-s"),
            ("--labels=zone", "expected KEY=VALUE"),
            ("--labels=zone=a,zone=b", "--labels names `zone` twice"),
            ("--addr=0.0.0.0:20160", "--advertise-addr"),
        ] {
            let error = parse(&[argument]).expect_err(argument);
            assert!(error.contains(words), "{argument}: {error}");
        }
    }
}
