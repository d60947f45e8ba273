//! Links are cut: which ones, by shape.

use std::collections::BTreeSet;

use tinykv_env::Prng;

use crate::chaos::fleet::{Fleet, PLACEMENTS, STORES};
use crate::chaos::network::CLIENTS;
use crate::cluster::health::leading_member;

use super::Scene;

/// What a partition looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Isolate,
    Halves,
    Ring,
    Bridge,
    OneWay,
    Leaders,
}

/// A directed link between places.
type Link = (usize, usize);

pub(super) async fn strike(scene: &mut Scene<'_>, shape: Shape) -> Result<(), String> {
    let targets: Vec<usize> = match shape {
        Shape::Leaders => match scene.fleet.look().await {
            Ok(whole) => {
                let placement = leading_member(&scene.fleet.cluster, &whole);
                let region = scene.fleet.leader_of_a_region(&whole, scene.random);
                placement
                    .into_iter()
                    .chain(region)
                    .map(Fleet::place)
                    .collect()
            }
            Err(_) => return Ok(()),
        },
        _ => vec![Fleet::place(scene.fleet.target(scene.random).await)],
    };
    let links = cut(shape, &targets, scene.random);
    scene.network.cut(&links)?;
    scene.hold(1_000, 6_000).await;
    let dropped = scene.network.heal()?;
    if dropped > 0 {
        scene.count("partitions", 1);
        scene.count("packets_dropped", dropped);
    }
    Ok(())
}

/// The links that a partition cuts.
fn cut(shape: Shape, targets: &[usize], random: &mut Prng) -> Vec<Link> {
    let all = 0..PLACEMENTS + STORES;
    match shape {
        Shape::Isolate => {
            let mut links = isolate(targets);
            if random.chance(2) {
                links.extend(targets.iter().map(|target| (CLIENTS, *target)));
            }
            links
        }
        Shape::Leaders => isolate(targets),
        Shape::OneWay => isolate(targets)
            .into_iter()
            .filter(|(from, _)| targets.contains(from))
            .collect(),
        Shape::Halves => {
            let mut side: Vec<usize> = all.clone().filter(|_| random.chance(2)).collect();
            if side.is_empty() || side.len() == all.len() {
                side = targets.to_vec();
            }
            both_ways(
                all.clone().flat_map(|a| all.clone().map(move |b| (a, b))),
                |a, b| side.contains(&a) != side.contains(&b),
            )
        }
        Shape::Ring => {
            let order = shuffled(random);
            between_stores(&order, |a, b| !matches!((b + STORES - a) % STORES, 1 | 4))
        }
        Shape::Bridge => {
            let order = shuffled(random);
            // Two on either side, one in the middle.
            between_stores(&order, |a, b| a != 2 && b != 2 && (a < 2) != (b < 2))
        }
    }
}

/// Both directions between the targets and everybody else.
fn isolate(targets: &[usize]) -> Vec<Link> {
    let all = || 0..PLACEMENTS + STORES;
    both_ways(
        targets
            .iter()
            .flat_map(|target| all().map(move |other| (*target, other))),
        |a, b| a != b,
    )
}

/// Links between stores whose positions in an order are to be cut from each other.
fn between_stores(order: &[usize], is_cut: impl Fn(usize, usize) -> bool) -> Vec<Link> {
    let at = |position: usize| PLACEMENTS + order[position];
    let pairs = (0..STORES).flat_map(|a| (0..STORES).map(move |b| (a, b)));
    let cut: Vec<Link> = pairs.filter(|(a, b)| a != b && is_cut(*a, *b)).collect();
    cut.into_iter().map(|(a, b)| (at(a), at(b))).collect()
}

fn both_ways(
    pairs: impl Iterator<Item = Link>,
    is_cut: impl Fn(usize, usize) -> bool,
) -> Vec<Link> {
    let cut: BTreeSet<Link> = pairs
        .filter(|(a, b)| is_cut(*a, *b))
        .flat_map(|(a, b)| [(a, b), (b, a)])
        .collect();
    cut.into_iter().collect()
}

fn shuffled(random: &mut Prng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..STORES).collect();
    for last in (1..STORES).rev() {
        order.swap(last, random.below(last as u64 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stores_reached_from(store: usize, links: &[Link]) -> usize {
        let reached = |other: &usize| *other != store && !links.contains(&(store, *other));
        (PLACEMENTS..PLACEMENTS + STORES).filter(reached).count()
    }

    #[test]
    fn shapes_cut_what_they_say() {
        let mut random = Prng::new(1);
        for _ in 0..50 {
            let ring = cut(Shape::Ring, &[4], &mut random);
            for store in PLACEMENTS..PLACEMENTS + STORES {
                assert_eq!(stores_reached_from(store, &ring), 2, "{ring:?}");
            }
            let bridge = cut(Shape::Bridge, &[4], &mut random);
            let mut reached: Vec<usize> = (PLACEMENTS..PLACEMENTS + STORES)
                .map(|store| stores_reached_from(store, &bridge))
                .collect();
            reached.sort_unstable();
            assert_eq!(reached, [2, 2, 2, 2, 4], "{bridge:?}");
            let halves = cut(Shape::Halves, &[4], &mut random);
            assert!(!halves.is_empty());
            assert!(halves.iter().all(|(a, b)| halves.contains(&(*b, *a))));
            let one_way = cut(Shape::OneWay, &[4], &mut random);
            assert_eq!(one_way.len(), 7);
            assert!(one_way.iter().all(|(from, _)| *from == 4));
            let leaders = cut(Shape::Leaders, &[0, 4], &mut random);
            assert_eq!(leaders.len(), 26, "{leaders:?}");
        }
    }
}
