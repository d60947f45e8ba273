//! Settings of the process, from the command line, the environment and the file.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;
use tinykv_node::failure::Failure;
use tinykv_node::settings::CommonArgs;
use tinykv_raft::PeerId;

/// The port when none is given.
pub const PORT: u16 = 2379;

/// A member of the placement driver of TinyKV: it knows every store and region, hands out ids and
/// timestamps, and keeps every region at its replica count.
#[derive(Parser, Clone, Debug)]
#[command(name = "tinykv-placement")]
pub struct Args {
    #[command(flatten)]
    pub(crate) common: CommonArgs,

    /// Name of this member in --initial-cluster
    #[arg(long, value_name = "NAME", default_value = "placement-1")]
    pub(crate) name: String,

    /// Address to listen on: gRPC for clients, stores and members, and HTTP
    #[arg(long, value_name = "HOST:PORT", default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT))]
    pub(crate) addr: SocketAddr,

    /// Address at which others reach this member [default: --addr]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise_addr: Option<String>,

    /// Directory for the data of this member
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,

    /// All first members of the placement driver; the same list for each of them
    /// [default: this member alone]
    #[arg(long, value_name = "NAME=http://HOST:PORT", value_delimiter = ',')]
    pub(crate) initial_cluster: Vec<String>,

    /// Members of a group that this one was added to (`tinykv-ctl member add`), instead of
    /// --initial-cluster
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        conflicts_with = "initial_cluster"
    )]
    pub(crate) join: Vec<String>,

    /// Added to every port
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) port_offset: u16,
}

/// A member that this one knows from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstMember {
    /// Its id in the group. Of those that `--initial-cluster` names: its rank by name, from 1, which
    /// every member counts the same.
    pub id: PeerId,
    /// Its name.
    pub name: String,
    /// Where it is reached, `host:port`.
    pub address: String,
}

impl FirstMember {
    /// Where it is reached, with the scheme.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Whom a member knows from the start: those that found the group with it, or those that were there
/// when it joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialCluster {
    /// In order of their ids.
    members: Vec<FirstMember>,
    /// Which of them is this one.
    own: PeerId,
    group: u64,
    is_founding: bool,
}

impl Args {
    /// The address to listen on, offset included.
    ///
    /// # Errors
    /// [`Failure::Configuration`] when the sum is no port.
    pub fn listen_address(&self) -> Result<SocketAddr, Failure> {
        let mut address = self.addr;
        let port = address.port().checked_add(self.port_offset);
        address.set_port(port.ok_or_else(|| {
            Failure::configuration(format!(
                "--port-offset {} takes port {} of --addr beyond 65535",
                self.port_offset,
                self.addr.port()
            ))
        })?);
        Ok(address)
    }

    /// The members that found the group. `bound` is where this one really listens.
    ///
    /// # Errors
    /// [`Failure::Configuration`] with one sentence that names the flag.
    pub fn initial_cluster(&self, bound: SocketAddr) -> Result<InitialCluster, Failure> {
        let own_address = self.own_address(bound)?;
        InitialCluster::parse(&self.name, &own_address, &self.initial_cluster)
    }

    /// Where others reach this member, which listens at `bound`.
    ///
    /// # Errors
    /// [`Failure::Configuration`] with one sentence that names the flag.
    pub fn own_address(&self, bound: SocketAddr) -> Result<String, Failure> {
        match &self.advertise_addr {
            Some(address) => {
                check_address(address, "--advertise-addr")?;
                Ok(address.clone())
            }
            None => Ok(bound.to_string()),
        }
    }

    /// Whom to ask about the group that this member joins; none: it founds one.
    ///
    /// # Errors
    /// [`Failure::Configuration`] with one sentence that names the flag.
    pub fn contacts(&self) -> Result<Vec<String>, Failure> {
        let addresses = self.join.iter().map(|url| {
            let address = url.strip_prefix("http://").unwrap_or(url);
            let address = address.strip_suffix('/').unwrap_or(address);
            check_address(address, "--join")?;
            Ok(address.to_owned())
        });
        addresses.collect()
    }
}

impl InitialCluster {
    /// Reads `NAME=http://HOST:PORT` entries; none at all means the own member alone.
    ///
    /// # Errors
    /// [`Failure::Configuration`] with one sentence that names what is wrong.
    pub fn parse(
        own_name: &str,
        own_address: &str,
        entries: &[String],
    ) -> Result<InitialCluster, Failure> {
        let mut by_name = BTreeMap::new();
        for entry in entries {
            let (name, address) = parse_entry(entry)?;
            if by_name.values().any(|known| *known == address) {
                return Err(refuse(format!("the address {address} is there twice")));
            }
            if by_name.insert(name.clone(), address).is_some() {
                return Err(refuse(format!("the name {name} is there twice")));
            }
        }
        if entries.is_empty() {
            by_name.insert(own_name.to_owned(), own_address.to_owned());
        }
        let members: Vec<FirstMember> = (1..)
            .zip(by_name)
            .map(|(rank, (name, address))| FirstMember {
                id: PeerId(rank),
                name,
                address,
            })
            .collect();
        let Some(own) = members.iter().find(|member| member.name == own_name) else {
            return Err(refuse(format!(
                "this member, {own_name}, is not among them"
            )));
        };
        if own.address != own_address {
            return Err(refuse(format!(
                "{own_name} is there with the address {}, but it is reached at {own_address} \
                 (--advertise-addr)",
                own.address
            )));
        }
        let (own, group) = (own.id, fingerprint(&members));
        Ok(InitialCluster {
            members,
            own,
            group,
            is_founding: true,
        })
    }

    /// Those that were there when this member joined, whose `group` it is.
    pub(crate) fn joined(group: u64, own: FirstMember, others: Vec<FirstMember>) -> InitialCluster {
        let id = own.id;
        let mut members = others;
        members.push(own);
        members.sort_by_key(|member| member.id);
        InitialCluster {
            members,
            own: id,
            group,
            is_founding: false,
        }
    }

    /// Whether this member is one of those that found the group.
    pub fn is_founding(&self) -> bool {
        self.is_founding
    }

    /// All of them, in order of their ids.
    pub fn members(&self) -> &[FirstMember] {
        &self.members
    }

    /// This member.
    pub fn own(&self) -> &FirstMember {
        self.members
            .iter()
            .find(|member| member.id == self.own)
            .expect("it is among them")
    }

    /// A number that the members of a group share: what keeps two groups that are being set up from
    /// talking to each other. Made of the list that founded it, and told to those that join. Not the
    /// cluster's id, which is random and agreed on in the log. Never 0.
    pub fn fingerprint(&self) -> u64 {
        self.group
    }
}

fn fingerprint(members: &[FirstMember]) -> u64 {
    // FNV-1a: fixed for ever, because it stands in data directories.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for member in members {
        let (name, address) = (member.name.bytes(), member.address.bytes());
        for byte in name.chain([0]).chain(address).chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash.max(1)
}

fn parse_entry(entry: &str) -> Result<(String, String), Failure> {
    let expected = || refuse(format!("`{entry}` is not NAME=http://HOST:PORT"));
    let (name, url) = entry.split_once('=').ok_or_else(expected)?;
    let address = url.strip_prefix("http://").unwrap_or(url);
    let address = address.strip_suffix('/').unwrap_or(address);
    if name.is_empty() || address.contains("://") {
        return Err(expected());
    }
    check_address(address, "--initial-cluster")?;
    Ok((name.to_owned(), address.to_owned()))
}

pub(crate) fn check_address(address: &str, flag: &str) -> Result<(), Failure> {
    let good = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if good {
        Ok(())
    } else {
        Err(Failure::configuration(format!(
            "invalid address `{address}` in {flag}: expected HOST:PORT"
        )))
    }
}

fn refuse(what: String) -> Failure {
    Failure::configuration(format!("invalid --initial-cluster: {what}"))
}

#[cfg(test)]
mod tests;
