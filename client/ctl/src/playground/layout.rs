//! Which processes a playground has: names, addresses, directories and command lines.

use std::path::{Path, PathBuf};

use super::PlaygroundArgs;

/// The first placement member's port; further ones follow.
const PLACEMENT_PORT: u16 = 2379;
/// The first store's port; further ones follow.
const STORE_PORT: u16 = 20160;
/// The port of the first store for Redis's protocol; further ones follow.
const RESP_PORT: u16 = 6380;
/// Most processes of a role; keeps the port ranges of the roles apart.
const PROCESSES_MAX: u16 = 64;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Placement,
    Store,
}

impl Role {
    /// The hidden subcommand under which this binary plays the role.
    pub(crate) fn subcommand(self) -> &'static str {
        match self {
            Role::Placement => "role-placement",
            Role::Store => "role-store",
        }
    }
}

/// One process to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) role: Role,
    /// For people: `placement-1`, `store-2`. Also the name of its directory.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) address: String,
    /// Where a store speaks Redis's protocol.
    pub(crate) resp_address: Option<String>,
    pub(crate) data_dir: PathBuf,
    pub(crate) log: PathBuf,
    /// Arguments behind the binary's own name.
    pub(crate) arguments: Vec<String>,
}

/// All processes of a playground, placements first.
///
/// # Errors
/// One sentence for the user: too many or too few processes, ports that run over.
pub(crate) fn plan(args: &PlaygroundArgs, dir: &Path) -> Result<Vec<Planned>, String> {
    check(args)?;
    let port = |base: u16, number: u16| base + args.port_offset + number;
    let placement = |number: u16| format!("127.0.0.1:{}", port(PLACEMENT_PORT, number));
    let members: Vec<String> = (0..args.placements).map(placement).collect();
    let initial_cluster: Vec<String> = (0..args.placements)
        .map(|number| format!("placement-{}=http://{}", number + 1, placement(number)))
        .collect();
    let mut planned = Vec::new();
    for number in 0..args.placements {
        let mut process = process(Role::Placement, number, placement(number), dir);
        process
            .arguments
            .extend(["--name".to_owned(), process.name.clone()]);
        process
            .arguments
            .extend(["--initial-cluster".to_owned(), initial_cluster.join(",")]);
        planned.push(process);
    }
    for number in 0..args.stores {
        let address = format!("127.0.0.1:{}", port(STORE_PORT, number));
        let mut process = process(Role::Store, number, address, dir);
        process
            .arguments
            .extend(["--placement".to_owned(), members.join(",")]);
        let resp_address = format!("127.0.0.1:{}", port(RESP_PORT, number));
        process
            .arguments
            .extend(["--resp-addr".to_owned(), resp_address.clone()]);
        process.resp_address = Some(resp_address);
        planned.push(process);
    }
    Ok(planned)
}

fn check(args: &PlaygroundArgs) -> Result<(), String> {
    if !matches!(args.placements, 1 | 3) {
        return Err(format!(
            "--placements {}: a placement group has 1 or 3 members",
            args.placements
        ));
    }
    if !(1..=PROCESSES_MAX).contains(&args.stores) {
        return Err(format!(
            "--stores {}: give 1 to {PROCESSES_MAX}",
            args.stores
        ));
    }
    if args.port_offset > u16::MAX - STORE_PORT - PROCESSES_MAX {
        return Err(format!(
            "--port-offset {}: at most {}, ports end at 65535",
            args.port_offset,
            u16::MAX - STORE_PORT - PROCESSES_MAX
        ));
    }
    Ok(())
}

fn process(role: Role, number: u16, address: String, dir: &Path) -> Planned {
    let name = match role {
        Role::Placement => format!("placement-{}", number + 1),
        Role::Store => format!("store-{}", number + 1),
    };
    let data_dir = dir.join(&name);
    let arguments = [
        role.subcommand(),
        "--addr",
        &address,
        "--data-dir",
        &data_dir.to_string_lossy(),
    ]
    .map(str::to_owned)
    .to_vec();
    Planned {
        role,
        log: dir.join(format!("{name}.log")),
        name,
        address,
        resp_address: None,
        data_dir,
        arguments,
    }
}

#[cfg(test)]
mod tests {
    use super::{Role, plan};
    use crate::playground::PlaygroundArgs;
    use std::path::Path;

    fn args(stores: u16, placements: u16, port_offset: u16) -> PlaygroundArgs {
        PlaygroundArgs {
            stores,
            placements,
            port_offset,
            tag: None,
            data_dir: None,
        }
    }

    #[test]
    fn three_stores_and_one_placement_stand_at_the_default_ports() {
        let planned = plan(&args(3, 1, 0), Path::new("/d")).expect("a good plan");
        let addresses: Vec<_> = planned
            .iter()
            .map(|p| (p.name.as_str(), p.address.as_str()))
            .collect();
        assert_eq!(
            addresses,
            [
                ("placement-1", "127.0.0.1:2379"),
                ("store-1", "127.0.0.1:20160"),
                ("store-2", "127.0.0.1:20161"),
                ("store-3", "127.0.0.1:20162"),
            ]
        );
        assert_eq!(planned[1].role, Role::Store);
        assert_eq!(
            planned[1].arguments,
            [
                "role-store",
                "--addr",
                "127.0.0.1:20160",
                "--data-dir",
                "/d/store-1",
                "--placement",
                "127.0.0.1:2379",
                "--resp-addr",
                "127.0.0.1:6380"
            ]
        );
    }

    #[test]
    fn the_offset_moves_every_port_and_members_know_each_other() {
        let planned = plan(&args(1, 3, 100), Path::new("/d")).expect("a good plan");
        assert_eq!(planned[2].address, "127.0.0.1:2481");
        assert_eq!(planned[3].resp_address.as_deref(), Some("127.0.0.1:6480"));
        assert!(
            planned[2].arguments.contains(
                &"placement-1=http://127.0.0.1:2479,placement-2=http://127.0.0.1:2480,\
              placement-3=http://127.0.0.1:2481"
                    .to_owned()
            )
        );
    }

    #[test]
    fn numbers_that_cannot_work_are_refused_by_name() {
        let refused = |args| plan(&args, Path::new("/d")).expect_err("refused");
        assert_eq!(
            refused(args(3, 2, 0)),
            "--placements 2: a placement group has 1 or 3 members"
        );
        assert_eq!(refused(args(0, 1, 0)), "--stores 0: give 1 to 64");
        assert!(refused(args(3, 1, 60_000)).starts_with("--port-offset 60000: at most"));
    }
}
