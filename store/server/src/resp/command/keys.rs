//! Commands for keys, whatever their values are.

use std::time::Duration;

use super::strings::milliseconds;
use super::{Action, Arguments, Call, Reply, Session, Unit, integer, syntax_error, told};
use crate::resp::glob;

type Plan = Result<Action, Reply>;

/// Keys a `SCAN` looks at unless told otherwise.
const SCAN_COUNT: u64 = 10;

/// Most keys one `SCAN` looks at; a larger count is lowered to it.
const SCAN_COUNT_MAX: u64 = 10_240;

pub(super) fn del(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    Ok(Action::Call(Call::Remove(arguments.keys()?)))
}

pub(super) fn exists(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    Ok(Action::Call(Call::Exists(arguments.keys()?)))
}

pub(super) fn kind(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    Ok(Action::Call(Call::Kind(arguments.key(0)?)))
}

pub(super) fn expire(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    expire_in(arguments, Unit::Seconds)
}

pub(super) fn pexpire(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    expire_in(arguments, Unit::Milliseconds)
}

pub(super) fn ttl(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    time_left(arguments, Unit::Seconds)
}

pub(super) fn pttl(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    time_left(arguments, Unit::Milliseconds)
}

pub(super) fn persist(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    Ok(Action::Call(Call::Persist(arguments.key(0)?)))
}

pub(super) fn scan(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    let cursor = std::str::from_utf8(&arguments.words[0])
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Reply::error("invalid cursor"))?;
    let (mut pattern, mut count, mut any) = (None, SCAN_COUNT, true);
    let mut words = arguments.words[1..].iter();
    while let Some(option) = words.next() {
        let value = words.next().ok_or_else(syntax_error)?;
        match &option.to_ascii_lowercase()[..] {
            b"match" if value.len() > glob::PATTERN_BYTES_MAX => {
                return Err(Reply::error(format!(
                    "the pattern has {} bytes, {} are allowed",
                    value.len(),
                    glob::PATTERN_BYTES_MAX
                )));
            }
            b"match" => pattern = Some(value.clone()),
            b"count" => match integer(value)? {
                wanted @ 1.. => count = wanted.unsigned_abs().min(SCAN_COUNT_MAX),
                _ => return Err(syntax_error()),
            },
            b"type" => any = value.eq_ignore_ascii_case(b"string"),
            _ => return Err(syntax_error()),
        }
    }
    Ok(Action::Call(Call::Scan {
        cursor,
        pattern,
        count,
        any,
    }))
}

/// Sets a time to live; one that is over already removes the key.
fn expire_in(arguments: &Arguments<'_>, unit: Unit) -> Plan {
    let time = arguments.number(1)?;
    if let Some(option) = arguments.words.get(2) {
        return Err(Reply::error(format!("Unsupported option {}", told(option))));
    }
    let key = arguments.key(0)?;
    let call = match milliseconds(time, unit) {
        None => return Err(arguments.invalid_expire()),
        Some(ms @ 1..) => Call::Expire {
            key,
            ttl: Duration::from_millis(ms.unsigned_abs()),
        },
        Some(_) => Call::Remove(vec![key]),
    };
    Ok(Action::Call(call))
}

fn time_left(arguments: &Arguments<'_>, unit: Unit) -> Plan {
    let key = arguments.key(0)?;
    Ok(Action::Call(Call::TimeLeft { key, unit }))
}
