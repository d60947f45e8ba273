//! Who asks, and so in which view bounds are shown (WIRE A1).
//!
//! Our own clients say it in metadata, stores by their header. Of the others, an empty key or one
//! that is no valid encoding comes from a raw client without keyspace, and its connection stays
//! raw for look-ups that carry no key. Known limit: another raw client whose very first look-up on
//! a connection is a key that happens to be a valid encoding.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use parking_lot::Mutex;
use tinykv_keys::{Asker, memcomparable};
use tinykv_proto::{ASKER_ENCODED, ASKER_METADATA, ASKER_RAW, pdpb};
use tonic::Request;

/// Raw connections that are remembered; beyond it the one not heard for the longest is forgotten.
const CONNECTIONS_MAX: usize = 16_384;

/// The connections that have once asked as raw clients do, by their remote address.
#[derive(Debug, Default)]
pub(super) struct Askers {
    raw: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    /// Counts look-ups: a clock for "not heard for the longest".
    count: u64,
    last_heard: BTreeMap<SocketAddr, u64>,
}

impl Askers {
    /// Who asks. `key` is the key of the request, if it has one.
    pub(super) fn of<T>(
        &self,
        request: &Request<T>,
        header: Option<&pdpb::RequestHeader>,
        key: Option<&[u8]>,
    ) -> Asker {
        let said = request
            .metadata()
            .get(ASKER_METADATA)
            .and_then(|value| value.to_str().ok());
        match said {
            Some(ASKER_RAW) => return Asker::Raw,
            Some(ASKER_ENCODED) => return Asker::Encoded,
            _ => {}
        }
        if header.is_some_and(|header| header.sender_incarnation != 0) {
            return Asker::Stored;
        }
        self.guess(request.remote_addr(), key)
    }

    fn guess(&self, connection: Option<SocketAddr>, key: Option<&[u8]>) -> Asker {
        let raw_key = key.is_some_and(|key| !memcomparable::is_encoding(key));
        let Some(connection) = connection else {
            return if raw_key { Asker::Raw } else { Asker::Encoded };
        };
        let mut raw = self.raw.lock();
        raw.count += 1;
        if !raw_key && !raw.last_heard.contains_key(&connection) {
            return Asker::Encoded;
        }
        let count = raw.count;
        raw.last_heard.insert(connection, count);
        if raw.last_heard.len() > CONNECTIONS_MAX {
            let oldest = raw.last_heard.iter().min_by_key(|(_, heard)| **heard);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                raw.last_heard.remove(&oldest);
            }
        }
        Asker::Raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(port: u16) -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    #[test]
    fn a_connection_stays_raw_once_it_has_asked_so() {
        let askers = Askers::default();
        let encoded = memcomparable::encode(b"k");
        assert_eq!(askers.guess(connection(1), Some(&encoded)), Asker::Encoded);
        assert_eq!(askers.guess(connection(1), Some(b"plain")), Asker::Raw);
        assert_eq!(askers.guess(connection(1), Some(&encoded)), Asker::Raw);
        assert_eq!(askers.guess(connection(1), None), Asker::Raw);
        assert_eq!(askers.guess(connection(2), None), Asker::Encoded);
        assert_eq!(askers.guess(connection(2), Some(b"")), Asker::Raw);
        assert_eq!(askers.guess(None, Some(b"plain")), Asker::Raw);
        assert_eq!(askers.guess(None, Some(&encoded)), Asker::Encoded);
    }

    #[test]
    fn metadata_and_stores_speak_for_themselves() {
        let askers = Askers::default();
        let mut request = Request::new(());
        let store = pdpb::RequestHeader {
            sender_incarnation: 5,
            ..pdpb::RequestHeader::default()
        };
        assert_eq!(askers.of(&request, Some(&store), Some(b"")), Asker::Stored);
        for (said, expected) in [(ASKER_RAW, Asker::Raw), (ASKER_ENCODED, Asker::Encoded)] {
            let value = said.parse().expect("ascii");
            request.metadata_mut().insert(ASKER_METADATA, value);
            assert_eq!(askers.of(&request, Some(&store), None), expected);
        }
    }

    #[test]
    fn the_memory_is_bounded() {
        let askers = Askers::default();
        for address in 0..=u32::try_from(CONNECTIONS_MAX).expect("small") {
            let address = SocketAddr::from((address.to_be_bytes(), 1));
            askers.guess(Some(address), Some(b"plain"));
        }
        assert_eq!(askers.raw.lock().last_heard.len(), CONNECTIONS_MAX);
        let first = Some(SocketAddr::from(([0, 0, 0, 0], 1)));
        assert_eq!(askers.guess(first, None), Asker::Encoded);
    }
}
