//! Calls over a range: what to ask of each region, and what its answer means.
//!
//! A [`Visit`] goes through a range by a [`Walk`], one request at a time; whoever drives it makes a
//! call for [`Visit::point`] and hands over the answer. A visit that is interrupted by an error can
//! go on where it was.

use bytes::Bytes;
use tinykv_proto::kvrpcpb::{self, KeyRange, KvPair};
use tinykv_proto::store::{RawCountRequest, RawCountResponse};

use crate::routing::{Point, Route};
use crate::walk::{Direction, Walk, successor};
use crate::wire::Ask;

/// Pairs asked for at a time.
pub const PAGE_PAIRS: u32 = 1_024;

/// Bytes after which a store cuts a page.
pub const PAGE_BYTES: u32 = 2 << 20;

/// A call over a range, on its way through the regions.
pub trait Visit {
    /// What each region is asked.
    type Request: Ask;

    /// Where the next request goes; `None`: all is done.
    fn point(&self) -> Option<Point>;

    /// The request for what is left in a region.
    fn request(&self, route: &Route) -> Self::Request;

    /// The region that the route shows has answered the last request.
    fn on_answer(&mut self, route: &Route, response: <Self::Request as Ask>::Response);
}

/// Removes a range.
#[derive(Clone, Debug)]
pub struct Removal {
    walk: Walk,
}

impl Removal {
    /// The removal of the keys from `lower` to below `upper`; an empty `upper`: all from there.
    pub fn new(lower: Bytes, upper: Bytes) -> Removal {
        Removal {
            walk: Walk::new(Direction::Forward, lower, upper),
        }
    }

    /// What is left of the range: first key, and end (empty: none). All below was removed.
    pub fn rest(&self) -> (&Bytes, &Bytes) {
        self.walk.rest()
    }
}

impl Visit for Removal {
    type Request = kvrpcpb::RawDeleteRangeRequest;

    fn point(&self) -> Option<Point> {
        self.walk.next_point()
    }

    fn request(&self, route: &Route) -> kvrpcpb::RawDeleteRangeRequest {
        let (start_key, end_key) = self.walk.rest_in(route);
        kvrpcpb::RawDeleteRangeRequest {
            start_key,
            end_key,
            ..Default::default()
        }
    }

    fn on_answer(&mut self, route: &Route, _done: kvrpcpb::RawDeleteRangeResponse) {
        self.walk.finish_region(route);
    }
}

/// Counts the keys of a range.
#[derive(Clone, Debug)]
pub struct Count {
    walk: Walk,
    /// Keys counted so far.
    pub count: u64,
}

impl Count {
    /// Counts from `lower` to below `upper`; an empty `upper`: all from there.
    pub fn new(lower: Bytes, upper: Bytes) -> Count {
        Count {
            walk: Walk::new(Direction::Forward, lower, upper),
            count: 0,
        }
    }
}

impl Visit for Count {
    type Request = RawCountRequest;

    fn point(&self) -> Option<Point> {
        self.walk.next_point()
    }

    fn request(&self, route: &Route) -> RawCountRequest {
        let (start_key, end_key) = self.walk.rest_in(route);
        RawCountRequest {
            start_key,
            end_key,
            ..Default::default()
        }
    }

    fn on_answer(&mut self, route: &Route, counted: RawCountResponse) {
        self.count += counted.count;
        if counted.resume_key.is_empty() {
            self.walk.finish_region(route);
        } else {
            self.walk.go_on_from(counted.resume_key);
        }
    }
}

/// A checksum over a range: two ranges with the same keys and values have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// CRC-64 of each key and value together, combined by exclusive or: neither the order nor the
    /// regions matter.
    pub crc64_xor: u64,
    /// Keys.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// Sums up the checksums of a range.
#[derive(Clone, Debug)]
pub struct Sum {
    walk: Walk,
    /// Of what was visited so far.
    pub sum: Checksum,
}

impl Sum {
    /// A checksum from `lower` to below `upper`; an empty `upper`: all from there.
    pub fn new(lower: Bytes, upper: Bytes) -> Sum {
        Sum {
            walk: Walk::new(Direction::Forward, lower, upper),
            sum: Checksum::default(),
        }
    }
}

impl Visit for Sum {
    type Request = kvrpcpb::RawChecksumRequest;

    fn point(&self) -> Option<Point> {
        self.walk.next_point()
    }

    fn request(&self, route: &Route) -> kvrpcpb::RawChecksumRequest {
        let (start_key, end_key) = self.walk.rest_in(route);
        kvrpcpb::RawChecksumRequest {
            ranges: vec![KeyRange { start_key, end_key }],
            ..Default::default()
        }
    }

    fn on_answer(&mut self, route: &Route, part: kvrpcpb::RawChecksumResponse) {
        self.sum.crc64_xor ^= part.checksum;
        self.sum.keys += part.total_kvs;
        self.sum.bytes += part.total_bytes;
        self.walk.finish_region(route);
    }
}

/// What to scan. The default is everything, from the lowest key up.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// First key of the range.
    pub lower: Bytes,
    /// First key after the range; empty means that there is none.
    pub upper: Bytes,
    /// From which end to go.
    pub direction: Direction,
    /// Leave out the values; they come as empty.
    pub keys_only: bool,
    /// How many pairs at most.
    pub limit: Option<u64>,
}

/// The pages of a scan. Each is a snapshot of its region.
#[derive(Clone, Debug)]
pub struct Pages {
    walk: Walk,
    direction: Direction,
    keys_only: bool,
    /// Pairs still wanted, those in `page` not counted.
    left: u64,
    /// What the last page brought, in the order of the scan.
    pub page: Vec<KvPair>,
}

impl Pages {
    /// A scan that has read nothing yet.
    pub fn new(scan: Scan) -> Pages {
        Pages {
            walk: Walk::new(scan.direction, scan.lower, scan.upper),
            direction: scan.direction,
            keys_only: scan.keys_only,
            left: scan.limit.unwrap_or(u64::MAX),
            page: Vec::new(),
        }
    }

    /// What is left of the range: first key, and end (empty: none).
    pub fn rest(&self) -> (&Bytes, &Bytes) {
        self.walk.rest()
    }

    /// Pairs that the next page has at most.
    fn limit(&self) -> u32 {
        u32::try_from(self.left)
            .unwrap_or(PAGE_PAIRS)
            .min(PAGE_PAIRS)
    }
}

impl Visit for Pages {
    type Request = kvrpcpb::RawScanRequest;

    fn point(&self) -> Option<Point> {
        self.walk.next_point().filter(|_| self.left > 0)
    }

    fn request(&self, route: &Route) -> kvrpcpb::RawScanRequest {
        let (lower, upper) = self.walk.rest_in(route);
        let (start_key, end_key) = match self.direction {
            Direction::Forward => (lower, upper),
            Direction::Reverse => (upper, lower),
        };
        kvrpcpb::RawScanRequest {
            start_key,
            end_key,
            limit: self.limit(),
            key_only: self.keys_only,
            reverse: self.direction == Direction::Reverse,
            bytes_max: PAGE_BYTES,
            ..Default::default()
        }
    }

    fn on_answer(&mut self, route: &Route, response: kvrpcpb::RawScanResponse) {
        if !response.resume_key.is_empty() {
            self.walk.go_on_from(response.resume_key);
        } else if let Some(last) = response.kvs.last()
            && response.kvs.len() >= self.limit() as usize
        {
            let from = match self.direction {
                Direction::Forward => successor(&last.key),
                Direction::Reverse => last.key.clone(),
            };
            self.walk.go_on_from(from);
        } else {
            self.walk.finish_region(route);
        }
        self.left -= (response.kvs.len() as u64).min(self.left);
        self.page = response.kvs;
    }
}

#[cfg(test)]
mod tests;
