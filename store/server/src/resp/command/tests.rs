use super::*;

fn words(line: &str) -> Vec<Bytes> {
    let words = line.split(' ').map(|word| match word {
        "''" => Bytes::new(),
        word => Bytes::from(word.to_owned()),
    });
    words.collect()
}

fn act(line: &str) -> Action {
    plan(&words(line), &mut Session::default()).1
}

fn call(line: &str) -> Call {
    match act(line) {
        Action::Call(call) => call,
        other => panic!("{line}: {other:?}"),
    }
}

fn error(line: &str) -> String {
    match act(line) {
        Action::Answer(Reply::Error(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

fn key(name: &str) -> Bytes {
    Bytes::from(name.to_owned())
}

#[test]
fn errors_have_the_words_of_redis() {
    for (line, expected) in [
        (
            "FOO a b",
            "unknown command 'FOO', with args beginning with: 'a' 'b' ",
        ),
        ("GET", "wrong number of arguments for 'get' command"),
        ("get a b", "wrong number of arguments for 'get' command"),
        ("MSET a 1 b", "wrong number of arguments for 'mset' command"),
        ("PING a b", "wrong number of arguments for 'ping' command"),
        ("SET a 1 NX XX", "syntax error"),
        ("SET a 1 EX", "syntax error"),
        ("SET a 1 EX 5 PX 5", "syntax error"),
        ("SET a 1 KEEPTTL EX 5", "syntax error"),
        ("SET a 1 EX 5 KEEPTTL", "syntax error"),
        ("SET a 1 NOW", "syntax error"),
        ("SET a 1 EX x", "value is not an integer or out of range"),
        ("SET a 1 EX 0", "invalid expire time in 'set' command"),
        ("SET a 1 PX -1", "invalid expire time in 'set' command"),
        (
            "SET a 1 EX 9223372036854775807",
            "invalid expire time in 'set' command",
        ),
        ("SETEX a 0 v", "invalid expire time in 'setex' command"),
        (
            "EXPIRE a 9223372036854775807",
            "invalid expire time in 'expire' command",
        ),
        ("EXPIRE a 5 NX", "Unsupported option NX"),
        ("INCRBY a 1.5", "value is not an integer or out of range"),
        (
            "INCRBY a 9223372036854775808",
            "value is not an integer or out of range",
        ),
        ("DECRBY a -9223372036854775808", "decrement would overflow"),
        ("SCAN x", "invalid cursor"),
        ("SCAN -1", "invalid cursor"),
        ("SCAN 0 COUNT 0", "syntax error"),
        ("SCAN 0 COUNT", "syntax error"),
        ("SCAN 0 COUNT x", "value is not an integer or out of range"),
        ("SELECT 1", "DB index is out of range"),
        ("SELECT x", "value is not an integer or out of range"),
        (
            "HELLO x",
            "Protocol version is not an integer or out of range",
        ),
        ("HELLO 3 NAME a", "Syntax error in HELLO option 'NAME'"),
        ("CLIENT WHAT", "unknown subcommand 'WHAT'. Try CLIENT HELP."),
        (
            "CLIENT SETNAME a\nb",
            "Client names cannot contain spaces, newlines or special characters.",
        ),
        (
            "CONFIG GET",
            "wrong number of arguments for 'config|get' command",
        ),
        ("GET ''", "the key is empty; keys have 1 to 65536 bytes"),
        ("DEL a ''", "the key is empty; keys have 1 to 65536 bytes"),
    ] {
        assert_eq!(error(line), format!("ERR {expected}"), "{line}");
    }
    assert_eq!(
        act("HELLO 4"),
        Action::Answer(Reply::Error(
            "NOPROTO unsupported protocol version".to_owned()
        ))
    );
}

#[test]
fn options_of_set() {
    let options = |line: &str| match call(line) {
        Call::Set { options, .. } => options,
        other => panic!("{line}: {other:?}"),
    };
    use tinykv_client::Condition;
    assert_eq!(options("SET a 1"), PutOptions::default());
    assert_eq!(
        options("set a 1 px 1500 nx"),
        PutOptions {
            condition: Condition::IfAbsent,
            ttl: Some(Duration::from_millis(1500)),
            keep_expiry: false,
        }
    );
    assert_eq!(
        options("SET a 1 XX KEEPTTL"),
        PutOptions {
            condition: Condition::IfPresent,
            ttl: None,
            keep_expiry: true,
        }
    );
    assert_eq!(options("SET a 1 EX 2").ttl, Some(Duration::from_secs(2)));
    assert!(error("SET a 1 GET").contains("GET of 'set' is not supported"));
}

#[test]
fn times_that_are_over_remove_the_key() {
    assert_eq!(call("EXPIRE a 0"), Call::Remove(vec![key("a")]));
    assert_eq!(call("PEXPIRE a -5"), Call::Remove(vec![key("a")]));
    assert_eq!(
        call("EXPIRE a 5"),
        Call::Expire {
            key: key("a"),
            ttl: Duration::from_secs(5)
        }
    );
}

#[test]
fn scans() {
    assert_eq!(
        call("SCAN 17 match a* COUNT 99999999 TYPE string"),
        Call::Scan {
            cursor: 17,
            pattern: Some(key("a*")),
            count: 10_240,
            any: true
        }
    );
    let Call::Scan { any, count, .. } = call("SCAN 0 TYPE list") else {
        panic!("a scan");
    };
    assert_eq!((any, count), (false, 10));
    let long = "a".repeat(1025);
    assert!(error(&format!("SCAN 0 MATCH {long}")).contains("1024 are allowed"));
}

#[test]
fn a_session_remembers_what_it_was_told() {
    let mut session = Session {
        id: 7,
        ..Session::default()
    };
    let mut act = |line: &str| plan(&words(line), &mut session).1;
    assert_eq!(act("CLIENT ID"), Action::Answer(Reply::Integer(7)));
    assert_eq!(act("CLIENT GETNAME"), Action::Answer(Reply::Null));
    assert_eq!(
        act("CLIENT SETINFO LIB-NAME x"),
        Action::Answer(Reply::Simple("OK"))
    );
    assert!(matches!(
        act("HELLO 3 SETNAME me"),
        Action::Speak(Protocol::Resp3, Reply::Map(_))
    ));
    assert_eq!(
        act("CLIENT GETNAME"),
        Action::Answer(Reply::Bulk(key("me")))
    );
    assert!(matches!(act("HELLO"), Action::Speak(Protocol::Resp3, _)));
    assert!(matches!(
        act("HELLO 2 AUTH a b"),
        Action::Answer(Reply::Error(_))
    ));
    assert_eq!(
        session.protocol,
        Protocol::Resp3,
        "a refused HELLO changes nothing"
    );
}

#[test]
fn a_browser_that_was_lured_here_is_dropped() {
    assert_eq!(act("POST / HTTP/1.1"), Action::Drop);
    assert_eq!(act("Host: localhost"), Action::Drop);
    assert_eq!(act("QUIT"), Action::Quit(Reply::Simple("OK")));
}

#[test]
fn commands_are_described() {
    let Action::Answer(Reply::Array(all)) = act("COMMAND") else {
        panic!("a list");
    };
    assert_eq!(
        act("COMMAND COUNT"),
        Action::Answer(Reply::Integer(all.len() as i64))
    );
    let Action::Answer(Reply::Array(some)) = act("COMMAND INFO get nothing") else {
        panic!("a list");
    };
    assert_eq!(some[1], Reply::Null);
    let Reply::Array(get) = &some[0] else {
        panic!("a command");
    };
    assert_eq!(
        (get.len(), &get[0], &get[1]),
        (10, &Reply::text("get"), &Reply::Integer(2))
    );
    let Action::Answer(Reply::Map(docs)) = act("COMMAND DOCS set SET get") else {
        panic!("a map");
    };
    let names: Vec<&str> = docs.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["get", "set"]);
    let Action::Answer(Reply::Map(settings)) = act("CONFIG GET append*") else {
        panic!("a map");
    };
    assert_eq!(settings.len(), 2);
}

#[test]
fn every_command_takes_what_its_arity_says() {
    for spec in table::TABLE {
        assert_eq!(spec.name, spec.name.to_ascii_lowercase());
        let least = usize::try_from(spec.arity.unsigned_abs()).expect("small");
        let line = [vec![spec.name], vec!["1"; least - 1]].concat().join(" ");
        // Whatever the answer is, it is no panic.
        let (name, _) = plan(&words(&line), &mut Session::default());
        assert_eq!(name, spec.name);
        if least > 1 {
            let short = line.rsplit_once(' ').expect("two words").0;
            let expected = format!("ERR wrong number of arguments for '{}' command", spec.name);
            assert_eq!(error(short), expected);
        }
    }
}

#[test]
fn what_a_call_touches() {
    for (line, access) in [
        ("GET a", Access::Read(vec![key("a")])),
        ("MGET a b", Access::Read(vec![key("a"), key("b")])),
        ("MSET a 1 b 2", Access::Write(vec![key("a"), key("b")])),
        ("DEL b", Access::Write(vec![key("b")])),
        ("PERSIST b", Access::Write(vec![key("b")])),
        ("DBSIZE", Access::Everything),
        ("SCAN 0", Access::Everything),
    ] {
        assert_eq!(call(line).access(), access, "{line}");
    }
}
