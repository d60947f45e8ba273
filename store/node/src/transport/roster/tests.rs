//! Who is let in, and who is not.

use super::*;
use crate::identity::Role;

const HERE: Identity = Identity {
    role: Role::Store,
    cluster_id: 7,
    member_id: 1,
    incarnation: 0xa,
    start_number: 1,
};

fn hello() -> Hello {
    Hello {
        version: WIRE_VERSION,
        cluster_id: 7,
        from: 2,
        from_incarnation: 0xb,
        from_start_number: 5,
        to: 1,
        to_incarnation: 0xa,
        from_address: String::new(),
    }
}

fn registered(incarnation: u64, start_number: u64) -> Destination {
    Destination {
        address: "127.0.0.1:1".to_owned(),
        incarnation: Some(incarnation),
        start_number: Some(start_number),
    }
}

#[test]
fn only_the_right_store_of_the_right_cluster_may_speak() {
    let wrong = [
        Hello {
            version: 2,
            ..hello()
        },
        Hello {
            cluster_id: 8,
            ..hello()
        },
        Hello { to: 3, ..hello() },
        Hello {
            to_incarnation: 0xc,
            ..hello()
        },
        Hello { from: 1, ..hello() },
    ];
    for hello in wrong {
        let refused = Roster::default().admit(&HERE, &hello, None);
        assert!(refused.is_err(), "{hello:?} was let in");
    }
    let admitted = Roster::default().admit(&HERE, &hello(), Some(&registered(0xb, 5)));
    assert!(matches!(admitted, Ok(Admitted::Known(_))));
}

#[test]
fn another_incarnation_or_an_older_start_than_registered_is_refused() {
    for registered in [registered(0xc, 5), registered(0xb, 6)] {
        let refused = Roster::default().admit(&HERE, &hello(), Some(&registered));
        assert!(refused.is_err(), "{registered:?}");
    }
}

#[test]
fn a_newer_start_ends_the_streams_of_the_older_one() {
    let roster = Roster::default();
    let Ok(Admitted::Known(old)) = roster.admit(&HERE, &hello(), None) else {
        panic!("the first is let in");
    };
    assert!(old.is_current());
    let newer = Hello {
        from_start_number: 6,
        ..hello()
    };
    let Ok(Admitted::Restarted(new)) = roster.admit(&HERE, &newer, None) else {
        panic!("a restart is let in and noticed");
    };
    assert!(new.is_current());
    assert!(!old.is_current());
    assert!(roster.admit(&HERE, &hello(), None).is_err());
    let other = Hello {
        from_incarnation: 0xc,
        ..newer
    };
    assert!(roster.admit(&HERE, &other, None).is_err());
}

#[test]
fn only_who_is_not_registered_is_taken_at_its_word() {
    let said = Hello {
        from_address: "127.0.0.1:9".to_owned(),
        ..hello()
    };
    let known = registered(0xb, 5);
    assert_eq!(introduction(&said, Some(&known)), None);
    assert_eq!(introduction(&hello(), None), None, "it said nothing");
    let found = introduction(&said, None).expect("a destination");
    assert_eq!(
        (
            found.address.as_str(),
            found.incarnation,
            found.start_number
        ),
        ("127.0.0.1:9", Some(0xb), Some(5))
    );
}
