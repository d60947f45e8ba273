use proptest::prelude::*;

use super::*;

/// Everything that comes out when bytes arrive in these pieces: commands, then perhaps an error.
fn split<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Vec<Bytes>>, Option<ProtocolError>) {
    let mut splitter = Splitter::default();
    let mut commands = Vec::new();
    let mut arrived = 0;
    for piece in pieces {
        arrived += piece.len();
        let mut input = piece;
        loop {
            match splitter.next(&mut input) {
                Ok(Some(command)) => commands.push(command),
                Ok(None) => break,
                Err(error) => return (commands, Some(error)),
            }
        }
        assert!(input.is_empty(), "all of it is taken");
        // Twice for growing buffers, and the list of arguments.
        let bound = 2 * arrived + ARGUMENTS_AT_FIRST * size_of::<Bytes>() + 16 * arrived;
        assert!(splitter.held() <= bound, "{} held", splitter.held());
    }
    (commands, None)
}

fn whole(bytes: &[u8]) -> (Vec<Vec<Bytes>>, Option<ProtocolError>) {
    split([bytes])
}

fn error(bytes: &[u8]) -> String {
    let (_, error) = whole(bytes);
    error.expect("refused").to_string()
}

fn encode(command: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for argument in command {
        bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
        bytes.extend(argument);
        bytes.extend(b"\r\n");
    }
    bytes
}

#[test]
fn arrays_and_lines_may_alternate() {
    let bytes =
        b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n\r\n*0\r\n*-1\r\nget 'a b'\n*1\r\n$0\r\n\r\n";
    let (commands, error) = whole(bytes);
    let expected: [&[&[u8]]; 4] = [&[b"GET", b"a"], &[b"PING"], &[b"get", b"a b"], &[b""]];
    assert_eq!(commands, expected);
    assert_eq!(error, None);
}

#[test]
fn what_breaks_the_protocol_is_told_in_the_words_of_redis() {
    for (bytes, text) in [
        (&b"*x\r\n"[..], "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*1\r\n$1073741824\r\n", "invalid bulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$+1\r\n", "invalid bulk length"),
        (b"*1\r\n+OK\r\n", "expected '$', got '+'"),
        (b"*1\r\n\r\n", "expected '$', got '\\r'"),
        (b"get \"a\r\n", "unbalanced quotes in request"),
        (b"*1\r\n$1\r\nab\r\n", "expected CR LF behind an argument"),
    ] {
        assert_eq!(error(bytes), format!("Protocol error: {text}"));
    }
    let line = vec![b'1'; LINE_BYTES_MAX + 1];
    assert_eq!(error(&line), "Protocol error: too big inline request");
    let count = [b"*".as_slice(), &line].concat();
    assert_eq!(error(&count), "Protocol error: too big mbulk count string");
    let length = [b"*1\r\n".as_slice(), &line].concat();
    assert_eq!(error(&length), "Protocol error: too big bulk count string");
}

#[test]
fn commands_before_the_broken_one_count_and_nothing_behind_it() {
    let mut splitter = Splitter::default();
    let mut input = &b"PING\r\n*1\r\nx\r\nPING\r\n"[..];
    assert_eq!(
        splitter.next(&mut input).expect("a command"),
        Some(vec![Bytes::from_static(b"PING")])
    );
    let broken = splitter.next(&mut input).expect_err("broken");
    assert_eq!(broken, ProtocolError::NoDollar(b'x'));
    assert_eq!(splitter.next(&mut input), Err(broken));
}

#[test]
fn the_announced_bytes_of_a_command_are_added_up_before_they_arrive() {
    let mut splitter = Splitter::default();
    let value = vec![b'v'; ARGUMENT_BYTES_MAX];
    let header = format!("${}\r\n", value.len());
    let feed = |splitter: &mut Splitter, mut bytes: &[u8]| splitter.next(&mut bytes);
    assert_eq!(feed(&mut splitter, b"*9\r\n"), Ok(None));
    for _ in 0..3 {
        assert_eq!(feed(&mut splitter, header.as_bytes()), Ok(None));
        assert_eq!(feed(&mut splitter, &value), Ok(None));
        assert_eq!(feed(&mut splitter, b"\r\n"), Ok(None));
    }
    let refused = feed(&mut splitter, header.as_bytes());
    assert_eq!(refused, Err(ProtocolError::CommandTooLong));
    assert_eq!(splitter.held(), 0, "what was held is given back");
}

#[test]
fn an_announced_length_takes_no_memory() {
    let mut splitter = Splitter::default();
    let mut input = &b"*1048576\r\n$8388608\r\nabc"[..];
    assert_eq!(splitter.next(&mut input), Ok(None));
    assert!(splitter.held() < 1024, "{} held", splitter.held());
}

/// Bytes that come close to the protocol.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"*".to_vec()),
        Just(b"$".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"-".to_vec()),
        Just(b"\"".to_vec()),
        Just(b"'".to_vec()),
        Just(b"\\x".to_vec()),
        Just(b"*1\r\n$3\r\n".to_vec()),
        (0u64..12).prop_map(|number| number.to_string().into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..6),
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 1..4)
            .prop_map(|command| encode(&command)),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Cuts bytes at positions.
fn cut(bytes: &[u8], mut positions: Vec<usize>) -> Vec<&[u8]> {
    positions.retain(|position| *position <= bytes.len());
    positions.sort_unstable();
    let mut from = 0;
    let mut pieces: Vec<&[u8]> = Vec::new();
    for position in positions {
        pieces.push(&bytes[from..position]);
        from = position;
    }
    pieces.push(&bytes[from..]);
    pieces
}

proptest! {
    #[test]
    fn any_bytes_cut_anywhere_give_the_same(
        bytes in nearly(),
        positions in proptest::collection::vec(0usize..200, 0..12),
    ) {
        let expected = whole(&bytes);
        prop_assert_eq!(split(cut(&bytes, positions)), expected.clone());
        prop_assert_eq!(split(bytes.chunks(1)), expected);
    }

    #[test]
    fn what_is_sent_is_what_comes_out(
        commands in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
            0..6,
        ),
        positions in proptest::collection::vec(0usize..600, 0..12),
    ) {
        let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
        let (split, error) = split(cut(&bytes, positions));
        prop_assert_eq!(error, None);
        prop_assert_eq!(split, commands);
    }
}
