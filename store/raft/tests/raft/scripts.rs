//! Golden scripts: several nodes, a network that delivers when told, and every step by hand.
//!
//! `UPDATE_GOLDENFILES=1` records; what is recorded must then be read and found right.
//!
//! | command | what it does |
//! | --- | --- |
//! | `cluster nodes=3 [learners=1] [spares=1] [restarted=yes] [joint_exit=driver] [<setting>=n]` | new nodes, started; the last are learners, then spares without a configuration |
//! | `tick [id…] [n=1]` | n times: 50 ms pass, and the nodes (default all) tick |
//! | `run [id…] [n=1]` | n times: a tick, then `settle`, quietly |
//! | `wait ms=n` | time passes without ticks |
//! | `campaign id`, `propose id command [bytes=n]`, `read id read`, `transfer id target` | calls |
//! | `change id [add-voter\|add-learner\|remove peer]…` | proposes a membership change; without steps: to leave the joint configuration |
//! | `forget-leader id`, `reluctant id`, `willing id`, `hibernate id`, `wake id` | calls |
//! | `ready [id…]`, `persist [id…] [n=]`, `apply [id…] [n=]`, `flush id`, `provide [id…]` | the driver's steps |
//! | `deliver\|drop\|duplicate [from=] [to=] [n=]` | what is on the network, in order |
//! | `isolate id`, `heal` | messages to and from the node are lost while isolated |
//! | `settle [id…] [quiet=true]` | ready, persist, provide, apply, deliver until nothing happens |
//! | `lead id` | makes the node the leader, quietly |
//! | `snapshot id peer`, `snapshot-status id peer ok\|failed`, `unreachable id peer` | calls |
//! | `cut id upto` | the log on disk is cut, and the core does not know yet |
//! | `compact id upto`, `crash id [kept=n]`, `restart id [tail=n]` | |
//! | `status [id…]`, `log [id…]`, `lease id`, `members [id…]`, `promised id`, `dismissal id`, `network`, `reads id` | shows |

mod runner;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use runner::Cluster;

#[test]
fn scripts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "no scripts under {}", root.display());
    let mut failed = Vec::new();
    for path in paths {
        let run = || goldenscript::run(&mut Cluster::default(), &path);
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failed.push(format!("{}: {error}", path.display())),
            Err(_) => failed.push(format!("{}: see above", path.display())),
        }
    }
    assert!(failed.is_empty(), "failed scripts:\n{}", failed.join("\n"));
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().expect("the folder is there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            collect(&path, paths);
        } else {
            paths.push(path);
        }
    }
}
