use std::collections::BTreeMap;

use proptest::prelude::*;
use tinykv_client::PutOptions;

use super::*;

fn get(key: &str) -> Call {
    Call::Get(Bytes::from(key.to_owned()))
}

fn set(key: &str) -> Call {
    Call::Set {
        key: Bytes::from(key.to_owned()),
        value: Bytes::new(),
        options: PutOptions::default(),
        counted: false,
    }
}

fn scan() -> Call {
    Call::Count
}

fn pipeline(calls: Vec<Call>) -> Pipeline {
    let mut pipeline = Pipeline::default();
    for call in calls {
        pipeline.push_call(call, 100);
    }
    pipeline
}

/// Begins all that may begin; returns their numbers.
fn begin_all(pipeline: &mut Pipeline) -> Vec<u64> {
    std::iter::from_fn(|| pipeline.begin().map(|(number, _)| number.0)).collect()
}

fn end(pipeline: &mut Pipeline, number: u64) {
    pipeline.end(Number(number), Reply::Integer(number as i64));
}

fn answers(pipeline: &mut Pipeline) -> Vec<Reply> {
    std::iter::from_fn(|| pipeline.next_answer().map(|answer| answer.reply)).collect()
}

#[test]
fn different_keys_run_together_and_are_answered_in_order() {
    let mut pipeline = pipeline(vec![set("a"), set("b"), get("c")]);
    assert_eq!(begin_all(&mut pipeline), [0, 1, 2]);
    end(&mut pipeline, 2);
    end(&mut pipeline, 1);
    assert_eq!(answers(&mut pipeline), []);
    end(&mut pipeline, 0);
    let expected: Vec<Reply> = (0..3).map(Reply::Integer).collect();
    assert_eq!(answers(&mut pipeline), expected);
    assert_eq!(
        (pipeline.len(), pipeline.running(), pipeline.bytes()),
        (0, 0, 0)
    );
}

#[test]
fn a_writer_waits_for_the_readers_before_it_and_holds_up_those_behind() {
    let mut pipeline = pipeline(vec![
        get("a"),
        get("a"),
        set("a"),
        get("a"),
        get("a"),
        set("a"),
    ]);
    assert_eq!(begin_all(&mut pipeline), [0, 1]);
    end(&mut pipeline, 1);
    assert_eq!(begin_all(&mut pipeline), [0u64; 0]);
    end(&mut pipeline, 0);
    assert_eq!(begin_all(&mut pipeline), [2]);
    end(&mut pipeline, 2);
    assert_eq!(begin_all(&mut pipeline), [3, 4]);
    end(&mut pipeline, 3);
    end(&mut pipeline, 4);
    assert_eq!(begin_all(&mut pipeline), [5]);
    end(&mut pipeline, 5);
    assert_eq!(pipeline.keys.len(), 0, "ended commands are forgotten");
}

#[test]
fn a_call_over_all_keys_runs_alone() {
    let mut pipeline = pipeline(vec![set("a"), scan(), set("b"), scan()]);
    assert_eq!(begin_all(&mut pipeline), [0]);
    end(&mut pipeline, 0);
    assert_eq!(begin_all(&mut pipeline), [1]);
    assert_eq!(begin_all(&mut pipeline), [0u64; 0]);
    end(&mut pipeline, 1);
    assert_eq!(begin_all(&mut pipeline), [2]);
    end(&mut pipeline, 2);
    assert_eq!(begin_all(&mut pipeline), [3]);
}

#[test]
fn known_answers_wait_for_their_turn() {
    let mut pipeline = pipeline(vec![set("a")]);
    pipeline.push_answer(Reply::Simple("PONG"), Some(Protocol::Resp3));
    assert_eq!(pipeline.next_answer(), None);
    assert_eq!(begin_all(&mut pipeline), [0]);
    end(&mut pipeline, 0);
    assert_eq!(
        pipeline.next_answer().map(|answer| answer.speak),
        Some(None)
    );
    let pong = pipeline.next_answer().expect("known");
    assert_eq!(pong.speak, Some(Protocol::Resp3));
}

#[test]
fn one_command_may_name_a_key_twice() {
    let twice = vec![Bytes::from_static(b"a"), Bytes::from_static(b"a")];
    let mut pipeline = pipeline(vec![
        Call::Remove(twice.clone()),
        Call::GetMany(twice),
        set("a"),
    ]);
    for number in 0..3 {
        assert_eq!(begin_all(&mut pipeline), [number]);
        end(&mut pipeline, number);
    }
}

#[test]
fn the_first_may_begin_when_nothing_else_does() {
    let mut pipeline = pipeline(vec![set("a"), set("b")]);
    assert_eq!(pipeline.begin_first().map(|(number, _)| number.0), Some(0));
    assert_eq!(pipeline.begin_first().map(|(number, _)| number.0), None);
    end(&mut pipeline, 0);
    assert_eq!(pipeline.begin_first().map(|(number, _)| number.0), None);
    assert_eq!(answers(&mut pipeline).len(), 1);
    assert_eq!(pipeline.begin_first().map(|(number, _)| number.0), Some(1));
}

/// What a command does to a store, told as numbers: the version of each key it read or wrote.
fn carry_out(store: &mut BTreeMap<Bytes, i64>, call: &Call) -> Reply {
    match call.access() {
        Access::Read(keys) => {
            let versions = keys.iter().map(|key| store.get(key).copied().unwrap_or(0));
            Reply::Array(versions.map(Reply::Integer).collect())
        }
        Access::Write(keys) => {
            let mut versions = Vec::new();
            for key in keys {
                let version = store.entry(key).or_default();
                *version += 1;
                versions.push(Reply::Integer(*version));
            }
            Reply::Array(versions)
        }
        Access::Everything => Reply::Integer(store.values().sum()),
    }
}

fn any_call() -> impl Strategy<Value = Call> {
    let key = || "[a-d]";
    let keys = || proptest::collection::vec(key().prop_map(Bytes::from), 1..4);
    prop_oneof![
        4 => key().prop_map(|key| get(&key)),
        4 => key().prop_map(|key| set(&key)),
        2 => keys().prop_map(Call::GetMany),
        2 => keys().prop_map(Call::Remove),
        1 => Just(Call::Count),
    ]
}

proptest! {
    #[test]
    fn answers_are_those_of_one_by_one(
        calls in proptest::collection::vec(any_call(), 1..40),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 200),
        moments in proptest::collection::vec(any::<bool>(), 200),
    ) {
        let mut alone = BTreeMap::new();
        let expected: Vec<Reply> = calls.iter().map(|call| carry_out(&mut alone, call)).collect();
        let mut pipeline = pipeline(calls);
        let mut store = BTreeMap::new();
        // A call takes effect at a random moment between its begin and its end.
        let mut begun: Vec<(Number, Call)> = Vec::new();
        let mut effective: Vec<(Number, Reply)> = Vec::new();
        let mut answered = Vec::new();
        let mut picks = picks.iter().cycle();
        let mut moments = moments.iter().cycle();
        while pipeline.len() > 0 {
            begun.extend(std::iter::from_fn(|| pipeline.begin()));
            prop_assert!(!begun.is_empty() || !effective.is_empty(), "nothing can go on");
            let pick = picks.next().expect("endless");
            if effective.is_empty() || (!begun.is_empty() && *moments.next().expect("endless")) {
                let (number, call) = begun.remove(pick.index(begun.len()));
                effective.push((number, carry_out(&mut store, &call)));
            } else {
                let (number, reply) = effective.remove(pick.index(effective.len()));
                pipeline.end(number, reply);
            }
            answered.extend(answers(&mut pipeline));
        }
        prop_assert_eq!(answered, expected);
        prop_assert_eq!(pipeline.bytes(), 0);
        prop_assert_eq!(pipeline.keys.len(), 0);
    }
}
