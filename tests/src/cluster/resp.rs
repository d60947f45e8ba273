//! A client of Redis's protocol that does no more than send and read, to see what is really sent.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take: longer than any deadline of the store.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// What a door answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `+`
    Simple(String),
    /// `-`
    Error(String),
    /// `:`
    Integer(i64),
    /// `$`, and `=` of the newer protocol.
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` and `_`.
    Null,
    /// `*`, and `%` of the newer protocol in one row.
    Array(Vec<Answer>),
}

impl Answer {
    /// Text as bytes.
    pub fn bulk(text: impl AsRef<[u8]>) -> Answer {
        Answer::Bulk(text.as_ref().to_vec())
    }

    /// `+OK`
    pub fn ok() -> Answer {
        Answer::Simple("OK".to_owned())
    }

    /// Whether it is an error that begins with these words.
    pub fn is_error(&self, beginning: &str) -> bool {
        matches!(self, Answer::Error(text) if text.starts_with(beginning))
    }
}

/// A connection to a door.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn open(address: &str) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Connection {
            stream: BufReader::new(stream),
        })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a command and reads its answer.
    ///
    /// # Errors
    /// The connection is gone, or the answer is none.
    pub fn call(&mut self, words: &[&str]) -> io::Result<Answer> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.send(&command(&words))?;
        self.read()
    }

    /// Reads one answer.
    ///
    /// # Errors
    /// The connection is gone, or the answer is none.
    pub fn read(&mut self) -> io::Result<Answer> {
        let line = self.line()?;
        let number = || {
            line[1..]
                .parse::<i64>()
                .map_err(|_| io::Error::other(format!("no number: {line}")))
        };
        match line.as_bytes().first() {
            Some(b'+') => Ok(Answer::Simple(line[1..].to_owned())),
            Some(b'-') => Ok(Answer::Error(line[1..].to_owned())),
            Some(b':') => Ok(Answer::Integer(number()?)),
            Some(b'_') => Ok(Answer::Null),
            Some(b'$' | b'=') => match usize::try_from(number()?) {
                Err(_) => Ok(Answer::Null),
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Ok(Answer::Bulk(bytes))
                }
            },
            Some(b'*') => self.several(number()?),
            Some(b'%') => self.several(2 * number()?),
            _ => Err(io::Error::other(format!("no answer: {line:?}"))),
        }
    }

    /// Whether the other side has closed; waits for what it does next.
    ///
    /// # Errors
    /// It does nothing.
    pub fn is_closed(&mut self) -> io::Result<bool> {
        Ok(self.stream.fill_buf()?.is_empty())
    }

    fn several(&mut self, count: i64) -> io::Result<Answer> {
        match count {
            0.. => Ok(Answer::Array(
                (0..count).map(|_| self.read()).collect::<io::Result<_>>()?,
            )),
            _ => Ok(Answer::Null),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(text) => Ok(text.to_owned()),
            None => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the connection ended after {line:?}"),
            )),
        }
    }
}

/// A command as it goes over the wire.
pub fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
