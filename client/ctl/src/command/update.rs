//! `incr append`: updates that are decided when they are applied.

use bytes::Bytes;

use crate::output;

use super::{Failure, Global, data};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The value is decimal text, as Redis stores numbers; a missing key counts as 0. Prints the sum.")]
pub(crate) struct Incr {
    /// The key, as `--format` says
    key: String,
    /// What to add
    #[arg(value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    delta: i64,
}

impl Incr {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let key = global.key(&self.key)?;
        let sum = data::connect(global).increment(key, self.delta).await?;
        output::line(&sum.to_string());
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "A missing key counts as empty. Prints how many bytes the value has then.")]
pub(crate) struct Append {
    /// The key, as `--format` says
    key: String,
    /// What to add, its bytes as typed
    value: String,
}

impl Append {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let key = global.key(&self.key)?;
        let length = data::connect(global)
            .append(key, Bytes::from(self.value))
            .await?;
        output::line(&length.to_string());
        Ok(())
    }
}
