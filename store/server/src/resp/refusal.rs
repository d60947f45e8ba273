//! What a client of Redis is told when a call fails.
//!
//! `UNDETERMINED`: the write may have been applied, may yet be, or never; at most once. Every other
//! error means that nothing was changed. `TRYAGAIN`: the stores could not serve it in time, and
//! may later. Where Redis has a text, it is used.

use tinykv_client::{BatchError, Conflict, Error, Reason};

use super::reply::Reply;

/// Longest story of the attempts that is told, in bytes.
const STORY_BYTES_MAX: usize = 1_024;

/// A call for one key that failed, or for many that only reads.
pub(super) fn of(error: &Error) -> Reply {
    match error {
        Error::Undetermined { .. } => undetermined(&error.to_string()),
        Error::DefinitelyNot { reason, .. } => match reason {
            Reason::Conflict(conflict) => of_conflict(*conflict),
            Reason::Invalid(_)
            | Reason::BadRequest { .. }
            | Reason::Refused { .. }
            | Reason::DiskFull { .. } => Reply::error(told(&error.to_string())),
            Reason::Busy { .. }
            | Reason::NoLeader
            | Reason::RegionNotFound { .. }
            | Reason::NotNow { .. }
            | Reason::Unknown { .. }
            | Reason::PlacementUnreachable { .. }
            | Reason::PlacementNoLeader { .. }
            | Reason::StoreUnreachable { .. }
            | Reason::NoTime { .. } => try_again(&error.to_string()),
        },
    }
}

/// A write of several keys that failed, perhaps after some of it was done.
pub(super) fn of_batch(error: &BatchError) -> Reply {
    match error.is_undetermined() {
        true => undetermined(&error.to_string()),
        false => match (&error.failed[..], error.applied.is_empty()) {
            ([one], true) => of(&one.error),
            _ => try_again(&error.to_string()),
        },
    }
}

fn of_conflict(conflict: Conflict) -> Reply {
    Reply::error(match conflict {
        Conflict::NotAnInteger => "value is not an integer or out of range",
        Conflict::Overflow => "increment or decrement would overflow",
        Conflict::TooLong => "string exceeds maximum allowed size (proto-max-bulk-len)",
    })
}

fn undetermined(story: &str) -> Reply {
    Reply::Error(format!("UNDETERMINED {}", told(story)))
}

fn try_again(story: &str) -> Reply {
    Reply::Error(format!("TRYAGAIN {}", told(story)))
}

/// A story in one line that is not too long.
fn told(story: &str) -> String {
    let mut line = String::new();
    for part in story.lines().map(str::trim) {
        match line.chars().last() {
            None => {}
            Some(':') => line.push(' '),
            Some(_) => line.push_str("; "),
        }
        line.push_str(part);
    }
    if line.len() > STORY_BYTES_MAX {
        let mut end = STORY_BYTES_MAX;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tinykv_client::{Doubt, FailedPart, Story, Tried};

    use super::*;

    fn refused(reason: Reason) -> Error {
        Error::DefinitelyNot {
            reason,
            story: story(),
        }
    }

    fn doubtful() -> Error {
        let after = Duration::from_secs(1);
        Error::Undetermined {
            doubt: Doubt::Deadline { after },
            story: story(),
        }
    }

    fn story() -> Box<Story> {
        Box::new(Story::new(Duration::ZERO, Duration::from_secs(1)))
    }

    fn text(reply: Reply) -> String {
        match reply {
            Reply::Error(text) => text,
            other => panic!("no error: {other:?}"),
        }
    }

    #[test]
    fn an_unknown_fate_is_told_as_such() {
        assert_eq!(
            text(of(&doubtful())),
            "UNDETERMINED the fate of the write is unknown: no answer within 1000 ms"
        );
        let batch = BatchError {
            applied: vec![Bytes::from_static(b"a")],
            failed: vec![
                FailedPart {
                    keys: vec![Bytes::from_static(b"b")],
                    error: refused(Reason::NoLeader),
                },
                FailedPart {
                    keys: vec![Bytes::from_static(b"c")],
                    error: doubtful(),
                },
            ],
        };
        let told = text(of_batch(&batch));
        assert!(
            told.starts_with("UNDETERMINED 1 keys were written, 1 were not, the fate of 1"),
            "{told}"
        );
    }

    #[test]
    fn refusals_have_the_words_of_redis_or_a_sentence() {
        for (reason, expected) in [
            (
                Reason::Conflict(Conflict::NotAnInteger),
                "ERR value is not an integer or out of range",
            ),
            (
                Reason::Conflict(Conflict::Overflow),
                "ERR increment or decrement would overflow",
            ),
            (Reason::NoLeader, "TRYAGAIN the region has no leader"),
        ] {
            assert_eq!(text(of(&refused(reason))), expected);
        }
    }

    #[test]
    fn a_story_is_one_line() {
        let mut story = *story();
        for at in [1, 2] {
            let (at, ended) = (Duration::from_millis(at), "no leader".to_owned());
            story.add(at, at, Tried::Locate, ended);
        }
        let error = Error::DefinitelyNot {
            reason: Reason::NoLeader,
            story: Box::new(story),
        };
        assert_eq!(
            text(of(&error)),
            "TRYAGAIN the region has no leader; 2 attempts failed, 1000 ms allowed: at 1 ms, 2 \
             times in 1 ms: look up the region: no leader"
        );
    }

    #[test]
    fn long_stories_are_cut() {
        let message = "ä".repeat(2 * STORY_BYTES_MAX);
        let told = text(of(&refused(Reason::Refused { message })));
        assert!(told.len() < STORY_BYTES_MAX + 20, "{}", told.len());
    }
}
