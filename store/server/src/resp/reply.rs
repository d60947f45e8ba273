//! Answers, and how they look in either version of the protocol.

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::types::BytesFrame as Resp2;
use redis_protocol::resp3::types::{BytesFrame as Resp3, VerbatimStringFormat};
use redis_protocol::{resp2, resp3};

/// What a command is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A word: `OK`.
    Simple(&'static str),
    /// A kind in capitals, then a sentence: `ERR syntax error`.
    Error(String),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// Text of several lines for people.
    Text(String),
    /// No value.
    Null,
    /// Several answers.
    Array(Vec<Reply>),
    /// Names and what they stand for; the older protocol sends them in one row. No name occurs
    /// twice.
    Map(Vec<(&'static str, Reply)>),
}

/// The version of the protocol that a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Protocol {
    /// What every connection begins with.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

impl Protocol {
    /// Its number in `HELLO`.
    pub(super) fn number(self) -> i64 {
        match self {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        }
    }
}

impl Reply {
    /// An ordinary error.
    pub(super) fn error(sentence: impl AsRef<str>) -> Reply {
        Reply::Error(format!("ERR {}", sentence.as_ref()))
    }

    /// A word or name as bytes.
    pub(super) fn text(text: impl Into<String>) -> Reply {
        Reply::Bulk(Bytes::from(text.into()))
    }

    /// Several names.
    pub(super) fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> Reply {
        Reply::Array(names.into_iter().map(Reply::text).collect())
    }

    /// A count of things that are in memory.
    pub(super) fn count(count: u64) -> Reply {
        Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Yes or no.
    pub(super) fn flag(yes: bool) -> Reply {
        Reply::Integer(yes.into())
    }

    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        const FRAME: usize = 32;
        FRAME
            + match self {
                Reply::Simple(_) | Reply::Integer(_) | Reply::Null => 0,
                Reply::Error(text) | Reply::Text(text) => text.len(),
                Reply::Bulk(bytes) => bytes.len(),
                Reply::Array(replies) => replies.iter().map(Reply::size).sum(),
                Reply::Map(pairs) => pairs.iter().map(|(name, it)| name.len() + it.size()).sum(),
            }
    }

    /// Appends the answer as it goes over the wire.
    pub(super) fn encode(self, protocol: Protocol, out: &mut BytesMut) {
        let encoded = match protocol {
            Protocol::Resp2 => resp2::encode::extend_encode(out, &self.resp2(), false),
            Protocol::Resp3 => resp3::encode::complete::extend_encode(out, &self.resp3(), false),
        };
        encoded.expect("the buffer is extended first, and nothing else can fail");
    }

    fn resp2(self) -> Resp2 {
        match self {
            Reply::Simple(word) => Resp2::SimpleString(Bytes::from_static(word.as_bytes())),
            Reply::Error(text) => Resp2::Error(one_line(text).into()),
            Reply::Integer(number) => Resp2::Integer(number),
            Reply::Bulk(bytes) => Resp2::BulkString(bytes),
            Reply::Text(text) => Resp2::BulkString(Bytes::from(text)),
            Reply::Null => Resp2::Null,
            Reply::Array(replies) => Resp2::Array(replies.into_iter().map(Reply::resp2).collect()),
            Reply::Map(pairs) => {
                let row = pairs
                    .into_iter()
                    .flat_map(|(name, reply)| [Reply::text(name).resp2(), reply.resp2()]);
                Resp2::Array(row.collect())
            }
        }
    }

    fn resp3(self) -> Resp3 {
        let attributes = None;
        match self {
            Reply::Simple(word) => Resp3::SimpleString {
                data: Bytes::from_static(word.as_bytes()),
                attributes,
            },
            Reply::Error(text) => Resp3::SimpleError {
                data: one_line(text).into(),
                attributes,
            },
            Reply::Integer(data) => Resp3::Number { data, attributes },
            Reply::Bulk(data) => Resp3::BlobString { data, attributes },
            Reply::Text(text) => Resp3::VerbatimString {
                data: Bytes::from(text),
                format: VerbatimStringFormat::Text,
                attributes,
            },
            Reply::Null => Resp3::Null,
            Reply::Array(replies) => Resp3::Array {
                data: replies.into_iter().map(Reply::resp3).collect(),
                attributes,
            },
            Reply::Map(pairs) => Resp3::Map {
                data: pairs
                    .into_iter()
                    .map(|(name, reply)| (Reply::text(name).resp3(), reply.resp3()))
                    .collect(),
                attributes,
            },
        }
    }
}

/// An error ends at the first line end, so it has none.
fn one_line(text: String) -> String {
    match text.contains(['\r', '\n']) {
        true => text.replace(['\r', '\n'], " "),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(reply: &Reply, protocol: Protocol) -> String {
        let mut out = BytesMut::new();
        reply.clone().encode(protocol, &mut out);
        out.escape_ascii().to_string()
    }

    #[test]
    fn both_versions_of_the_protocol() {
        let map = Reply::Map(vec![("a", Reply::Integer(1)), ("b", Reply::Null)]);
        for (reply, resp2, resp3) in [
            (Reply::Simple("OK"), r"+OK\r\n", r"+OK\r\n"),
            (
                Reply::error("two\r\nlines"),
                r"-ERR two  lines\r\n",
                r"-ERR two  lines\r\n",
            ),
            (Reply::Integer(-7), r":-7\r\n", r":-7\r\n"),
            (
                Reply::Bulk(Bytes::from_static(b"\r\n\0")),
                r"$3\r\n\r\n\x00\r\n",
                r"$3\r\n\r\n\x00\r\n",
            ),
            (Reply::text(""), r"$0\r\n\r\n", r"$0\r\n\r\n"),
            (
                Reply::Text("x\n".to_owned()),
                r"$2\r\nx\n\r\n",
                r"=6\r\ntxt:x\n\r\n",
            ),
            (Reply::Null, r"$-1\r\n", r"_\r\n"),
            (
                Reply::names(["a", "b"]),
                r"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
                r"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
            ),
            (Reply::Array(vec![]), r"*0\r\n", r"*0\r\n"),
            (
                map,
                r"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n$-1\r\n",
                r"%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n_\r\n",
            ),
        ] {
            assert_eq!(encoded(&reply, Protocol::Resp2), resp2);
            assert_eq!(encoded(&reply, Protocol::Resp3), resp3);
        }
    }
}
