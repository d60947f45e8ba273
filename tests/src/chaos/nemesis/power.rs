//! The power fails: nothing more reaches the disk, the process dies, and comes back to what there
//! is.

use crate::chaos::fleet::{Fleet, PLACEMENTS, STORES};

use super::Scene;

pub(super) async fn strike(scene: &mut Scene<'_>) -> Result<(), String> {
    let places: Vec<usize> = match scene.random.below(3) {
        0 => vec![Fleet::place(scene.fleet.target(scene.random).await)],
        1 => (PLACEMENTS..PLACEMENTS + STORES).collect(),
        _ => (0..PLACEMENTS + STORES).collect(),
    };
    let failed = |error: std::io::Error| error.to_string();
    for place in &places {
        scene.fleet.disks[*place].cut_power()?;
    }
    for place in &places {
        scene
            .fleet
            .cluster
            .kill(Fleet::node(*place))
            .map_err(failed)?;
        scene.count("power_lost", 1);
    }
    for place in &places {
        scene.fleet.disks[*place].unmount()?;
        scene.fleet.disks[*place].mount()?;
    }
    scene.hold(0, 2_000).await;
    for place in places {
        scene
            .fleet
            .cluster
            .start(Fleet::node(place))
            .map_err(failed)?;
    }
    // What comes back has something to lose the next time.
    scene.hold(3_000, 5_000).await;
    Ok(())
}
