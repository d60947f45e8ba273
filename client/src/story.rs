//! What happened to a call, attempt by attempt: the second half of every error.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::routing::{Peer, Route, StoreId};

/// Chapters kept from the beginning of a story.
const HEAD: usize = 4;

/// Chapters kept from its end.
const TAIL: usize = 8;

/// The attempts of a call, in order. The middle of a long story is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// When the call began.
    started: Duration,
    /// How long it may take.
    limit: Duration,
    /// What happened.
    chapters: Vec<Chapter>,
    /// How many chapters were left out, after the first [`HEAD`].
    omitted: usize,
}

/// One attempt or look-up and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chapter {
    /// When it began, from the beginning of the call.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// What was tried.
    pub tried: Tried,
    /// How it ended.
    pub ended: String,
}

/// What was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// Asked placement for a region.
    Locate,
    /// Asked placement where a store is.
    FindStore(StoreId),
    /// Asked a peer.
    Ask {
        /// Of this region.
        route: Arc<Route>,
        /// The peer.
        peer: Peer,
        /// Where it was asked.
        address: Arc<str>,
    },
}

impl Story {
    /// The story of a call that begins now and may take so long.
    pub fn new(started: Duration, limit: Duration) -> Story {
        Story {
            started,
            limit,
            chapters: Vec::new(),
            omitted: 0,
        }
    }

    /// Adds a chapter that began and ended at these times.
    pub fn add(&mut self, began: Duration, ended_at: Duration, tried: Tried, ended: String) {
        if self.chapters.len() == HEAD + TAIL {
            self.chapters.remove(HEAD);
            self.omitted += 1;
        }
        self.chapters.push(Chapter {
            at: began.saturating_sub(self.started),
            took: ended_at.saturating_sub(began),
            tried,
            ended,
        });
    }

    /// The chapters that were kept.
    pub fn chapters(&self) -> &[Chapter] {
        &self.chapters
    }

    /// How many there were.
    pub fn len(&self) -> usize {
        self.chapters.len() + self.omitted
    }

    /// Whether nothing was tried.
    pub fn is_empty(&self) -> bool {
        self.chapters.is_empty()
    }
}

/// Nothing if nothing was tried; else a line that counts, and a line for each chapter.
impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        let attempts = if self.len() == 1 {
            "attempt"
        } else {
            "attempts"
        };
        let limit = Millis(self.limit);
        write!(f, "\n{} {attempts} failed, {limit} allowed:", self.len())?;
        for (index, chapter) in self.chapters.iter().enumerate() {
            if index == HEAD && self.omitted > 0 {
                write!(f, "\n  … {} more …", self.omitted)?;
            }
            write!(f, "\n  {chapter}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Chapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, took) = (Millis(self.at), Millis(self.took));
        write!(f, "at {at}, for {took}: {}: {}", self.tried, self.ended)
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tried::Locate => write!(f, "look up the region"),
            Tried::FindStore(store) => write!(f, "look up store {store}"),
            Tried::Ask {
                route,
                peer,
                address,
            } => {
                write!(
                    f,
                    "{route}, peer {} on store {} at {address}",
                    peer.id, peer.store
                )
            }
        }
    }
}

/// A duration as people read it here: `15 ms`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Millis(pub(crate) Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ms",
            (self.0 + Duration::from_micros(500)).as_millis()
        )
    }
}
