//! Stores drained, forgotten and kept from leading; settings.

use super::*;

#[tokio::test]
async fn a_drain_that_is_waited_for_shows_what_is_left_and_what_blocks_it() {
    let fake = Fake::start().await;
    let ran = fake.ctl(&["store", "drain", "9", "--wait"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.out, "store 9 has left the cluster\n");
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(
        lines,
        [
            "4 regions are on it, 1 of them led from it, 2 being moved",
            "2 regions are on it, 1 of them led from it, 2 being moved; about 2 s are left",
            "blocked: region 7 has no known leader",
        ]
    );
    use placement::Leaving::{Begin, Look};
    assert_eq!(fake.world().drains, [Begin, Look, Look]);
}

#[tokio::test]
async fn a_drain_is_begun_cancelled_or_refused() {
    let fake = Fake::start().await;
    let begun = fake.ctl(&["store", "drain", "9"]).await;
    assert_eq!(begun.code, Some(0), "{begun:?}");
    assert!(
        begun.out.starts_with("store 9 leaves: 4 regions"),
        "{begun:?}"
    );
    let stays = fake.ctl(&["store", "cancel-drain", "9"]).await;
    assert_eq!(stays.code, Some(0), "{stays:?}");
    assert!(
        stays.out.starts_with("store 9 stays: 2 regions"),
        "{stays:?}"
    );
    fake.world().refusal = Some("store 9 is needed");
    let refused = fake.ctl(&["store", "drain", "9", "--wait"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("store 9 is needed"), "{refused:?}");
}

#[tokio::test]
async fn leaders_are_evicted_until_that_is_cancelled_or_refused() {
    let fake = Fake::start().await;
    let ran = fake.ctl(&["store", "evict-leader", "9", "--wait"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let left = |count| format!("store 9 is to lead nothing: {count} regions are led from it");
    assert_eq!(ran.out, format!("{}\n", left(0)));
    let lines: Vec<&str> = ran.err.lines().collect();
    let blocked = "blocked: no other store can lead region 7";
    assert_eq!(lines, [left(2).as_str(), left(1).as_str(), blocked]);
    let ends = fake.ctl(&["store", "cancel-evict-leader", "9"]).await;
    assert_eq!(
        (ends.code, ends.out.as_str()),
        (Some(0), "store 9 may lead again\n")
    );
    fake.world().refusal = Some("store 9 is the last that may lead");
    let refused = fake.ctl(&["store", "evict-leader", "9"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("the last that may lead"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn regions_are_scattered_waited_for_and_refused() {
    let fake = Fake::start().await;
    let ran = fake.ctl(&["region", "scatter", "2", "4", "--wait"]).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "the regions are spread\n")
    );
    assert_eq!(
        ran.err,
        "2 regions are to be spread, 1 being moved\n1 regions are to be spread, 1 being moved\n"
    );
    let asked = std::mem::take(&mut fake.world().scatters);
    let begun: Vec<bool> = asked.iter().map(|asked| asked.begin).collect();
    assert_eq!(begun, [true, false, false]);
    assert!(asked.iter().all(|asked| asked.region_ids == [2, 4]));
    let all = fake.ctl(&["region", "scatter", "--all"]).await;
    assert_eq!(all.code, Some(0), "{all:?}");
    assert_eq!(fake.world().scatters[0].region_ids, [0; 0]);
    let nothing = fake.ctl(&["region", "scatter"]).await;
    assert_eq!(nothing.code, Some(1), "{nothing:?}");
    fake.world().refusal = Some("region 77 is not known: list the regions for those that are");
    let refused = fake.ctl(&["region", "scatter", "77"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("region 77 is not known"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn who_waits_for_a_scatter_hears_that_placement_forgot_it() {
    let fake = Fake::start().await;
    fake.world().forgets_after = Some(1);
    let ran = fake.ctl(&["region", "scatter", "2", "--wait"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("has another leader by now"), "{ran:?}");
}

#[tokio::test]
async fn a_store_is_labelled_looked_at_or_refused() {
    let fake = Fake::start().await;
    let set = fake.ctl(&["store", "label", "9", "zone=a,host=h1"]).await;
    assert_eq!(
        (set.code, set.out.as_str()),
        (Some(0), "store 9 is labelled zone=a,host=h1\n")
    );
    let shown = fake.ctl(&["store", "label", "9"]).await;
    assert_eq!(shown.out, "store 9 has no labels\n");
    let wrong = fake.ctl(&["store", "label", "9", "zone"]).await;
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.err.contains("expected LEVEL=VALUE"), "{wrong:?}");
    fake.world().refusal = Some("there is no level `row`: a label names one of zone,rack,host");
    let refused = fake.ctl(&["store", "label", "9", "row=7"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("there is no level"), "{refused:?}");
}

#[tokio::test]
async fn tombstones_are_forgotten_one_by_one_or_all() {
    let fake = Fake::start().await;
    let one = fake.ctl(&["store", "remove-tombstone", "9"]).await;
    assert_eq!(
        (one.code, one.out.as_str()),
        (Some(0), "store 9 is forgotten\n")
    );
    let all = fake.ctl(&["store", "remove-tombstone"]).await;
    assert_eq!(all.out, "store 8 is forgotten\nstore 9 is forgotten\n");
    fake.world().refusal = Some("store 9 is no tombstone: drain it first");
    let refused = fake.ctl(&["store", "remove-tombstone", "9"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("is no tombstone"), "{refused:?}");
    let nobody = fake.ctl(&["store", "remove-tombstone", "0"]).await;
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
}

#[tokio::test]
async fn settings_are_shown_set_and_refused() {
    let fake = Fake::start().await;
    let shown = fake.ctl(&["config", "show"]).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.out.contains("transfers_max"), "{shown:?}");
    let set = fake.ctl(&["config", "set", "transfers_max", "9"]).await;
    assert_eq!(
        (set.code, set.out.as_str()),
        (Some(0), "transfers_max is 9\n")
    );
    fake.world().refusal = Some("transfers_max must be a whole number, not `x`");
    let refused = fake.ctl(&["config", "set", "transfers_max", "x"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("must be a whole number"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_member_is_added_and_waited_for() {
    let fake = Fake::start().await;
    let ran = fake.ctl(&["member", "add", "new", "new:1", "--wait"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.out, "new votes as member 3\n");
    let lines: Vec<&str> = ran.err.lines().collect();
    let start = "start it with: tinykv-placement --name new --addr new:1 --data-dir DIR --join ";
    assert!(lines[0].starts_with(start), "{lines:?}");
    assert_eq!(
        lines[1..],
        ["the process of new has not come yet", "new gets the log"]
    );
    let listed = fake.ctl(&["member", "list"]).await;
    assert!(
        listed.out.contains("new") && listed.out.contains("follower"),
        "{listed:?}"
    );
}

#[tokio::test]
async fn a_member_is_removed_by_name_or_refused() {
    let fake = Fake::start().await;
    let nobody = fake.ctl(&["member", "remove", "x"]).await;
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.err.contains("there is no member x"), "{nobody:?}");
    fake.world().refusal = Some("the group would stand still");
    let refused = fake.ctl(&["member", "remove", "old"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("stand still"), "{refused:?}");
    let fake = Fake::start().await;
    let ran = fake.ctl(&["member", "remove", "old", "--wait"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.starts_with("old is removed"), "{ran:?}");
    assert_eq!(ran.err, "old is leaving\n");
}
