//! Where a setting comes from: flag over environment over file.
//!
//! A process describes its settings once, as a clap structure that flattens [`CommonArgs`]. Every
//! long flag `--some-flag` is then also the environment variable `TINYKV_SOME_FLAG` and the key
//! `some-flag` of the TOML file named by `--config`. What the command line does not say is
//! appended to it from the other two sources and parsed by clap again, so that all three are
//! checked by the same value parsers and a wrong value is reported with the place it came from.
//!
//! Keys that are no flag are refused. Unknown `TINYKV_*` variables are not: the name space is
//! shared with the other programs of the house.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches};

use crate::failure::Failure;
use crate::logging::{LogFormat, LogLevel};

/// The commit this is built from; with `-dev` in a development build, which may be of a later state.
pub const COMMIT: &str = env!("TINYKV_COMMIT");

/// Version and commit, as `--version` prints them.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("TINYKV_COMMIT"), ")");

/// Settings every process has.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct CommonArgs {
    /// TOML file with settings; each key is the name of a flag without its dashes
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The least important messages that are logged to standard error
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,

    /// How log lines look
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// The outcome of reading the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded<T> {
    /// The settings of the process.
    Settings(T),
    /// `--help` or `--version`: print this to standard output and stop with success.
    Print(String),
}

/// The three sources a process reads its settings from.
pub struct Sources<'a> {
    /// The command line, program name first.
    pub arguments: Vec<OsString>,
    /// Looks up an environment variable.
    pub environment: &'a dyn Fn(&str) -> Option<OsString>,
    /// Reads the file named by `--config`.
    pub read_file: &'a dyn Fn(&std::path::Path) -> std::io::Result<String>,
}

/// Reads the settings of this process from its command line, environment and file.
///
/// # Errors
/// [`Failure::Configuration`] with one sentence that names the flag, variable or key.
pub fn load<T: CommandFactory + FromArgMatches>() -> Result<Loaded<T>, Failure> {
    load_from(&Sources {
        arguments: std::env::args_os().collect(),
        environment: &|name| std::env::var_os(name),
        read_file: &|path| std::fs::read_to_string(path),
    })
}

/// As [`load`], from given sources.
///
/// # Errors
/// [`Failure::Configuration`] with one sentence that names the flag, variable or key.
pub fn load_from<T: CommandFactory + FromArgMatches>(
    sources: &Sources<'_>,
) -> Result<Loaded<T>, Failure> {
    let command = T::command().version(VERSION).after_help(
        "Each flag --some-flag can also be given as the environment variable TINYKV_SOME_FLAG or \
         as the key some-flag of the file named by --config; a flag wins over the environment, \
         the environment over the file.",
    );
    let lenient = command.clone().mut_args(|arg| arg.required(false));
    let given = match lenient.try_get_matches_from(&sources.arguments) {
        Ok(matches) => matches,
        Err(error) => return explain(&error, &BTreeMap::new()),
    };
    let settable: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| is_setting(arg))
        .collect();
    let open: Vec<&Arg> = settable
        .iter()
        .copied()
        .filter(|arg| given.value_source(arg.get_id().as_str()) != Some(ValueSource::CommandLine))
        .collect();

    let mut origins = BTreeMap::new();
    let mut arguments = sources.arguments.clone();
    let mut append = |arg: &Arg, origin: String, values: Vec<OsString>| {
        origins.insert(flag(arg), origin);
        arguments.extend(values);
    };
    let mut config = given.get_one::<PathBuf>("config").cloned();
    let mut from_environment = Vec::new();
    for &arg in &open {
        let name = variable(arg);
        if let Some(value) = (sources.environment)(&name) {
            from_environment.push(arg.get_id());
            if arg.get_id() == "config" {
                config = Some(PathBuf::from(&value));
            }
            append(
                arg,
                format!("environment variable {name}"),
                spell(arg, &name, value)?,
            );
        }
    }
    if let Some(path) = config {
        for (key, value) in read_table(&path, sources.read_file, &settable)? {
            let Some(arg) = open.iter().find(|arg| arg.get_long() == Some(&key)) else {
                continue;
            };
            if !from_environment.contains(&arg.get_id()) {
                let origin = format!("key `{key}` of {}", path.display());
                let values = spell_toml(arg, &origin, value)?;
                append(arg, origin, values);
            }
        }
    }
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|matches| T::from_arg_matches(&matches));
    match parsed {
        Ok(settings) => Ok(Loaded::Settings(settings)),
        Err(error) => explain(&error, &origins),
    }
}

/// Everything with a long name except what only makes sense on a command line.
fn is_setting(arg: &Arg) -> bool {
    arg.get_long().is_some()
        && !matches!(
            arg.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        )
}

fn flag(arg: &Arg) -> String {
    format!("--{}", arg.get_long().unwrap_or_default())
}

fn variable(arg: &Arg) -> String {
    let name = arg.get_long().unwrap_or_default();
    format!("TINYKV_{}", name.replace('-', "_").to_uppercase())
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// An environment variable as arguments of the command line.
fn spell(arg: &Arg, origin: &str, value: OsString) -> Result<Vec<OsString>, Failure> {
    if takes_value(arg) {
        let mut argument = OsString::from(format!("{}=", flag(arg)));
        argument.push(value);
        return Ok(vec![argument]);
    }
    match value.to_str() {
        Some("true" | "1") => Ok(vec![OsString::from(flag(arg))]),
        Some("false" | "0" | "") => Ok(Vec::new()),
        _ => Err(Failure::configuration(format!(
            "invalid value `{}` in environment variable {origin}: expected true or false",
            value.to_string_lossy()
        ))),
    }
}

/// A TOML value as arguments of the command line.
fn spell_toml(arg: &Arg, origin: &str, value: toml::Value) -> Result<Vec<OsString>, Failure> {
    let refuse = |expected: &str| {
        Err(Failure::configuration(format!(
            "invalid value in {origin}: expected {expected}"
        )))
    };
    if !takes_value(arg) {
        return match value {
            toml::Value::Boolean(true) => Ok(vec![OsString::from(flag(arg))]),
            toml::Value::Boolean(false) => Ok(Vec::new()),
            _ => refuse("true or false"),
        };
    }
    let many = matches!(arg.get_action(), ArgAction::Append);
    let texts = match value {
        toml::Value::Array(items) if many => items.iter().map(scalar).collect(),
        toml::Value::Table(table) if many => table
            .iter()
            .map(|(key, value)| Some(format!("{key}={}", scalar(value)?)))
            .collect(),
        single => scalar(&single).map(|text| vec![text]),
    };
    match texts {
        Some(texts) => Ok(texts
            .into_iter()
            .map(|text| OsString::from(format!("{}={text}", flag(arg))))
            .collect()),
        None if many => refuse("a string, a number, or a list of them"),
        None => refuse("a string or a number"),
    }
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

/// Reads the file and refuses keys that are no setting.
fn read_table(
    path: &std::path::Path,
    read_file: &dyn Fn(&std::path::Path) -> std::io::Result<String>,
    settable: &[&Arg],
) -> Result<toml::Table, Failure> {
    let name = path.display();
    let text = read_file(path).map_err(|error| {
        Failure::configuration(format!(
            "cannot read the configuration file {name}: {error}"
        ))
    })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .and_then(|span| text.get(..span.start))
            .map_or(1, |before| before.matches('\n').count() + 1);
        Failure::configuration(format!(
            "{name}, line {line}: {}",
            one_line(error.message())
        ))
    })?;
    for key in table.keys() {
        let known = settable
            .iter()
            .any(|arg| arg.get_long() == Some(key) && arg.get_id() != "config");
        if !known {
            let close = key.replace('_', "-").to_lowercase();
            let hint = settable
                .iter()
                .filter_map(|arg| arg.get_long())
                .find(|long| *long == close && *long != key)
                .map_or(String::new(), |long| format!(", did you mean `{long}`?"));
            return Err(Failure::configuration(format!(
                "unknown key `{key}` in {name}{hint}"
            )));
        }
    }
    Ok(table)
}

/// Turns clap's report into one sentence that names where the value came from.
fn explain<T>(
    error: &clap::Error,
    origins: &BTreeMap<String, String>,
) -> Result<Loaded<T>, Failure> {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return Ok(Loaded::Print(error.render().to_string()));
    }
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let mut sentence = one_line(paragraph.trim_start_matches("error: "));
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.split([' ', '=']).next(),
        _ => None,
    };
    if let Some(origin) = argument.and_then(|argument| origins.get(argument)) {
        sentence = format!("{sentence} (from {origin})");
    }
    Err(Failure::Configuration(sentence))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
