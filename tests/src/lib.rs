//! How TinyKV is proved: the simulator, the linearizability checker, clusters of real processes.

#[cfg(feature = "mutants")]
pub mod bank;
pub mod chaos;
pub mod checker;
pub mod cluster;
pub mod ledger;
pub mod sim;
