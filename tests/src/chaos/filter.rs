//! Dropping packets at the door of a namespace, and counting them.

use super::tool::{find, run, run_with_input};

/// What drops the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// The kernel's packet filter, by `nft`.
    Nft,
    /// The same, by `iptables`.
    Iptables,
}

impl Filter {
    /// The one this machine has.
    pub(super) fn of_this_machine() -> Option<Filter> {
        let works = |filter: &Filter| match filter {
            Filter::Nft => find("nft").is_some(),
            Filter::Iptables => find("iptables").is_some(),
        };
        [Filter::Nft, Filter::Iptables].into_iter().find(works)
    }

    /// Makes a namespace ready.
    pub(super) fn prepare(self, namespace: &str) -> Result<(), String> {
        match self {
            Filter::Nft => nft(
                namespace,
                "table inet chaos { chain in { type filter hook input priority 0; }; }",
            ),
            Filter::Iptables => Ok(()),
        }
    }

    /// Drops what comes from these addresses.
    pub(super) fn drop_from(self, namespace: &str, from: &[String]) -> Result<(), String> {
        match self {
            Filter::Nft => {
                let rule =
                    |ip: &String| format!("add rule inet chaos in ip saddr {ip} counter drop\n");
                nft(namespace, &from.iter().map(rule).collect::<String>())
            }
            Filter::Iptables => from.iter().try_for_each(|ip| {
                let rule = ["-A", "INPUT", "-s", ip, "-j", "DROP"];
                inside(namespace, "iptables", &rule).map(|_| ())
            }),
        }
    }

    /// Drops nothing any more; how many packets it had dropped.
    pub(super) fn clear(self, namespace: &str) -> Result<u64, String> {
        match self {
            Filter::Nft => {
                let list = inside(namespace, "nft", &["list", "chain", "inet", "chaos", "in"])?;
                nft(namespace, "flush chain inet chaos in\n")?;
                Ok(counted_by_nft(&list))
            }
            Filter::Iptables => {
                let list = inside(namespace, "iptables", &["-nvxL", "INPUT"])?;
                inside(namespace, "iptables", &["-F", "INPUT"])?;
                Ok(counted_by_iptables(&list))
            }
        }
    }
}

fn nft(namespace: &str, script: &str) -> Result<(), String> {
    let arguments = ["netns", "exec", namespace, "nft", "-f", "-"];
    run_with_input("ip", &arguments, script).map(|_| ())
}

fn inside(namespace: &str, program: &str, arguments: &[&str]) -> Result<String, String> {
    run(
        "ip",
        &[&["netns", "exec", namespace, program], arguments].concat(),
    )
}

/// `… counter packets 12 bytes 720 drop`
fn counted_by_nft(list: &str) -> u64 {
    list.lines()
        .filter_map(|line| line.split_once("packets ")?.1.split(' ').next())
        .filter_map(|number| number.parse::<u64>().ok())
        .sum()
}

/// `    12      720 DROP       all  --  *      *       10.77.0.1            0.0.0.0/0`
fn counted_by_iptables(list: &str) -> u64 {
    list.lines()
        .filter(|line| line.contains("DROP"))
        .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_packets_are_counted() {
        let nft = "table inet chaos {\n\tchain in {\n\t\ttype filter hook input priority filter; \
                   policy accept;\n\t\tip saddr 10.77.0.1 counter packets 12 bytes 720 drop\n\t\t\
                   ip saddr 10.77.0.2 counter packets 3 bytes 180 drop\n\t}\n}\n";
        assert_eq!(counted_by_nft(nft), 15);
        let iptables = "Chain INPUT (policy ACCEPT 0 packets, 0 bytes)\n    pkts      bytes target \
                        prot opt in     out     source               destination\n      12      \
                        720 DROP       all  --  *      *       10.77.0.1            0.0.0.0/0\n";
        assert_eq!(counted_by_iptables(iptables), 12);
    }
}
