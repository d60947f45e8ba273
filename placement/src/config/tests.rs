//! Who founds the group, and what a wrong list says.

use super::*;

fn parse(own: &str, address: &str, entries: &[&str]) -> Result<InitialCluster, String> {
    let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
    InitialCluster::parse(own, address, &entries).map_err(|failure| {
        assert_eq!(failure.exit_code(), 2);
        failure.to_string()
    })
}

#[test]
fn a_member_alone_founds_a_group_of_one() {
    let cluster = parse("a", "127.0.0.1:5", &[]).expect("the default");
    assert_eq!(cluster.members().len(), 1);
    assert_eq!(cluster.own().id, PeerId(1));
    assert_eq!(cluster.own().url(), "http://127.0.0.1:5");
}

#[test]
fn every_member_counts_the_same_whatever_the_order() {
    let one = parse("b", "h:2", &["a=http://h:1", "b=http://h:2", "c=h:3"]).expect("good");
    let two = parse(
        "c",
        "h:3",
        &["c=http://h:3/", "a=http://h:1", "b=http://h:2"],
    )
    .expect("good");
    assert_eq!(one.members(), two.members());
    assert_eq!(one.fingerprint(), two.fingerprint());
    assert_eq!((one.own().id, two.own().id), (PeerId(2), PeerId(3)));
    let other = parse("a", "h:1", &["a=http://h:1"]).expect("good");
    assert_ne!(one.fingerprint(), other.fingerprint());
}

#[test]
fn a_wrong_list_is_named() {
    let cases: [(&[&str], &str); 8] = [
        (&["a"], "`a` is not NAME=http://HOST:PORT"),
        (&["=http://h:1"], "is not NAME=http://HOST:PORT"),
        (&["a=https://h:1"], "is not NAME=http://HOST:PORT"),
        (&["a=http://h"], "invalid address `h` in --initial-cluster"),
        (
            &["a=http://h:1", "a=http://h:2"],
            "the name a is there twice",
        ),
        (
            &["a=http://h:1", "b=http://h:1"],
            "the address h:1 is there twice",
        ),
        (&["b=http://h:1"], "this member, a, is not among them"),
        (
            &["a=http://h:2"],
            "a is there with the address h:2, but it is reached at h:1",
        ),
    ];
    for (entries, expected) in cases {
        let sentence = parse("a", "h:1", entries).expect_err("wrong");
        assert!(sentence.contains(expected), "{sentence}");
    }
}

#[test]
fn an_offset_moves_the_port_and_does_not_wrap() {
    let args = |offset: &str| Args::parse_from(["p", "--data-dir", "d", "--port-offset", offset]);
    assert_eq!(
        args("10").listen_address().map(|address| address.port()),
        Ok(2389)
    );
    let failure = args("65000").listen_address().expect_err("beyond");
    assert!(
        failure.to_string().contains("--port-offset 65000"),
        "{failure}"
    );
}
