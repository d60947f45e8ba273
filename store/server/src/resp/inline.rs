//! Requests that people type: one line of words, in quotes where they hold spaces.

use bytes::Bytes;

/// The words of a line; `None` when a quote is not closed, or is followed by more than a space.
///
/// Double quotes know `\n`, `\r`, `\t`, `\b`, `\a`, `\xFF` and a backslash before any other
/// character; single quotes know `\'` alone.
pub(super) fn split(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        while let Some((&first, after)) = rest.split_first() {
            rest = match first {
                b'"' => end_of_word(double_quoted(after, &mut word)?)?,
                b'\'' => end_of_word(single_quoted(after, &mut word)?)?,
                _ if first.is_ascii_whitespace() => break,
                _ => {
                    word.push(first);
                    after
                }
            };
        }
        word.shrink_to_fit();
        words.push(Bytes::from(word));
    }
}

/// What follows a closing quote.
fn end_of_word(rest: &[u8]) -> Option<&[u8]> {
    let ends = rest.first().is_none_or(u8::is_ascii_whitespace);
    ends.then_some(rest)
}

/// Reads up to the closing quote; returns what is behind it.
fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [] => return None,
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (16 * nibble(*high) + nibble(*low), after)
            }
            [b'\\', escaped, after @ ..] => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                };
                (byte, after)
            }
            [byte, after @ ..] => (*byte, after),
        };
        word.push(byte);
        rest = after;
    }
}

/// Reads up to the closing quote; returns what is behind it.
fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [] => return None,
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
        };
        word.push(byte);
        rest = after;
    }
}

/// The value of a hexadecimal digit.
fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    fn words(line: &str) -> Option<Vec<String>> {
        let words = split(line.as_bytes())?;
        let escaped = words.iter().map(|word| word.escape_ascii().to_string());
        Some(escaped.collect())
    }

    #[test]
    fn words_stand_between_spaces_or_in_quotes() {
        let expected = |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect());
        assert_eq!(words("  "), expected(&[]));
        assert_eq!(words("get  a\t"), expected(&["get", "a"]));
        assert_eq!(words(r#"set "a b" ''"#), expected(&["set", "a b", ""]));
        assert_eq!(words(r#"x"a"  y'b'"#), expected(&["xa", "yb"]));
        assert_eq!(
            words(r#""\x00\xfG\n\"\\\q""#),
            expected(&[r#"\x00xfG\n\"\\q"#])
        );
        assert_eq!(words(r"'\n\''"), expected(&[r"\\n\'"]));
    }

    #[test]
    fn quotes_are_closed_before_a_space_or_the_end() {
        for line in [r#"""#, "'", r#"get "a"#, r#"get "a"b"#, "get 'a'b", r#""\"#] {
            assert_eq!(words(line), None, "{line}");
        }
    }
}
