//! What comes in from other processes and is not taken.
//!
//! Nothing in here is a bug of this process, so nothing in here may end it: a refusal has a reason,
//! is counted by it, and is told to whoever sent. A refused stream is closed; a refused message is
//! dropped, and its stream goes on.

use thiserror::Error;
use tinykv_raft::GroupId;
use tinykv_replica::StoreId;
use tonic::{Code, Status};

use super::codec::CodecError;
use super::{GRPC_BYTES_MAX, WIRE_VERSION};

/// Why something was not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// A hello of another format.
    #[error(
        "store {from} speaks version {version} of the peer protocol, this one {WIRE_VERSION}; both \
         have to run the same release"
    )]
    Version {
        /// Who speaks.
        from: StoreId,
        /// What it speaks.
        version: u32,
    },
    /// A hello of another cluster.
    #[error("store {from} belongs to cluster {cluster}, this one to cluster {here}")]
    OtherCluster {
        /// Who speaks.
        from: StoreId,
        /// Its cluster.
        cluster: u64,
        /// This one.
        here: u64,
    },
    /// A hello for somebody else.
    #[error(
        "store {from} wants to speak to store {to} (incarnation {to_incarnation:x}), this is store \
         {here} (incarnation {incarnation:x})"
    )]
    OtherStore {
        /// Who speaks.
        from: StoreId,
        /// Whom it wants.
        to: StoreId,
        /// Which life of its directory.
        to_incarnation: u64,
        /// Who this is.
        here: StoreId,
        /// Of the directory.
        incarnation: u64,
    },
    /// A hello in this store's own name.
    #[error("somebody else claims to be store {here}, which is this one")]
    Impostor {
        /// Who this is.
        here: StoreId,
    },
    /// A hello from a wiped, swapped or copied directory (D9).
    #[error(
        "store {from} speaks from an outdated or foreign data directory (incarnation \
         {incarnation:x}, start {start_number})"
    )]
    Outdated {
        /// Who speaks.
        from: StoreId,
        /// Of the directory.
        incarnation: u64,
        /// Of the process.
        start_number: u64,
    },
    /// A frame of a process that has been started anew since its hello.
    #[error("store {from} was started anew")]
    Superseded {
        /// Who speaks.
        from: StoreId,
    },
    /// A stream without a hello, or with two, or with anything else in the wrong place.
    #[error("{expected} was expected")]
    OutOfOrder {
        /// What should have come.
        expected: &'static str,
    },
    /// A frame whose bytes did not arrive as they were sent (D7).
    #[error("wrong checksum of a frame of {bytes} bytes")]
    Checksum {
        /// Its length.
        bytes: usize,
    },
    /// A frame that arrived as it was sent, and means nothing.
    #[error(transparent)]
    Malformed(#[from] CodecError),
    /// An element that nobody here would ever have sent.
    #[error("an element of a stream is larger than the {GRPC_BYTES_MAX} bytes that are allowed")]
    TooLarge,
    /// A message whose sender, by its own words, lives on another store than the one that speaks.
    #[error("store {guest} speaks for a peer of group {group} on store {from}")]
    ForeignPeer {
        /// Who speaks.
        guest: StoreId,
        /// Whose message.
        group: GroupId,
        /// Who speaks.
        from: StoreId,
    },
    /// A message for a peer that, by its own words, lives on another store than this one.
    #[error("a message of group {group} for a peer on store {to} came to store {here}")]
    Misaddressed {
        /// Whose message.
        group: GroupId,
        /// Whom it wants.
        to: StoreId,
        /// Who this is.
        here: StoreId,
    },
    /// A snapshot among the messages: its data would come in a stream of its own.
    #[error("a snapshot of group {group} came without its data")]
    SnapshotWithoutData {
        /// Whose message.
        group: GroupId,
    },
}

impl Refused {
    /// The reason as a label of the metric.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Refused::Version { .. } => "version",
            Refused::OtherCluster { .. } => "other_cluster",
            Refused::OtherStore { .. } => "other_store",
            Refused::Impostor { .. } => "impostor",
            Refused::Outdated { .. } => "outdated",
            Refused::Superseded { .. } => "superseded",
            Refused::OutOfOrder { .. } => "out_of_order",
            Refused::Checksum { .. } => "checksum",
            Refused::Malformed(_) => "malformed",
            Refused::TooLarge => "too_large",
            Refused::ForeignPeer { .. } => "foreign_peer",
            Refused::Misaddressed { .. } => "misaddressed",
            Refused::SnapshotWithoutData { .. } => "snapshot_without_data",
        }
    }

    /// What the other side is told.
    pub(super) fn status(&self) -> Status {
        let code = match self {
            Refused::Checksum { .. } => Code::DataLoss,
            Refused::TooLarge => Code::OutOfRange,
            Refused::OutOfOrder { .. }
            | Refused::Malformed(_)
            | Refused::ForeignPeer { .. }
            | Refused::Misaddressed { .. }
            | Refused::SnapshotWithoutData { .. } => Code::InvalidArgument,
            Refused::Version { .. }
            | Refused::OtherCluster { .. }
            | Refused::OtherStore { .. }
            | Refused::Impostor { .. }
            | Refused::Outdated { .. }
            | Refused::Superseded { .. } => Code::FailedPrecondition,
        };
        Status::new(code, self.to_string())
    }
}
