//! The memcomparable encoding: byte strings to byte strings, in the same order, self-terminating.
//!
//! A key is cut into groups of 8 bytes. Every full group is followed by the marker `FF`. A last
//! group of 0 to 7 bytes is always present; it is padded with zeros to 8 and followed by `FF`
//! minus the number of padding bytes. So an encoding is `9 * (n / 8 + 1)` bytes long, and no
//! encoding is a prefix of another one.

/// Bytes of a key in one group.
const GROUP: usize = 8;

/// A group with its marker.
const ENCODED_GROUP: usize = GROUP + 1;

/// The marker of a full group: another one follows.
const FULL: u8 = 0xFF;

/// The smallest marker there is: that of an empty last group.
const EMPTY: u8 = FULL - GROUP as u8;

/// Length of the encoding of a key of `length` bytes.
pub const fn encoded_len(length: usize) -> usize {
    (length / GROUP + 1) * ENCODED_GROUP
}

/// Encodes a key.
pub fn encode(key: &[u8]) -> Vec<u8> {
    let mut encoding = Vec::with_capacity(encoded_len(key.len()));
    encode_into(key, &mut encoding);
    encoding
}

/// Encodes a key at the end of `out`.
pub fn encode_into(key: &[u8], out: &mut Vec<u8>) {
    let (groups, last) = key.as_chunks::<GROUP>();
    for group in groups {
        out.extend_from_slice(group);
        out.push(FULL);
    }
    push_last_group(last, out);
}

/// Decodes an encoding; `None` if the bytes are not exactly the encoding of some key.
pub fn decode(encoding: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(encoding.len() / ENCODED_GROUP * GROUP);
    walk(encoding, |part| key.extend_from_slice(part)).then_some(key)
}

/// Whether the bytes are exactly the encoding of some key.
pub fn is_encoding(bytes: &[u8]) -> bool {
    walk(bytes, |_| ())
}

/// The nearest valid encoding at or above `bytes`: *up* of a boundary. It always exists.
///
/// Empty bytes are below every encoding, so they give the encoding of the empty key. A bound that
/// is empty because it means "no bound" must not come here; [`crate::Bounds`] sees to that.
pub fn ceiling(bytes: &[u8]) -> Vec<u8> {
    let mut above = Vec::with_capacity(encoded_len(bytes.len()));
    let mut rest = bytes;
    loop {
        let taken = rest.len().min(GROUP);
        let (head, tail) = rest.split_at(taken);
        let mut group = [0; GROUP];
        group[..taken].copy_from_slice(head);
        // The smallest marker these 8 bytes can have: all trailing zeros are padding.
        let smallest = FULL - trailing_zeros(&group);
        let marker = match tail {
            // Nothing after the group, so any marker is above; or a marker too small to be valid.
            [] => smallest,
            [marker, ..] if *marker < smallest => smallest,
            // A full group: what follows decides.
            [FULL, after @ ..] => {
                above.extend_from_slice(&group);
                above.push(FULL);
                rest = after;
                continue;
            }
            // A valid end of an encoding, and here the bytes end, too.
            [marker] => *marker,
            // Bytes behind a valid end are above it: the next marker up is the nearest.
            [marker, ..] => marker + 1,
        };
        above.extend_from_slice(&group);
        above.push(marker);
        if marker == FULL {
            push_last_group(&[], &mut above);
        }
        return above;
    }
}

/// Appends the last group of an encoding; `last` has at most 7 bytes.
fn push_last_group(last: &[u8], out: &mut Vec<u8>) {
    let mut group = [0; GROUP];
    group[..last.len()].copy_from_slice(last);
    out.extend_from_slice(&group);
    out.push(EMPTY + last.len() as u8);
}

/// How many bytes at the end of a group are zero.
fn trailing_zeros(group: &[u8; GROUP]) -> u8 {
    group.iter().rev().take_while(|byte| **byte == 0).count() as u8
}

/// Goes over the groups and hands out their payload; whether the bytes are a valid encoding.
fn walk(bytes: &[u8], mut payload: impl FnMut(&[u8])) -> bool {
    let (groups, []) = bytes.as_chunks::<ENCODED_GROUP>() else {
        return false;
    };
    let Some((last, full)) = groups.split_last() else {
        return false;
    };
    for group in full {
        if group[GROUP] != FULL {
            return false;
        }
        payload(&group[..GROUP]);
    }
    let marker = last[GROUP];
    if !(EMPTY..FULL).contains(&marker) {
        return false;
    }
    let (data, padding) = last[..GROUP].split_at(usize::from(marker - EMPTY));
    if padding.iter().any(|byte| *byte != 0) {
        return false;
    }
    payload(data);
    true
}
