use proptest::prelude::*;

use super::RecordFormat;

const FORMATS: [RecordFormat; 2] = [RecordFormat::Tsv, RecordFormat::Jsonl];

fn written(format: RecordFormat, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    format.write(&mut line, key, value);
    assert_eq!(line.pop(), Some(b'\n'));
    line
}

fn refused(format: RecordFormat, line: &[u8]) -> String {
    format.parse(line).expect_err("refused")
}

proptest! {
    #[test]
    fn any_bytes_come_back(
        key in proptest::collection::vec(any::<u8>(), 1..40),
        value in proptest::collection::vec(any::<u8>(), 0..200),
        text in "\\PC{1,20}",
    ) {
        for format in FORMATS {
            for (key, value) in [(&key[..], &value[..]), (text.as_bytes(), &value), (&key, text.as_bytes())] {
                let line = written(format, key, value);
                prop_assert!(!line.contains(&b'\n'));
                let (k, v) = format.parse(&line).expect("readable");
                prop_assert_eq!(&k[..], key);
                prop_assert_eq!(&v[..], value);
            }
        }
    }

    #[test]
    fn any_line_is_a_record_or_refused(line in proptest::collection::vec(any::<u8>(), 0..80)) {
        let line: Vec<u8> = line.into_iter().filter(|byte| *byte != b'\n').collect();
        for format in FORMATS {
            if let Ok((key, value)) = format.parse(&line)
                && format == RecordFormat::Tsv
            {
                prop_assert_eq!(written(format, &key, &value), line.clone());
            }
        }
    }
}

#[test]
fn all_bytes_twice() {
    let all: Vec<u8> = (0..=255).chain(0..=255).collect();
    for format in FORMATS {
        let (key, value) = format.parse(&written(format, &all, &all)).expect("read");
        assert_eq!((&key[..], &value[..]), (&all[..], &all[..]));
    }
}

#[test]
fn tsv_escapes_four_bytes_and_no_other() {
    assert_eq!(
        written(RecordFormat::Tsv, b"a\tb\\", b"\r\n\0\xff\"\xc3\xa4"),
        b"a\\tb\\\\\t\\r\\n\0\xff\"\xc3\xa4"
    );
}

#[test]
fn json_is_text_where_it_can_be() {
    assert_eq!(
        written(RecordFormat::Jsonl, "ä\t".as_bytes(), b"\xff\0"),
        "{\"key\":\"ä\\t\",\"value_base64\":\"/wA=\"}".as_bytes()
    );
    assert_eq!(
        written(RecordFormat::Jsonl, b"\xff", b""),
        b"{\"key_base64\":\"/w==\",\"value\":\"\"}"
    );
}

#[test]
fn tsv_that_is_wrong_is_told_what_is_right() {
    let tsv = |line: &[u8]| refused(RecordFormat::Tsv, line);
    let no_tab = "no tab between key and value; write the key, a tab and the value on one line";
    assert_eq!(tsv(b"alone"), no_tab);
    assert_eq!(tsv(b""), no_tab);
    assert_eq!(tsv(b"\tvalue"), "the key is empty");
    assert_eq!(
        tsv(b"a\tb\tc"),
        "a second tab; a tab inside a value is written \\t"
    );
    assert_eq!(
        tsv(b"a\tb\\x"),
        "unknown escape \\x in the value; known are \\t \\n \\r and \\\\"
    );
    assert!(tsv(b"a\\\tb").starts_with("a backslash at the end of the key;"));
    assert!(tsv(b"a\tb\r").starts_with("a bare carriage return in the value;"));
}

#[test]
fn json_that_is_wrong_is_told_what_is_right() {
    let json = |line: &str| refused(RecordFormat::Jsonl, line.as_bytes());
    assert!(json("").contains("give an object like"));
    assert!(json("a\tb").ends_with("on one line"));
    assert!(!json("{\"key\":1}").contains("line 1 column"));
    assert!(json("{\"keys\":\"a\"}").contains("unknown field `keys`"));
    assert_eq!(
        json("{\"value\":\"a\"}"),
        "no key; give key or key_base64, a string"
    );
    assert_eq!(
        json("{\"key\":\"a\",\"value\":\"\",\"value_base64\":\"\"}"),
        "both value and value_base64; give value where it is text, else value_base64"
    );
    assert!(json("{\"key\":\"a\",\"value_base64\":\"?\"}").starts_with("value_base64 is not"));
    assert_eq!(json("{\"key\":\"\",\"value\":\"a\"}"), "the key is empty");
    assert!(json("{\"key\":\"a\",\"value\":\"b\"} {}").contains("trailing"));
}

#[test]
fn the_limits_of_the_store_hold() {
    let key = vec![b'k'; tinykv_keys::KEY_BYTES_MAX + 1];
    let value = vec![b'v'; tinykv_keys::VALUE_BYTES_MAX + 1];
    for format in FORMATS {
        assert!(refused(format, &written(format, &key, b"")).contains("65536 are allowed"));
        assert!(refused(format, &written(format, b"k", &value)).contains("8388608 are allowed"));
        assert!(
            format
                .parse(&written(format, &key[1..], &value[1..]))
                .is_ok()
        );
    }
}

#[test]
fn the_name_of_the_file_says_the_format() {
    let by_name = |asked, name: &str| RecordFormat::or_by_name(asked, Some(name.as_ref()));
    assert_eq!(by_name(None, "a.jsonl"), RecordFormat::Jsonl);
    assert_eq!(by_name(None, "a.tsv"), RecordFormat::Tsv);
    assert_eq!(by_name(None, "a"), RecordFormat::Tsv);
    assert_eq!(
        by_name(Some(RecordFormat::Tsv), "a.json"),
        RecordFormat::Tsv
    );
    assert_eq!(RecordFormat::or_by_name(None, None), RecordFormat::Tsv);
}
