//! A batch as the payload of a log entry: a format version, then operations, each a kind and
//! length-prefixed byte strings.

use bytes::Bytes;
use tinykv_lsm::{Operation, WriteBatch};

const VERSION: u8 = 1;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_RANGE: u8 = 3;

/// The bytes of a batch, an allocation of their own.
pub(super) fn encode(batch: &WriteBatch) -> Bytes {
    const OVERHEAD: usize = 9;
    let mut out = Vec::with_capacity(1 + batch.bytes() as usize + OVERHEAD * batch.len());
    out.push(VERSION);
    for operation in batch.operations() {
        match operation {
            Operation::Put { key, value } => {
                out.push(PUT);
                put_bytes(&mut out, key);
                put_bytes(&mut out, value);
            }
            Operation::Delete { key } => {
                out.push(DELETE);
                put_bytes(&mut out, key);
            }
            Operation::DeleteRange { start, end } => {
                out.push(DELETE_RANGE);
                put_bytes(&mut out, start);
                put_bytes(&mut out, end);
            }
        }
    }
    Bytes::from(out)
}

/// The opposite; `None` for bytes that no version up to this one wrote. Keys and values share the
/// command's allocation, which holds little else.
pub(super) fn decode(command: &Bytes) -> Option<WriteBatch> {
    let mut batch = WriteBatch::new();
    if *command.first()? != VERSION {
        return None;
    }
    let mut at = 1;
    while at < command.len() {
        let kind = command[at];
        at += 1;
        let first = take_bytes(command, &mut at)?;
        match kind {
            PUT => batch.put(first, take_bytes(command, &mut at)?),
            DELETE => batch.delete(first),
            DELETE_RANGE => batch.delete_range(first, take_bytes(command, &mut at)?),
            _ => return None,
        };
    }
    Some(batch)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("a batch fits a log segment");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn take_bytes(from: &Bytes, at: &mut usize) -> Option<Bytes> {
    let prefix = from.get(*at..at.checked_add(4)?)?;
    let len = u32::from_le_bytes(prefix.try_into().ok()?) as usize;
    let start = *at + 4;
    let end = start.checked_add(len)?;
    if end > from.len() {
        return None;
    }
    *at = end;
    Some(from.slice(start..end))
}
