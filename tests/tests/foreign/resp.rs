//! The RESP doors of a cluster, byte by byte: needs no program but ours.

use std::collections::BTreeSet;
use std::io;

use tinykv_tests::cluster::Node;
use tinykv_tests::cluster::resp::{Answer, Connection, command};

use super::{cluster, key};

#[test]
fn any_store_serves_any_key() {
    let cluster = cluster();
    let open = |store: usize| Connection::open(&cluster.resp()[store]).expect("a door");
    let mut doors: Vec<Connection> = (0..3).map(open).collect();
    let mut work = || -> io::Result<()> {
        strings(&mut doors)?;
        numbers(&mut doors)?;
        times(&mut doors[1])?;
        scans(&mut doors)?;
        pipelines(&mut doors[2])?;
        telnet(&mut doors[0])?;
        newer_protocol(&mut doors[0])
    };
    if let Err(error) = work() {
        panic!("{error}\n{}", cluster.logs());
    }
    drop(doors);
    refusals(|| open(0)).unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
}

/// Doors that were never used before find all regions, since their stores know them.
#[test]
fn all_keys_are_served_at_any_door_without_placement() {
    let mut cluster = cluster();
    let addresses = cluster.resp().to_vec();
    let mut work = || -> io::Result<()> {
        let mut door = Connection::open(&addresses[0])?;
        for number in 0..200 {
            assert_eq!(door.call(&["SET", &key(number), "old"])?, Answer::ok());
        }
        cluster.kill(Node::Placement(0))?;
        for address in &addresses[1..] {
            let mut door = Connection::open(address)?;
            for number in 0..200 {
                let key = key(number);
                assert_eq!(door.call(&["GET", &key])?, Answer::bulk("old"));
                assert_eq!(door.call(&["APPEND", &key, ""])?, Answer::Integer(3));
            }
        }
        // Leaders die, others are elected, and a door finds them.
        cluster.kill(Node::Store(0))?;
        let mut door = Connection::open(&addresses[2])?;
        for number in 0..200 {
            assert_eq!(door.call(&["SET", &key(number), "new"])?, Answer::ok());
        }
        Ok(())
    };
    if let Err(error) = work() {
        panic!("{error}\n{}", cluster.logs());
    }
}

fn strings(doors: &mut [Connection]) -> io::Result<()> {
    for number in 0..200 {
        let (key, value) = (key(number), format!("value {number}"));
        assert_eq!(doors[0].call(&["SET", &key, &value])?, Answer::ok());
        assert_eq!(doors[1].call(&["GET", &key])?, Answer::bulk(&value));
    }
    let some = ["MGET", "k150", "none", "k050", "k150"];
    let expected = ["value 150", "", "value 50", "value 150"].map(|text| match text {
        "" => Answer::Null,
        text => Answer::bulk(text),
    });
    assert_eq!(doors[2].call(&some)?, Answer::Array(expected.to_vec()));
    let pairs = ["MSET", "m1", "1", "k001", "new", "m2", "2", "m1", "last"];
    assert_eq!(doors[2].call(&pairs)?, Answer::ok());
    assert_eq!(doors[0].call(&["GET", "m1"])?, Answer::bulk("last"));
    assert_eq!(
        doors[0].call(&["EXISTS", "m1", "m1", "none", "k100"])?,
        Answer::Integer(3)
    );
    assert_eq!(doors[0].call(&["APPEND", "m2", "345"])?, Answer::Integer(4));
    assert_eq!(doors[1].call(&["STRLEN", "m2"])?, Answer::Integer(4));
    assert_eq!(doors[1].call(&["SET", "m2", "x", "NX"])?, Answer::Null);
    assert_eq!(doors[1].call(&["SET", "m3", "x", "XX"])?, Answer::Null);
    assert_eq!(doors[1].call(&["SETNX", "m3", "x"])?, Answer::Integer(1));
    let all = ["DEL", "m1", "m2", "m3", "m1", "none"];
    assert_eq!(doors[2].call(&all)?, Answer::Integer(3));
    // A value of the greatest length, and one that does not fit behind it.
    let long = "v".repeat(8 << 20);
    assert_eq!(doors[0].call(&["SET", "long", &long])?, Answer::ok());
    assert_eq!(
        doors[1].call(&["STRLEN", "long"])?,
        Answer::Integer(8 << 20)
    );
    let refused = doors[1].call(&["APPEND", "long", "v"])?;
    assert!(
        refused.is_error("ERR string exceeds maximum allowed size"),
        "{refused:?}"
    );
    assert_eq!(doors[1].call(&["DEL", "long"])?, Answer::Integer(1));
    Ok(())
}

fn numbers(doors: &mut [Connection]) -> io::Result<()> {
    for round in 0..9 {
        let sum = doors[round % 3].call(&["INCR", "number"])?;
        assert_eq!(sum, Answer::Integer(round as i64 + 1));
    }
    let door = &mut doors[0];
    assert_eq!(
        door.call(&["DECRBY", "number", "20"])?,
        Answer::Integer(-11)
    );
    assert_eq!(door.call(&["GET", "number"])?, Answer::bulk("-11"));
    assert_eq!(
        door.call(&["SET", "number", "9223372036854775807"])?,
        Answer::ok()
    );
    let over = door.call(&["INCR", "number"])?;
    assert!(
        over.is_error("ERR increment or decrement would overflow"),
        "{over:?}"
    );
    assert_eq!(door.call(&["SET", "number", "ten"])?, Answer::ok());
    let text = door.call(&["INCR", "number"])?;
    assert!(
        text.is_error("ERR value is not an integer or out of range"),
        "{text:?}"
    );
    assert_eq!(door.call(&["DEL", "number"])?, Answer::Integer(1));
    Ok(())
}

fn times(door: &mut Connection) -> io::Result<()> {
    assert_eq!(door.call(&["TTL", "t"])?, Answer::Integer(-2));
    assert_eq!(door.call(&["EXPIRE", "t", "100"])?, Answer::Integer(0));
    assert_eq!(door.call(&["SET", "t", "v"])?, Answer::ok());
    assert_eq!(door.call(&["TTL", "t"])?, Answer::Integer(-1));
    assert_eq!(door.call(&["PERSIST", "t"])?, Answer::Integer(0));
    assert_eq!(door.call(&["EXPIRE", "t", "1000"])?, Answer::Integer(1));
    let left = door.call(&["PTTL", "t"])?;
    assert!(
        matches!(left, Answer::Integer(900_000..=1_000_000)),
        "{left:?}"
    );
    assert_eq!(door.call(&["SET", "t", "w", "KEEPTTL"])?, Answer::ok());
    let left = door.call(&["TTL", "t"])?;
    assert!(matches!(left, Answer::Integer(900..=1_000)), "{left:?}");
    assert_eq!(door.call(&["PERSIST", "t"])?, Answer::Integer(1));
    assert_eq!(door.call(&["SET", "t", "x", "PX", "50"])?, Answer::ok());
    while door.call(&["GET", "t"])? != Answer::Null {}
    assert_eq!(door.call(&["EXISTS", "t"])?, Answer::Integer(0));
    assert_eq!(door.call(&["SET", "t", "x"])?, Answer::ok());
    assert_eq!(door.call(&["EXPIRE", "t", "-1"])?, Answer::Integer(1));
    assert_eq!(door.call(&["GET", "t"])?, Answer::Null);
    Ok(())
}

fn scans(doors: &mut [Connection]) -> io::Result<()> {
    let page = |door: &mut Connection, words: &[&str]| match door.call(words)? {
        Answer::Array(parts) => match &parts[..] {
            [Answer::Bulk(cursor), Answer::Array(keys)] => {
                Ok((String::from_utf8_lossy(cursor).into_owned(), keys.clone()))
            }
            other => Err(io::Error::other(format!("{other:?}"))),
        },
        other => Err(io::Error::other(format!("{other:?}"))),
    };
    let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
    loop {
        let (next, keys) = page(&mut doors[0], &["SCAN", &cursor, "COUNT", "7"])?;
        assert!(keys.len() <= 7, "{keys:?}");
        seen.extend(keys);
        cursor = next;
        if cursor == "0" {
            break;
        }
    }
    let expected: Vec<Answer> = (0..200).map(|number| Answer::bulk(key(number))).collect();
    assert_eq!(seen, expected);
    assert_eq!(doors[1].call(&["DBSIZE"])?, Answer::Integer(200));
    let (next, keys) = page(
        &mut doors[1],
        &["SCAN", "0", "MATCH", "k1[0-1]5", "COUNT", "1000"],
    )?;
    assert_eq!(
        (next.as_str(), keys),
        ("0", vec![Answer::bulk("k105"), Answer::bulk("k115")])
    );
    // A cursor belongs to the store that gave it.
    let (given, _) = page(&mut doors[0], &["SCAN", "0"])?;
    let foreign = doors[1].call(&["SCAN", &given])?;
    assert!(foreign.is_error("ERR unknown cursor"), "{foreign:?}");
    let (_, keys) = page(&mut doors[0], &["SCAN", &given, "COUNT", "1"])?;
    assert_eq!(keys, [Answer::bulk(key(10))]);
    Ok(())
}

fn pipelines(door: &mut Connection) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for number in 0..300u32 {
        let (key, value) = (key(number % 50), number.to_string());
        bytes.extend(command(&[b"SET", key.as_bytes(), value.as_bytes()]));
        bytes.extend(command(&[b"GET", key.as_bytes()]));
        bytes.extend(command(&[b"INCR", b"counted"]));
        expected.extend([
            Answer::ok(),
            Answer::bulk(value),
            Answer::Integer(i64::from(number) + 1),
        ]);
        if number % 100 == 99 {
            bytes.extend_from_slice(b"PING\r\nNOSUCH\r\n");
            expected.push(Answer::Simple("PONG".to_owned()));
            let told = "ERR unknown command 'NOSUCH', with args beginning with: ";
            expected.push(Answer::Error(told.to_owned()));
        }
    }
    door.send(&bytes)?;
    for expected in expected {
        assert_eq!(door.read()?, expected);
    }
    assert_eq!(door.call(&["DEL", "counted"])?, Answer::Integer(1));
    Ok(())
}

fn telnet(door: &mut Connection) -> io::Result<()> {
    door.send(b"set greeting \"hello \\x77orld\"\r\n\r\nget greeting\nDEL 'greeting'\r\n")?;
    assert_eq!(door.read()?, Answer::ok());
    assert_eq!(door.read()?, Answer::bulk("hello world"));
    assert_eq!(door.read()?, Answer::Integer(1));
    Ok(())
}

fn newer_protocol(door: &mut Connection) -> io::Result<()> {
    door.send(&command(&[b"GET", b"none"]))?;
    door.send(&command(&[b"HELLO", b"3", b"SETNAME", b"test"]))?;
    door.send(&command(&[b"GET", b"none"]))?;
    assert_eq!(door.read()?, Answer::Null);
    let Answer::Array(about) = door.read()? else {
        return Err(io::Error::other("HELLO answers with a map"));
    };
    let at = about.iter().position(|it| *it == Answer::bulk("proto"));
    assert_eq!(at.map(|at| &about[at + 1]), Some(&Answer::Integer(3)));
    assert_eq!(door.read()?, Answer::Null);
    assert_eq!(door.call(&["CLIENT", "GETNAME"])?, Answer::bulk("test"));
    let Answer::Bulk(info) = door.call(&["INFO", "server"])? else {
        return Err(io::Error::other("INFO answers with text"));
    };
    let info = String::from_utf8_lossy(&info);
    assert!(info.starts_with("txt:# Server\r\n"), "{info}");
    Ok(())
}

/// What cannot be understood ends the connection, and only that one.
fn refusals(open: impl Fn() -> Connection) -> io::Result<()> {
    let mut other = open();
    for (bytes, words) in [
        (&b"*1\r\n$1073741824\r\n"[..], "invalid bulk length"),
        (b"*1073741824\r\n", "invalid multibulk length"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"get \"a\r\n", "unbalanced quotes in request"),
    ] {
        let mut broken = open();
        broken.send(b"PING\r\n")?;
        broken.send(bytes)?;
        assert_eq!(broken.read()?, Answer::Simple("PONG".to_owned()));
        let told = Answer::Error(format!("ERR Protocol error: {words}"));
        assert_eq!(broken.read()?, told);
        assert!(broken.is_closed()?, "{words}");
    }
    let mut leaving = open();
    assert_eq!(leaving.call(&["QUIT"])?, Answer::ok());
    assert!(leaving.is_closed()?);
    for (words, told) in [
        (
            &["GET"][..],
            "ERR wrong number of arguments for 'get' command",
        ),
        (
            &["SET", "a", "b", "EX", "0"],
            "ERR invalid expire time in 'set' command",
        ),
        (&["SET", "a", "b", "SOON"], "ERR syntax error"),
        (&["SET", "", "b"], "ERR the key is empty"),
        (&["SELECT", "1"], "ERR DB index is out of range"),
        (&["HELLO", "4"], "NOPROTO unsupported protocol version"),
    ] {
        let answer = other.call(words)?;
        assert!(answer.is_error(told), "{words:?}: {answer:?}");
    }
    assert_eq!(other.call(&["PING"])?, Answer::Simple("PONG".to_owned()));
    Ok(())
}

/// A store dies while another one's door is asked: every answer says what became of the command,
/// the order holds, and the connection goes on (K7).
#[test]
fn a_door_tells_what_it_does_not_know_and_stays_open() {
    let mut cluster = cluster();
    let mut door = Connection::open(&cluster.resp()[0]).expect("a door");
    let (mut told, mut undetermined) = (BTreeSet::new(), 0);
    let mut go = |door: &mut Connection, rounds: usize| {
        for _ in 0..rounds {
            let mut bytes = command(&[b"INCR", b"counter"]);
            bytes.extend_from_slice(&command(&[b"PING", b"behind"]));
            door.send(&bytes).expect("open");
            match door.read().expect("open") {
                Answer::Integer(sum) => assert!(told.insert(sum), "{sum} was told twice"),
                Answer::Error(text) if text.starts_with("UNDETERMINED ") => undetermined += 1,
                Answer::Error(text) => assert!(text.starts_with("TRYAGAIN "), "{text}"),
                other => panic!("{other:?}"),
            }
            assert_eq!(door.read().expect("open"), Answer::bulk("behind"));
        }
    };
    for victim in [1, 2, 1] {
        go(&mut door, 30);
        cluster.kill(Node::Store(victim)).expect("killed");
        go(&mut door, 30);
        cluster.start(Node::Store(victim)).expect("started");
    }
    let sum = loop {
        match door.call(&["GET", "counter"]).expect("open") {
            Answer::Bulk(sum) => break String::from_utf8_lossy(&sum).parse::<i64>(),
            other => assert!(other.is_error("TRYAGAIN "), "{other:?}"),
        }
    };
    let sum = sum.expect("a number");
    assert!(told.last().is_some_and(|last| *last <= sum), "{sum}");
    let (least, most) = (told.len() as i64, told.len() as i64 + undetermined);
    assert!((least..=most).contains(&sum), "{sum} of {least} to {most}");
}
