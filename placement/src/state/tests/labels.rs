//! Where stores stand, and the settings about that.

use super::*;

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.into(), value.into())).into()
}

fn set<const N: usize>(store: u64, pairs: [(&str, &str); N]) -> Command {
    Command::SetLabels {
        store: StoreId(store),
        labels: labels(pairs),
    }
}

fn change(name: &str, value: &str) -> Command {
    Command::ChangeSetting {
        name: name.into(),
        value: value.into(),
    }
}

#[test]
fn labels_are_set_replaced_and_taken_away_one_by_one() {
    let mut state = bootstrapped();
    let known = |state: &State| state.stores()[&StoreId(1_000)].labels.clone();
    let reply = apply(&mut state, set(1_000, [("zone", "b"), ("host", "h")]));
    assert_eq!(reply, Reply::Done);
    assert_eq!(known(&state), labels([("zone", "b"), ("host", "h")]));
    apply(&mut state, set(1_000, [("zone", ""), ("rack", "")]));
    assert_eq!(known(&state), labels([("host", "h")]));
}

#[test]
fn what_a_store_names_at_its_start_joins_what_it_was_given() {
    let mut state = bootstrapped();
    apply(&mut state, set(1_000, [("zone", "b"), ("rack", "r")]));
    let again = StoreRecord {
        labels: labels([("zone", "c")]),
        start_number: 9,
        ..store(1_000)
    };
    assert_eq!(apply(&mut state, Command::PutStore(again)), Reply::Done);
    let known = &state.stores()[&StoreId(1_000)].labels;
    assert_eq!(*known, labels([("zone", "c"), ("rack", "r")]));
}

#[test]
fn a_label_names_a_level_and_a_plain_value() {
    let mut state = bootstrapped();
    let refusal = refused(&mut state, set(1_000, [("disk", "ssd")])).to_string();
    assert_eq!(
        refusal,
        "there is no level `disk`: a label names one of zone,rack,host (the setting \
         location_labels)"
    );
    for value in ["a b", "a,b", "a=b", "\n", &"x".repeat(65)] {
        let refusal = refused(&mut state, set(1_000, [("zone", value)])).to_string();
        assert!(refusal.contains("no spaces"), "{refusal}");
    }
    let refusal = refused(&mut state, set(1_009, [("zone", "a")]));
    assert!(matches!(refusal, Refusal::UnknownStore { .. }), "{refusal}");
    let stranger = StoreRecord {
        labels: labels([("disk", "ssd")]),
        ..store(1_003)
    };
    let refusal = refused(&mut state, Command::PutStore(stranger));
    assert!(matches!(refusal, Refusal::UnknownLevel { .. }), "{refusal}");
}

#[test]
fn a_store_comes_back_with_a_label_that_was_a_level_once() {
    let mut state = bootstrapped();
    let zones = labels([("zone", "a")]);
    assert_eq!(state.stores()[&StoreId(1_000)].labels, zones);
    let changed = apply(&mut state, change("location_labels", "rack,host"));
    assert_eq!(changed, Reply::Done);
    let again = store(1_000);
    assert_eq!(again.labels, zones);
    assert_eq!(apply(&mut state, Command::PutStore(again)), Reply::Done);
}

#[test]
fn levels_and_isolation_fit_each_other_and_the_stores() {
    let mut state = bootstrapped();
    for levels in [
        "",
        "zone,",
        "zone,zone",
        "Zone",
        "a,b,c,d,e",
        "seventeen-letters",
    ] {
        let refusal = refused(&mut state, change("location_labels", levels)).to_string();
        assert!(refusal.contains("such as zone,rack,host"), "{refusal}");
    }
    let refusal = refused(&mut state, change("isolation_level", "row")).to_string();
    assert_eq!(
        refusal,
        "isolation_level must be none or one of the location_labels (zone,rack,host), not `row`"
    );
    apply(&mut state, Command::PutStore(store(1_003)));
    let refusal = refused(&mut state, change("isolation_level", "zone")).to_string();
    assert!(refusal.contains("needs stores in 2 of them"), "{refusal}");
    apply(&mut state, set(1_003, [("zone", "b")]));
    let changed = apply(&mut state, change("isolation_level", "zone"));
    assert_eq!(changed, Reply::Done);
    let refusal = refused(&mut state, change("location_labels", "none")).to_string();
    assert!(
        refusal.contains("isolation_level must be none"),
        "{refusal}"
    );
    let shown = state.settings().list();
    assert!(shown.contains(&("isolation_level", "zone".into())));
    assert!(shown.contains(&("location_labels", "zone,rack,host".into())));
    assert_eq!(
        apply(&mut state, change("isolation_level", "none")),
        Reply::Done
    );
}
