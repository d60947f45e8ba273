//! Which source wins, and what a wrong one says.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use clap::Parser;

use super::*;

#[derive(Parser, Debug, PartialEq, Eq)]
#[command(name = "trial")]
struct Trial {
    #[command(flatten)]
    common: CommonArgs,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:1")]
    addr: std::net::SocketAddr,
    /// Where data lies
    #[arg(long)]
    data_dir: PathBuf,
    /// Labels, key=value
    #[arg(long, value_delimiter = ',')]
    labels: Vec<String>,
    /// A switch
    #[arg(long)]
    eager: bool,
}

fn load_trial(
    arguments: &[&str],
    environment: &[(&str, &str)],
    file: &str,
) -> Result<Loaded<Trial>, String> {
    let environment: BTreeMap<&str, &str> = environment.iter().copied().collect();
    load_from(&Sources {
        arguments: std::iter::once("trial")
            .chain(arguments.iter().copied())
            .map(OsString::from)
            .collect(),
        environment: &|name| environment.get(name).map(OsString::from),
        read_file: &|path| {
            if path == Path::new("trial.toml") {
                Ok(file.to_owned())
            } else {
                Err(io::Error::new(io::ErrorKind::NotFound, "no such file"))
            }
        },
    })
    .map_err(|failure| {
        assert_eq!(failure.exit_code(), 2, "{failure}");
        failure.to_string()
    })
}

fn settings(arguments: &[&str], environment: &[(&str, &str)], file: &str) -> Trial {
    match load_trial(arguments, environment, file) {
        Ok(Loaded::Settings(trial)) => trial,
        other => panic!("no settings: {other:?}"),
    }
}

fn refusal(arguments: &[&str], environment: &[(&str, &str)], file: &str) -> String {
    load_trial(arguments, environment, file).expect_err("the settings are wrong")
}

const FILE: [&str; 2] = ["--config", "trial.toml"];

#[test]
fn flag_wins_over_environment_over_file_over_default() {
    let file = "data-dir = \"from-file\"\naddr = \"127.0.0.1:4\"\nlog-level = \"warn\"";
    let environment = [
        ("TINYKV_ADDR", "127.0.0.1:3"),
        ("TINYKV_DATA_DIR", "from-env"),
    ];
    let all = settings(
        &["--config", "trial.toml", "--addr", "127.0.0.1:2"],
        &environment,
        file,
    );
    assert_eq!(all.addr.port(), 2);
    assert_eq!(all.data_dir, Path::new("from-env"));
    assert_eq!(all.common.log_level, LogLevel::Warn);
    assert_eq!(all.common.log_format, LogFormat::Text);
    assert_eq!(settings(&FILE, &environment, file).addr.port(), 3);
    assert_eq!(settings(&FILE, &[], file).addr.port(), 4);
    assert_eq!(settings(&["--data-dir=x"], &[], "").addr.port(), 1);
}

#[test]
fn config_file_itself_may_come_from_the_environment() {
    let trial = settings(&[], &[("TINYKV_CONFIG", "trial.toml")], "data-dir = \"d\"");
    assert_eq!(trial.data_dir, Path::new("d"));
}

#[test]
fn lists_and_switches_are_spelled_in_every_source() {
    let lists = [
        settings(&["--data-dir=d", "--labels", "a=1,b=2", "--eager"], &[], ""),
        settings(
            &["--data-dir=d"],
            &[("TINYKV_LABELS", "a=1,b=2"), ("TINYKV_EAGER", "true")],
            "",
        ),
        settings(
            &FILE,
            &[],
            "data-dir = \"d\"\nlabels = [\"a=1\", \"b=2\"]\neager = true",
        ),
        settings(
            &FILE,
            &[("TINYKV_EAGER", "1")],
            "data-dir = \"d\"\neager = false\n[labels]\na = 1\nb = \"2\"",
        ),
    ];
    for trial in lists {
        assert_eq!(trial.labels, ["a=1", "b=2"]);
        assert!(trial.eager);
    }
}

#[test]
fn wrong_settings_are_refused_with_one_sentence_that_names_them() {
    let cases = [
        (
            refusal(&FILE, &[], "data_dir = \"d\""),
            "unknown key `data_dir` in trial.toml, did you mean `data-dir`?",
        ),
        (
            refusal(&FILE, &[], "data-dir = \"d\"\nconfig = \"x\""),
            "unknown key `config` in trial.toml",
        ),
        (
            refusal(&FILE, &[], "data-dir = \"d\"\naddr = \"nowhere\""),
            "invalid value 'nowhere' for '--addr <ADDR>': invalid socket address syntax \
             (from key `addr` of trial.toml)",
        ),
        (
            refusal(&["--data-dir=d"], &[("TINYKV_ADDR", "x")], ""),
            "invalid value 'x' for '--addr <ADDR>': invalid socket address syntax \
             (from environment variable TINYKV_ADDR)",
        ),
        (
            refusal(&["--data-dir=d", "--addr=x"], &[("TINYKV_ADDR", "y")], ""),
            "invalid value 'x' for '--addr <ADDR>': invalid socket address syntax",
        ),
        (
            refusal(&FILE, &[], "data-dir = [1]"),
            "invalid value in key `data-dir` of trial.toml: expected a string or a number",
        ),
        (
            refusal(&["--data-dir=d"], &[("TINYKV_EAGER", "maybe")], ""),
            "invalid value `maybe` in environment variable TINYKV_EAGER: expected true or false",
        ),
        (
            refusal(&["--config=gone.toml"], &[], ""),
            "cannot read the configuration file gone.toml: no such file",
        ),
        (
            refusal(&[], &[], ""),
            "the following required arguments were not provided: --data-dir <DATA_DIR>",
        ),
        (
            refusal(&["--no-such"], &[], ""),
            "unexpected argument '--no-such' found",
        ),
    ];
    for (sentence, expected) in cases {
        assert_eq!(sentence, expected);
    }
    let broken = refusal(&FILE, &[], "data-dir = \"d\"\naddr = = 1");
    assert!(broken.starts_with("trial.toml, line 2: "), "{broken}");
}

#[test]
fn version_and_help_are_printed_whatever_else_is_wrong() {
    let Ok(Loaded::Print(version)) = load_trial(&["--version"], &[], "") else {
        panic!("--version prints");
    };
    assert_eq!(version.trim(), format!("trial {VERSION}"));
    let Ok(Loaded::Print(help)) = load_trial(&["--help"], &[("TINYKV_ADDR", "x")], "") else {
        panic!("--help prints");
    };
    assert!(help.contains("TINYKV_SOME_FLAG"), "{help}");
}
