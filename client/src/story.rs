//! What happened to a call, attempt by attempt: the second half of every error.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::routing::{Peer, Route, StoreId};

/// Chapters kept from the beginning of a story.
const HEAD: usize = 4;

/// Chapters kept from its end.
const TAIL: usize = 8;

/// The attempts of a call, in order. Equal ones that follow each other are one chapter; the middle
/// of a long story is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// When the call began.
    started: Duration,
    /// How long it may take.
    limit: Duration,
    /// What happened.
    chapters: Vec<Chapter>,
    /// How many attempts were made.
    attempts: usize,
}

/// One attempt or look-up and how it ended, or several that were all alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chapter {
    /// When the first began, from the beginning of the call.
    pub at: Duration,
    /// How long it took; with several, until the end of the last.
    pub took: Duration,
    /// How many.
    pub times: usize,
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
            attempts: 0,
        }
    }

    /// Adds an attempt that began and ended at these times.
    pub fn add(&mut self, began: Duration, ended_at: Duration, tried: Tried, ended: String) {
        self.attempts += 1;
        let at = began.saturating_sub(self.started);
        if let Some(last) = self.chapters.last_mut()
            && (&last.tried, &last.ended) == (&tried, &ended)
        {
            last.times += 1;
            last.took = ended_at.saturating_sub(self.started + last.at);
            return;
        }
        if self.chapters.len() == HEAD + TAIL {
            self.chapters.remove(HEAD);
        }
        self.chapters.push(Chapter {
            at,
            took: ended_at.saturating_sub(began),
            times: 1,
            tried,
            ended,
        });
    }

    /// The chapters that were kept.
    pub fn chapters(&self) -> &[Chapter] {
        &self.chapters
    }

    /// How many attempts were made.
    pub fn len(&self) -> usize {
        self.attempts
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
        let told: usize = self.chapters.iter().map(|chapter| chapter.times).sum();
        for (index, chapter) in self.chapters.iter().enumerate() {
            if index == HEAD && told < self.attempts {
                write!(f, "\n  … {} more …", self.attempts - told)?;
            }
            write!(f, "\n  {chapter}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Chapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, took) = (Millis(self.at), Millis(self.took));
        write!(f, "at {at}, ")?;
        match self.times {
            1 => write!(f, "for {took}")?,
            times => write!(f, "{times} times in {took}")?,
        }
        write!(f, ": {}: {}", self.tried, self.ended)
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
