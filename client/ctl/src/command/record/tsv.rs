//! Key, tab, value.

/// Reads a line.
pub(super) fn parse(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let Some(tab) = line.iter().position(|byte| *byte == b'\t') else {
        return Err(
            "no tab between key and value; write the key, a tab and the value on one line"
                .to_owned(),
        );
    };
    Ok((
        unescape("key", &line[..tab])?,
        unescape("value", &line[tab + 1..])?,
    ))
}

/// Appends a line without its end.
pub(super) fn write(line: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    escape(line, key);
    line.push(b'\t');
    escape(line, value);
}

fn escape(line: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'\t' => line.extend(b"\\t"),
            b'\n' => line.extend(b"\\n"),
            b'\r' => line.extend(b"\\r"),
            b'\\' => line.extend(b"\\\\"),
            byte => line.push(*byte),
        }
    }
}

fn unescape(what: &str, text: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b'\\') => b'\\',
                other => return Err(unknown_escape(what, other.copied())),
            },
            b'\t' => {
                return Err("a second tab; a tab inside a value is written \\t".to_owned());
            }
            b'\r' => {
                return Err(format!(
                    "a bare carriage return in the {what}; lines end with a newline alone, and a \
                     return inside a {what} is written \\r"
                ));
            }
            byte => *byte,
        });
    }
    Ok(bytes)
}

fn unknown_escape(what: &str, byte: Option<u8>) -> String {
    const KNOWN: &str = "known are \\t \\n \\r and \\\\";
    match byte {
        Some(byte) => format!(
            "unknown escape \\{} in the {what}; {KNOWN}",
            byte.escape_ascii()
        ),
        None => format!("a backslash at the end of the {what}; {KNOWN}"),
    }
}
