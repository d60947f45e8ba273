//! Processes are killed and stopped.

use crate::cluster::Node;

use super::Scene;

pub(super) async fn kill(scene: &mut Scene<'_>) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let first = scene.fleet.target(scene.random).await;
    let nodes: Vec<Node> = match scene.random.below(10) {
        0 => scene.fleet.cluster.nodes(),
        1..4 => vec![first, scene.fleet.target(scene.random).await],
        _ => vec![first],
    };
    for node in &nodes {
        scene.fleet.cluster.kill(*node).map_err(failed)?;
        scene.count("killed", 1);
    }
    scene.hold(0, 3_000).await;
    for node in nodes {
        scene.fleet.cluster.start(node).map_err(failed)?;
    }
    Ok(())
}

pub(super) async fn pause(scene: &mut Scene<'_>) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let node = scene.fleet.target(scene.random).await;
    scene
        .fleet
        .cluster
        .signal(node, libc::SIGSTOP)
        .map_err(failed)?;
    scene.count("paused", 1);
    scene.hold(500, 10_000).await;
    scene
        .fleet
        .cluster
        .signal(node, libc::SIGCONT)
        .map_err(failed)
}
