//! Disks fill up, wholly or below what is kept in reserve, and have room again (D8).

use crate::chaos::fleet::{PLACEMENTS, STORES};

use super::Scene;

pub(super) async fn strike(scene: &mut Scene<'_>) -> Result<(), String> {
    let leave = match scene.random.chance(2) {
        true => 0,
        false => 64 << 20,
    };
    let count = match scene.random.below(3) {
        0 => 1,
        1 => 3,
        _ => STORES,
    };
    let first = scene.random.below(STORES as u64) as usize;
    let places = (0..count).map(|number| PLACEMENTS + (first + number) % STORES);
    for place in places.clone() {
        scene.fleet.disks[place].fill(leave)?;
        scene.count("disks_filled", 1);
    }
    let before = scene.history.succeeded();
    scene.hold(3_000, 8_000).await;
    scene.count("served_while_full", scene.history.succeeded() - before);
    for place in places {
        scene.fleet.disks[place].empty()?;
    }
    scene.hold(500, 2_000).await;
    Ok(())
}
