//! `config show | set`: the settings of the cluster, in force at once.

use clap::Subcommand;
use serde::Serialize;
use tinykv_proto::placement::ConfigureRequest;

use crate::output::{self, Output};
use crate::placement::{Asked, refused};

use super::{Failure, Global};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// All settings
    Show,
    /// Change one; it is in force at once and survives restarts
    Set {
        /// The setting, as `config show` names it
        #[arg(value_name = "NAME")]
        name: String,
        /// Its value, as `config show` prints it
        #[arg(value_name = "VALUE")]
        value: String,
    },
}

/// A setting.
#[derive(Clone, Debug, Serialize)]
struct Setting {
    name: String,
    value: String,
}

impl ConfigCommand {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let (name, value) = match self {
            ConfigCommand::Show => (String::new(), String::new()),
            ConfigCommand::Set { name, .. } if name.is_empty() => {
                let sentence = "name a setting: `config show` lists them";
                return Err(Failure::Refused(sentence.to_owned()));
            }
            ConfigCommand::Set { name, value } => (name, value),
        };
        let request = ConfigureRequest {
            name,
            value,
            ..ConfigureRequest::default()
        };
        // To set a setting twice changes nothing more.
        let answer = global
            .link()
            .ask(Asked::Question, |mut client| {
                let request = request.clone();
                async move { client.configure(request).await }
            })
            .await?;
        refused(answer.header.as_ref())?;
        let settings = answer.settings.into_iter().map(|setting| Setting {
            name: setting.name,
            value: setting.value,
        });
        let settings: Vec<Setting> = settings.collect();
        match settings.iter().find(|setting| setting.name == request.name) {
            Some(set) => match global.output() {
                Output::Json => output::json(set),
                Output::Table => output::line(&format!("{} is {}", set.name, set.value)),
            },
            None => output::list(
                global.output(),
                &settings,
                &["setting", "value"],
                |setting| vec![setting.name.clone(), setting.value.clone()],
            ),
        }
        Ok(())
    }
}
