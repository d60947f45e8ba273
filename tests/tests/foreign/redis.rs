//! `redis-cli` and `redis-benchmark`, as the distribution has them.

use std::io::Write;
use std::process::{Command, Stdio};

use tinykv_tests::cluster::Cluster;

use super::{cluster, key, skip};

/// Whether a program is there.
fn is_there(program: &str) -> bool {
    let probe = Command::new(program).arg("--version").output();
    let there = probe.is_ok_and(|output| output.status.success());
    if !there {
        skip(program, "not found; Debian has it in redis-tools");
    }
    there
}

/// What a program prints for arguments and, perhaps, a text on its standard input.
fn run(program: &str, address: &str, arguments: &[&str], input: &str) -> String {
    let (host, port) = address.rsplit_once(':').expect("host:port");
    let mut child = Command::new(program)
        .args(["-h", host, "-p", port])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it ran a moment ago");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {text}{errors}"
    );
    text + &errors
}

fn cli(address: &str, arguments: &[&str]) -> String {
    run("redis-cli", address, arguments, "")
        .trim_end()
        .to_owned()
}

#[test]
fn redis_cli_works_on_any_store() {
    if !is_there("redis-cli") {
        return;
    }
    let cluster = cluster();
    let doors = cluster.resp();
    for (number, door) in doors.iter().enumerate() {
        // Every store is asked for keys of every region, led wherever they are.
        for at in (0..200).step_by(20) {
            let (key, value) = (key(at), format!("{number} of {at}"));
            assert_eq!(cli(door, &["SET", &key, &value]), "OK");
            let other = &doors[(number + 1) % doors.len()];
            assert_eq!(cli(other, &["GET", &key]), value);
        }
        assert_eq!(cli(door, &["INCR", "k999"]), (number + 1).to_string());
    }
    let door = &doors[0];
    assert_eq!(
        cli(door, &["MGET", "k000", "none", "k180"]),
        "2 of 0\n\n2 of 180"
    );
    assert_eq!(cli(door, &["-3", "MGET", "none", "k000"]), "\n2 of 0");
    let expected: Vec<String> = (0..200).step_by(20).map(key).collect();
    let mut expected = expected.join("\n");
    expected.push_str("\nk999");
    assert_eq!(cli(door, &["--scan"]), expected);
    assert_eq!(
        cli(door, &["--scan", "--pattern", "k1*"]).lines().count(),
        5
    );
    assert_eq!(cli(door, &["DBSIZE"]), "11");
    assert!(cli(door, &["GET"]).contains("ERR wrong number of arguments for 'get' command"));
    assert!(cli(door, &["INCR", "k000"]).contains("ERR value is not an integer"));
    // A session as people have them: it asks for COMMAND DOCS before the first prompt.
    let session = run(
        "redis-cli",
        door,
        &[],
        "SET a 'b c'\nGET a\nTTL a\nDEL a a\n",
    );
    assert_eq!(session, "OK\nb c\n-1\n1\n");
    what_it_sets_others_read(&cluster);
}

fn what_it_sets_others_read(cluster: &Cluster) {
    cli(&cluster.resp()[0], &["SET", "shared", "of redis"]);
    let output = Command::new(cluster.binary())
        .args([
            "-u",
            &cluster.placements().join(","),
            "get",
            "shared",
            "--print-value-only",
        ])
        .output()
        .expect("the command line");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim_end(),
        "of redis",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn redis_benchmark_runs_clean() {
    if !is_there("redis-benchmark") {
        return;
    }
    let cluster = cluster();
    let door = &cluster.resp()[1];
    let runs: [&[&str]; 2] = [
        &["-t", "set,get,incr,mset", "-n", "2000", "-q"],
        &[
            "-t", "set,get", "-n", "4000", "-r", "100000", "-P", "16", "-q",
        ],
    ];
    for arguments in runs {
        let text = run("redis-benchmark", door, arguments, "");
        println!("{text}");
        assert!(text.contains("requests per second"), "{text}");
        let lower = text.to_lowercase();
        assert!(
            !lower.contains("err") && !lower.contains("warning"),
            "{text}"
        );
    }
}
