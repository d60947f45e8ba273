//! Wall clocks jump by seconds to a year, in both directions, on one process, some or all; and a
//! process that starts again finds its monotonic clocks elsewhere (C3).

use crate::chaos::fleet::{PLACEMENTS, STORES};

use super::Scene;

const HOUR: u64 = 3_600;

pub(super) async fn strike(scene: &mut Scene<'_>) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let far = match scene.random.below(3) {
        0 => scene.random.between(1, 60),
        1 => scene.random.between(HOUR, 24 * HOUR),
        _ => scene.random.between(24 * HOUR, 365 * 24 * HOUR),
    } as i64;
    let jump = match scene.random.chance(3) {
        true => -far,
        false => far,
    };
    let everywhere = scene.random.chance(2);
    for place in 0..PLACEMENTS + STORES {
        if everywhere || scene.random.chance(3) {
            scene.fleet.set_clock(place, jump)?;
            scene.count("clocks_set", 1);
        }
    }
    // The library looks once in a second.
    scene.hold(2_000, 5_000).await;
    if scene.random.chance(2) {
        let node = scene.fleet.target(scene.random).await;
        scene.fleet.cluster.kill(node).map_err(failed)?;
        let ahead = scene.random.below(1_000_000);
        scene.fleet.cluster.site(node).clock_ahead = Some(ahead);
        scene.fleet.cluster.start(node).map_err(failed)?;
        scene.count("monotonic_clocks_set", 1);
    }
    if scene.random.chance(3) {
        for place in 0..PLACEMENTS + STORES {
            scene.fleet.set_clock(place, 0)?;
        }
    }
    Ok(())
}
