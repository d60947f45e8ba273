//! `put get del scan count checksum cas`.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tinykv_client::walk::Direction;
use tinykv_client::{Condition, Options, PutOptions, RawClient, Scan as ScanRequest};

use crate::output::{self, Output};
use crate::text::Format;

use super::{Failure, Global};

#[derive(Debug, clap::Args)]
pub(crate) struct Put {
    /// The key, as `--format` says
    key: String,
    /// The value, its bytes as typed; from standard input if left out
    value: Option<String>,
    /// Let it expire after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = super::seconds)]
    ttl: Option<Duration>,
    /// Only if the key does not exist
    #[arg(long)]
    if_absent: bool,
}

impl Put {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let key = global.key(&self.key)?;
        let value = match self.value {
            Some(value) => Bytes::from(value),
            None => standard_input()?,
        };
        let client = connect(global);
        let written = match (self.if_absent, self.ttl) {
            (false, None) => client.put(key, value).await.map(|()| true),
            (false, Some(ttl)) => client.put_with_ttl(key, value, ttl).await.map(|()| true),
            (true, ttl) => {
                let options = PutOptions {
                    condition: Condition::IfAbsent,
                    ttl,
                    keep_expiry: false,
                };
                client.put_if(key, value, options).await
            }
        };
        if !written? {
            return Err(Failure::Refused(format!(
                "not written: {} exists",
                self.key
            )));
        }
        output::line("OK");
        Ok(())
    }
}

/// The keys that a command is about: a prefix, or from a key to another.
#[derive(Debug, clap::Args)]
pub(super) struct Range {
    /// First key, as `--format` says; from the beginning if left out
    #[arg(value_name = "FROM")]
    from: Option<String>,
    /// End key, not included; to the end if left out
    #[arg(value_name = "TO", requires = "from")]
    to: Option<String>,
    /// All keys that begin with this
    #[arg(long, value_name = "KEY", conflicts_with = "from")]
    prefix: Option<String>,
}

impl Range {
    /// Lower bound and end; an empty end is the end of all keys.
    pub(super) fn bounds(&self, global: &Global) -> Result<(Bytes, Bytes), Failure> {
        let parse = |text: &Option<String>| -> Result<Bytes, Failure> {
            text.as_ref()
                .map_or(Ok(Bytes::new()), |text| global.key(text))
        };
        match &self.prefix {
            Some(prefix) => {
                let prefix = global.key(prefix)?;
                let end = prefix_end(&prefix);
                Ok((prefix, end))
            }
            None => Ok((parse(&self.from)?, parse(&self.to)?)),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// Keys, as `--format` says
    #[arg(required = true)]
    keys: Vec<String>,
    /// Take the key for a prefix and print all that begin with it
    #[arg(long)]
    prefix: bool,
    /// At most so many keys of a prefix
    #[arg(long, value_name = "N", requires = "prefix")]
    limit: Option<u64>,
    /// Print keys only
    #[arg(long, conflicts_with = "print_value_only")]
    keys_only: bool,
    /// Print values only
    #[arg(long)]
    print_value_only: bool,
    /// Print the number of keys only
    #[arg(long, conflicts_with_all = ["keys_only", "print_value_only"])]
    count_only: bool,
}

impl Get {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let keys: Vec<Bytes> = self
            .keys
            .iter()
            .map(|text| global.key(text))
            .collect::<Result<_, _>>()?;
        let client = connect(global);
        let mut found = 0u64;
        let mut missing = 0u64;
        let mut print = |key: &Bytes, value: &Bytes| {
            found += 1;
            if self.count_only {
                return;
            }
            if !self.print_value_only {
                output::bytes(&global.format.print(key));
            }
            if !self.keys_only {
                output::bytes(&value_text(global.format, value));
            }
        };
        for key in keys {
            if !self.prefix {
                match client.get(key.clone()).await? {
                    Some(value) => print(&key, &value),
                    None => missing += 1,
                }
                continue;
            }
            let mut scan = client.scan(ScanRequest {
                upper: prefix_end(&key),
                lower: key,
                keys_only: self.keys_only || self.count_only,
                limit: self.limit,
                ..ScanRequest::default()
            });
            while let Some((key, value)) = scan.next().await? {
                print(&key, &value);
            }
        }
        if self.count_only {
            output::line(&found.to_string());
        }
        if missing > 0 || (found == 0 && !self.count_only) {
            return Err(Failure::Quiet);
        }
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Del {
    /// Keys, as `--format` says
    #[arg(required_unless_present = "prefix")]
    keys: Vec<String>,
    /// Remove all keys that begin with this (an empty one: all keys); needs --yes
    #[arg(long, value_name = "KEY", conflicts_with = "keys", requires = "yes")]
    prefix: Option<String>,
    /// Yes, remove them
    #[arg(long)]
    yes: bool,
}

impl Del {
    /// Prints how many of the keys were there; of a prefix, just before.
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        if let Some(prefix) = &self.prefix {
            let lower = global.key(prefix)?;
            let upper = prefix_end(&lower);
            let client = connect(global);
            let count = client.count(lower.clone(), upper.clone()).await?;
            client.delete_range(lower, upper).await?;
            output::line(&count.to_string());
            return Ok(());
        }
        let keys: Vec<Bytes> = self
            .keys
            .iter()
            .map(|text| global.key(text))
            .collect::<Result<_, _>>()?;
        let client = connect(global);
        let count = client.remove(keys).await?;
        output::line(&count.to_string());
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Scan {
    #[command(flatten)]
    range: Range,
    /// At most so many keys
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// From the last key to the first
    #[arg(long)]
    reverse: bool,
    /// Print keys only
    #[arg(long)]
    keys_only: bool,
}

impl Scan {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let (lower, upper) = self.range.bounds(global)?;
        let mut scan = connect(global).scan(ScanRequest {
            lower,
            upper,
            direction: if self.reverse {
                Direction::Reverse
            } else {
                Direction::Forward
            },
            keys_only: self.keys_only,
            limit: self.limit,
        });
        while let Some((key, value)) = scan.next().await? {
            let mut line = global.format.print(&key);
            if !self.keys_only {
                line.push(b'\t');
                line.extend(value_text(global.format, &value));
            }
            output::bytes(&line);
        }
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Count {
    #[command(flatten)]
    range: Range,
}

impl Count {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let (lower, upper) = self.range.bounds(global)?;
        let count = connect(global).count(lower, upper).await?;
        output::line(&count.to_string());
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Two ranges with the same keys and values have the same checksum, however their regions are cut.")]
pub(crate) struct Checksum {
    #[command(flatten)]
    range: Range,
}

/// What `checksum` prints.
#[derive(Debug, Serialize)]
struct Sum {
    /// Sixteen hexadecimal digits.
    crc64_xor: String,
    keys: u64,
    bytes: u64,
}

impl Checksum {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let (lower, upper) = self.range.bounds(global)?;
        let sum = connect(global).checksum(lower, upper).await?;
        let crc64_xor = format!("{:016x}", sum.crc64_xor);
        match global.output() {
            Output::Json => output::json(&Sum {
                crc64_xor,
                keys: sum.keys,
                bytes: sum.bytes,
            }),
            Output::Table => output::line(&format!(
                "{crc64_xor} over {} keys, {}",
                sum.keys,
                output::size(sum.bytes)
            )),
        }
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Cas {
    /// The key, as `--format` says
    key: String,
    /// The value it must hold, or with --absent the new value
    #[arg(value_name = "EXPECTED")]
    expected: String,
    /// The new value
    #[arg(required_unless_present = "absent")]
    new: Option<String>,
    /// It must not exist; then give the new value only
    #[arg(long, conflicts_with = "new")]
    absent: bool,
}

impl Cas {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let key = global.key(&self.key)?;
        let (expected, new) = match self.new {
            Some(new) => (Some(Bytes::from(self.expected)), new),
            None => (None, self.expected),
        };
        let swap = connect(global)
            .compare_and_swap(key, expected, Bytes::from(new))
            .await?;
        if swap.swapped {
            output::line("OK");
            return Ok(());
        }
        Err(Failure::Refused(match swap.previous {
            None => format!("not swapped: {} does not exist", self.key),
            Some(previous) => format!(
                "not swapped: {} holds {}",
                self.key,
                String::from_utf8_lossy(&value_text(global.format, &previous))
            ),
        }))
    }
}

/// A client that has asked nobody yet: what no cluster would take is refused before.
pub(super) fn connect(global: &Global) -> RawClient {
    let options = Options {
        deadline: global.call_timeout(),
    };
    RawClient::new(&global.placement, options)
}

/// Values are printed as they are unless hexadecimal is asked for.
fn value_text(format: Format, value: &[u8]) -> Vec<u8> {
    match format {
        Format::Escaped | Format::Raw => value.to_vec(),
        Format::Hex => format.print(value),
    }
}

/// The end of the keys that begin with a prefix; empty if there is none.
fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    Bytes::from(end)
}

fn standard_input() -> Result<Bytes, Failure> {
    let mut value = Vec::new();
    std::io::stdin()
        .read_to_end(&mut value)
        .map_err(|error| Failure::Refused(format!("standard input: {error}")))?;
    Ok(Bytes::from(value))
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(prefix_end(b"ab").as_ref(), b"ac");
        assert_eq!(prefix_end(b"a\xff\xff").as_ref(), b"b");
        assert_eq!(prefix_end(b"\xff").as_ref(), b"");
        assert_eq!(prefix_end(b"").as_ref(), b"");
    }
}
