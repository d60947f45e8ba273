//! Reading a range in order.

use bytes::Bytes;
use tinykv_lsm::Iter;

use crate::EngineError;

/// The order of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first key to the last.
    Forward,
    /// From the last key to the first.
    Backward,
}

/// Keys and values of a range, read as they are asked for. After an error it has ended.
#[derive(Debug)]
pub struct Scan {
    iter: Iter,
    direction: Direction,
    ended: bool,
}

impl Scan {
    pub(super) fn new(iter: Iter, direction: Direction) -> Scan {
        Scan {
            iter,
            direction,
            ended: false,
        }
    }
}

impl Iterator for Scan {
    type Item = Result<(Bytes, Bytes), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let moved = match self.direction {
            Direction::Forward => self.iter.next(),
            Direction::Backward => self.iter.prev(),
        };
        match moved {
            Ok(true) => {
                let key = Bytes::copy_from_slice(self.iter.key());
                Some(Ok((key, self.iter.value())))
            }
            Ok(false) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error.into()))
            }
        }
    }
}
