//! What the playground prints: lines that work when they are pasted.

use std::fmt::Write;
use std::path::Path;

use super::layout::{Planned, Role};
use super::process::Process;

/// The box of lines to copy.
pub(crate) fn banner(planned: &[Planned], processes: &[Process], port_offset: u16) -> String {
    let first = |role| planned.iter().find(|planned| planned.role == role);
    let members: Vec<&str> = planned
        .iter()
        .filter(|planned| planned.role == Role::Placement)
        .map(|planned| planned.address.as_str())
        .collect();
    let placement = members.first().copied().unwrap_or_default();
    // All members: any of them may be killed.
    let ctl = match (port_offset, members.len()) {
        (0, 0 | 1) => binary(),
        _ => format!("{} -u {}", binary(), members.join(",")),
    };
    let mut lines = vec![
        ("state of the cluster", format!("{ctl} status")),
        ("write a key", format!("{ctl} put greeting hello")),
        ("read it", format!("{ctl} get greeting")),
        ("read all", format!("{ctl} scan")),
        ("where it lives", format!("{ctl} region find greeting")),
        (
            "split its region",
            format!("{ctl} region split greeting --wait"),
        ),
        ("stores", format!("{ctl} store list")),
        ("members of placement", format!("{ctl} member list")),
        (
            "metrics of placement",
            format!("curl http://{placement}/metrics"),
        ),
    ];
    let port = first(Role::Store).and_then(|store| store.resp_address.as_deref());
    if let Some((_, port)) = port.and_then(|address| address.rsplit_once(':')) {
        lines.push((
            "read it with redis-cli",
            format!("redis-cli -p {port} get greeting"),
        ));
    }
    if let Some(store) = first(Role::Store) {
        lines.push((
            "health of a store",
            format!("curl http://{}/health", store.address),
        ));
    }
    let last = |role| {
        let mut processes = processes.iter().rev();
        processes.find(|process| process.planned.role == role)
    };
    if let Some(store) = last(Role::Store) {
        lines.push(("kill a store", format!("kill -9 {}", store.id)));
    }
    if let Some(member) = last(Role::Placement)
        && members.len() > 1
    {
        let kill = format!("kill -9 {}", member.id);
        lines.push(("kill a member of placement", kill));
    }
    frame(
        "the cluster is ready; lines to copy:",
        &lines,
        "Ctrl-C stops it",
    )
}

/// The line that starts a process again in a terminal of its own.
pub(crate) fn command_line(planned: &Planned) -> String {
    let quoted = planned.arguments.iter().map(|argument| quote(argument));
    std::iter::once(binary())
        .chain(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}

/// This binary as the user can type it.
fn binary() -> String {
    let exe = std::env::current_exe().ok();
    let here = std::env::current_dir().ok();
    let path = match (&exe, &here) {
        (Some(exe), Some(here)) => match exe.strip_prefix(here) {
            Ok(below) => Path::new(".").join(below),
            Err(_) => exe.clone(),
        },
        (Some(exe), None) => exe.clone(),
        _ => "tinykv-ctl".into(),
    };
    quote(&path.to_string_lossy())
}

/// As a shell reads it back.
fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A rule above and below; what a line does stands behind it as a comment, so that the whole line
/// can be pasted.
fn frame(title: &str, lines: &[(&str, String)], end: &str) -> String {
    let width = lines
        .iter()
        .map(|(_, line)| line.chars().count())
        .max()
        .unwrap_or(0);
    let comment = lines
        .iter()
        .map(|(label, _)| label.chars().count())
        .max()
        .unwrap_or(0);
    let rule = "─".repeat((width + comment + 8).max(title.len() + 4));
    let mut text = format!("\n{rule}\n  {title}\n\n");
    for (label, line) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {line:<width$}  # {label}");
    }
    let _ = writeln!(text, "\n  {end}\n{rule}");
    text
}

#[cfg(test)]
mod tests {
    use super::{frame, quote};

    #[test]
    fn words_are_quoted_for_a_shell_only_when_they_must() {
        assert_eq!(
            quote("target/release/tinykv-ctl"),
            "target/release/tinykv-ctl"
        );
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn every_line_of_the_box_can_be_pasted_whole() {
        let text = frame(
            "title",
            &[("a", "one".to_owned()), ("bb", "three".to_owned())],
            "end",
        );
        assert!(text.contains("\n  one    # a\n  three  # bb\n"), "{text}");
    }
}
