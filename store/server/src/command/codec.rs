//! The encoding of commands.
//!
//! ```text
//! command   = version:u8 now_ms:u64 kind:u8 body
//! body of   0 advance time       (nothing)
//!           1 put                write
//!           2 delete             bytes
//!           3 batch put          count:u32 write*
//!           4 batch delete       count:u32 bytes*
//!           5 delete range       bytes bytes
//!           6 compare and swap   bytes optional swap
//!           7 increment          delta:i64 bytes
//!           8 append             bytes bytes
//!           9 put if             condition:u8 expiry bytes bytes
//!          10 remove             count:u32 bytes*
//!          11 expire             ttl_ms:u64 bytes
//! write     = ttl_ms:u64 bytes bytes
//! swap      = 0 | 1 ttl_ms:u64 bytes
//! optional  = 0 | 1 bytes
//! expiry    = 0 ttl_ms:u64 | 1
//! bytes     = length:u32 byte*
//! ```
//!
//! A condition is 0 (always), 1 (if absent) or 2 (if present).
//!
//! Integers are little-endian. Decoding slices the input and copies nothing; it never panics and
//! never allocates more than the input is long.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Command, Condition, NewExpiry, Operation, Swap, Write};
use crate::value::PlacementTime;

/// The format this build writes, and the only one it reads.
const VERSION: u8 = 1;

const ADVANCE_TIME: u8 = 0;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const BATCH_PUT: u8 = 3;
const BATCH_DELETE: u8 = 4;
const DELETE_RANGE: u8 = 5;
const COMPARE_AND_SWAP: u8 = 6;
const INCREMENT: u8 = 7;
const APPEND: u8 = 8;
const PUT_IF: u8 = 9;
const REMOVE: u8 = 10;
const EXPIRE: u8 = 11;

/// Why bytes are no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Written by a newer build.
    #[error("command format {0} is unknown to this build")]
    Version(u8),
    /// Written by a newer build, or damaged.
    #[error("operation {0} is unknown to this build")]
    Operation(u8),
    /// A tag that must be 0 or 1 is neither.
    #[error("tag {0} where 0 or 1 is expected")]
    Tag(u8),
    /// No condition has this number.
    #[error("condition {0} is unknown to this build")]
    Condition(u8),
    /// The bytes end in the middle of the command.
    #[error("the command is cut short")]
    CutShort,
    /// Bytes follow the command.
    #[error("{0} bytes follow the command")]
    Trailing(usize),
}

impl Command {
    /// Appends the encoding, [`Command::encoded_len`] bytes.
    pub fn encode_into(&self, out: &mut BytesMut) {
        let before = out.len();
        out.put_u8(VERSION);
        out.put_u64_le(self.now.0);
        match &self.operation {
            Operation::AdvanceTime => out.put_u8(ADVANCE_TIME),
            Operation::Put(write) => {
                out.put_u8(PUT);
                put_write(out, write);
            }
            Operation::Delete { key } => {
                out.put_u8(DELETE);
                put_bytes(out, key);
            }
            Operation::BatchPut(writes) => {
                out.put_u8(BATCH_PUT);
                put_len(out, writes.len());
                writes.iter().for_each(|write| put_write(out, write));
            }
            Operation::BatchDelete { keys } => {
                out.put_u8(BATCH_DELETE);
                put_len(out, keys.len());
                keys.iter().for_each(|key| put_bytes(out, key));
            }
            Operation::DeleteRange { start, end } => {
                out.put_u8(DELETE_RANGE);
                put_bytes(out, start);
                put_bytes(out, end);
            }
            Operation::CompareAndSwap {
                key,
                expected,
                swap,
            } => {
                out.put_u8(COMPARE_AND_SWAP);
                put_bytes(out, key);
                put_optional(out, expected.as_ref());
                put_swap(out, swap);
            }
            Operation::Increment { key, delta } => {
                out.put_u8(INCREMENT);
                out.put_i64_le(*delta);
                put_bytes(out, key);
            }
            Operation::Append { key, suffix } => {
                out.put_u8(APPEND);
                put_bytes(out, key);
                put_bytes(out, suffix);
            }
            Operation::PutIf {
                key,
                stored,
                condition,
                expiry,
            } => {
                out.put_u8(PUT_IF);
                put_condition(out, *condition);
                put_expiry(out, *expiry);
                put_bytes(out, key);
                put_bytes(out, stored);
            }
            Operation::Remove { keys } => {
                out.put_u8(REMOVE);
                put_len(out, keys.len());
                keys.iter().for_each(|key| put_bytes(out, key));
            }
            Operation::Expire { key, ttl_ms } => {
                out.put_u8(EXPIRE);
                out.put_u64_le(*ttl_ms);
                put_bytes(out, key);
            }
        }
        debug_assert_eq!(
            out.len() - before,
            self.encoded_len(),
            "the length was computed for other bytes"
        );
    }

    /// The length of the encoding in bytes.
    pub fn encoded_len(&self) -> usize {
        const HEADER: usize = 1 + 8 + 1;
        HEADER
            + match &self.operation {
                Operation::AdvanceTime => 0,
                Operation::Put(write) => write_len(write),
                Operation::Delete { key } => bytes_len(key),
                Operation::BatchPut(writes) => 4 + writes.iter().map(write_len).sum::<usize>(),
                Operation::BatchDelete { keys } | Operation::Remove { keys } => {
                    4 + keys.iter().map(bytes_len).sum::<usize>()
                }
                Operation::DeleteRange { start, end } => bytes_len(start) + bytes_len(end),
                Operation::CompareAndSwap {
                    key,
                    expected,
                    swap,
                } => {
                    let swap_len = match swap {
                        Swap::Put { stored, .. } => 1 + 8 + bytes_len(stored),
                        Swap::Delete => 1,
                    };
                    bytes_len(key) + 1 + expected.as_ref().map_or(0, bytes_len) + swap_len
                }
                Operation::Increment { key, .. } | Operation::Expire { key, .. } => {
                    8 + bytes_len(key)
                }
                Operation::Append { key, suffix } => bytes_len(key) + bytes_len(suffix),
                Operation::PutIf {
                    key,
                    stored,
                    expiry,
                    ..
                } => {
                    let expiry_len = match expiry {
                        NewExpiry::After { .. } => 1 + 8,
                        NewExpiry::Kept => 1,
                    };
                    1 + expiry_len + bytes_len(key) + bytes_len(stored)
                }
            }
    }

    /// Decodes what [`Command::encode_into`] made; the parts share the input's allocation.
    pub fn decode(input: &Bytes) -> Result<Command, CommandError> {
        let mut input = Input(input.clone());
        let version = input.u8()?;
        if version != VERSION {
            return Err(CommandError::Version(version));
        }
        let now = PlacementTime(input.u64()?);
        let operation = match input.u8()? {
            ADVANCE_TIME => Operation::AdvanceTime,
            PUT => Operation::Put(input.write()?),
            DELETE => Operation::Delete {
                key: input.bytes()?,
            },
            BATCH_PUT => Operation::BatchPut(input.list(Input::write)?),
            BATCH_DELETE => Operation::BatchDelete {
                keys: input.list(Input::bytes)?,
            },
            DELETE_RANGE => Operation::DeleteRange {
                start: input.bytes()?,
                end: input.bytes()?,
            },
            COMPARE_AND_SWAP => Operation::CompareAndSwap {
                key: input.bytes()?,
                expected: input.optional()?,
                swap: input.swap()?,
            },
            INCREMENT => Operation::Increment {
                delta: input.i64()?,
                key: input.bytes()?,
            },
            APPEND => Operation::Append {
                key: input.bytes()?,
                suffix: input.bytes()?,
            },
            PUT_IF => Operation::PutIf {
                condition: input.condition()?,
                expiry: input.expiry()?,
                key: input.bytes()?,
                stored: input.bytes()?,
            },
            REMOVE => Operation::Remove {
                keys: input.list(Input::bytes)?,
            },
            EXPIRE => Operation::Expire {
                ttl_ms: input.u64()?,
                key: input.bytes()?,
            },
            other => return Err(CommandError::Operation(other)),
        };
        match input.0.len() {
            0 => Ok(Command { now, operation }),
            left => Err(CommandError::Trailing(left)),
        }
    }
}

fn write_len(write: &Write) -> usize {
    8 + bytes_len(&write.key) + bytes_len(&write.stored)
}

fn bytes_len(bytes: &Bytes) -> usize {
    4 + bytes.len()
}

fn put_len(out: &mut BytesMut, len: usize) {
    out.put_u32_le(u32::try_from(len).expect("requests are far smaller than 4 GiB"));
}

fn put_bytes(out: &mut BytesMut, bytes: &Bytes) {
    put_len(out, bytes.len());
    out.put_slice(bytes);
}

fn put_write(out: &mut BytesMut, write: &Write) {
    out.put_u64_le(write.ttl_ms);
    put_bytes(out, &write.key);
    put_bytes(out, &write.stored);
}

fn put_optional(out: &mut BytesMut, bytes: Option<&Bytes>) {
    match bytes {
        None => out.put_u8(0),
        Some(bytes) => {
            out.put_u8(1);
            put_bytes(out, bytes);
        }
    }
}

fn put_swap(out: &mut BytesMut, swap: &Swap) {
    match swap {
        Swap::Delete => out.put_u8(0),
        Swap::Put { stored, ttl_ms } => {
            out.put_u8(1);
            out.put_u64_le(*ttl_ms);
            put_bytes(out, stored);
        }
    }
}

fn put_condition(out: &mut BytesMut, condition: Condition) {
    out.put_u8(match condition {
        Condition::Always => 0,
        Condition::IfAbsent => 1,
        Condition::IfPresent => 2,
    });
}

fn put_expiry(out: &mut BytesMut, expiry: NewExpiry) {
    match expiry {
        NewExpiry::After { ttl_ms } => {
            out.put_u8(0);
            out.put_u64_le(ttl_ms);
        }
        NewExpiry::Kept => out.put_u8(1),
    }
}

/// What is left to decode.
struct Input(Bytes);

impl Input {
    fn take(&mut self, len: usize) -> Result<Bytes, CommandError> {
        if len > self.0.len() {
            return Err(CommandError::CutShort);
        }
        Ok(self.0.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CommandError> {
        let array = *self.0.first_chunk::<N>().ok_or(CommandError::CutShort)?;
        self.take(N)?;
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, CommandError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, CommandError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, CommandError> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, CommandError> {
        self.array().map(i64::from_le_bytes)
    }

    fn condition(&mut self) -> Result<Condition, CommandError> {
        match self.u8()? {
            0 => Ok(Condition::Always),
            1 => Ok(Condition::IfAbsent),
            2 => Ok(Condition::IfPresent),
            other => Err(CommandError::Condition(other)),
        }
    }

    fn expiry(&mut self) -> Result<NewExpiry, CommandError> {
        match self.tag()? {
            true => Ok(NewExpiry::Kept),
            false => Ok(NewExpiry::After {
                ttl_ms: self.u64()?,
            }),
        }
    }

    fn bytes(&mut self) -> Result<Bytes, CommandError> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    fn tag(&mut self) -> Result<bool, CommandError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(CommandError::Tag(other)),
        }
    }

    fn optional(&mut self) -> Result<Option<Bytes>, CommandError> {
        match self.tag()? {
            true => self.bytes().map(Some),
            false => Ok(None),
        }
    }

    fn write(&mut self) -> Result<Write, CommandError> {
        let ttl_ms = self.u64()?;
        let key = self.bytes()?;
        let stored = self.bytes()?;
        Ok(Write {
            key,
            stored,
            ttl_ms,
        })
    }

    fn swap(&mut self) -> Result<Swap, CommandError> {
        if !self.tag()? {
            return Ok(Swap::Delete);
        }
        let ttl_ms = self.u64()?;
        let stored = self.bytes()?;
        Ok(Swap::Put { stored, ttl_ms })
    }

    /// A counted list. Grows with what is really there, so that a wild count costs nothing.
    fn list<T>(
        &mut self,
        item: fn(&mut Input) -> Result<T, CommandError>,
    ) -> Result<Vec<T>, CommandError> {
        let count = self.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }
}
