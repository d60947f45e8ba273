//! How TinyKV is proved: the simulator, the linearizability checker, clusters of real processes.

#[cfg(feature = "mutants")]
pub mod bank;
pub mod chaos;
pub mod checker;
pub mod cluster;
pub mod ledger;
pub mod sim;

/// For the ledger: a program may be older than what is checked out where it runs.
const BUILT_FROM: Option<&str> = Some(tinykv_node::settings::COMMIT);
