//! Scripts of message orders (`tests/scripts/*.txt`): small clusters of production shards in which
//! the script decides which message arrives when, what is durable when, and who dies in between.
//!
//! A file holds a `before` block that each of its scripts begins with, and scripts:
//!
//! ```text
//! script append_to_a_removed_peer
//! M7: the second line names the promise
//! copy append 1 -> 3 of 1        keep copies of what passes; hold, lose likewise
//! change 1 remove 3              add N, promote N, demote N, remove N: several are a joint change
//! await 3 buried 1               run until it is so, 20 s at most
//! replay append 1 -> 3 of 1      deliver what was kept
//! run 300                        milliseconds
//! expect not 3 has 1             is it so now?
//! ```
//!
//! * Making: `stores N`, `stores N short-logs` (followers that lag need snapshots), `group N on A B C`
//!   (keys `gNk0` to `gNk4`, regions `[gN, gN+1)`), `lead G on S`.
//! * Asking: `put KEY` (until acknowledged), `ask KEY on S` and `read KEY on S` (no waiting), `split G
//!   at KEY.. into CHILD..`, `merge A into B`, `plan A into B` and `merge planned` (as the regions were
//!   when it was planned), `change G ..`, `transfer G to S`, `destroy G on S`, `forget G on S` (its
//!   tombstones). `refuse TEXT: STEP`: the answer comes at once, is a refusal, and shows TEXT.
//! * Messages: `hold|copy|lose KIND A -> B of G` (each may be `*`), `lift` the rule, then of those that
//!   wait: `release`, `reverse`, `twice`, `next` (the oldest alone), `last` (the youngest alone), `replay`
//!   (they stay), `drop`. `cut A -> B`, `cut S` (both ways with all), `join`, `deaf S to G`, `hearing`.
//! * Disks: `withhold S` (nothing becomes durable), `sync-one S`, `sync S`; `stall S` (background jobs:
//!   fetches, installations, destructions) and `work S`.
//! * Processes: `crash S losing` (all that is not durable), `crash S keeping N` (batches of it), `restart
//!   S`, `pause S`, `resume S`.
//! * Conditions, for `await`, `expect`, each with `not` before it: `S has|serves|buried|leads|has-all-of
//!   G`, `S is voter|learner|incoming|leaving|demoting of G`, `S unsynced N` (batches at least), `G lives`,
//!   `G led`, `held KIND A -> B of G`, `frozen|thawed|merged N` (so many so far), and of a region, `G ..` as
//!   the newest view has it or `S sees G ..`: `over START END`, `epoch CONF_VER/VERSION`, `joint`,
//!   `is-frozen`, `absorbed G`, `peers N`.
//!
//! After each step invariants are checked (one leader a term, no resurrection, one epoch one region, no
//! overlap, one lease a key). In the end all that is held arrives, the cluster heals, and must be whole:
//! all keys covered once, replicas equal, no ghosts, everybody answered, each key's history linearizable.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use bytes::Bytes;
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{AdminAction, Event, Outcome, Peer, PeerChange, SplitIds, StoreId};

use super::Cluster;
use super::post::Verdict;
use crate::store::{Habits, Store};

mod conditions;
mod steps;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
const FILES: [&str; 6] = [
    "split",
    "merge",
    "membership",
    "snapshot",
    "tombstone",
    "mixed",
];

/// One story of a file.
struct Script<'a> {
    name: &'a str,
    promise: &'a str,
    /// With what every script of the file begins, then its own.
    steps: Vec<&'a str>,
}

fn parse(text: &str) -> Vec<Script<'_>> {
    let mut before = Vec::new();
    let mut scripts: Vec<Script<'_>> = Vec::new();
    let lines = text.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("script ") {
            scripts.push(Script {
                name,
                promise: "",
                steps: before.clone(),
            });
            continue;
        }
        match scripts.last_mut() {
            None => before.push(line),
            Some(script) if script.promise.is_empty() => script.promise = line,
            Some(script) => script.steps.push(line),
        }
    }
    scripts
}

fn text(file: &str) -> String {
    std::fs::read_to_string(format!("{FOLDER}/{file}.txt")).expect("it is in the repository")
}

fn number(word: &str) -> u64 {
    word.parse()
        .unwrap_or_else(|_| panic!("{word} is not a number"))
}

fn group(word: &str) -> GroupId {
    GroupId(number(word))
}

impl Cluster {
    /// The power goes; of what was on its way to the disk the first batches had arrived.
    fn crash_keeping(&mut self, victim: u64, batches: u64) {
        let store = &mut self.stores[victim as usize - 1];
        for _ in 0..batches {
            store.wal.synced(u64::MAX);
        }
        store.wal.pending.clear();
        store.crash();
        store.habits.sync_ms_max = 1;
        store.habits.job_ms_max = 0;
        self.down_until.insert(victim, u64::MAX);
        self.open.retain(|(store, _), _| *store != victim);
    }

    /// All that is held arrives, everybody goes on, and everything must be as it should.
    pub(super) fn end_script(&mut self) {
        self.post.lift_all();
        self.deaf.clear();
        self.stores.iter_mut().for_each(|store| {
            sync(store);
            work(store);
        });
        self.heal();
        self.step();
        for packet in self.post.take_all() {
            self.hand_over(packet);
        }
        self.conclude();
    }
}

fn sync(store: &mut Store) {
    store.habits.sync_ms_max = 1;
    for pending in &mut store.wal.pending {
        pending.durable_at = 0;
    }
}

fn work(store: &mut Store) {
    store.habits.job_ms_max = 0;
    store.hurry_jobs();
}

fn run(script: &Script<'_>) {
    let mut cluster = Cluster::empty(crate::random::Random::new(7), Default::default());
    let mut planned = None;
    for step in &script.steps {
        println!("{}: {step}", script.name);
        cluster.play(step, &mut planned);
    }
    println!("{}: the end", script.name);
    cluster.end_script();
}

/// Whether scripts are selected, in whichever file.
fn check_selection(wanted: &str) -> Result<(), String> {
    let texts = FILES.map(text);
    let scripts = texts.iter().flat_map(|text| parse(text));
    let mut names: Vec<&str> = scripts.map(|script| script.name).collect();
    if names.iter().any(|name| name.contains(wanted)) {
        return Ok(());
    }
    let pairs = |name: &str| -> BTreeSet<[u8; 2]> {
        let pairs = name.as_bytes().windows(2);
        pairs.map(|pair| [pair[0], pair[1]]).collect()
    };
    let wanted_pairs = pairs(wanted);
    names.sort_by_key(|name| Reverse(pairs(name).intersection(&wanted_pairs).count()));
    names.truncate(3);
    Err(format!(
        "TINYKV_SCRIPT={wanted} is in no script's name; near it are {}",
        names.join(", ")
    ))
}

fn run_file(name: &str) {
    let text = text(name);
    // One script alone.
    let wanted = std::env::var("TINYKV_SCRIPT").unwrap_or_default();
    if let Err(problem) = check_selection(&wanted) {
        panic!("{problem}");
    }
    let mut failed = Vec::new();
    for script in parse(&text) {
        if script.name.contains(&wanted) && std::panic::catch_unwind(|| run(&script)).is_err() {
            failed.push(script.name);
        }
    }
    assert!(
        failed.is_empty(),
        "{failed:?} failed; repeat one with: TINYKV_SCRIPT=NAME cargo test -p tinykv-replica scripts"
    );
}

#[test]
fn split_scripts() {
    run_file("split");
}

#[test]
fn merge_scripts() {
    run_file("merge");
}

#[test]
fn membership_scripts() {
    run_file("membership");
}

#[test]
fn snapshot_scripts() {
    run_file("snapshot");
}

#[test]
fn tombstone_scripts() {
    run_file("tombstone");
}

#[test]
fn mixed_scripts() {
    run_file("mixed");
}

#[test]
fn misspelt_names_of_scripts_are_told_near_ones() {
    assert_eq!(check_selection(""), Ok(()));
    assert_eq!(check_selection("both_want"), Ok(()));
    let problem = check_selection("both_vant_each").expect_err("there is none");
    assert!(problem.contains("both_want_each_other"), "{problem}");
}

/// There are enough of them, each has its own name, its own steps and a promise, and ends in a check.
#[test]
fn scripts_are_many_and_each_is_its_own() {
    let mut names = BTreeSet::new();
    let mut stories = BTreeSet::new();
    for file in FILES {
        for script in parse(&text(file)) {
            let is_promise = script.promise.starts_with(['M', 'R', 'C', 'D']);
            assert!(is_promise, "{} is about {:?}", script.name, script.promise);
            assert!(
                names.insert(script.name.to_owned()),
                "{} is there twice",
                script.name
            );
            let is_new = stories.insert(script.steps.join("\n"));
            assert!(is_new, "{} is another's story", script.name);
        }
    }
    assert!(names.len() >= 100, "only {} scripts", names.len());
    let files = std::fs::read_dir(FOLDER).expect("it is in the repository");
    assert_eq!(files.count(), FILES.len(), "a file is not run");
}
