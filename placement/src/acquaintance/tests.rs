//! What is remembered survives, and what cannot be read is refused.

use tinykv_env::OsEnv;

use super::*;

#[test]
fn what_is_remembered_survives_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Acquaintance::open(OsEnv::shared(), dir.path()).expect("it opens");
    let first = open();
    assert_eq!(first.incarnation(PeerId(2)), None);
    assert!(!first.took_part());
    let met = BTreeMap::from([(PeerId(2), 22), (PeerId(3), u64::MAX)]);
    first.remember(met).expect("written");
    assert_eq!(open().incarnation(PeerId(3)), Some(u64::MAX));
    assert!(!open().took_part());
    first.remember_taking_part().expect("written");
    assert!(open().took_part());
    assert_eq!(open().incarnation(PeerId(2)), Some(22));
    assert_eq!(open().incarnation(PeerId(1)), None, "not the own");
}

#[test]
fn a_damaged_or_newer_file_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Acquaintance::open(OsEnv::shared(), dir.path());
    let path = dir.path().join(FILE);
    let refused = |text: &str| {
        std::fs::write(&path, text).expect("written");
        let failure = open().err().expect("refused");
        assert_eq!(failure.exit_code(), 3);
        failure.to_string()
    };
    let sealed = |body: &str| format!("{body}\n{}\n", checksum(body));
    for text in ["", "x", "{}\ncrc32c 00000000\n", &sealed("{}")] {
        assert!(refused(text).contains("is damaged"), "{text:?}");
    }
    let newer = r#"{"format":3,"took_part":true,"incarnations":{}}"#;
    assert!(refused(&sealed(newer)).contains("newer version"));
}

#[test]
fn the_newest_word_about_a_member_holds_until_the_end_of_the_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Acquaintance::open(OsEnv::shared(), dir.path()).expect("it opens");
    let known = open();
    let named = |url: &str| placement::Acquaintance {
        member_id: 4,
        name: "m4".into(),
        url: url.into(),
        incarnation: 44,
    };
    known.hear(vec![named("http://old:1")]);
    known.hear(vec![named("http://new:1")]);
    known.hear(Vec::new());
    let told = known.told(PeerId(4)).expect("it was named");
    assert_eq!((told.url.as_str(), told.incarnation), ("http://new:1", 44));
    assert_eq!(known.named(), [PeerId(4)]);
    assert_eq!(known.incarnation(PeerId(4)), None, "it was not met");
    assert_eq!(open().told(PeerId(4)), None, "it registers again");
}
