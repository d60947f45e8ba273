//! Bytes in, commands out: Redis's request protocol, without I/O and within bounds.
//!
//! A request is an array of bulk strings (`*2\r\n$3\r\nGET\r\n$1\r\na\r\n`) or, for people at a
//! telnet, one line of words. Bytes may arrive cut anywhere: each is looked at once, and what has
//! arrived of a command is kept, never what was only announced. Every argument becomes an
//! allocation of its own, so that a key does not keep the bytes around it alive.
//!
//! Whatever breaks the protocol is told in Redis's own words where it has some; nothing behind it
//! can be understood, so the connection ends with it. Stricter than Redis in one point: an argument
//! must really be followed by CR LF.

use bytes::Bytes;
use tinykv_keys::VALUE_BYTES_MAX;

use super::inline;
use super::number;

/// Longest line in bytes: a length, a count or a whole inline request.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;

/// Most arguments of a command, its name counted.
pub(super) const ARGUMENTS_MAX: usize = 1 << 20;

/// Longest argument in bytes: the longest value there can be.
pub(super) const ARGUMENT_BYTES_MAX: usize = VALUE_BYTES_MAX;

/// Most bytes of a command, with [`ARGUMENT_COST_BYTES`] for each argument.
pub(super) const COMMAND_BYTES_MAX: usize = 32 << 20;

/// What an argument takes in memory beside its bytes.
pub(super) const ARGUMENT_COST_BYTES: usize = 64;

/// Arguments there is room for before the first has arrived.
const ARGUMENTS_AT_FIRST: usize = 8;

/// Why a connection cannot be understood any further. What it prints is Redis's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProtocolError {
    /// The count behind `*` is no number, or too large.
    #[error("Protocol error: invalid multibulk length")]
    Count,
    /// The length behind `$` is no number, negative, or too large.
    #[error("Protocol error: invalid bulk length")]
    Length,
    /// An argument that does not begin with `$`.
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    NoDollar(u8),
    /// A line that does not end.
    #[error("Protocol error: too big {0}")]
    LineTooLong(&'static str),
    /// A quote that is not closed, or is followed by more than a space.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
    /// See [`COMMAND_BYTES_MAX`].
    #[error(
        "Protocol error: the command takes more than {COMMAND_BYTES_MAX} bytes; send it in parts"
    )]
    CommandTooLong,
    /// The bytes behind an argument are not CR LF.
    #[error("Protocol error: expected CR LF behind an argument")]
    NoLineEnd,
}

/// What has arrived of the command under way.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    state: State,
    /// The beginning of the line under way.
    line: Vec<u8>,
    /// Finished arguments.
    arguments: Vec<Bytes>,
    /// Their bytes.
    finished: usize,
    /// What they and the one under way cost; see [`COMMAND_BYTES_MAX`].
    cost: usize,
}

#[derive(Debug, Default)]
enum State {
    /// Before the first byte of a command.
    #[default]
    Between,
    /// In an inline request.
    Inline,
    /// Behind `*`.
    Count,
    /// In the line that begins with `$`.
    Length {
        /// Arguments still to come, at least this one.
        left: usize,
    },
    /// In an argument.
    Argument {
        /// Arguments still to come, at least this one.
        left: usize,
        /// What has arrived of it.
        data: Vec<u8>,
        /// How many bytes it will have.
        length: usize,
    },
    /// Behind an argument.
    End {
        /// Arguments still to come behind this one.
        left: usize,
        /// Whether the CR has been seen.
        cr: bool,
    },
    /// Nothing more will be understood.
    Broken(ProtocolError),
}

impl Splitter {
    /// Takes bytes off the front of `input` until a command is complete, and returns it: at least
    /// one argument. `None`: all of `input` was taken and more is needed. After an error every
    /// call returns the same error.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        while !input.is_empty() {
            match self.step(input) {
                Ok(None) => {}
                Ok(Some(command)) => {
                    (self.cost, self.finished) = (0, 0);
                    return Ok(Some(command));
                }
                Err(error) => {
                    *self = Splitter {
                        state: State::Broken(error.clone()),
                        ..Splitter::default()
                    };
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Bytes held of a command that is not complete.
    pub(super) fn held(&self) -> usize {
        let under_way = match &self.state {
            State::Argument { data, .. } => data.capacity(),
            _ => 0,
        };
        let list = self.arguments.capacity() * size_of::<Bytes>();
        self.finished + under_way + self.line.capacity() + list
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        match &mut self.state {
            State::Between => {
                self.state = match input.first() {
                    Some(b'*') => {
                        *input = &input[1..];
                        State::Count
                    }
                    _ => State::Inline,
                };
                Ok(None)
            }
            State::Inline => match take_line(&mut self.line, input, "inline request")? {
                None => Ok(None),
                Some(line) => {
                    self.state = State::Between;
                    let words = inline::split(&line).ok_or(ProtocolError::Quotes)?;
                    Ok((!words.is_empty()).then_some(words))
                }
            },
            State::Count => match take_line(&mut self.line, input, "mbulk count string")? {
                None => Ok(None),
                Some(line) => self.on_count(&line),
            },
            State::Length { left } => {
                let left = *left;
                match take_line(&mut self.line, input, "bulk count string")? {
                    None => Ok(None),
                    Some(line) => self.on_length(&line, left, input.len()),
                }
            }
            State::Argument { left, data, length } => {
                let taken = input.len().min(*length - data.len());
                grow(data, taken, *length);
                data.extend_from_slice(&input[..taken]);
                *input = &input[taken..];
                if data.len() == *length {
                    let left = *left - 1;
                    self.finished += *length;
                    self.arguments.push(Bytes::from(std::mem::take(data)));
                    self.state = State::End { left, cr: false };
                }
                Ok(None)
            }
            State::End { left, cr } => {
                let expected = if *cr { b'\n' } else { b'\r' };
                if input[0] != expected {
                    return Err(ProtocolError::NoLineEnd);
                }
                *input = &input[1..];
                match (*cr, *left) {
                    (false, _) => *cr = true,
                    (true, 0) => {
                        self.state = State::Between;
                        return Ok(Some(std::mem::take(&mut self.arguments)));
                    }
                    (true, left) => self.state = State::Length { left },
                }
                Ok(None)
            }
            State::Broken(error) => Err(error.clone()),
        }
    }

    fn on_count(&mut self, line: &[u8]) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let count = number::parse(line).ok_or(ProtocolError::Count)?;
        let count = usize::try_from(count).unwrap_or(0);
        if count > ARGUMENTS_MAX {
            return Err(ProtocolError::Count);
        }
        self.state = match count {
            // An empty array is nothing at all, as for Redis.
            0 => State::Between,
            left => {
                self.arguments.reserve(left.min(ARGUMENTS_AT_FIRST));
                State::Length { left }
            }
        };
        Ok(None)
    }

    /// `arrived` bytes are there already, of the argument or behind it.
    fn on_length(
        &mut self,
        line: &[u8],
        left: usize,
        arrived: usize,
    ) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let Some((b'$', digits)) = line.split_first() else {
            return Err(ProtocolError::NoDollar(*line.first().unwrap_or(&b'\r')));
        };
        let length = number::parse(digits).and_then(|length| usize::try_from(length).ok());
        let length = length
            .filter(|length| *length <= ARGUMENT_BYTES_MAX)
            .ok_or(ProtocolError::Length)?;
        self.cost += length + ARGUMENT_COST_BYTES;
        if self.cost > COMMAND_BYTES_MAX {
            return Err(ProtocolError::CommandTooLong);
        }
        if length == 0 {
            self.arguments.push(Bytes::new());
            self.state = State::End {
                left: left - 1,
                cr: false,
            };
            return Ok(None);
        }
        self.state = State::Argument {
            left,
            data: Vec::with_capacity(length.min(arrived)),
            length,
        };
        Ok(None)
    }
}

/// Takes a line off the front of `input`, whose beginning may stand in `line`. Returned without
/// its LF and the CR before that.
fn take_line(
    line: &mut Vec<u8>,
    input: &mut &[u8],
    what: &'static str,
) -> Result<Option<Vec<u8>>, ProtocolError> {
    let end = input.iter().position(|byte| *byte == b'\n');
    let taken = end.unwrap_or(input.len());
    if line.len() + taken > LINE_BYTES_MAX {
        return Err(ProtocolError::LineTooLong(what));
    }
    line.extend_from_slice(&input[..taken]);
    *input = &input[taken..];
    if end.is_none() {
        return Ok(None);
    }
    *input = &input[1..];
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(std::mem::take(line)))
}

/// Makes room for `more` bytes: twice what there was, but never more than the whole needs.
fn grow(data: &mut Vec<u8>, more: usize, length: usize) {
    if data.capacity() - data.len() < more {
        let wanted = (2 * data.capacity()).max(data.len() + more).min(length);
        data.reserve_exact(wanted - data.len());
    }
}

#[cfg(test)]
mod tests;
