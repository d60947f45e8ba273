//! The state machine of these tests: keys hold lists of numbers that only grow. Every append reads
//! the list first, so that groups park; every reply is the whole list, so that the order is known.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tinykv_raft::{EntryId, GroupId};
use tinykv_replica::{
    ApplyContext, KeyRange, NeedsKeys, ObservationKind, ReadError, Reader, Refusal, Region,
    RegionState, StateMachine,
};

/// Nothing but the count of commands, which the region's state carries along.
#[derive(Default)]
pub(crate) struct Lists {
    pub(crate) applied_commands: u64,
}

/// A command's body: the length of the key, the key, the number.
pub(crate) fn encode_append(key: &[u8], number: u32, out: &mut BytesMut) {
    out.put_u8(key.len() as u8);
    out.put_slice(key);
    out.put_u32(number);
}

fn decode_append(command: &Bytes) -> Option<(Bytes, u32)> {
    let len = usize::from(*command.first()?);
    let key = command.get(1..1 + len)?;
    let number = command.get(1 + len..)?.first_chunk::<4>()?;
    Some((command.slice_ref(key), u32::from_be_bytes(*number)))
}

pub(crate) fn decode_list(value: &[u8]) -> Vec<u32> {
    value
        .chunks_exact(4)
        .map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
        .collect()
}

pub(crate) fn data_key(key: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(key.len() + 1);
    out.put_u8(b'd');
    out.put_slice(key);
    out.freeze()
}

fn marker_key(key: &[u8], len: usize) -> Bytes {
    data_key(&[key, format!("~{len}").as_bytes()].concat())
}

impl StateMachine for Lists {
    type Reply = Vec<u32>;

    fn ranges(region: &Region) -> Vec<KeyRange> {
        let end = if region.end.is_empty() {
            Bytes::from_static(b"e")
        } else {
            data_key(&region.end)
        };
        vec![KeyRange {
            start: data_key(&region.start),
            end,
        }]
    }

    fn state_key(group: GroupId) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(b's');
        out.put_u64(group.0);
        out.freeze()
    }

    fn check(region: &Arc<Region>, command: &Bytes) -> Result<(), Refusal> {
        let Some((key, _)) = decode_append(command) else {
            return Err(Refusal::Malformed {
                problem: "no append",
            });
        };
        if region.contains(&key) {
            Ok(())
        } else {
            Err(Refusal::KeyNotInRegion {
                key,
                region: Arc::clone(region),
            })
        }
    }

    fn may_join(border: &[u8]) -> bool {
        !border.ends_with(b"!")
    }

    fn join(target: &Bytes, source: &Bytes) -> Bytes {
        target.max(source).clone()
    }

    fn restore(&mut self, state: &RegionState, _: &dyn Reader) -> Result<(), ReadError> {
        self.applied_commands = state
            .machine
            .first_chunk()
            .map_or(0, |b| u64::from_be_bytes(*b));
        Ok(())
    }

    fn apply(
        &mut self,
        _: &Arc<Region>,
        _: EntryId,
        command: &Bytes,
        context: &mut ApplyContext<'_>,
    ) -> Result<Vec<u32>, NeedsKeys> {
        let (key, number) = decode_append(command).expect("checked");
        let list_key = data_key(&key);
        let old = context.get(&list_key)?.unwrap_or_default();
        let mut list = BytesMut::from(old.as_ref());
        list.put_u32(number);
        let list = list.freeze();
        context.put(list_key, list.clone());
        // A marker that moves, so that whatever should have been removed shows.
        context.delete(marker_key(&key, list.len() / 4 - 1));
        context.put(marker_key(&key, list.len() / 4), Bytes::new());
        context.observe(key, ObservationKind::Put);
        self.applied_commands += 1;
        if self.applied_commands.is_multiple_of(16) {
            context.set_machine(Bytes::copy_from_slice(&self.applied_commands.to_be_bytes()));
        }
        Ok(decode_list(&list))
    }
}
