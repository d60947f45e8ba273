//! Placement of three: its leader is found from any members and followed wherever it goes.

use tinykv_client::{Options, RawClient};

use super::fake::{Fake, both};
use super::{LONG, SHORT};

#[tokio::test]
async fn the_leader_is_found_from_any_members() {
    let fake = Fake::start().await;
    let all = fake.placement_addresses();
    for leader in 0..3 {
        fake.world().placement_leader = Some(leader);
        for subset in 1_usize..8 {
            let known: Vec<_> = (0..3)
                .filter(|index| subset & (1 << index) != 0)
                .map(|index| all[index].clone())
                .collect();
            let client = RawClient::new(&known, Options { deadline: LONG });
            let got = client.get("k").await;
            got.unwrap_or_else(|error| panic!("{known:?}, {leader} leads: {error}"));
        }
    }
}

#[tokio::test]
async fn dead_members_cost_little_and_one_that_lives_is_enough() {
    let mut fake = Fake::start().await;
    fake.world().placement_leader = Some(2);
    fake.placements[0].close().await;
    fake.placements[1].silence();
    let client = fake.client(3 * LONG);
    client.get("k").await.expect("the third member leads");
}

#[tokio::test]
async fn a_leader_that_dies_is_left_and_the_election_waited_out() {
    let mut fake = Fake::start().await;
    let client = fake.warm_client(3 * LONG).await;
    fake.placements[0].close().await;
    {
        let mut world = fake.world();
        world.placement_leader = None;
        world.replace_region("k");
    }
    let asked = fake.world().members_asked;
    let elect = async {
        fake.until("both others were asked", |world| {
            world.members_asked >= asked + 4
        })
        .await;
        fake.world().placement_leader = Some(2);
    };
    let (got, ()) = both(client.get("k"), elect).await;
    got.expect("there is a leader in the end");
    let calls = fake.world().count("get");
    assert!(calls >= 2, "the old region, then the new one");
}

#[tokio::test]
async fn a_leader_that_falls_silent_is_not_waited_for() {
    let fake = Fake::start().await;
    let client = fake.warm_client(3 * LONG).await;
    fake.placements[0].silence();
    {
        let mut world = fake.world();
        world.placement_leader = Some(1);
        // They have not noticed yet.
        world.wrong_hints.insert(1, 0);
        world.wrong_hints.insert(2, 0);
        world.replace_region("k");
    }
    let asked = fake.world().members_asked;
    let notice = async {
        fake.until("both others were asked", |world| {
            world.members_asked >= asked + 2
        })
        .await;
        fake.world().wrong_hints.clear();
    };
    let (got, ()) = both(client.get("k"), notice).await;
    got.expect("the second member leads");
}

#[tokio::test]
async fn wrong_hints_are_survived() {
    let mut fake = Fake::start().await;
    fake.world().placement_leader = Some(2);
    // One that lives and does not lead, and one that is gone.
    fake.world().wrong_hints.insert(0, 1);
    let client = fake.client(LONG);
    client.get("k").await.expect("the third member leads");
    fake.world().wrong_hints.insert(1, 0);
    fake.world().replace_region("k");
    fake.placements[0].close().await;
    client.get("k").await.expect("the third member still leads");
}

#[tokio::test]
async fn without_a_leader_a_call_says_so_at_its_deadline() {
    let fake = Fake::start().await;
    fake.world().placement_leader = None;
    let client = fake.client(SHORT);
    let error = client.get("k").await.expect_err("nobody leads");
    assert!(
        error.to_string().contains("placement has no leader"),
        "{error}"
    );
    assert!(!error.is_undetermined());
}
