//! The event loop: virtual time and what happens next.
//!
//! One queue, ordered by time and then by the order in which events were scheduled, so that the
//! same seed gives the same order on every machine. Nothing runs but what the loop hands out.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Events that are still to come, earliest first.
#[derive(Debug)]
pub struct Schedule<E> {
    now: Duration,
    scheduled: u64,
    queue: BinaryHeap<Scheduled>,
    /// The events themselves, which the queue would move about: they are large.
    events: Vec<Option<E>>,
    /// Places there that are free.
    free: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Scheduled {
    at: Duration,
    number: u64,
    /// Where among the events.
    place: usize,
}

impl<E> Schedule<E> {
    /// Nothing scheduled, at time zero.
    pub fn new() -> Schedule<E> {
        Schedule {
            now: Duration::ZERO,
            scheduled: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Simulated time: that of the event handed out last.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Lets `event` happen after `delay`.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.scheduled += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.events[place] = Some(event);
                place
            }
            None => {
                self.events.push(Some(event));
                self.events.len() - 1
            }
        };
        self.queue.push(Scheduled {
            at: self.now + delay,
            number: self.scheduled,
            place,
        });
    }

    /// The next event not later than `until`, with time moved to it; else time moves to `until`.
    pub fn next(&mut self, until: Duration) -> Option<E> {
        match self.queue.peek() {
            Some(next) if next.at <= until => {
                let next = self.queue.pop()?;
                assert!(
                    next.at >= self.now,
                    "time ran back from {:?} to {:?}",
                    self.now,
                    next.at
                );
                self.now = next.at;
                self.free.push(next.place);
                self.events[next.place].take()
            }
            _ => {
                self.now = self.now.max(until);
                None
            }
        }
    }
}

impl<E> Default for Schedule<E> {
    fn default() -> Schedule<E> {
        Schedule::new()
    }
}

impl Ord for Scheduled {
    /// Reversed: the heap's greatest is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}
