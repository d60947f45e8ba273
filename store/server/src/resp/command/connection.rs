//! Commands about the connection itself.

use bytes::Bytes;

use super::server::{REDIS_VERSION, SERVER};
use super::{
    Action, Arguments, Protocol, Reply, Session, TOLD_BYTES_MAX, number, syntax_error, told,
};

type Plan = Result<Action, Reply>;

const NO_PASSWORD: &str = "AUTH <password> called without any password configured for the \
                           default user. Are you sure your configuration is correct?";

pub(super) fn ping(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    match arguments.words {
        [] => answer(Reply::Simple("PONG")),
        [word] => answer(Reply::Bulk(word.clone())),
        _ => Err(arguments.wrong_arity()),
    }
}

pub(super) fn echo(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    answer(Reply::Bulk(arguments.words[0].clone()))
}

pub(super) fn select(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    match arguments.number(0)? {
        0 => answer(Reply::Simple("OK")),
        _ => Err(Reply::error("DB index is out of range")),
    }
}

pub(super) fn auth(_: &Arguments<'_>, _: &mut Session) -> Plan {
    Err(Reply::error(NO_PASSWORD))
}

pub(super) fn quit(_: &Arguments<'_>, _: &mut Session) -> Plan {
    Ok(Action::Quit(Reply::Simple("OK")))
}

pub(super) fn hello(arguments: &Arguments<'_>, session: &mut Session) -> Plan {
    let mut protocol = session.protocol;
    if let Some(version) = arguments.words.first() {
        protocol = match number::parse(version) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => {
                return Err(Reply::Error(
                    "NOPROTO unsupported protocol version".to_owned(),
                ));
            }
            None => {
                return Err(Reply::error(
                    "Protocol version is not an integer or out of range",
                ));
            }
        };
    }
    let mut name = session.name.clone();
    let mut words = arguments.words.iter().skip(1);
    while let Some(option) = words.next() {
        match &option.to_ascii_lowercase()[..] {
            b"auth" => return Err(Reply::error(NO_PASSWORD)),
            b"setname" => name = checked_name(words.next().ok_or_else(syntax_error)?)?,
            _ => {
                let option = told(option);
                return Err(Reply::error(format!(
                    "Syntax error in HELLO option '{option}'"
                )));
            }
        }
    }
    session.name = name;
    session.protocol = protocol;
    let about = Reply::Map(vec![
        ("server", Reply::text(SERVER)),
        ("version", Reply::text(REDIS_VERSION)),
        ("proto", Reply::Integer(protocol.number())),
        ("id", Reply::count(session.id)),
        ("mode", Reply::text("standalone")),
        ("role", Reply::text("master")),
        ("modules", Reply::Array(Vec::new())),
    ]);
    Ok(Action::Speak(protocol, about))
}

pub(super) fn client(arguments: &Arguments<'_>, session: &mut Session) -> Plan {
    match (arguments.subcommand().as_str(), &arguments.words[1..]) {
        ("id", []) => answer(Reply::count(session.id)),
        ("getname", []) if session.name.is_empty() => answer(Reply::Null),
        ("getname", []) => answer(Reply::Bulk(session.name.clone())),
        ("setname", [name]) => {
            session.name = checked_name(name)?;
            answer(Reply::Simple("OK"))
        }
        // What library it is, and whether it may be turned out for lack of memory: nothing here
        // depends on either.
        ("setinfo", [_, _]) | ("no-evict" | "no-touch", [_]) => answer(Reply::Simple("OK")),
        ("id" | "getname" | "setname" | "setinfo" | "no-evict" | "no-touch", _) => {
            Err(Reply::error(format!(
                "wrong number of arguments for 'client|{}' command",
                arguments.subcommand()
            )))
        }
        _ => Err(arguments.unknown_subcommand()),
    }
}

/// A name without spaces and special characters.
fn checked_name(name: &Bytes) -> Result<Bytes, Reply> {
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(Reply::error(
            "Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    if name.len() > TOLD_BYTES_MAX {
        return Err(Reply::error(format!(
            "the name has {} bytes, {TOLD_BYTES_MAX} are allowed",
            name.len()
        )));
    }
    Ok(name.clone())
}

fn answer(reply: Reply) -> Plan {
    Ok(Action::Answer(reply))
}
