//! Which part of a key a filter knows it by.

use crate::codec::Malformed;

/// Cuts a suffix of fixed length off some keys, so that all versions of what was written count as
/// one to a filter. It is data, not code, and recorded in every table: whoever reads a table knows
/// how its filter was made, whatever the options say by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixRule {
    /// Bytes cut off.
    suffix_bytes: u8,
    /// A bit for every first byte whose keys are cut.
    first_bytes: [u64; 4],
}

/// Bytes of its encoding.
const ENCODED_BYTES: usize = 1 + 32;

impl PrefixRule {
    /// The last `suffix_bytes` of every key that begins with one of `first_bytes` are cut off,
    /// unless nothing would be left. Other keys stay whole.
    pub fn new(suffix_bytes: u8, first_bytes: &[u8]) -> PrefixRule {
        let mut rule = PrefixRule {
            suffix_bytes,
            first_bytes: [0; 4],
        };
        for byte in first_bytes {
            rule.first_bytes[usize::from(byte / 64)] |= 1 << (byte % 64);
        }
        rule
    }

    /// What is left of a key.
    pub fn prefix<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        let cut = key.len().saturating_sub(usize::from(self.suffix_bytes));
        if cut > 0 && self.cuts(key) {
            &key[..cut]
        } else {
            key
        }
    }

    /// Whether exactly `prefix` is left of every key that is `prefix` and so many bytes more.
    pub(crate) fn leaves(&self, prefix: &[u8], suffix_bytes: usize) -> bool {
        suffix_bytes == usize::from(self.suffix_bytes) && self.cuts(prefix)
    }

    fn cuts(&self, key: &[u8]) -> bool {
        key.first()
            .is_some_and(|byte| self.first_bytes[usize::from(byte / 64)] >> (byte % 64) & 1 == 1)
    }

    pub(crate) fn encode(&self) -> [u8; ENCODED_BYTES] {
        let mut out = [self.suffix_bytes; ENCODED_BYTES];
        for (out, word) in out[1..].chunks_exact_mut(8).zip(self.first_bytes) {
            out.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<PrefixRule, Malformed> {
        let bytes: &[u8; ENCODED_BYTES] = bytes
            .try_into()
            .map_err(|_| Malformed("a prefix rule of another length"))?;
        let mut rule = PrefixRule::new(bytes[0], &[]);
        for (word, bytes) in rule.first_bytes.iter_mut().zip(bytes[1..].chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("chunks are eight bytes long"));
        }
        Ok(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::PrefixRule;

    #[test]
    fn only_some_keys_are_cut() {
        let rule = PrefixRule::new(3, b"vw\xff\0");
        for (key, prefix) in [
            ("", ""),
            ("v", "v"),
            ("v12", "v12"),
            ("v123", "v"),
            ("w-key123", "w-key"),
            ("x-key123", "x-key123"),
        ] {
            assert_eq!(rule.prefix(key.as_bytes()), prefix.as_bytes(), "{key}");
        }
        assert_eq!(rule.prefix(&[0xff; 5]), [0xff; 2]);
        assert_eq!(rule.prefix(&[0; 5]), [0; 2]);
        assert!(rule.leaves(b"v", 3));
        assert!(!rule.leaves(b"v", 4));
        assert!(!rule.leaves(b"x", 3));
        assert!(!rule.leaves(b"", 3));
    }

    #[test]
    fn a_rule_survives_the_round_trip() {
        let all: Vec<u8> = (0..=255).collect();
        for rule in [
            PrefixRule::new(0, b""),
            PrefixRule::new(8, b"az\x40\x3f"),
            PrefixRule::new(255, &all),
        ] {
            assert_eq!(PrefixRule::decode(&rule.encode()), Ok(rule));
        }
        assert!(PrefixRule::decode(&[0; 32]).is_err());
        assert!(PrefixRule::decode(&[0; 34]).is_err());
    }
}
