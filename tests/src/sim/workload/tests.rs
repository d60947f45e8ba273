//! Both generators want everything there is, use each value once, and keep keys what they are.

use std::collections::BTreeSet;
use std::time::Duration;

use tinykv_env::Prng;

use crate::checker::Action;

use super::super::report::Report;
use super::mixed::Mixed;
use super::scripted::Scripted;
use super::{Keys, Wanted, Workload};

const CLIENTS: usize = 3;

/// What a generator wants in so many steps of a run in which nothing is ever answered.
fn wanted(workload: &mut dyn Workload, steps: u64) -> Vec<Wanted> {
    let mut report = Report::default();
    let mut now = Duration::ZERO;
    let step = |step: u64| {
        let client = (step % CLIENTS as u64) as usize;
        let wanted = workload.next(client, now);
        workload.on_finished(client, &[], &mut report);
        now += workload.pause(client, now);
        wanted
    };
    (0..steps).map(step).collect()
}

fn generators(seed: u64) -> Vec<(Keys, Box<dyn Workload>)> {
    let mut random = Prng::new(seed);
    let keys = Keys::draw(1, &mut random);
    let mixed = Mixed::draw(keys.clone(), CLIENTS, random.fork());
    let scripted = Scripted::draw(keys.clone(), CLIENTS, random.fork());
    vec![(keys.clone(), Box::new(mixed)), (keys, Box::new(scripted))]
}

fn written(wanted: &Wanted) -> Vec<(String, Action)> {
    match wanted {
        Wanted::One { key, action } => vec![(key.clone(), action.clone())],
        Wanted::BatchPut(pairs) => pairs
            .iter()
            .map(|(key, value)| (key.clone(), Action::Put(value.clone())))
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn each_value_is_used_once_and_each_key_as_what_it_is() {
    for seed in 0..20 {
        for (keys, mut workload) in generators(seed) {
            let mut used = BTreeSet::new();
            for (key, action) in wanted(&mut *workload, 500).iter().flat_map(written) {
                let (kind, value) = match action {
                    Action::Get => continue,
                    Action::Put(new) | Action::CompareAndSwap { new, .. } => {
                        (&keys.registers, Some(new))
                    }
                    Action::Delete => (&keys.registers, None),
                    Action::Append(element) => (&keys.lists, Some(element)),
                    Action::Increment(_) => (&keys.counters, None),
                };
                assert!(kind.contains(&key), "seed {seed}: {key}");
                if let Some(value) = value {
                    assert!(used.insert(value.clone()), "seed {seed}: {value} again");
                }
            }
        }
    }
}

#[test]
fn over_seeds_everything_is_wanted() {
    let kind = |wanted: &Wanted| match wanted {
        Wanted::One { action, .. } => match action {
            Action::Get => "get",
            Action::Put(_) => "put",
            Action::Delete => "delete",
            Action::CompareAndSwap { .. } => "swap",
            Action::Append(_) => "append",
            Action::Increment(_) => "increment",
        },
        Wanted::Scan { .. } => "scan",
        Wanted::BatchGet(_) => "batch get",
        Wanted::BatchPut(_) => "batch put",
        Wanted::Remove { .. } => "remove",
    };
    let mut kinds = [BTreeSet::new(), BTreeSet::new()];
    for seed in 0..20 {
        for ((_, mut workload), kinds) in generators(seed).into_iter().zip(&mut kinds) {
            kinds.extend(wanted(&mut *workload, 300).iter().map(kind));
        }
    }
    assert_eq!(kinds[0].len(), 10, "{:?}", kinds[0]);
    let scripted = [
        "append",
        "batch get",
        "batch put",
        "get",
        "increment",
        "put",
        "scan",
    ];
    assert!(kinds[1].is_superset(&scripted.into()), "{:?}", kinds[1]);
}
