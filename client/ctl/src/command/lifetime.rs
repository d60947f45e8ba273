//! `ttl expire persist`: how long keys live.

use std::time::Duration;

use tinykv_client::{Expired, Expiry};

use crate::output;

use super::{Failure, Global, data, seconds};

#[derive(Debug, clap::Args)]
#[command(after_help = "Prints seconds, or `never` for a key that lives for ever.")]
pub(crate) struct Ttl {
    /// The key, as `--format` says
    key: String,
}

impl Ttl {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let key = global.key(&self.key)?;
        match data::connect(global).expiry(key).await? {
            Expiry::NotFound => return Err(missing(&self.key)),
            Expiry::Never => output::line("never"),
            Expiry::In(left) => output::line(&format!("{:.3}", left.as_secs_f64())),
        }
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Expire {
    /// The key, as `--format` says
    key: String,
    /// How many seconds it shall live from now
    #[arg(value_name = "SECONDS", value_parser = seconds)]
    ttl: Duration,
}

impl Expire {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        change(global, &self.key, Some(self.ttl)).await
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Persist {
    /// The key, as `--format` says
    key: String,
}

impl Persist {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        change(global, &self.key, None).await
    }
}

async fn change(global: &Global, key: &str, ttl: Option<Duration>) -> Result<(), Failure> {
    let expired = data::connect(global).expire(global.key(key)?, ttl).await?;
    match expired {
        Expired::NotFound => Err(missing(key)),
        Expired::Changed { .. } => {
            output::line("OK");
            Ok(())
        }
    }
}

fn missing(key: &str) -> Failure {
    Failure::Refused(format!("{key} does not exist"))
}
