//! Commands for values.

use std::time::Duration;

use bytes::Bytes;
use tinykv_client::{Condition, PutOptions};

use super::{Action, Arguments, Call, Reply, Session, Unit, checked_key, integer, syntax_error};
use crate::limits::TTL_MS_MAX;

type Plan = Result<Action, Reply>;

pub(super) fn get(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    Ok(Action::Call(Call::Get(arguments.key(0)?)))
}

pub(super) fn strlen(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    Ok(Action::Call(Call::Length(arguments.key(0)?)))
}

pub(super) fn mget(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    Ok(Action::Call(Call::GetMany(arguments.keys()?)))
}

pub(super) fn set(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    let options = set_options(arguments)?;
    store(arguments, 1, options, false)
}

pub(super) fn setnx(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    let options = PutOptions {
        condition: Condition::IfAbsent,
        ..PutOptions::default()
    };
    store(arguments, 1, options, true)
}

pub(super) fn setex(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    set_for(arguments, Unit::Seconds)
}

pub(super) fn psetex(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    set_for(arguments, Unit::Milliseconds)
}

pub(super) fn mset(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    let pairs = arguments.words.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(arguments.wrong_arity());
    }
    let pairs = pairs.map(|pair| Ok((checked_key(&pair[0])?, pair[1].clone())));
    Ok(Action::Call(Call::SetMany(
        pairs.collect::<Result<_, Reply>>()?,
    )))
}

pub(super) fn incr(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    increment(arguments.key(0)?, 1)
}

pub(super) fn decr(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    increment(arguments.key(0)?, -1)
}

pub(super) fn incrby(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    let delta = arguments.number(1)?;
    increment(arguments.key(0)?, delta)
}

pub(super) fn decrby(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    let less = arguments.number(1)?;
    let delta = less
        .checked_neg()
        .ok_or_else(|| Reply::error("decrement would overflow"))?;
    increment(arguments.key(0)?, delta)
}

pub(super) fn append(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    Ok(Action::Call(Call::Append {
        key: arguments.key(0)?,
        value: arguments.words[1].clone(),
    }))
}

fn increment(key: Bytes, delta: i64) -> Plan {
    Ok(Action::Call(Call::Increment { key, delta }))
}

/// Stores the value at a place under the first key.
fn store(arguments: &Arguments<'_>, value: usize, options: PutOptions, counted: bool) -> Plan {
    Ok(Action::Call(Call::Set {
        key: arguments.key(0)?,
        value: arguments.words[value].clone(),
        options,
        counted,
    }))
}

/// `SETEX` and `PSETEX`: the time before the value.
fn set_for(arguments: &Arguments<'_>, unit: Unit) -> Plan {
    let options = PutOptions {
        ttl: Some(time_to_live(arguments, &arguments.words[1], unit)?),
        ..PutOptions::default()
    };
    store(arguments, 2, options, false)
}

/// What stands behind the value in `SET`. Each thing may be said once.
fn set_options(arguments: &Arguments<'_>) -> Result<PutOptions, Reply> {
    let mut options = PutOptions::default();
    let mut words = arguments.words[2..].iter();
    while let Some(word) = words.next() {
        let has_condition = options.condition != Condition::Always;
        let has_expiry = options.keep_expiry || options.ttl.is_some();
        let mut ttl = |unit| match words.next() {
            Some(time) if !has_expiry => time_to_live(arguments, time, unit).map(Some),
            _ => Err(syntax_error()),
        };
        match &word.to_ascii_lowercase()[..] {
            b"nx" if !has_condition => options.condition = Condition::IfAbsent,
            b"xx" if !has_condition => options.condition = Condition::IfPresent,
            b"keepttl" if !has_expiry => options.keep_expiry = true,
            b"ex" => options.ttl = ttl(Unit::Seconds)?,
            b"px" => options.ttl = ttl(Unit::Milliseconds)?,
            option @ (b"get" | b"exat" | b"pxat") => {
                return Err(Reply::error(format!(
                    "the option {} of 'set' is not supported; NX, XX, EX, PX and KEEPTTL are",
                    option.to_ascii_uppercase().escape_ascii()
                )));
            }
            _ => return Err(syntax_error()),
        }
    }
    Ok(options)
}

/// A time to live, at least a millisecond.
fn time_to_live(arguments: &Arguments<'_>, word: &[u8], unit: Unit) -> Result<Duration, Reply> {
    match milliseconds(integer(word)?, unit) {
        Some(ms @ 1..) => Ok(Duration::from_millis(ms.unsigned_abs())),
        _ => Err(arguments.invalid_expire()),
    }
}

/// Milliseconds in a time, unless it is longer than a store counts.
pub(super) fn milliseconds(time: i64, unit: Unit) -> Option<i64> {
    let ms = match unit {
        Unit::Seconds => time.checked_mul(1_000),
        Unit::Milliseconds => Some(time),
    };
    ms.filter(|ms| ms.unsigned_abs() <= TTL_MS_MAX)
}
