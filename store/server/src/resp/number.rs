//! Integers as Redis reads them.

/// A decimal integer without spaces, plus sign or leading zeros; anything else is none.
pub(super) fn parse(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_the_canonical_form_counts() {
        let numbers: [(&[u8], i64); 6] = [
            (b"0", 0),
            (b"7", 7),
            (b"-1", -1),
            (b"100", 100),
            (b"9223372036854775807", i64::MAX),
            (b"-9223372036854775808", i64::MIN),
        ];
        for (text, number) in numbers {
            assert_eq!(parse(text), Some(number));
        }
        let others: [&[u8]; 12] = [
            b"",
            b"-",
            b"-0",
            b"+1",
            b"01",
            b" 1",
            b"1 ",
            b"1.0",
            b"1e3",
            b"0x1",
            b"--1",
            b"9223372036854775808",
        ];
        for text in others {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
