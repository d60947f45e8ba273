//! Patterns of keys as Redis has them: `*`, `?`, `[a-c]`, `[^x]` and `\` before any of these.

use bytes::Bytes;

/// Longest pattern in bytes; matching takes at worst its length times that of the text.
pub(super) const PATTERN_BYTES_MAX: usize = 1024;

/// Whether the whole of a text matches.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    // Behind the last `*`, and how much of the text it has swallowed so far.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, seen));
            continue;
        }
        match text.get(seen) {
            None if at == pattern.len() => return true,
            None => return false,
            Some(byte) => {
                if let Some(next) = one(pattern, at, *byte) {
                    (at, seen) = (next, seen + 1);
                    continue;
                }
            }
        }
        let Some((behind, swallowed)) = star else {
            return false;
        };
        star = Some((behind, swallowed + 1));
        (at, seen) = (behind, swallowed + 1);
    }
}

/// The bytes that every matching text begins with.
pub(super) fn prefix(pattern: &[u8]) -> Bytes {
    let mut prefix = Vec::new();
    let mut rest = pattern;
    loop {
        let (byte, after) = match rest {
            [] | [b'*' | b'?' | b'[', ..] => return Bytes::from(prefix),
            [b'\\', escaped, after @ ..] => (*escaped, after),
            [byte, after @ ..] => (*byte, after),
        };
        prefix.push(byte);
        rest = after;
    }
}

/// The first key behind all that begin with a prefix; empty if there is none.
pub(super) fn behind(prefix: &[u8]) -> Bytes {
    let end = prefix.iter().rposition(|byte| *byte != 0xFF);
    let Some(end) = end else {
        return Bytes::new();
    };
    let mut behind = prefix[..=end].to_vec();
    behind[end] += 1;
    Bytes::from(behind)
}

/// Where the pattern goes on if what stands at a place, which is no `*`, matches this byte.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match &pattern[at..] {
        [] => None,
        [b'?', ..] => Some(at + 1),
        [b'[', class @ ..] => {
            let (found, length) = class_has(class, byte);
            found.then_some(at + 1 + length)
        }
        [b'\\', escaped, ..] => (*escaped == byte).then_some(at + 2),
        [literal, ..] => (*literal == byte).then_some(at + 1),
    }
}

/// Whether a class, behind its `[`, has a byte, and how long the class is. One that is not closed
/// ends with the pattern, as for Redis.
fn class_has(class: &[u8], byte: u8) -> (bool, usize) {
    let (mut rest, negated) = match class {
        [b'^', rest @ ..] => (rest, true),
        _ => (class, false),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => break,
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [b'\\', escaped, after @ ..] => {
                found |= *escaped == byte;
                after
            }
            [low, b'-', high, after @ ..] => {
                let (low, high) = (*low.min(high), *low.max(high));
                found |= (low..=high).contains(&byte);
                after
            }
            [literal, after @ ..] => {
                found |= *literal == byte;
                after
            }
        };
    }
    (found != negated, class.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, yes, no) in [
            ("", &[""][..], &["a"][..]),
            ("*", &["", "a", "abc"], &[]),
            ("a*c", &["ac", "abc", "accc"], &["a", "cab", "acb"]),
            ("**b", &["b", "abb"], &["a"]),
            ("h?llo", &["hello", "hallo"], &["hllo", "heello"]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo"]),
            ("h[^e]llo", &["hallo"], &["hello", "hllo"]),
            ("h[a-b]llo", &["hallo", "hbllo"], &["hcllo"]),
            ("h[b-a]llo", &["hallo"], &["hcllo"]),
            (r"h\*llo", &["h*llo"], &["hello"]),
            (r"[\]]", &["]"], &["\\"]),
            ("[ab", &["a"], &["c"]),
            (r"a\", &[r"a\"], &["a"]),
            ("a*b*c*d", &["abcd", "axbxcxd"], &["abdc"]),
        ] {
            for text in yes {
                assert!(
                    matches(pattern.as_bytes(), text.as_bytes()),
                    "{pattern} {text}"
                );
            }
            for text in no {
                assert!(
                    !matches(pattern.as_bytes(), text.as_bytes()),
                    "{pattern} {text}"
                );
            }
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let pattern = b"*a".repeat(PATTERN_BYTES_MAX / 2);
        assert!(!matches(&pattern, &b"a".repeat(PATTERN_BYTES_MAX / 2 - 1)));
        assert!(matches(&pattern, &b"ab".repeat(4096)[..8191]));
    }

    #[test]
    fn a_prefix_bounds_the_range() {
        for (pattern, expected) in [
            ("user:*", "user:"),
            (r"a\*b?", "a*b"),
            ("*", ""),
            ("a", "a"),
        ] {
            assert_eq!(prefix(pattern.as_bytes()), expected.as_bytes());
        }
        assert_eq!(behind(b"ab"), b"ac".as_slice());
        assert_eq!(behind(b"a\xFF\xFF"), b"b".as_slice());
        assert_eq!(behind(b"\xFF"), b"".as_slice());
        assert_eq!(behind(b""), b"".as_slice());
    }
}
