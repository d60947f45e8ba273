//! How keys and values are typed and printed.

use std::fmt::Write;

/// How the bytes of keys (and of values, when printed) stand in text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Readable: printable ASCII and UTF-8 as it is, `\\`, `\n`, `\t`, `\r`, other bytes `\xNN`.
    /// What is printed can be typed.
    #[default]
    Escaped,
    /// The bytes themselves.
    Raw,
    /// Two hexadecimal digits a byte.
    Hex,
}

impl Format {
    /// Reads what a user typed.
    ///
    /// # Errors
    /// One sentence that names the text and what would be right.
    pub(crate) fn parse(self, text: &str) -> Result<Vec<u8>, String> {
        match self {
            Format::Raw => Ok(text.as_bytes().to_vec()),
            Format::Hex => parse_hex(text),
            Format::Escaped => parse_escaped(text),
        }
    }

    /// Prints bytes; with [`Format::Raw`] into bytes that need not be text.
    pub(crate) fn print(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Format::Raw => bytes.to_vec(),
            Format::Hex => hex(bytes).into_bytes(),
            Format::Escaped => escaped(bytes).into_bytes(),
        }
    }
}

/// Two lower-case digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Readable and reversible.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                c if c.is_control() => {
                    let mut utf8 = [0; 4];
                    escape_bytes(&mut text, c.encode_utf8(&mut utf8).as_bytes());
                }
                c => text.push(c),
            }
        }
        escape_bytes(&mut text, chunk.invalid());
    }
    text
}

/// At most 40 characters of a printed key, for columns.
pub(crate) fn shortened(text: &str) -> String {
    const WIDTH: usize = 40;
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn escape_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.as_bytes();
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(hex_digit(*high)? << 4 | hex_digit(*low)?),
        _ => None,
    };
    digits
        .chunks(2)
        .map(byte)
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| format!("{text}: not hexadecimal; give two digits a byte"))
}

fn parse_escaped(text: &str) -> Result<Vec<u8>, String> {
    let wrong = |rest: &str| {
        format!("{text}: unknown escape \\{rest}; known are \\\\ \\n \\t \\r and \\xNN")
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (byte, used) = match rest {
            [b'\\', ..] => (b'\\', 1),
            [b'n', ..] => (b'\n', 1),
            [b't', ..] => (b'\t', 1),
            [b'r', ..] => (b'\r', 1),
            [b'x', high, low, ..] => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, 3),
                _ => return Err(wrong("x")),
            },
            [other, ..] => return Err(wrong(&char::from(*other).to_string())),
            [] => return Err(wrong("")),
        };
        bytes.push(byte);
        rest = &rest[used..];
    }
    Ok(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::{Format, escaped};

    #[test]
    fn readable_bytes_stay_readable() {
        assert_eq!(escaped("user/7 äß".as_bytes()), "user/7 äß");
        assert_eq!(escaped(b"a\\b\n\t\r\0\xff"), "a\\\\b\\n\\t\\r\\x00\\xff");
    }

    #[test]
    fn what_is_printed_can_be_typed() {
        let all: Vec<u8> = (0..=255).chain(0..=255).collect();
        for format in [Format::Escaped, Format::Hex] {
            let text = String::from_utf8(format.print(&all)).expect("text");
            assert_eq!(format.parse(&text), Ok(all.clone()), "{format:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        assert!(
            Format::Escaped
                .parse("a\\q")
                .expect_err("refused")
                .contains("\\q")
        );
        assert!(Format::Escaped.parse("a\\").is_err());
        assert!(Format::Escaped.parse("\\xg0").is_err());
        assert!(
            Format::Hex
                .parse("abc")
                .expect_err("refused")
                .starts_with("abc:")
        );
        assert!(Format::Hex.parse("zz").is_err());
        assert_eq!(Format::Raw.parse("a\\q"), Ok(b"a\\q".to_vec()));
    }
}
